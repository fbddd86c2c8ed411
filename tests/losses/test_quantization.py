"""HSWD against its formula, its law, its gradient and its invariances, on one device and on eight.

The loss is rebuilt here from chances rather than from mean signs: if the r-th smallest target is -1
with chance p, a code u of rank r costs p (u + 1)^2 + (1 - p) (u - 1)^2.
"""

from functools import cache, partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads
from scipy import stats
from scipy.linalg import hadamard

from jaxhash.losses import hswd
from jaxhash.losses._quantization import _expected_signs

TARGETS = ("sampled", "balanced", "expected")
KEY = jax.random.key(0)
OPTIONS = ("target", "method", "axis_name", "reduce_fn")

loss = jax.jit(hswd, static_argnames=OPTIONS)
loss_and_gradient = jax.jit(jax.value_and_grad(hswd), static_argnames=OPTIONS)
per_bit = partial(loss, key=KEY, reduce_fn=None)

each_target = pytest.mark.parametrize("target", TARGETS)
each_symmetric_target = pytest.mark.parametrize("target", ("balanced", "expected"))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def half_and_half(n, bits):
    return jnp.asarray(np.where(np.arange(n) < n // 2, -1.0, 1.0)[:, None].repeat(bits, axis=1))


def minus_counts(n, bits):
    """The number of -1 among the n target signs of each bit that "sampled" draws with KEY."""
    return np.asarray(jax.random.binomial(KEY, float(n), 0.5, (bits,))).astype(int)


def minus_chances(target, n, bits):
    """P(the r-th smallest target sign is -1), [ranks, bits], each from its definition."""
    rank = np.arange(1, n + 1)[:, None]
    if target == "sampled":
        chance = rank <= minus_counts(n, bits)
    elif target == "balanced":
        chance = np.clip(n / 2 - (rank - 1), 0, 1)  # how much of (r-1, r] lies below n/2
    else:
        chance = stats.binom.sf(rank - 1, n, 0.5)  # at least r of the n signs are -1
    return np.broadcast_to(chance, (n, bits)).astype(float)


def formula(codes, chances):
    """The loss of each bit by a double loop, in float64."""
    codes = np.asarray(codes, float)
    n, bits = codes.shape
    cost = np.zeros(bits)
    for j in range(bits):
        for u, p in zip(sorted(codes[:, j]), chances[:, j], strict=True):
            cost[j] += (p * (u + 1) ** 2 + (1 - p) * (u - 1) ** 2) / n
    return cost


# Values


def test_balanced_by_hand():
    """Three codes: the lowest goes to -1, the highest to +1, the middle one half to each."""
    codes = jnp.array([[2.0], [-0.5], [0.2]])
    value = ((-0.5 + 1) ** 2 + (0.2**2 + 1) + (2 - 1) ** 2) / 3
    assert loss(codes, target="balanced") == pytest.approx(value)


def test_expected_by_hand():
    """Two signs are both +1, one of each, or both -1, with chances 1/4, 1/2, 1/4."""
    low, high = -0.5, 0.8
    both_plus = ((low - 1) ** 2 + (high - 1) ** 2) / 2
    one_each = ((low + 1) ** 2 + (high - 1) ** 2) / 2
    both_minus = ((low + 1) ** 2 + (high + 1) ** 2) / 2
    value = both_plus / 4 + one_each / 2 + both_minus / 4
    assert loss(jnp.array([[high], [low]]), target="expected") == pytest.approx(value)


def test_sampled_by_hand():
    """A batch of one code is compared with one sign; over 64 bits either one occurs."""
    costs = per_bit(jnp.full((1, 64), 0.25), target="sampled")
    assert set(costs.tolist()) == {(0.25 - 1) ** 2, (0.25 + 1) ** 2}


@each_target
@pytest.mark.parametrize("n", [1, 2, 9])
def test_is_the_formula(target, n):
    codes = normal(n, 4)
    expected = formula(codes, minus_chances(target, n, 4))
    np.testing.assert_allclose(per_bit(codes, target=target), expected, rtol=1e-5)


@each_target
def test_is_the_mean_over_bits_by_default(target):
    codes = normal(9, 4)
    expected = per_bit(codes, target=target).mean()
    np.testing.assert_allclose(loss(codes, key=KEY, target=target), expected, rtol=1e-6)


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
    np.testing.assert_allclose(per_bit(codes, target="expected"), average, rtol=1e-5)


expected_signs = jax.jit(_expected_signs)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 64, 255, 1000, 8_191, 8_192, 40_000, 65_535, 65_536])
def test_expected_signs_at_any_batch_size(n):
    """The batch has 65,536 rows, n of them valid; the ranks of the others do not matter."""
    signs = expected_signs(jnp.arange(1, 65_537), jnp.int32(n))[:n]
    exact = 2 * stats.binom.cdf(np.arange(n), n, 0.5) - 1
    np.testing.assert_allclose(signs, exact, rtol=0, atol=1e-6)


