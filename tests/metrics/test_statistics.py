"""Intervals, tests and means: by hand, by enumeration, against SciPy, and by how often they hold."""

import itertools
import statistics

import jaxtyping
import numpy as np
import pytest
import scipy.stats

from jaxhash.metrics import _statistics, bootstrap_interval, mean_over_seeds, paired_test


def frozen(array):
    """Makes an array read-only."""
    array.flags.writeable = False
    return array


def scores(n, seed=0):
    """Values in [0, 1], skewed, some of them 0, as average precision is."""
    rng = np.random.default_rng(seed)
    return frozen(np.where(rng.random(n) < 0.1, 0.0, rng.beta(2, 1, size=n)))


def skipping(n, seed=0):
    """Values and weights of a convention that leaves some queries out, for certain or in part."""
    rng = np.random.default_rng(seed)
    weights = np.round(rng.random(n).clip(0.3, 0.8) * 2 - 0.6, 2)
    return frozen(scores(n, seed + 100) * weights), frozen(weights)


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of the test run, which would speak before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


# The bootstrap


def exact_percentiles(values, weights, confidence):
    """Quantiles of the metric over all n^n draws, each of them as likely."""
    draws = np.array(list(itertools.product(range(len(values)), repeat=len(values))))
    kept = weights[draws].sum(axis=1) > 0
    draws = draws[kept]
    metrics = values[draws].sum(axis=1) / weights[draws].sum(axis=1)
    return np.quantile(metrics, [(1 - confidence) / 2, (1 + confidence) / 2])


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_bootstrap_is_the_enumeration_of_draws(confidence):
    """Five queries have 3,125 draws, so that the error of quantiles is small."""
    values = np.array([0.13, 0.32, 0.55, 0.61, 0.98])
    expected = exact_percentiles(values, np.ones(5), confidence)
    found = bootstrap_interval(values, confidence=confidence, resamples=200_000)
    np.testing.assert_allclose(found, expected, atol=0.004)


@pytest.mark.parametrize("weights", [[0.4, 0.5, 0.0, 1.0, 1.0], [0.4, 2.0, 1.0, 0.0, 1.0]])
def test_bootstrap_with_weights_is_the_enumeration_of_draws(weights):
    """One query of five does not count, and the draw of it alone has no metric.

    In the second case the smallest and the largest value have the same weight.
    """
    values, weights = np.array([0.1, 0.35, 0.0, 0.2, 0.9]), np.array(weights)
    expected = exact_percentiles(values, weights, 0.8)
    found = bootstrap_interval(values, weights=weights, confidence=0.8, resamples=200_000)
    np.testing.assert_allclose(found, expected, atol=0.004)


