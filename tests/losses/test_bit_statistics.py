"""Balance, decorrelation, entropy and spread against their formulas and invariances."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import hadamard

from jaxhash.losses import bernoulli_kl, bit_balance_penalty, bit_decorrelation, koleo

LOSSES = {
    "balance": bit_balance_penalty,
    "decorrelation": bit_decorrelation,
    "covariance": partial(bit_decorrelation, centered=True),
    "entropy": bernoulli_kl,
    "entropy of mass": partial(bernoulli_kl, mass=0.2),
    "spread": koleo,
}

loss = {name: jax.jit(f, static_argnames="axis_name") for name, f in LOSSES.items()}
loss_and_gradient = {name: jax.jit(jax.value_and_grad(f)) for name, f in LOSSES.items()}

each_loss = pytest.mark.parametrize("name", LOSSES)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def copies(n, bits):
    """Codes of balanced signs, every bit the same."""
    return jnp.asarray(np.where(np.arange(n) % 2, -1.0, 1.0)[:, None].repeat(bits, axis=1))


# Values


def frequency(bit, p):
    """The divergence of one bit, in float64."""
    q = np.mean([1 / (1 + np.exp(-2 * u)) for u in bit])
    return q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))


def formula(name, codes):
    """By loops, in float64."""
    codes = np.asarray(codes, float)
    n, bits = codes.shape
    if name == "balance":
        return np.mean([codes[:, j].mean() ** 2 for j in range(bits)])
    if name.startswith("entropy"):
        return np.mean(
            [frequency(codes[:, j], 0.2 if "mass" in name else 0.5) for j in range(bits)]
        )
    if name == "spread":
        v = [row / np.linalg.norm(row) for row in codes]
        rho = [min(np.sum((v[i] - v[j]) ** 2) for j in range(n) if j != i) for i in range(n)]
        return -np.mean([np.log(np.sqrt(1e-4 + square)) for square in rho])
    mean = codes.mean(axis=0) if name == "covariance" else np.zeros(bits)
    moments = [
        np.mean([(row[j] - mean[j]) * (row[k] - mean[k]) for row in codes])
        for j in range(bits)
        for k in range(bits)
        if j != k
    ]
    return np.mean(np.square(moments))


@each_loss
@pytest.mark.parametrize("n", [2, 9, 100])
def test_is_the_formula(name, n):
    codes = normal(n, 4)
    np.testing.assert_allclose(loss[name](codes), formula(name, codes), rtol=1e-5)


def test_balance_by_hand():
    codes = jnp.array([[1.0, 0.5], [1.0, -1.0], [1.0, 0.2], [-1.0, 0.1]])
    value = jax.jit(partial(bit_balance_penalty, reduce_fn=None))(codes)
    np.testing.assert_allclose(value, [0.5**2, 0.05**2], rtol=1e-5)
    assert loss["balance"](codes) == pytest.approx((0.5**2 + 0.05**2) / 2)


def test_decorrelation_by_hand():
    """C is 1/2 for bits 1 and 2, 1 for 1 and 3, 1/2 for 2 and 3; the means are 1/2, 0 and 1/2."""
    codes = jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, -1.0, -1.0]])
    assert loss["decorrelation"](codes) == pytest.approx((0.5**2 + 1 + 0.5**2) / 3)
    assert loss["covariance"](codes) == pytest.approx((0.5**2 + 0.75**2 + 0.5**2) / 3)


def test_entropy_by_hand():
    """Frequencies of 3/4 and 1: tanh(u) = 1/2 is a chance of 3/4."""
    codes = jnp.array([[np.arctanh(0.5), 50.0]])
    expected = [np.log(2) - (0.25 * np.log(4) + 0.75 * np.log(4 / 3)), np.log(2)]
    value = jax.jit(partial(bernoulli_kl, reduce_fn=None))(codes)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    value = bernoulli_kl(codes, mass=jnp.array([0.75, 0.125]), reduce_fn=None)
    np.testing.assert_allclose(value, [0, np.log(8)], rtol=1e-5, atol=1e-6)


def test_spread_by_hand():
    """Directions at 0, 60 and 180 degrees: the nearest are 1, 1 and sqrt 3 away."""
    codes = jnp.array([[3.0, 0.0], [0.5, np.sqrt(3) / 2], [-0.1, 0.0]])
    assert koleo(codes, epsilon=1e-6) == pytest.approx(-np.log(3) / 2 / 3, rel=1e-5)


def test_padding_is_nobodys_neighbor():
    """Not even of codes that lie opposite each other, 2 apart."""
    codes, where = jnp.array([[1.0, 0.0], [-3.0, 0.0], [0.0, 0.0]]), jnp.arange(3) < 2
    assert koleo(codes, where=where, epsilon=1e-6) == pytest.approx(-np.log(2))


def test_what_costs_nothing_and_what_most():
    independent = jnp.asarray(hadamard(8)[:, 1:5], jnp.float32)
    same = copies(8, 4)
    assert loss["balance"](independent) == loss["balance"](same) == 0
    assert loss["decorrelation"](independent) == loss["covariance"](independent) == 0
    assert loss["decorrelation"](same) == loss["covariance"](same) == 1
    assert loss["entropy"](independent) == pytest.approx(0, abs=1e-6)
    assert loss["entropy of mass"](jnp.full((8, 4), np.arctanh(2 * 0.2 - 1))) < 1e-6
    assert loss["spread"](independent) < loss["spread"](same)


def test_decorrelation_of_independent_signs_is_one_over_n():
    draws = np.random.default_rng(0).choice([-1.0, 1.0], size=(200, 50, 8))
    values = jax.vmap(loss["decorrelation"])(jnp.asarray(draws, jnp.float32))
    assert values.mean() == pytest.approx(1 / 50, rel=0.05)


# The gradient


def test_entropy_draws_a_bit_from_zero_to_its_mass():
    _, slope = loss_and_gradient["entropy of mass"](jnp.zeros((5, 3)))
    q, p = 0.5, 0.2  # dL/dq = log(q / p) - log((1 - q) / (1 - p)), dq/du = 2 q (1 - q) / n
    expected = (np.log(q / p) - np.log((1 - q) / (1 - p))) * 2 * q * (1 - q) / 5 / 3
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_near_duplicates_are_pushed_apart():
    codes = jnp.array([[1.0, 0.0], [1.0, 1e-3], [-1.0, 0.0]])
    _, slope = loss_and_gradient["spread"](codes)
    assert slope[0, 1] > 0 > slope[1, 1]
    assert koleo(codes[:1]) == 0


# Invariances


@each_loss
def test_order_of_the_batch_and_of_the_bits_does_not_matter(name):
    codes = normal(9, 4)
    rows, bits = np.random.default_rng(2).permutation(9), np.array([2, 0, 3, 1])
    for other in (codes[rows], codes[:, bits]):
        np.testing.assert_allclose(loss[name](other), loss[name](codes), rtol=1e-5)
    if "mass" not in name:
        np.testing.assert_allclose(loss[name](-codes), loss[name](codes), rtol=1e-5)


# Errors


@pytest.mark.parametrize(
    ("loss", "error", "name", "arguments"),
    [
        (bernoulli_kl, ValueError, "mass", {"mass": 1.0}),
        (bernoulli_kl, ValueError, "mass", {"mass": 0}),
        (bernoulli_kl, ValueError, "mass", {"mass": jnp.ones(3)}),
        (koleo, ValueError, "epsilon", {"epsilon": 0.0}),
    ],
)
def test_errors_name_the_argument(unchecked, loss, error, name, arguments):
    with pytest.raises(error, match=rf"\b{name}\b"):
        loss(**{"codes": jnp.ones((4, 2))} | arguments)
