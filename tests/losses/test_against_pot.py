"""The transport losses against POT, which computes them by other means."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import hswd, optimal_transport, sinkhorn, sliced_wasserstein
from jaxhash.losses._transport import uniform_signs

for backend in ("PYTORCH", "TENSORFLOW", "CUPY", "JAX"):  # what it would load, were they installed
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{backend}", "1")
ot = pytest.importorskip("ot", reason="POT is an extra of the tests")

KEY = jax.random.key(0)
each_shape = pytest.mark.parametrize("shape", [(1, 4), (9, 4), (64, 32)])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def cost_and_mass(codes, key=KEY):
    """The cost of each target with each code, and the mass of either."""
    n, bits = codes.shape
    signs = np.asarray(uniform_signs(key, n, bits), float)
    return ot.dist(signs, np.asarray(codes, float)) / bits, np.full(n, 1 / n)


@each_shape
def test_exact_transport(shape):
    codes = normal(*shape)
    cost, mass = cost_and_mass(codes)
    np.testing.assert_allclose(
        optimal_transport(codes, key=KEY), ot.emd2(mass, mass, cost), rtol=1e-5
    )


@each_shape
@pytest.mark.parametrize("epsilon", [0.05, 1.0])
def test_entropic_transport(shape, epsilon):
    codes = normal(*shape)
    cost, mass = cost_and_mass(codes)
    options = {"method": "sinkhorn_log", "numItermax": 20_000, "stopThr": 1e-10}
    plan = ot.sinkhorn(mass, mass, cost, epsilon, **options)
    entropy = np.sum(plan * np.log(np.maximum(plan, 1e-300) * len(codes) ** 2))
    value = sinkhorn(codes, key=KEY, epsilon=epsilon, iterations=3000)
    np.testing.assert_allclose(value, np.sum(plan * cost) + epsilon * entropy, rtol=1e-4)


@each_shape
def test_sliced_distance(shape):
    """POT takes directions as columns, and returns the root of the mean."""
    codes, (n, bits) = normal(*shape), shape
    for_signs, for_directions = jax.random.split(KEY)
    directions = [
        jax.random.normal(jax.random.fold_in(for_directions, index), (bits,)) for index in range(20)
    ]
    directions = np.asarray(jnp.stack(directions, axis=1), float)
    directions /= np.linalg.norm(directions, axis=0, keepdims=True)
    signs = np.asarray(uniform_signs(for_signs, n, bits), float)
    expected = ot.sliced_wasserstein_distance(
        np.asarray(codes, float), signs, projections=directions, p=2
    )
    value = sliced_wasserstein(codes, key=KEY, projections=20)
    np.testing.assert_allclose(value, expected**2, rtol=1e-5)
    along_axes = ot.sliced_wasserstein_distance(
        np.asarray(codes, float), signs, projections=np.eye(bits), p=2
    )
    value = sliced_wasserstein(codes, key=KEY, directions="axes")
    np.testing.assert_allclose(value, along_axes**2, rtol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("mass", "levels"), [(0.5, (-1.0, 1.0)), (0.3, (0.0, 2.0))])
@pytest.mark.parametrize("n", [1, 8, 9])
def test_hswd_of_each_bit(n, order, mass, levels):
    """With the law itself as the target: two points of unequal weight, and codes that split."""
    codes = normal(n, 4)
    value = hswd(codes, target="balanced", order=order, mass=mass, levels=levels, reduce_fn=None)
    expected = [
        ot.wasserstein_1d(
            np.asarray(bit, float),
            np.array(levels),
            np.full(n, 1 / n),
            np.array([1 - mass, mass]),
            p=order,
        )
        for bit in codes.T
    ]
    np.testing.assert_allclose(value, np.array(expected).ravel(), rtol=1e-5)