# The law of the sampled count


@pytest.mark.parametrize("n", [1, 2, 5, 20, 21, 1000])
def test_sampled_count_is_binomial(n):
    """Chi-square of the counts of 5,000 bits; the counts expected less than 10 times are pooled.

    A bit of n codes +1 costs 4 K / n, which reveals its count K. The sampler of JAX changes its
    algorithm where n/2 exceeds 10.
    """
    counts = np.asarray(per_bit(jnp.ones((n, 5000)), target="sampled")) * n / 4
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)
    usual = np.flatnonzero(5000 * stats.binom.pmf(np.arange(n + 1), n, 0.5) >= 10)
    low, high = usual[0], usual[-1]
    cdf = stats.binom.cdf(np.arange(low, high), n, 0.5)
    chances = np.diff(cdf, prepend=0, append=1)
    pooled = np.clip(np.rint(counts).astype(int), low, high) - low
    seen = np.bincount(pooled, minlength=len(chances))
    assert stats.chisquare(seen, 5000 * chances).pvalue > 1e-3


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


@each_target
@pytest.mark.parametrize("n", [1, 9])
def test_gradient_is_twice_the_way_to_the_mean_sign(target, n):
    codes = normal(n, 4)
    rank = np.argsort(np.argsort(codes, axis=0), axis=0)
    mean_sign = 1 - 2 * np.take_along_axis(minus_chances(target, n, 4), rank, axis=0)
    expected = 2 / codes.size * (codes - mean_sign)
    _, slope = loss_and_gradient(codes, key=KEY, target=target)
    np.testing.assert_allclose(slope, expected, atol=1e-6)


@each_target
def test_gradient_is_that_of_finite_differences(target):
    """Away from ties the loss is quadratic, so central differences are exact but for rounding."""
    codes = jnp.stack([jnp.linspace(-1.2, 1.3, 6), jnp.linspace(2.0, -0.7, 6)], axis=1)
    cost = partial(hswd, key=KEY, target=target)
    check_grads(jax.jit(cost), (codes,), order=1, modes=("fwd", "rev"), eps=0.05)


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


@pytest.mark.parametrize("n", [64, 128, 256])
def test_floor_of_balanced_signs(n):
    """K targets -1 move |K - n/2| codes from one sign to the other, at a cost of 4 each."""
    k = np.arange(n + 1)
    floor = 4 * np.sum(stats.binom.pmf(k, n, 0.5) * np.abs(k - n / 2)) / n
    assert floor == pytest.approx(4 / np.sqrt(2 * np.pi * n), rel=0.01)
    assert loss(half_and_half(n, 2), target="expected") == pytest.approx(floor, rel=1e-5)
    draws = np.asarray(per_bit(half_and_half(n, 2000), target="sampled"))
    assert abs(draws.mean() - floor) < 4 * draws.std() / np.sqrt(len(draws))


@pytest.mark.parametrize("n", [1, 9, 64])
def test_minimum_of_expected_is_the_variance_of_the_targets(n):
    signs = 2 * stats.binom.cdf(np.arange(n), n, 0.5) - 1
    floor, best = np.mean(1 - signs**2), jnp.asarray(signs, jnp.float32)[:, None]
    value, slope = loss_and_gradient(best, target="expected")
    assert value == pytest.approx(floor, abs=1e-6)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    assert loss_and_gradient(normal(n, 1), target="expected")[0] > floor


