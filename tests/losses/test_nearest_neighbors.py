"""The nearest-neighbor divergence of codes against its formula, and what it is to tell apart."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxhash.losses import _nearest_neighbors, nearest_neighbor_kl
from jaxhash.losses._nearest_neighbors import _symmetric_beta

KEY = jax.random.key(0)
STATIC = ("k", "norm", "epsilon", "axis_name")

loss = jax.jit(nearest_neighbor_kl, static_argnames=STATIC)
loss_and_gradient = jax.jit(jax.value_and_grad(nearest_neighbor_kl), static_argnames=STATIC)

each_norm = pytest.mark.parametrize("norm", [1, 2, math.inf])


def uniform(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random(shape), jnp.float32)


# Values


def formula(codes, sample, k, norm):
    """By loops, in float64."""
    codes, sample = np.asarray(codes, float), np.asarray(sample, float)
    total = 0.0
    for i, code in enumerate(codes):
        rho = sorted(np.linalg.norm(code - z, norm) for j, z in enumerate(codes) if j != i)[k - 1]
        nu = sorted(np.linalg.norm(code - y, norm) for y in sample)[k - 1]
        total += np.log(nu + 1e-6) - np.log(rho + 1e-6)
    return total / len(codes)


@each_norm
@pytest.mark.parametrize(("n", "m", "k"), [(2, 1, 1), (20, 30, 3)])
def test_is_the_formula(norm, n, m, k):
    codes, sample = uniform(n, 4), uniform(m, 4, seed=1)
    value = loss(codes, target=sample, k=k, norm=norm)
    np.testing.assert_allclose(value, formula(codes, sample, k, norm), rtol=1e-4, atol=1e-5)


def test_a_law_is_its_sample():
    codes = uniform(9, 4)
    sample = _symmetric_beta(KEY, 9, 4, 0.1)
    assert loss(codes, key=KEY) == loss(codes, target=sample)
    assert loss(codes, key=KEY, target=0.1) == loss(codes, key=KEY)
    assert loss(codes, key=KEY, target=1.0) != loss(codes, key=KEY)
    assert loss(codes, key=jax.random.key(1)) != loss(codes, key=KEY)


def test_by_hand():
    """Each code is 1 from its nearest in any norm; the sample is 1/2, 1 and 1/2 away."""
    codes = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    sample = jnp.array([[0.0, 0.5], [1.0, 1.0]])
    for norm in (1, 2, math.inf):
        value = loss(codes, target=sample, norm=norm)
        assert value == pytest.approx(2 / 3 * np.log(0.5), rel=1e-5)  # -0.46210
    # The second neighbors: 1, 2, 2 among the codes, 2, 3/2, 1 in the sample, in the norm 1.
    expected = (np.log(2 * 1.5 * 1) - np.log(1 * 2 * 2)) / 3
    assert loss(codes, target=sample, k=2) == pytest.approx(expected, rel=1e-5)


def test_scale_does_not_matter():
    """So codes in [-1, 1] and a sample moved there cost as much."""
    codes, sample = uniform(9, 4), uniform(9, 4, seed=1)
    moved = loss(2 * codes - 1, target=2 * sample - 1)
    assert moved == pytest.approx(float(loss(codes, target=sample)), abs=1e-5)


def near_bits(signs, rng):
    """Signs that are off by up to 0.02, inside the cube."""
    return np.abs(signs - 0.02 * rng.random(signs.shape))


LAWS = {
    "target": lambda rng: rng.beta(0.1, 0.1, size=(128, 64)),
    "bits": lambda rng: rng.integers(2, size=(128, 64)),
    "uniform": lambda rng: rng.random((128, 64)),
    "half": lambda rng: rng.normal(0.5, 0.05, size=(128, 64)),
}


def draw(law, rng):
    """128 codes of 64 bits."""
    if law.endswith("classes"):
        classes = int(law.split()[0])
        return near_bits(rng.integers(2, size=(classes, 64))[rng.integers(classes, size=128)], rng)
    return LAWS[law](rng)


@pytest.mark.parametrize(
    ("law", "norm", "value"),
    [
        ("target", 1, 0.00),
        ("target", 2, 0.00),
        ("bits", 1, 0.04),
        ("bits", 2, -0.05),
        ("uniform", 1, 0.34),
        ("uniform", 2, 0.31),
        ("half", 1, 2.19),
        ("half", 2, 2.02),
        ("100 classes", 1, 2.85),
        ("100 classes", 2, 3.02),
        ("10 classes", 1, 4.11),
        ("10 classes", 2, 4.34),
    ],
)
def test_laws_of_codes(law, norm, value):
    """Figures of another implementation, two decimals of a mean over batches.

    They may be off by four standard errors of 10 batches here, and as much again, and rounding. How
    far the codes of a class scatter there is not known; 0.02 is what gives its figures.
    """
    values = [
        float(
            loss(
                jnp.asarray(draw(law, np.random.default_rng(seed)), jnp.float32), key=key, norm=norm
            )
        )
        for seed, key in enumerate(jax.random.split(KEY, 10))
    ]
    error = np.std(values, ddof=1) / np.sqrt(10)
    assert np.mean(values) == pytest.approx(value, abs=4 * np.sqrt(2) * error + 0.005)


# The target law


@pytest.mark.parametrize("a", [1e-3, 0.1, 0.5, 1.0, 3.0])
def test_sample_is_beta(a):
    """A million draws: mean and variance within five standard errors, and the distribution.

    In float32 what is nearer to 0 or 1 than it resolves is 0 or 1: the comparison is between them.
    """
    sample = np.asarray(jax.jit(_symmetric_beta, static_argnums=(1, 2))(KEY, 15625, 64, a), float)
    assert ((sample >= 0) & (sample <= 1)).all()  # NaN is not
    law = scipy.stats.beta(a, a)
    variance = 1 / (4 * (2 * a + 1))
    spread = (sample - 0.5) ** 2
    assert sample.mean() == pytest.approx(0.5, abs=5e-3 * np.sqrt(variance))
    assert spread.mean() == pytest.approx(variance, abs=5e-3 * spread.std())
    for x in (0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99, 0.999):
        share = law.cdf(x)
        error = np.sqrt(share * (1 - share) / sample.size)
        assert np.mean(sample <= x) == pytest.approx(share, abs=5 * error)
    assert abs(np.corrcoef(sample[:, 0], sample[:, 1])[0, 1]) < 5 / np.sqrt(15625)


def test_moments_of_the_default_law():
    sample = np.asarray(_symmetric_beta(KEY, 1000, 64, 0.1), float)
    assert np.abs(sample - np.round(sample)).mean() == pytest.approx(0.058, abs=0.002)
    assert sample.var() == pytest.approx(0.208, abs=0.002)
    assert np.mean((sample < 0.01) | (sample > 0.99)) == pytest.approx(0.640, abs=0.01)


# The gradient


def test_gradient_by_hand():
    """Codes at 0, 0.3 and 1: the nearest of 0 and of 1 is 0.3, whose nearest is 0."""
    codes, sample = jnp.array([[0.0], [0.3], [1.0]]), jnp.array([[0.2], [0.9]])
    _, slope = loss_and_gradient(codes, target=sample)
    # log nu is 0.2, 0.1, 0.1; each -log rho has a pull on both of its codes.
    expected = np.array([-1 / 0.2, 1 / 0.1, 1 / 0.1])
    expected += np.array([2 / 0.3, -2 / 0.3 + 1 / 0.7, -1 / 0.7])
    np.testing.assert_allclose(slope[:, 0], expected / 3, rtol=1e-4)


@each_norm
@pytest.mark.parametrize("valid", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("filling", [0.0, 0.5, "bits", "duplicates"])
def test_gradient_is_finite(norm, valid, filling):
    fillings = {"bits": jnp.round(uniform(6, 4)), "duplicates": jnp.tile(uniform(1, 4), (6, 1))}
    codes = fillings.get(filling, jnp.full((6, 4), filling if filling not in fillings else 0.0))
    for target in (0.1, codes):
        value, slope = loss_and_gradient(
            codes, key=KEY, target=target, k=2, norm=norm, where=jnp.arange(6) < valid
        )
        assert jnp.isfinite(value) and jnp.isfinite(slope).all()
        if valid <= 2:
            assert value == 0 and not slope.any()


@pytest.mark.parametrize(("n", "k"), [(1, 3), (3, 3)])
def test_batch_of_at_most_k_rows_costs_nothing(n, k):
    for target in (0.1, uniform(3, 4)):
        value, slope = loss_and_gradient(uniform(n, 4), key=KEY, target=target, k=k)
        assert value == 0 and not slope.any()


def test_duplicates_cost_much_but_not_everything():
    """Half of the codes are copies: their own distance is epsilon."""
    codes, sample = jnp.array([[0.5], [0.5], [0.0], [1.0]]), jnp.array([[0.25], [0.75]])
    expected = np.log(0.25) - (2 * np.log(1e-3) + 2 * np.log(0.5)) / 4
    value = loss(codes, target=sample, epsilon=1e-3)
    assert value == pytest.approx(expected, abs=0.01)


def test_descent_makes_codes_binary_and_different():
    """From one cluster at 1/2: in the end codes are near bits, and half of the bits differ."""
    outputs = 0.1 * jnp.asarray(np.random.default_rng(0).normal(size=(32, 8)), jnp.float32)

    @jax.jit
    def descend(outputs):
        def step(outputs, key):
            slope = jax.grad(lambda u: nearest_neighbor_kl((1 + jnp.tanh(u)) / 2, key=key))
            direction = slope(outputs)
            return outputs - 0.05 * jnp.sign(direction), None

        return jax.lax.scan(step, outputs, jax.random.split(KEY, 200))[0]

    codes = (1 + np.tanh(np.asarray(descend(outputs)))) / 2
    assert np.abs(codes - np.round(codes)).mean() < 0.12  # 0.46 before
    assert len(np.unique(np.round(codes), axis=0)) > 28
    assert np.abs(np.round(codes).mean(axis=0) - 0.5).max() < 0.3


# Invariances


@pytest.mark.parametrize("at_once", [1, 60])
def test_blocks_do_not_matter(monkeypatch, at_once):
    """A row at a time, and two with one left over."""
    codes, sample = uniform(23, 4), uniform(12, 4, seed=1)
    value, slope = loss_and_gradient(codes, target=sample, k=2)
    monkeypatch.setattr(_nearest_neighbors, "_BLOCK_SIZE", at_once)
    blocked = jax.jit(jax.value_and_grad(partial(nearest_neighbor_kl, target=sample, k=2)))
    blocked_value, blocked_slope = blocked(codes)
    np.testing.assert_allclose(blocked_value, value, rtol=1e-6)
    np.testing.assert_allclose(blocked_slope, slope, rtol=1e-6)


def test_memory_does_not_grow_with_pairs_and_bits():
    """4,096 codes of 64 bits: their pairs and bits would take 4 GiB, and the pairs 64 MiB."""
    step = jax.jit(jax.value_and_grad(lambda z: nearest_neighbor_kl(z, key=KEY)))
    compiled = step.lower(jax.ShapeDtypeStruct((4096, 64), jnp.float32)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2**26


def test_order_of_the_batch_and_of_the_bits_does_not_matter():
    codes, sample = uniform(9, 4), uniform(6, 4, seed=1)
    rows, bits = np.random.default_rng(2).permutation(9), np.array([2, 0, 3, 1])
    value = loss(codes, target=sample)
    np.testing.assert_allclose(loss(codes[rows], target=sample), value, rtol=1e-5)
    np.testing.assert_allclose(loss(codes[:, bits], target=sample[:, bits]), value, rtol=1e-5)
    np.testing.assert_allclose(loss(1 - codes, target=1 - sample), value, rtol=1e-4)


@pytest.mark.parametrize("filling", [0.5, np.nan])
@pytest.mark.parametrize("valid", [0, 1, 2])
def test_batch_with_too_few_valid_rows_costs_nothing(filling, valid):
    where = jnp.arange(11) < valid
    codes = jnp.where(where[:, None], uniform(11, 4), filling)
    value, slope = loss_and_gradient(codes, key=KEY, k=2, where=where)
    assert value == 0
    np.testing.assert_array_equal(slope, 0.0)


# Several devices


def cost_and_gradients(weights, images, where, *, sampled, axis_name=None):
    def cost(weights, images):
        codes = jax.nn.sigmoid(images @ weights)
        target = uniform(6, 4, seed=3) if sampled else 0.1
        return nearest_neighbor_kl(
            codes, key=KEY, target=target, k=2, where=where, axis_name=axis_name
        )

    value, (of_weights, of_images) = jax.value_and_grad(cost, argnums=(0, 1))(weights, images)
    if axis_name is not None:
        of_weights = jax.lax.psum(of_weights, axis_name)
    return value, of_weights, of_images


@cache
def over_devices(mapping, sampled):
    mapped = jax.pmap if mapping == "pmap" else lambda f, **axes: jax.jit(jax.vmap(f, **axes))
    step = partial(cost_and_gradients, sampled=sampled, axis_name="device")
    return mapped(step, axis_name="device", in_axes=(None, 0, 0))


@cache
def on_one(sampled):
    return jax.jit(partial(cost_and_gradients, sampled=sampled))


@pytest.mark.parametrize(("mapping", "sampled"), [("pmap", False), ("vmap", False), ("vmap", True)])
@pytest.mark.parametrize("valid", [16, 11, 2])
def test_eight_devices_are_one(mapping, sampled, valid):
    """Two rows a device; with 11 valid rows one device is half padding and two are nothing else."""
    rng = np.random.default_rng(0)
    images, weights = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((16, 3), (3, 4)))
    where = jnp.arange(16) < valid
    value, of_weights, of_images = over_devices(mapping, sampled)(
        weights, images.reshape(8, 2, 3), where.reshape(8, 2)
    )
    whole = on_one(sampled)(weights, images, where)
    assert len(set(np.asarray(value).tolist())) == 1
    np.testing.assert_allclose(value[0], whole[0], rtol=1e-5, atol=1e-6)
    for each in of_weights:
        np.testing.assert_allclose(each, whole[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_images.reshape(16, 3), whole[2], rtol=1e-4, atol=1e-5)


# Errors


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (ValueError, "key", {"key": None}),
        (ValueError, "target", {"target": 0.0}),
        (ValueError, "target", {"target": jnp.ones((4, 3))}),
        (ValueError, "target", {"target": jnp.ones(4)}),
        (ValueError, "target", {"target": jnp.ones((2, 2)), "k": 3}),
        (TypeError, "target", {"target": jnp.ones((4, 2), int)}),
        (ValueError, "k", {"k": 0}),
        (ValueError, "norm", {"norm": 3}),
        (ValueError, "epsilon", {"epsilon": 0.0}),
    ],
)
def test_errors_name_the_argument(unchecked, error, name, arguments):
    with pytest.raises(error, match=rf"\b{name}\b"):
        nearest_neighbor_kl(**{"codes": jnp.ones((4, 2)), "key": KEY} | arguments)
