"""Sliced and exact transport against their formulas, and against each other and HSWD.

Both losses draw what they compare with; the tests draw it again from the same key, and check its
law apart from the loss.
"""

from functools import cache, partial
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import hswd, optimal_transport, sliced_wasserstein
from jaxhash.losses._transport import uniform_signs

KEY = jax.random.key(0)
STATIC = ("projections", "block", "axis_name")
PROJECTIONS = 10  # two blocks of 4, and 2 that are left over
LOSSES = {
    "sliced": partial(sliced_wasserstein, projections=PROJECTIONS, block=4),
    "axes": partial(sliced_wasserstein, directions="axes"),
    "exact": optimal_transport,
}

sliced = jax.jit(sliced_wasserstein, static_argnames=STATIC)
exact = jax.jit(optimal_transport, static_argnames="axis_name")
loss = {name: jax.jit(f) for name, f in LOSSES.items()}
loss_and_gradient = {name: jax.jit(jax.value_and_grad(f)) for name, f in LOSSES.items()}

each_loss = pytest.mark.parametrize("name", LOSSES)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_signs(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).choice([-1, 1], size=shape), jnp.float32)


# What the losses draw


def sliced_draw(bits, n, projections, key=KEY):
    """The targets and the directions of `sliced_wasserstein`, in float64."""
    for_signs, for_directions = jax.random.split(key)
    draws = [
        jax.random.normal(jax.random.fold_in(for_directions, index), (bits,))
        for index in range(projections)
    ]
    directions = np.asarray(jnp.stack(draws), float)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.asarray(uniform_signs(for_signs, n, bits), float), directions


def exact_draw(bits, n, key=KEY):
    return np.asarray(uniform_signs(key, n, bits), float)


def test_targets_are_independent_fair_signs():
    signs = exact_draw(8, 4000)
    assert set(np.unique(signs)) == {-1, 1}
    correlation = np.abs(signs.T @ signs / 4000 - np.eye(8))
    between_rows = np.abs(np.mean(signs[1:] * signs[:-1], axis=0))
    for mean in (correlation, between_rows, np.abs(signs.mean(axis=0))):
        assert mean.max() < 4 / np.sqrt(4000)


def test_targets_of_a_batch_are_the_first_ones_of_a_larger_batch():
    np.testing.assert_array_equal(exact_draw(4, 9), exact_draw(4, 20)[:9])


@each_loss
def test_depends_on_the_key(name):
    codes = normal(16, 8)
    values = [loss[name](codes, key=key) for key in jax.random.split(KEY, 5)]
    assert len({float(value) for value in values}) == 5
    assert loss[name](codes, key=KEY) == loss[name](codes, key=jax.random.PRNGKey(0))


# Values of the sliced distance


def sliced_formula(codes, signs, directions):
    """A loop over directions, in float64."""
    codes = np.asarray(codes, float)
    cost = 0.0
    for along in directions:
        cost += np.sum((np.sort(codes @ along) - np.sort(signs @ along)) ** 2)
    return cost / (len(codes) * len(directions))


def test_sliced_by_hand():
    """With one bit each direction is -1 or +1: sorted codes meet sorted signs, as in HSWD."""
    low, high = -0.5, 0.8
    by_negatives = {
        0: ((low - 1) ** 2 + (high - 1) ** 2) / 2,
        1: ((low + 1) ** 2 + (high - 1) ** 2) / 2,
        2: ((low + 1) ** 2 + (high + 1) ** 2) / 2,
    }
    seen = set()
    for key in jax.random.split(KEY, 20):
        signs, _ = sliced_draw(1, 2, 1, key)
        seen.add(negatives := int(np.sum(signs < 0)))
        value = sliced(jnp.array([[high], [low]]), key=key, projections=3)
        assert value == pytest.approx(by_negatives[negatives])
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("n", [1, 2, 9, 300])
def test_sliced_is_the_formula(n):
    codes = normal(n, 4)
    expected = sliced_formula(codes, *sliced_draw(4, n, PROJECTIONS))
    np.testing.assert_allclose(loss["sliced"](codes, key=KEY), expected, rtol=1e-5)


@cache
def by_blocks_of(block):
    cost = partial(sliced_wasserstein, key=KEY, projections=PROJECTIONS, block=block)
    return jax.jit(jax.value_and_grad(cost))(normal(9, 4))


