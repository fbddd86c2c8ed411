"""HSWD against its formula, its law, its gradient and its meaning."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hswd_oracles import (
    KEY,
    WAYS,
    each_method,
    each_way,
    formula,
    half_and_half,
    loss,
    loss_and_gradient,
    minus_chances,
    minus_counts,
    normal,
    per_bit,
)
from scipy import stats
from scipy.linalg import hadamard

from jaxhash.losses import hswd
from jaxhash.losses._hswd import _expected_signs

# Values


@each_method
def test_balanced_by_hand(method):
    """Three codes: the lowest goes to -1, the highest to +1, the middle one half to each."""
    codes = jnp.array([[2.0], [-0.5], [0.2]])
    value = ((-0.5 + 1) ** 2 + (0.2**2 + 1) + (2 - 1) ** 2) / 3
    assert loss(codes, target="balanced", method=method) == pytest.approx(value)


def test_expected_by_hand():
    """Two signs are both +1, one of each, or both -1, with chances 1/4, 1/2, 1/4."""
    low, high = -0.5, 0.8
    both_plus = ((low - 1) ** 2 + (high - 1) ** 2) / 2
    one_each = ((low + 1) ** 2 + (high - 1) ** 2) / 2
    both_minus = ((low + 1) ** 2 + (high + 1) ** 2) / 2
    value = both_plus / 4 + one_each / 2 + both_minus / 4
    codes = jnp.array([[high], [low]])
    assert loss(codes, target="expected", method="sort") == pytest.approx(value)


@each_method
def test_sampled_by_hand(method):
    """A batch of one code is compared with one sign; over 64 bits either one occurs."""
    costs = per_bit(jnp.full((1, 64), 0.25), target="sampled", method=method)
    assert set(costs.tolist()) == {(0.25 - 1) ** 2, (0.25 + 1) ** 2}


@each_way
@pytest.mark.parametrize("n", [1, 2, 9])
def test_is_the_formula(target, method, n):
    codes = normal(n, 4)
    expected = formula(codes, minus_chances(target, n, 4))
    np.testing.assert_allclose(per_bit(codes, target=target, method=method), expected, rtol=1e-5)


@pytest.mark.parametrize(("target", "method"), WAYS[:4])
def test_is_the_formula_for_unequal_masses(target, method):
    mass = (0.0, 0.3, 0.5, 1.0)
    codes = normal(9, 4)
    expected = formula(codes, minus_chances(target, 9, 4, mass))
    value = per_bit(codes, target=target, method=method, mass=jnp.array(mass))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    expected = formula(codes, minus_chances(target, 9, 4, 0.3))
    value = per_bit(codes, target=target, method=method, mass=0.3)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_codes_with_their_mass_cost_nothing():
    """Each bit has its own share of +1: 1/8, 1/2, 7/8 and all of eight codes."""
    ones = np.array([1, 4, 7, 8])
    codes = jnp.asarray(np.where(np.arange(8)[:, None] < ones, 1.0, -1.0))
    value, slope = loss_and_gradient(codes, target="balanced", mass=jnp.asarray(ones / 8))
    assert value == 0 and not slope.any()
    assert loss(codes, target="balanced") == pytest.approx(4 * (3 + 3 + 4) / 32)


def test_is_the_mean_over_bits_by_default():
    codes = normal(9, 4)
    expected = per_bit(codes).mean()
    np.testing.assert_allclose(loss(codes, key=KEY), expected, rtol=1e-6)


def test_sampled_is_the_distance_to_an_explicit_batch_of_signs():
    """Any batch of Rademacher signs with as many -1 gives the same value, in whatever order."""
    n, bits = 5, 4
    codes, counts = normal(n, bits), minus_counts(n, bits)
    draws = np.random.default_rng(1).choice([-1, 1], size=(500, n))
    signs = np.stack([draws[(draws < 0).sum(axis=1) == k][0] for k in counts], axis=1)
    expected = np.mean((np.sort(codes, axis=0) - np.sort(signs, axis=0)) ** 2, axis=0)
    np.testing.assert_allclose(per_bit(codes, target="sampled"), expected, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_expected_is_the_average_of_sampled_over_all_counts(n):
    codes = normal(n, 4)
    rank = np.arange(1, n + 1)[:, None].repeat(4, axis=1)
    average = sum(stats.binom.pmf(k, n, 0.5) * formula(codes, rank <= k) for k in range(n + 1))
    value = per_bit(codes, target="expected", method="sort")
    np.testing.assert_allclose(value, average, rtol=1e-5)


expected_signs = jax.jit(_expected_signs)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 64, 255, 1000, 8_191, 8_192, 40_000, 65_535, 65_536])
def test_expected_signs_at_any_batch_size(n):
    """The batch has 65,536 rows, n of them valid; the ranks of the others do not matter."""
    signs = expected_signs(jnp.arange(1, 65_537), jnp.int32(n))[:n]
    exact = 2 * stats.binom.cdf(np.arange(n), n, 0.5) - 1
    np.testing.assert_allclose(signs, exact, rtol=0, atol=1e-6)


def test_default_method_sorts_only_where_it_must():
    codes = normal(9, 4)
    for target, method in (("sampled", "select"), ("expected", "sort")):
        chosen = per_bit(codes, target=target, method=method)
        np.testing.assert_array_equal(per_bit(codes, target=target), chosen)
    program = loss.lower(codes, target="balanced").as_text()
    assert "stablehlo.sort" not in program
    assert "stablehlo.sort" in loss.lower(codes, target="balanced", method="sort").as_text()


# The law of the sampled count


def assert_binomial(counts, n, chance):
    """Chi-square of the counts; those expected less than 10 times are pooled."""
    draws = len(counts)
    assert counts.min() >= 0 and counts.max() <= n
    usual = np.flatnonzero(draws * stats.binom.pmf(np.arange(n + 1), n, chance) >= 10)
    low, high = usual[0], usual[-1]
    cdf = stats.binom.cdf(np.arange(low, high), n, chance)
    chances = np.diff(cdf, prepend=0, append=1)
    pooled = np.clip(counts, low, high) - low
    seen = np.bincount(pooled, minlength=len(chances))
    assert stats.chisquare(seen, draws * chances).pvalue > 1e-3
    deviation = np.sqrt(chance * (1 - chance))
    assert abs(counts.mean() - n * chance) < 5 * deviation * np.sqrt(n / draws)
    kurtosis = 2 + (1 - 6 * chance * (1 - chance)) / (n * deviation**2)
    tolerance = 5 * np.sqrt(kurtosis / draws) + 25 / draws  # the variance is about their own mean
    assert abs(counts.var() / (n * deviation**2) - 1) < tolerance


@cache
def counts_of_ones(rows):
    """A function of the mask: the counts K, each from the cost 4 K / n of n codes +1."""

    @jax.jit
    def counts(where, mass):
        codes = jnp.ones((rows, 5000))
        mass = {} if mass is None else {"mass": mass}
        costs = hswd(codes, key=KEY, method="sort", where=where, reduce_fn=None, **mass)
        return costs * jnp.sum(where) / 4

    def rounded(n, mass=None):
        found = np.asarray(counts(jnp.arange(rows) < n, mass))
        np.testing.assert_allclose(found, np.rint(found), atol=1e-3)
        return np.rint(found).astype(int)

    return rounded


@pytest.mark.parametrize("n", [1, 2, 5, 20, 31, 32, 33, 64, 100])
def test_sampled_count_is_binomial(n):
    """A mass of 1/2 counts random bits by words of 32, the last of which may be in part unused."""
    assert_binomial(counts_of_ones(100)(n), n, 0.5)


@pytest.mark.parametrize("n", [1, 5, 20, 100])
@pytest.mark.parametrize("mass", [0.1, 0.3, 0.5, 0.9])
def test_sampled_count_is_binomial_for_any_mass(n, mass):
    """The sampler of JAX changes its algorithm where n times the chance exceeds 10."""
    assert_binomial(counts_of_ones(100)(n, jnp.float32(mass)), n, 1 - mass)


@pytest.mark.parametrize("mass", [None, 0.3])
def test_padding_does_not_change_the_draw(mass):
    """Neither one row of it nor several words."""
    option = None if mass is None else jnp.float32(mass)
    draws = [counts_of_ones(rows)(9, option) for rows in (9, 10, 100)]
    np.testing.assert_array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(draws[0], draws[2])


def test_certain_signs_are_not_drawn():
    assert not counts_of_ones(100)(33, jnp.float32(1)).any()
    assert np.all(counts_of_ones(100)(33, jnp.float32(0)) == 33)


def test_sampled_counts_of_bits_and_of_keys_are_independent():
    keys = jax.random.split(KEY, 4000)
    costs = jax.vmap(lambda key: loss(jnp.ones((5, 4)), key=key, reduce_fn=None))(keys)
    counts = np.asarray(costs) * 5 / 4
    between_bits = np.corrcoef(counts.T) - np.eye(4)
    between_keys = np.corrcoef(counts[1:].ravel(), counts[:-1].ravel())[0, 1]
    assert np.abs(between_bits).max() < 4 / np.sqrt(4000)
    assert abs(between_keys) < 4 / np.sqrt(16_000)


def test_sampled_depends_on_the_key_alone():
    codes = normal(16, 8)
    old_style = jax.random.PRNGKey(0)
    np.testing.assert_array_equal(loss(codes, key=KEY), loss(codes, key=KEY))
    np.testing.assert_array_equal(loss(codes, key=KEY), loss(codes, key=old_style))
    assert loss(codes, key=KEY) != loss(codes, key=jax.random.key(1))


# The gradient


@each_way
@pytest.mark.parametrize("n", [1, 9])
def test_gradient_is_twice_the_way_to_the_mean_sign(target, method, n):
    codes = normal(n, 4)
    rank = np.argsort(np.argsort(codes, axis=0), axis=0)
    mean_sign = 1 - 2 * np.take_along_axis(minus_chances(target, n, 4), rank, axis=0)
    expected = 2 / codes.size * (codes - mean_sign)
    _, slope = loss_and_gradient(codes, key=KEY, target=target, method=method)
    np.testing.assert_allclose(slope, expected, atol=1e-6)


@pytest.mark.parametrize("target", ["sampled", "balanced"])
def test_second_derivative_is_two_over_n(target):
    """Ties and the split code included; by forward over reverse and by reverse over forward."""
    codes = jnp.array([[0.5, 2.0], [0.5, -1.0], [0.5, 0.1]])
    cost = partial(hswd, key=KEY, target=target, reduce_fn=jnp.sum)
    expected = 2 / 3 * np.eye(6).reshape(3, 2, 3, 2)
    for hessian in (jax.hessian(cost), jax.jacrev(jax.jacfwd(cost))):
        np.testing.assert_allclose(jax.jit(hessian)(codes), expected, atol=1e-6)


@pytest.mark.parametrize("target", ["sampled", "balanced"])
def test_forward_mode_is_the_gradient_along_the_tangent(target):
    codes, tangent = normal(9, 4), normal(9, 4, seed=1)
    cost = partial(hswd, key=KEY, target=target)
    value, along = jax.jit(lambda *pair: jax.jvp(cost, pair[:1], pair[1:]))(codes, tangent)
    expected_value, slope = loss_and_gradient(codes, key=KEY, target=target)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(along, np.vdot(slope, tangent), rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("target", ["sampled", "balanced"])
def test_backward_pass_keeps_no_more_than_the_codes(target, masked):
    """In bfloat16: not a float32 copy of them, nor a second one of their size."""
    codes = normal(40, 4).astype(jnp.bfloat16)
    where = jnp.arange(40) < 33 if masked else None

    def kept(method):
        cost = partial(hswd, key=KEY, target=target, method=method, where=where)
        leaves = jax.tree.leaves(jax.eval_shape(lambda codes: jax.vjp(cost, codes)[1], codes))
        return [leaf for leaf in leaves if leaf.size >= codes.size]

    def size(leaf):
        return leaf.size * leaf.dtype.itemsize

    assert all(size(leaf) <= codes.nbytes for leaf in kept("select"))
    numbers = [leaf for leaf in kept("select") if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert sum(map(size, numbers)) <= codes.nbytes
    assert any(size(leaf) > codes.nbytes for leaf in kept("sort"))  # the test can fail


# What the value means


@pytest.mark.parametrize("target", ["sampled", "balanced"])
def test_is_the_l2_penalty_plus_the_cost_of_the_cheapest_flips(target):
    """With K targets -1 and n codes negative, the |K - n| codes nearest to 0 pay 4 |u| each."""
    codes = np.asarray(normal(8, 4))
    counts = minus_counts(8, 4) if target == "sampled" else np.full(4, 8 // 2)
    flips = 0.0
    for bit, k in zip(codes.T, counts, strict=True):
        surplus = np.sum(bit < 0) - k
        side = np.abs(bit[(bit < 0) == (surplus > 0)])
        flips += np.sort(side)[: abs(surplus)].sum()
    assert flips > 0
    expected = np.mean((np.abs(codes) - 1) ** 2) + 4 * flips / codes.size
    assert loss(jnp.asarray(codes), key=KEY, target=target) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [64, 256])
def test_floor_of_balanced_signs(n):
    """K targets -1 move |K - n/2| codes from one sign to the other, at a cost of 4 each."""
    k = np.arange(n + 1)
    floor = 4 * np.sum(stats.binom.pmf(k, n, 0.5) * np.abs(k - n / 2)) / n
    assert floor == pytest.approx(4 / np.sqrt(2 * np.pi * n), rel=0.01)
    signs = half_and_half(n, 2)
    assert loss(signs, target="expected", method="sort") == pytest.approx(floor, rel=1e-5)
    draws = np.asarray(per_bit(half_and_half(n, 2000), target="sampled"))
    assert abs(draws.mean() - floor) < 4 * draws.std() / np.sqrt(len(draws))


@pytest.mark.parametrize("n", [1, 9, 64])
def test_minimum_of_expected_is_the_variance_of_the_targets(n):
    signs = 2 * stats.binom.cdf(np.arange(n), n, 0.5) - 1
    floor, best = np.mean(1 - signs**2), jnp.asarray(signs, jnp.float32)[:, None]
    value, slope = loss_and_gradient(best, target="expected", method="sort")
    assert value == pytest.approx(floor, abs=1e-6)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    assert loss_and_gradient(normal(n, 1), target="expected", method="sort")[0] > floor


@each_way
def test_zero_codes_cost_one(target, method):
    value = per_bit(jnp.zeros((9, 4)), target=target, method=method)
    np.testing.assert_allclose(value, 1.0, rtol=1e-6)


@each_method
@pytest.mark.parametrize("n", [2, 8, 9])
def test_balanced_signs_cost_nothing_but_for_the_odd_one(method, n):
    """In an odd batch the middle code is as far from one half of its target as can be: 4/2/n."""
    cost = 0 if n % 2 == 0 else 2 / n
    value = loss(half_and_half(n, 4), target="balanced", method=method)
    assert value == pytest.approx(cost, abs=0)


def test_identical_bits_are_a_minimum_too():
    """The loss looks at one bit at a time: it does not ask for independent bits."""
    collapsed = half_and_half(8, 4)
    independent = jnp.asarray(hadamard(8)[:, 1:5], jnp.float32)
    assert loss(collapsed, target="balanced") == loss(independent, target="balanced") == 0
    assert not loss_and_gradient(collapsed, target="balanced")[1].any()


# Errors


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (ValueError, "target", {"target": "random"}),
        (ValueError, "method", {"method": "bubble"}),
        (ValueError, "key", {"target": "sampled"}),
        (ValueError, "method", {"target": "expected", "method": "select"}),
        (
            ValueError,
            "axis_name",
            {"target": "balanced", "method": "kernel", "axis_name": "devices"},
        ),
        (ValueError, "mass", {"target": "expected", "method": "sort", "mass": 0.3}),
        (ValueError, "mass", {"mass": 1.5}),
        (ValueError, "mass", {"mass": float("nan")}),
        (ValueError, "mass", {"mass": 2}),
        (ValueError, "mass", {"mass": -1}),
        (ValueError, "mass", {"mass": jnp.ones(3)}),
        (ValueError, "mass", {"mass": jnp.ones((1, 2))}),
    ],
)
def test_errors_name_the_argument_in_one_line(unchecked, error, name, arguments):
    with pytest.raises(error, match=rf"\b{name}\b") as raised:
        hswd(**{"codes": jnp.ones((4, 2)), "target": "balanced"} | arguments)
    assert "\n" not in str(raised.value)
