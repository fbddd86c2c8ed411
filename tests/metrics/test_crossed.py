"""Tests over seeds and queries: against SciPy, against paired_test, and by how often they hold."""

import numpy as np
import pytest
import scipy.stats

from jaxhash.metrics import crossed_test, holm, paired_test


def matrices(seeds=5, queries=200, shift=0.0, seed=0):
    """Average precisions of two systems that share what is hard about a query."""
    rng = np.random.default_rng(seed)
    hard = rng.beta(2, 1, size=queries)
    of_seeds = 0.02 * rng.standard_normal((2, seeds, 1))
    noise = 0.05 * rng.standard_normal((2, seeds, queries))
    first, second = hard + of_seeds + noise + np.array([shift, 0.0])[:, None, None]
    return first, second


def test_it_is_students_test_over_seeds_and_the_paired_test_over_queries():
    first, second = matrices(shift=0.03)
    found = crossed_test(first, second, resamples=500)
    over_seeds = scipy.stats.ttest_rel(first.mean(axis=1), second.mean(axis=1))
    over_queries = paired_test(first.mean(axis=0), second.mean(axis=0), resamples=500)
    np.testing.assert_allclose(found.p_seeds, over_seeds.pvalue, rtol=1e-9)
    np.testing.assert_allclose(found.difference, np.mean(first) - np.mean(second), rtol=1e-9)
    assert found.p_queries == over_queries.p_value
    assert found.p_value == max(found.p_seeds, found.p_queries)
    rows = (first - second).mean(axis=1)
    np.testing.assert_allclose(found.effect, rows.mean() / rows.std(ddof=1), rtol=1e-9)


def test_exchanging_the_systems_changes_signs_alone():
    one, other = matrices(shift=0.01)
    found, back = crossed_test(one, other, resamples=300), crossed_test(other, one, resamples=300)
    assert back.difference == -found.difference and back.effect == -found.effect
    np.testing.assert_allclose(
        back.interval, (-found.interval.high, -found.interval.low), atol=1e-12
    )
    assert back.p_value == found.p_value


def test_the_interval_counts_seeds_and_queries():
    """Its width is that of both sources of variance, each of which alone gives a narrower one."""
    first, second = matrices(seeds=6, queries=400)
    differences = first - second
    found = crossed_test(first, second, resamples=4000)
    of_seeds = differences.mean(axis=1).var() / 6
    of_queries = differences.mean(axis=0).var() / 400
    residual = (
        differences
        - differences.mean(axis=1, keepdims=True)
        - differences.mean(axis=0)
        + differences.mean()
    ).var() / (6 * 400)
    # Variance of the pigeonhole bootstrap; Owen 2007, theorem 3, in its sample form.
    deviation = np.sqrt(of_seeds + of_queries + residual)
    width = (found.interval.high - found.interval.low) / 2
    np.testing.assert_allclose(width, 1.96 * deviation, rtol=0.08)


def test_equal_systems_are_rarely_told_apart():
    p_values = [
        crossed_test(*matrices(queries=60, seed=seed), resamples=99).p_value for seed in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.1) <= 0.1 + 3 * np.sqrt(0.09 / 200)


def test_systems_that_are_equal_or_differ_by_a_constant():
    first, _ = matrices()
    same = crossed_test(first, first, resamples=50)
    assert (same.difference, same.effect, same.p_value) == (0.0, 0.0, 1.0)
    exact = np.round(first * 64) / 64
    better = crossed_test(exact + 0.5, exact, resamples=99)
    assert better.effect == np.inf and better.p_seeds == 0.0 and better.p_value == 0.01


@pytest.mark.parametrize("shapes", [((1, 4), (1, 4)), ((2, 4), (2, 3)), ((3, 4), (2, 4))])
def test_shapes_that_have_no_test(shapes):
    first, second = (np.zeros(shape) for shape in shapes)
    with pytest.raises(Exception, match="seeds"):
        crossed_test(first, second)


def test_holm_is_the_textbooks():
    values = [0.01, 0.02, 0.03, 0.04, 0.05]
    np.testing.assert_allclose(holm(values), [0.05, 0.08, 0.09, 0.09, 0.09])
    np.testing.assert_allclose(holm(values[::-1]), [0.09, 0.09, 0.09, 0.08, 0.05])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("values", [[-0.1], [0.5, 1.5], [np.nan]])
def test_holm_takes_probabilities(values):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm(values)