def test_bootstrap_by_hand():
    """Two queries: the means 0, 1/2 and 1 have the chances 1/4, 1/2 and 1/4."""
    values = np.array([0.0, 1.0])
    assert bootstrap_interval(values, confidence=0.4) == (0.5, 0.5)
    assert bootstrap_interval(values, confidence=0.6) == (0.0, 1.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_bootstrap_is_that_of_scipy(weighted):
    """Up to the error of both, which is small against the width of the interval."""
    values, weights = skipping(300) if weighted else (scores(300), np.ones(300))
    expected = scipy.stats.bootstrap(
        (values, weights),
        lambda v, w, axis: v.sum(axis=axis) / w.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        batch=1000,
        rng=np.random.default_rng(7),
    ).confidence_interval
    found = bootstrap_interval(values, weights=weights if weighted else None, resamples=20_000)
    np.testing.assert_allclose(found, expected, atol=0.05 * (expected.high - expected.low))


@pytest.mark.parametrize("confidence", [0.6, 0.95])
def test_interval_has_its_confidence(confidence):
    """Covers 400 normal samples slightly less often than its confidence, as is known for few values."""
    rng, n = np.random.default_rng(0), 60
    held = 0
    for seed in range(400):
        low, high = bootstrap_interval(
            rng.normal(1.0, 2.0, size=n), confidence=confidence, resamples=400, seed=seed
        )
        held += low <= 1.0 <= high
    error = 4 * np.sqrt(confidence * (1 - confidence) / 400)
    assert confidence - error - 0.02 < held / 400 < confidence + error


def test_interval_of_many_values_is_that_of_the_normal_law():
    values = scores(4000)
    error = values.std() / np.sqrt(len(values))
    low, high = bootstrap_interval(values)
    np.testing.assert_allclose(
        [low, high], values.mean() + 1.96 * error * np.array([-1, 1]), atol=0.1 * error
    )


def test_interval_depends_on_the_set_of_queries_and_the_seed():
    """The order of the pairs of value and weight does not matter."""
    values, weights = skipping(97)
    order = np.random.default_rng(1).permutation(97)
    found = bootstrap_interval(values, weights=weights, resamples=500)
    assert bootstrap_interval(values[order], weights=weights[order], resamples=500) == found
    assert bootstrap_interval(values, weights=weights[order], resamples=500) != found
    assert bootstrap_interval(values, weights=weights, resamples=500, seed=1) != found


def test_weights_of_one_change_nothing_and_their_scale_divides():
    values = scores(50)
    found = bootstrap_interval(values, resamples=500)
    assert bootstrap_interval(values, weights=np.ones(50, int), resamples=500) == found
    halves = bootstrap_interval(values, weights=np.full(50, 2.0), resamples=500)
    np.testing.assert_allclose(halves, np.array(found) / 2, rtol=1e-14)


def test_constant_values_have_no_width():
    assert bootstrap_interval(np.full(8, 0.25)) == (0.25, 0.25)
    assert bootstrap_interval(np.array([0.7])) == (0.7, 0.7)


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_values_of_any_dtype(dtype):
    """Hit rates average bools; sums must be taken in float64."""
    values = (scores(80) > 0.5).astype(dtype)
    found = bootstrap_interval(values, resamples=300)
    assert found == bootstrap_interval(values.astype(np.float64), resamples=300)


# The paired test


def metric(values, weights):
    return sum(values) / sum(weights) if sum(weights) else np.nan


def exact_p_value(first, second, first_weights=None, second_weights=None):
    """Returns the share of exchanges with a difference as large, by loops over all of them."""
    ones = [1.0] * len(first)
    first_weights = ones if first_weights is None else first_weights
    second_weights = ones if second_weights is None else second_weights
    rows = list(zip(first, first_weights, second, second_weights, strict=True))
    gaps = []
    for swaps in itertools.product([False, True], repeat=len(rows)):
        pairs = [
            (c, d, a, b) if swap else (a, b, c, d)
            for swap, (a, b, c, d) in zip(swaps, rows, strict=True)
        ]
        a, b, c, d = zip(*pairs, strict=True)
        gaps.append(metric(a, b) - metric(c, d))
    observed = abs(gaps[0])
    return np.mean([np.isnan(gap) or abs(gap) >= observed - 1e-9 for gap in gaps])


def test_p_value_by_hand():
    """Differences of 1, 2 and 4: only +++ and --- sum to 7; of 1, 2 and -4, -1 and 5, 3, 7 do."""
    zero = np.zeros(3)
    assert paired_test(np.array([1.0, 2.0, 4.0]), zero).p_value == 2 / 8
    assert paired_test(np.array([1.0, 2.0, -4.0]), zero).p_value == 8 / 8
    assert paired_test(np.array([1.0, -2.0, 4.0]), zero).p_value == 6 / 8


@pytest.mark.parametrize("seed", range(6))
def test_p_value_of_few_queries_is_the_enumeration(seed):
    """With ties: many differences are equal, and rounding must not tell them apart."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(5, size=(2, 9)) / 10 + 0.1
    assert paired_test(first, second).p_value == exact_p_value(first, second)


@pytest.mark.parametrize("seed", range(6))
def test_p_value_with_weights_is_the_enumeration(seed):
    """Two queries count for each system, one of them for both, at fractions of a weight."""
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 7)) * 0.1
    first_weights, second_weights = np.round(rng.random((2, 7)) + 0.1, 1)
    first_weights[2:], second_weights[:1], second_weights[3:] = 0, 0, 0
    found = paired_test(first, second, first_weights=first_weights, second_weights=second_weights)
    assert found.p_value == exact_p_value(first, second, first_weights, second_weights)


def test_an_exchange_that_leaves_nothing_to_count_is_extreme():
    """One query counts for each; half of the exchanges give both to one system."""
    values, first_weights, second_weights = np.array([[1.0, 0], [1, 0], [0, 1]])
    found = paired_test(
        values, np.zeros(2), first_weights=first_weights, second_weights=second_weights
    )
    assert (found.difference, found.p_value) == (1.0, 1.0)


def test_enumeration_ends_where_draws_begin():
    """Six queries have 64 exchanges: all with 64 resamples, drawn ones (out of 64) with 63."""
    first, second = scores(6) + 0.2, scores(6, seed=1)
    exact = exact_p_value(first, second)
    assert paired_test(first, second, resamples=64).p_value == exact
    drawn = paired_test(first, second, resamples=63).p_value
    assert (drawn * 64) % 1 == 0
    many = [paired_test(first, second, resamples=63, seed=seed).p_value for seed in range(100)]
    assert len(set(many)) > 1
    assert np.mean(many) == pytest.approx((1 + 63 * exact) / 64, abs=0.03)


@pytest.mark.parametrize("shift", [0.0, 0.02])
def test_p_value_is_that_of_scipy(shift):
    first, second = scores(200) + shift, scores(200, seed=1)
    second = 0.8 * first + 0.2 * second
    expected = scipy.stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        batch=2000,
        rng=np.random.default_rng(7),
    ).pvalue
    found = paired_test(first, second, resamples=20_000).p_value
    error = np.sqrt(2 * expected * (1 - expected) / 20_000)
    assert 0.001 < expected < 0.9
    assert abs(found - expected) < 4 * error


def test_p_value_with_weights_is_a_shuffle():
    """Compares random exchanges with weights to plain exchanges of the rows."""
    (first, first_weights), (second, second_weights) = skipping(60), skipping(60, seed=4)
    first = first * 0.9
    rng, gaps = np.random.default_rng(3), []
    rows = np.stack([first, first_weights, second, second_weights])
    for _ in range(4000):
        a, b, c, d = np.where(rng.random(60) < 0.5, rows, rows[[2, 3, 0, 1]])
        gaps.append(a.sum() / b.sum() - c.sum() / d.sum())
    observed = first.sum() / first_weights.sum() - second.sum() / second_weights.sum()
    expected = np.mean(np.abs(gaps) >= abs(observed))  # of 4,000 draws, and 10,000 in the test
    found = paired_test(first, second, first_weights=first_weights, second_weights=second_weights)
    assert found.difference == pytest.approx(observed, rel=1e-13)
    assert 0.01 < expected < 0.9
    assert abs(found.p_value - expected) < 4 * np.sqrt(expected * (1 - expected) / 2800)


def test_p_values_of_equal_systems_are_uniform():
    """At a level of 5 % it errs in 5 % of cases; ten queries make it exact."""
    rng = np.random.default_rng(0)
    found = [paired_test(*rng.random((2, 10)), resamples=1024).p_value for _ in range(300)]
    assert abs(np.mean(np.array(found) <= 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 300)
    assert abs(np.mean(found) - 0.5) < 4 * np.sqrt(1 / 12 / 300)


@pytest.mark.parametrize("n", [1, 10, 300])
def test_equal_inputs_have_no_difference(n):
    values, weights = skipping(n, seed=1)
    weights = weights + 0.1
    plain = paired_test(values, values, resamples=2000)
    weighted = paired_test(
        values, values, first_weights=weights, second_weights=weights, resamples=2000
    )
    assert plain == weighted == (0.0, (0.0, 0.0), 1.0)


def test_rounding_does_not_break_ties():
    """The differences 0.1, 0.2 and -0.3 sum to 0, though not in floating point; p must be 1."""
    first = np.array([0.1, 0.2, 0.0] * 20)
    second = np.array([0.0, 0.0, 0.3] * 20)
    assert first.sum() != second.sum()
    assert paired_test(first, second, resamples=2000).p_value == 1.0


def test_a_clear_difference_has_the_least_p_value():
    first, second = scores(100) + 1.0, scores(100)
    assert paired_test(first, second, resamples=999).p_value == 1 / 1000
    assert paired_test(first, second, resamples=999).interval == pytest.approx((1.0, 1.0))


def test_interval_of_the_difference_is_that_of_the_differences():
    """For plain means it is the bootstrap of the differences, up to the draws, as in SciPy."""
    first, second = scores(300), 0.5 * scores(300) + 0.4 * scores(300, seed=1)
    found = paired_test(first, second, resamples=20_000, confidence=0.9)
    expected = bootstrap_interval(first - second, resamples=20_000, confidence=0.9)
    width = expected.high - expected.low
    assert found.difference == pytest.approx(np.mean(first - second), rel=1e-12)
    np.testing.assert_allclose(found.interval, expected, atol=0.05 * width)
    assert width < 0.8 * np.ptp(bootstrap_interval(first, confidence=0.9))  # pairs stay together


def test_paired_test_depends_on_the_set_of_pairs_and_the_seed():
    (first, first_weights), (second, second_weights) = skipping(40), skipping(40, seed=1)

    def test(order, second_order, seed=0):
        return paired_test(
            first[order],
            second[second_order],
            first_weights=first_weights[order],
            second_weights=second_weights[second_order],
            resamples=500,
            seed=seed,
        )

    straight, shuffled = np.arange(40), np.random.default_rng(1).permutation(40)
    found = test(straight, straight)
    assert test(shuffled, shuffled) == found
    assert test(straight, shuffled).difference == pytest.approx(found.difference, rel=1e-12)
    assert test(straight, shuffled) != found  # other pairs
    assert test(straight, straight, seed=1) != found


def test_exchanged_systems_have_the_opposite_difference():
    first, second = scores(9), scores(9, seed=1)
    one, other = paired_test(first, second), paired_test(second, first)
    assert (one.difference, one.p_value) == (-other.difference, other.p_value)
    np.testing.assert_allclose(one.interval, np.negative(other.interval)[::-1], atol=0.01)


@pytest.mark.parametrize("block", [1, 100, 977])
def test_results_do_not_depend_on_the_block(monkeypatch, block):
    (first, first_weights), (second, _) = skipping(10), skipping(10, seed=1)

    def results():
        return (
            bootstrap_interval(first, weights=first_weights, resamples=300),
            paired_test(first, second, resamples=300),
            paired_test(first, second, resamples=2**10),
        )

    expected = results()
    monkeypatch.setattr(_statistics, "_BLOCK", block)
    assert results() == expected


# Over seeds


def test_mean_over_seeds_by_hand():
    """Deviations -2, 0 and 2 from 3: the variance is 8 / 2, with one degree of freedom less."""
    assert mean_over_seeds([1.0, 3.0, 5.0]) == (3.0, 2.0, 3)
    assert mean_over_seeds([-1.0, 1.0]) == (0.0, 2**0.5, 2)
    assert mean_over_seeds([0.5]) == (0.5, None, 1)
    assert mean_over_seeds(np.full(4, 0.1)) == (0.1, 0.0, 4)


def test_mean_over_seeds_is_numpy_and_independent_of_order():
    values = scores(9)
    mean, deviation, count = mean_over_seeds(values)
    assert (mean, deviation) == pytest.approx((values.mean(), values.std(ddof=1)), rel=1e-13)
    assert mean_over_seeds(values[::-1]) == (mean, deviation, count)
    assert mean_over_seeds([0.1, 0.2, 0.3]) == mean_over_seeds(
        [0.3, 0.2, 0.1]
    )  # their plain sums differ
    assert deviation == statistics.stdev(values.tolist())


# Mistakes


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([], None, "values .*at least one"),
        ([[0.1, 0.2]], None, "values .*1, 2"),
        ([0.1, np.nan], None, "must be finite"),
        ([0.1, np.inf], None, "must be finite"),
        ([0.1, 0.2], [1.0], "values .*2,.*weights .*1,"),
        ([0.1, 0.2], [1.0, np.nan], "must be finite"),
        ([0.1, 0.2], [1.0, -1.0], "0 or more"),
        ([0.0, 0.0], [0.0, 0.0], "not all 0"),
    ],
)
def test_invalid_values_are_refused(unchecked, values, weights, message):
    values = np.array(values)
    weights = None if weights is None else np.array(weights)
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, weights=weights)
    name_first, name_second = (message.replace("values", name) for name in ("first", "second"))
    with pytest.raises(ValueError, match=name_first):
        paired_test(values, np.array([0.1, 0.2]), first_weights=weights)
    with pytest.raises(ValueError, match=name_second):
        paired_test(np.array([0.1, 0.2]), values, second_weights=weights)


def test_systems_with_different_queries(unchecked):
    with pytest.raises(ValueError, match="first .*3 .*second 2"):
        paired_test(scores(3), scores(2))


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, np.nan])
def test_confidence_out_of_range(unchecked, confidence):
    for function, arguments in ((bootstrap_interval, 1), (paired_test, 2)):
        with pytest.raises(ValueError, match="confidence"):
            function(*[scores(3)] * arguments, confidence=confidence)


def test_too_few_resamples(unchecked):
    for function, arguments in ((bootstrap_interval, 1), (paired_test, 2)):
        with pytest.raises(ValueError, match="resamples .*0"):
            function(*[scores(3)] * arguments, resamples=0)


def test_draws_without_any_weight():
    """One query in 50 counts, and a single draw may miss it."""
    values, weights = np.eye(50)[0], np.eye(50)[0]
    assert bootstrap_interval(values, weights=weights) == (1.0, 1.0)
    with pytest.raises(ValueError, match="resample"):
        for seed in range(50):
            bootstrap_interval(values, weights=weights, resamples=1, seed=seed)


def test_invalid_seeds_are_refused(unchecked):
    with pytest.raises(ValueError, match="values .*empty"):
        mean_over_seeds([])
    with pytest.raises(ValueError, match="values .*finite"):
        mean_over_seeds([0.1, float("nan")])
