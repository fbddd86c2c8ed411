"""HSWD with a term for the dependence of bits: its parts, and what descent on it leads to."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import bit_decorrelation, decorrelated_hswd, hswd, parity_hswd

KEY = jax.random.key(0)
LOSSES = {"parity": parity_hswd, "decorrelated": decorrelated_hswd}
loss = {name: jax.jit(f, static_argnames="target") for name, f in LOSSES.items()}

each_loss = pytest.mark.parametrize("name", LOSSES)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def balanced_hswd(codes):
    """The mean over bits of the distance to half -1, half +1, for an even batch."""
    target = np.where(np.arange(len(codes)) < len(codes) / 2, -1, 1)[:, None]
    return np.mean((np.sort(codes, axis=0) - target) ** 2)


# Values


def test_parity_by_hand():
    """Two bits have one pair, whichever the draw: products clipped to 3/2 times 1/2, and so on."""
    codes = jnp.array([[2.0, 0.5], [-0.5, 1.0], [1.0, -1.0], [0.2, -0.3]])
    products = np.array([[1.5 * 0.5], [-0.5], [-1.0], [-0.06]])
    expected = balanced_hswd(np.asarray(codes)) + 0.7 * balanced_hswd(products)
    value = parity_hswd(codes, key=KEY, weight=0.7, target="balanced")
    assert value == pytest.approx(expected)


def test_parities_are_those_of_pairs_of_different_bits():
    """The mean over many pairs is that over all of them, each of them as likely."""
    bound = 0.5
    codes = np.asarray(normal(8, 3))
    clipped = np.clip(codes, -bound, bound)
    products = [clipped[:, [j]] * clipped[:, [k]] for j in range(3) for k in range(3) if j != k]
    expected = balanced_hswd(codes) + np.mean([balanced_hswd(p) for p in products])
    value = parity_hswd(
        jnp.asarray(codes), key=KEY, weight=1.0, pairs=5000, bound=bound, target="balanced"
    )
    assert value == pytest.approx(expected, rel=0.02)


def test_pairs_are_fresh_with_each_key():
    codes = normal(8, 6)
    keys = jax.random.split(KEY, 5)
    values = [loss["parity"](codes, key=key, target="balanced") for key in keys]
    assert len({float(value) for value in values}) == 5
    assert loss["parity"](codes, key=KEY) == loss["parity"](codes, key=jax.random.PRNGKey(0))


def test_decorrelated_is_the_sum_of_its_parts():
    codes = normal(8, 4)
    expected = hswd(codes, target="expected") + 0.7 * bit_decorrelation(jnp.tanh(codes))
    value = decorrelated_hswd(codes, key=KEY, weight=0.7, target="expected")
    assert value == pytest.approx(float(expected))


@each_loss
def test_weight_of_zero_is_hswd(name):
    codes = normal(8, 4)
    value = LOSSES[name](codes, key=KEY, weight=0.0, target="expected")
    assert value == pytest.approx(float(hswd(codes, target="expected")))


# What descent leads to


@partial(jax.jit, static_argnames="name")
def descend(start, name):
    cost = LOSSES.get(name, hswd)
    rate = 0.05 * start.size

    def step(number, codes):
        return codes - rate * jax.grad(cost)(codes, key=jax.random.fold_in(KEY, number))

    return jax.lax.fori_loop(0, 600, step, start)


def distinct_and_correlation(codes):
    signs = np.where(np.asarray(codes) >= 0, 1, -1)
    n, bits = signs.shape
    moments = (signs.T @ signs / n)[~np.eye(bits, dtype=bool)]
    return len(np.unique(signs, axis=0)), np.sqrt(np.mean(moments**2))


def test_copies_of_a_bit_become_independent_bits():
    """64 rows of 8 bits; independent signs have 57 distinct codes and a correlation of 1/8."""
    start = normal(64, 1) + 0.01 * normal(64, 8, seed=1)
    distinct, correlation = distinct_and_correlation(descend(start, "hswd"))
    assert distinct < 10 and correlation > 0.9
    for name in LOSSES:
        end = descend(start, name)
        distinct, correlation = distinct_and_correlation(end)
        assert distinct > 45 and correlation < 0.15
        assert abs(jnp.abs(end) - 1).mean() < 0.2  # and binary


@each_loss
def test_descent_from_large_codes_converges(name):
    end = descend(50 * normal(64, 8), name)
    assert abs(jnp.abs(end) - 1).mean() < 0.2


# The gradient and invariances


@pytest.mark.parametrize(
    ("name", "error", "argument", "arguments"),
    [
        ("parity", ValueError, "codes", {"codes": jnp.ones((4, 1))}),
        ("parity", ValueError, "pairs", {"pairs": 0}),
        ("parity", ValueError, "bound", {"bound": 0.0}),
    ],
)
def test_errors_name_the_argument(unchecked, name, error, argument, arguments):
    with pytest.raises(error, match=rf"\b{argument}\b"):
        LOSSES[name](**{"codes": jnp.ones((4, 2)), "key": KEY} | arguments)