@each_target
def test_zero_codes_cost_one(target):
    np.testing.assert_allclose(per_bit(jnp.zeros((9, 4)), target=target), 1.0, rtol=1e-6)


@pytest.mark.parametrize("n", [2, 8, 9])
def test_balanced_signs_cost_nothing_but_for_the_odd_one(n):
    """In an odd batch the middle code is as far from one half of its target as can be: 4/2/n."""
    cost = 0 if n % 2 == 0 else 2 / n
    assert loss(half_and_half(n, 4), target="balanced") == pytest.approx(cost, abs=0)


def test_identical_bits_are_a_minimum_too():
    """The loss looks at one bit at a time: it does not ask for independent bits."""
    collapsed = half_and_half(8, 4)
    independent = jnp.asarray(hadamard(8)[:, 1:5], jnp.float32)
    assert loss(collapsed, target="balanced") == loss(independent, target="balanced") == 0
    assert not loss_and_gradient(collapsed, target="balanced")[1].any()


# Invariances


@each_target
def test_order_of_the_batch_does_not_matter(target):
    codes = normal(9, 4)
    shuffled = codes[np.random.default_rng(2).permutation(9)]
    np.testing.assert_array_equal(per_bit(shuffled, target=target), per_bit(codes, target=target))


@each_symmetric_target
def test_bits_are_treated_alike(target):
    codes, order = normal(9, 4), np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(
        per_bit(codes[:, order], target=target), per_bit(codes, target=target)[order]
    )


@each_symmetric_target
@pytest.mark.parametrize("n", [8, 9])
def test_sign_does_not_matter(target, n):
    codes = normal(n, 4)
    np.testing.assert_allclose(per_bit(-codes, target=target), per_bit(codes, target=target), 1e-6)


@each_target
def test_eager_is_jitted(target):
    codes = normal(9, 4)
    eager = hswd(codes, key=KEY, target=target, reduce_fn=None)
    np.testing.assert_allclose(eager, per_bit(codes, target=target), rtol=1e-6)


@each_target
def test_vmap_is_a_loop(target):
    batches, keys = normal(3, 9, 4), jax.random.split(KEY, 3)
    mapped = jax.vmap(lambda codes, key: loss(codes, key=key, target=target))(batches, keys)
    looped = [loss(codes, key=key, target=target) for codes, key in zip(batches, keys, strict=True)]
    np.testing.assert_allclose(mapped, looped, rtol=1e-6)


# Masks, precision, broken codes


@each_target
@pytest.mark.parametrize("filling", [0.0, 1e30, np.nan, np.inf, -np.inf])
def test_masked_batch_is_its_valid_rows(target, filling):
    where = np.isin(np.arange(11), [1, 4], invert=True)
    valid = normal(9, 4)
    padded = jnp.full((11, 4), filling).at[where].set(valid)
    options = {"key": KEY, "target": target}
    value, slope = loss_and_gradient(padded, **options, where=jnp.asarray(where))
    expected_value, expected_slope = loss_and_gradient(valid, **options)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(slope[where], expected_slope, atol=1e-7)
    np.testing.assert_array_equal(slope[~where], 0.0)


@each_target
@pytest.mark.parametrize("filling", [0.5, np.nan])
def test_batch_without_a_valid_row_costs_nothing(target, filling):
    codes, where = jnp.full((11, 4), filling), jnp.zeros(11, bool)
    value, slope = loss_and_gradient(codes, key=KEY, target=target, where=where)
    assert value == 0
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize(
    ("target", "dtype"),
    [("sampled", jnp.bfloat16), ("balanced", jnp.float16), ("expected", jnp.bfloat16)],
)
def test_low_precision_is_accumulated_in_float32(target, dtype):
    codes = normal(9, 4).astype(dtype)
    value, slope = loss_and_gradient(codes, key=KEY, target=target)
    exact, exact_slope = loss_and_gradient(codes.astype(jnp.float32), key=KEY, target=target)
    assert value.dtype == jnp.float32 and slope.dtype == dtype
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    epsilon = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(slope.astype(jnp.float32), exact_slope, rtol=epsilon, atol=1e-6)


