"""Entropic transport against its definition, and against exact transport as the entropy goes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash.losses import optimal_transport, sinkhorn
from jaxhash.losses._transport import uniform_signs

KEY = jax.random.key(0)

loss = jax.jit(sinkhorn, static_argnames=("epsilon", "iterations"))
loss_and_gradient = jax.jit(jax.value_and_grad(sinkhorn), static_argnames=("epsilon", "iterations"))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def definition(codes, epsilon, iterations=20_000):
    """The value and the plan, by scaling the kernel exp(-C / epsilon) in float64."""
    codes = np.asarray(codes, float)
    n = len(codes)
    signs = np.asarray(uniform_signs(KEY, *codes.shape), float)
    cost = np.array([[np.mean((t - u) ** 2) for u in codes] for t in signs])
    kernel = np.exp(-cost / epsilon)
    left = np.ones(n)
    for _ in range(iterations):
        right = 1 / n / (kernel.T @ left)
        left = 1 / n / (kernel @ right)
    plan = left[:, None] * kernel * right[None, :]
    return np.sum(plan * cost) + epsilon * np.sum(plan * np.log(n**2 * plan)), plan, signs


@pytest.mark.parametrize("n", [1, 2, 9, 40])
@pytest.mark.parametrize("epsilon", [0.1, 2.0])
def test_value_and_gradient_are_the_definition(n, epsilon):
    codes = normal(n, 4)
    expected, plan, signs = definition(codes, epsilon)
    value, slope = loss_and_gradient(codes, key=KEY, epsilon=epsilon, iterations=1000)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    mean = n * plan.T @ signs
    np.testing.assert_allclose(slope, 2 / codes.size * (codes - mean), atol=1e-5)


def test_by_hand():
    """Two codes of one bit, for a draw of one sign each; the plan is (p, 1/2 - p) crosswise.

    At the optimum p / (1/2 - p) = exp(D / epsilon), D what crossing costs more.
    """
    low, high, epsilon = -0.5, 0.8, 0.7
    straight = ((low + 1) ** 2 + (high - 1) ** 2) / 2
    crossed = ((low - 1) ** 2 + (high + 1) ** 2) / 2
    p = 0.5 / (1 + np.exp((straight - crossed) / epsilon))
    q = 0.5 - p
    value = 2 * (p * straight + q * crossed)
    value += epsilon * 2 * (p * np.log(4 * p) + q * np.log(4 * q))
    keys = jax.random.split(KEY, 10)
    key = next(k for k in keys if float(uniform_signs(k, 2, 1).sum()) == 0)
    assert loss(jnp.array([[high], [low]]), key=key, epsilon=epsilon) == pytest.approx(
        value, rel=1e-5
    )


def test_tends_to_exact_transport_from_above():
    codes = normal(12, 4)
    exact = float(optimal_transport(codes, key=KEY))
    gaps = {
        epsilon: float(loss(codes, key=KEY, epsilon=epsilon, iterations=3000)) - exact
        for epsilon in (0.3, 0.1, 0.03, 0.01)
    }
    assert all(0 <= gap <= epsilon * np.log(12) for epsilon, gap in gaps.items())
    assert list(gaps.values()) == sorted(gaps.values(), reverse=True) and gaps[0.01] < 0.02


def test_default_iterations_are_enough_at_the_default_epsilon():
    """On codes of the size that training has."""
    codes = normal(64, 32)
    exact = loss(codes, key=KEY, iterations=2000)
    np.testing.assert_allclose(loss(codes, key=KEY), exact, rtol=1e-4)


def test_gradient_is_that_of_finite_differences():
    codes = normal(5, 3)
    cost = partial(loss, key=KEY, epsilon=0.5, iterations=300)
    check_grads(cost, (codes,), order=1, modes=("fwd", "rev"), eps=1e-2, rtol=1e-2)


def test_large_codes_lose_no_digits():
    """Costs of thousands, with an epsilon of 0.05; exact transport is at most 0.05 log 16 less."""
    codes = 50 * normal(16, 8)
    value = loss(codes, key=KEY, iterations=20_000)
    exact = optimal_transport(codes, key=KEY)
    assert 0 <= value - exact + 1e-3 <= 0.05 * np.log(16) + 2e-3


def test_depends_on_the_key():
    codes = normal(9, 4)
    assert loss(codes, key=KEY) != loss(codes, key=jax.random.key(1))


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (ValueError, "epsilon", {"epsilon": 0.0}),
        (ValueError, "iterations", {"iterations": 0}),
    ],
)
def test_errors_name_the_argument(unchecked, error, name, arguments):
    with pytest.raises(error, match=rf"\b{name}\b"):
        sinkhorn(**{"codes": jnp.ones((4, 2)), "key": KEY} | arguments)
