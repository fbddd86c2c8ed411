"""Counts of rankings by real-valued scores against the rankings."""

import numpy as np
import pytest
from oracles import TIES, brute_force, frozen
from oracles import average_precision as average_precision_of

from jaxhash.metrics import average_precision, counts_from_scores


def test_counts_without_ties_are_a_ranking():
    rng = np.random.default_rng(0)
    scores, relevant = frozen(rng.permutation(20) / 20 - 0.5), frozen(rng.random(20) < 0.4)
    some = counts_from_scores(scores, relevant)
    ranking = relevant[np.argsort(scores)[::-1]]
    assert some.total.sum() == 20 and not np.any((some.total > 1) & (some.relevant > 0))
    ranked = np.repeat(some.relevant[0] / some.total[0], some.total[0])
    np.testing.assert_array_equal(ranked, ranking)  # what no relevant item parts is one column
    for ties in TIES:
        value = average_precision(some, ties=ties).item()
        assert value == pytest.approx(average_precision_of(ranking))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_counts_with_ties(dtype):
    scores = frozen(np.array([0.1, 0.7, -0.2, 0.1, 0.7, 0.1, -0.2], dtype))
    relevant = frozen(np.array([1, 0, 1, 1, 1, 0, 0], bool))
    some = counts_from_scores(scores, relevant)
    np.testing.assert_array_equal(some.total, [[2, 3, 2]])  # 0.7, 0.1 and -0.2
    np.testing.assert_array_equal(some.relevant, [[1, 2, 1]])
    for ties in TIES:
        expected = brute_force(average_precision_of, some, ties)
        np.testing.assert_allclose(average_precision(some, ties=ties), expected, atol=1e-12)


@pytest.mark.parametrize("relevant", [False, True])
def test_scores_that_are_all_equal_are_one_group(relevant):
    some = counts_from_scores(np.zeros(5), np.full(5, relevant))
    assert some.total.tolist() == [[5]] and some.relevant.tolist() == [[5 * relevant]]