@each_target
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [None, np.arange(9) < 8])
def test_broken_code_shows_in_its_bit_and_in_no_other(target, broken, where):
    where = None if where is None else jnp.asarray(where)
    codes = normal(9, 4)
    healthy = per_bit(codes, target=target, where=where)
    value = per_bit(codes.at[1, 3].set(broken), target=target, where=where)
    np.testing.assert_array_equal(value[:3], healthy[:3])
    assert jnp.isnan(value[3]) or (jnp.isinf(value[3]) and np.isinf(broken))


# Several devices


def cost_and_gradients(weights, images, where, *, target, axis_name=None):
    def cost(weights, images):
        codes = images @ weights
        return hswd(codes, key=KEY, target=target, where=where, axis_name=axis_name)

    value, (of_weights, of_images) = jax.value_and_grad(cost, argnums=(0, 1))(weights, images)
    if axis_name is not None:
        of_weights = jax.lax.psum(of_weights, axis_name)
    return value, of_weights, of_images


@cache
def over_devices(mapping, target):
    mapped = jax.pmap if mapping == "pmap" else lambda f, **axes: jax.jit(jax.vmap(f, **axes))
    step = partial(cost_and_gradients, target=target, axis_name="device")
    return mapped(step, axis_name="device", in_axes=(None, 0, 0))


@each_target
@pytest.mark.parametrize("mapping", ["pmap", "vmap"])
@pytest.mark.parametrize("valid", [16, 11])
def test_eight_devices_are_one(target, mapping, valid):
    """Two rows a device; with 11 valid rows one device is half padding and two are nothing else."""
    images, weights, where = normal(16, 3), normal(3, 4, seed=1), jnp.arange(16) < valid
    value, of_weights, of_images = over_devices(mapping, target)(
        weights, images.reshape(8, 2, 3), where.reshape(8, 2)
    )
    whole = jax.jit(partial(cost_and_gradients, target=target))(weights, images, where)
    assert len(set(np.asarray(value).tolist())) == 1
    np.testing.assert_allclose(value[0], whole[0], rtol=1e-6)
    for each in of_weights:
        np.testing.assert_allclose(each, whole[1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(of_images.reshape(16, 3), whole[2], rtol=1e-5, atol=1e-7)


# Errors


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of the test run, which would speak before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "codes", {"codes": jnp.ones((4, 2), int)}),
        (ValueError, "codes", {"codes": jnp.ones(4)}),
        (ValueError, "where", {"where": jnp.ones(3, bool)}),
        (ValueError, "target", {"target": "random"}),
        (ValueError, "method", {"method": "bubble"}),
        (ValueError, "key", {"target": "sampled"}),
    ],
)
def test_errors_name_the_argument(unchecked, error, name, arguments):
    with pytest.raises(error, match=rf"\b{name}\b"):
        hswd(**{"codes": jnp.ones((4, 2)), "target": "balanced"} | arguments)


# Any batch


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    codes=arrays(
        np.float32,
        (9, 4),
        elements=st.floats(-3, 3, width=32) | st.sampled_from([-1.0, 0.0, 0.5, 1.0]),  # with ties
    ),
    where=arrays(bool, 9).filter(np.any),
)
def test_any_batch_of_up_to_nine_rows(codes, where):
    """The cost is convex in the count K, so K = N/2 for sure costs at most its average (Jensen)."""
    valid = codes[where]
    cost = {t: np.asarray(per_bit(codes, target=t, where=jnp.asarray(where))) for t in TARGETS}
    for target in TARGETS:
        expected = formula(valid, minus_chances(target, *valid.shape))
        np.testing.assert_allclose(cost[target], expected, rtol=1e-5, atol=1e-6)
    to_own_signs = np.mean((np.abs(valid) - 1) ** 2, axis=0) - 1e-5
    assert np.all(cost["sampled"] >= to_own_signs) and np.all(cost["balanced"] >= to_own_signs)
    assert np.all(cost["expected"] >= cost["balanced"] - 1e-5)