@pytest.mark.parametrize("block", [1, 3, 10, 16, 512])
def test_block_changes_nothing(block):
    (value, slope), (expected_value, expected_slope) = by_blocks_of(block), by_blocks_of(5)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(slope, expected_slope, atol=1e-7)


def test_memory_is_that_of_a_block():
    """Sixteen times the projections may cost what their costs take up, 4 bytes each, forwards and
    backwards; that is a fraction of one row of projected codes."""

    def temporary_bytes(projections):
        cost = partial(sliced_wasserstein, key=KEY, projections=projections, block=64)
        compiled = jax.jit(jax.value_and_grad(cost)).lower(jnp.ones((128, 8))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(64 * 64) - temporary_bytes(4 * 64) <= 4 * 4 * 60 * 64


def test_sliced_directions_are_uniform():
    """Codes far from all signs, R e_j: the mean cost is R^2 E (e_j theta)^2 = R^2 / bits."""
    for bit in range(4):
        codes = jnp.zeros((1, 4)).at[0, bit].set(1e4)
        assert sliced(codes, key=KEY) / 1e8 == pytest.approx(1 / 4, rel=0.05)


def by_axes(codes, **options):
    return sliced_wasserstein(codes, key=KEY, directions="axes", **options)


by_axes_and_gradient = jax.jit(jax.value_and_grad(by_axes))


@pytest.mark.parametrize("n", [1, 2, 9])
def test_along_the_axes_a_count_stands_for_the_sort(n):
    """Value and gradient of the formula with the axes as directions, and with ties among codes."""
    for codes in (normal(n, 4), jnp.round(2 * normal(n, 4)) / 2):
        signs, _ = sliced_draw(4, n, 1)
        rank = np.argsort(np.argsort(codes, axis=0, kind="stable"), axis=0)
        matched = np.take_along_axis(np.sort(signs, axis=0), rank, axis=0)
        value, slope = by_axes_and_gradient(codes)
        np.testing.assert_allclose(value, sliced_formula(codes, signs, np.eye(4)), rtol=1e-5)
        np.testing.assert_allclose(slope, 2 / codes.size * (codes - matched), atol=1e-6)


def test_along_the_axes_nothing_is_sorted_or_gathered():
    program = jax.jit(by_axes).lower(normal(9, 4)).as_text()
    assert "stablehlo.sort" not in program
    assert "stablehlo.sort" in sliced.lower(normal(9, 4), key=KEY, projections=4).as_text()


# Values of exact transport


def brute_force(codes, signs):
    """The cheapest of all matchings, in float64."""
    codes = np.asarray(codes, float)
    n, bits = codes.shape
    costs = [np.sum((codes - signs[list(order)]) ** 2) for order in permutations(range(n))]
    return min(costs) / (n * bits)


def test_exact_by_hand():
    """One bit: the lowest codes go to the -1 among the targets, the highest to the +1."""
    codes = np.array([2.0, -0.5, 0.2, -3.0])
    negatives = int(np.sum(exact_draw(1, 4) < 0))
    targets = np.where(np.arange(4) < negatives, -1, 1)
    value = np.mean((np.array([-3.0, -0.5, 0.2, 2.0]) - targets) ** 2)
    assert 0 < negatives < 4
    assert exact(jnp.asarray(codes, jnp.float32)[:, None], key=KEY) == pytest.approx(value)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_exact_is_the_cheapest_of_all_matchings(n):
    for seed, key in enumerate(jax.random.split(KEY, 5)):
        codes = normal(n, 3, seed=seed)
        expected = brute_force(codes, exact_draw(3, n, key))
        np.testing.assert_allclose(exact(codes, key=key), expected, rtol=1e-5)


def test_targets_in_another_order_cost_nothing():
    codes = exact_draw(8, 20)[np.random.default_rng(0).permutation(20)]
    value, slope = loss_and_gradient["exact"](jnp.asarray(codes, jnp.float32), key=KEY)
    assert value == 0 and not slope.any()


# The gradient


def test_sliced_gradient_leads_each_projection_to_its_match():
    codes = normal(9, 4)
    signs, directions = sliced_draw(4, 9, PROJECTIONS)
    expected = np.zeros((9, 4))
    for along in directions:
        rank = np.argsort(np.argsort(codes @ along))
        gap = codes @ along - np.sort(signs @ along)[rank]
        expected += 2 / (9 * PROJECTIONS) * np.outer(gap, along)
    _, slope = loss_and_gradient["sliced"](codes, key=KEY)
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_exact_gradient_leads_each_code_to_its_match():
    """The codes less their way to the match are the targets, each of them once."""
    codes = normal(9, 4)
    value, slope = loss_and_gradient["exact"](codes, key=KEY)
    matched = codes - 9 * 4 / 2 * slope
    np.testing.assert_allclose(np.mean((codes - matched) ** 2), value, rtol=1e-5)
    rows = sorted(np.rint(matched).tolist())
    np.testing.assert_allclose(matched, np.rint(matched), atol=1e-5)
    assert rows == sorted(exact_draw(4, 9).tolist())


# What the values mean


def test_hswd_is_at_most_exact_transport():
    """With the same targets: a matching of whole rows is one way to match each bit."""
    for seed, key in enumerate(jax.random.split(KEY, 10)):
        codes, signs = normal(9, 4, seed=seed), exact_draw(4, 9, key)
        per_bit = np.mean((np.sort(codes, axis=0) - np.sort(signs, axis=0)) ** 2)
        assert per_bit <= exact(codes, key=key) + 1e-6
    one_bit = normal(9, 1)
    signs = np.sort(exact_draw(1, 9), axis=0)
    per_bit = np.mean((np.sort(one_bit, axis=0) - signs) ** 2)
    assert exact(one_bit, key=KEY) == pytest.approx(per_bit, rel=1e-5)


def test_sliced_is_at_most_exact_transport():
    """In the mean over directions, and with the same targets; ten thousand directions are close."""
    for seed, key in enumerate(jax.random.split(KEY, 5)):
        codes, (signs, _) = normal(5, 4, seed=seed), sliced_draw(4, 5, 1, key)
        assert sliced(codes, key=key) <= brute_force(codes, signs) * 1.02


def test_zero_codes_cost_one():
    codes = jnp.zeros((16, 8))
    assert exact(codes, key=KEY) == 1
    assert sliced(codes, key=KEY) == pytest.approx(1, rel=0.03)


def mean_cost(cost, codes, draws):
    values = jax.lax.map(lambda key: cost(codes, key=key), jax.random.split(KEY, draws))
    return float(values.mean())


def test_costs_of_uniform_and_of_collapsed_codes():
    """64 codes of 32 bits: exact transport would rather have zero codes, at a cost of 1.

    And only the losses that see whole codes tell identical bits from independent ones.
    """
    uniform = random_signs(64, 32)
    identical = jnp.where(jnp.arange(64) < 32, 1.0, -1.0)[:, None].repeat(32, axis=1)
    few = partial(sliced, projections=500)
    assert mean_cost(few, uniform, 20) == pytest.approx(0.08, abs=0.01)
    assert mean_cost(few, identical, 20) == pytest.approx(0.70, abs=0.05)
    assert mean_cost(exact, uniform, 50) == pytest.approx(1.24, abs=0.02)
    assert mean_cost(exact, identical, 20) == pytest.approx(1.70, abs=0.03)
    assert mean_cost(exact, random_signs(64, 64), 50) == pytest.approx(1.47, abs=0.02)
    assert mean_cost(hswd, identical, 50) < mean_cost(hswd, uniform, 50)


# Masks, precision, broken codes


@each_loss
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [None, np.arange(9) < 8])
def test_broken_code_shows(name, broken, where):
    where = None if where is None else jnp.asarray(where)
    codes = normal(9, 4).at[1, 3].set(broken)
    value, slope = loss_and_gradient[name](codes, key=KEY, where=where)
    assert jnp.isnan(value) if np.isnan(broken) else not jnp.isfinite(value)
    assert not jnp.isfinite(slope[1]).all()


# Errors


@pytest.mark.parametrize(
    ("name", "error", "argument", "arguments"),
    [
        *((name, TypeError, "key", {}) for name in LOSSES),
        ("sliced", ValueError, "projections", {"projections": 0}),
        ("sliced", ValueError, "block", {"block": 0}),
        ("sliced", ValueError, "directions", {"directions": "diagonal"}),
    ],
)
def test_errors_name_the_argument(unchecked, name, error, argument, arguments):
    key = {} if argument == "key" else {"key": KEY}
    with pytest.raises(error, match=rf"\b{argument}\b"):
        LOSSES[name](**{"codes": jnp.ones((4, 2))} | key | arguments)
