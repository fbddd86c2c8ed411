"""Counts by distance against naive counts, and counts of rankings by scores."""

import numpy as np
import pytest
from oracles import TIES, brute_force, frozen
from oracles import average_precision as average_precision_of

from jaxhash.metrics import average_precision, counts_from_scores, distance_counts

# Counts


def database(bits, multi_hot, queries=7, items=23, seed=0):
    """Query codes and labels, then those of the database, all read-only.

    The first query meets its own code and the opposite one, the extremes of a distance.
    """
    rng = np.random.default_rng(seed)
    sides = []
    for n in (queries, items):
        sides.append(rng.choice(np.array([-1, 1], np.int8), size=(n, bits)))
        sides.append(rng.random((n, 4)) < 0.3 if multi_hot else rng.integers(-1, 3, size=n))
    sides[2][:2] = sides[0][0], -sides[0][0]
    return tuple(map(frozen, sides))


def naive_counts(query_codes, query_labels, codes, labels):
    total = np.zeros((len(query_codes), query_codes.shape[1] + 1), int)
    relevant = np.zeros_like(total)
    for i, j in np.ndindex(len(query_codes), len(codes)):
        distance = sum(a != b for a, b in zip(query_codes[i], codes[j], strict=True))
        if query_labels.ndim == 1:
            shared = query_labels[i] == labels[j] != -1
        else:
            shared = any(a and b for a, b in zip(query_labels[i], labels[j], strict=True))
        total[i, distance] += 1
        relevant[i, distance] += shared
    return total, relevant


@pytest.mark.parametrize("bits", [1, 13])
@pytest.mark.parametrize("multi_hot", [False, True])
def test_distance_counts_are_naive_counts(bits, multi_hot):
    sides = database(bits, multi_hot)
    some = distance_counts(*sides)
    assert some.gains is None
    for found, expected in zip(some[:2], naive_counts(*sides), strict=True):
        assert np.issubdtype(found.dtype, np.integer)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("block", [1, 3, 7, 64])
def test_distance_counts_do_not_depend_on_the_block(block):
    sides = database(12, multi_hot=True)
    np.testing.assert_equal(distance_counts(*sides, block=block), distance_counts(*sides))


def test_metrics_do_not_depend_on_the_order_of_the_database():
    query_codes, query_labels, codes, labels = database(6, multi_hot=False)
    order = np.random.default_rng(1).permutation(len(codes))
    some = distance_counts(query_codes, query_labels, codes, labels)
    shuffled = distance_counts(query_codes, query_labels, codes[order], labels[order])
    np.testing.assert_equal(shuffled, some)
    np.testing.assert_array_equal(average_precision(shuffled), average_precision(some))


@pytest.mark.parametrize(
    ("queries", "items", "message"),
    [
        ((3, 8), (5, 9), "queries have 8 bits, the database 9"),
        ((0, 8), (5, 8), r"query codes must .* got \(0, 8\)"),
        ((3, 8), (0, 8), r"database codes must .* got \(0, 8\)"),
    ],
)
def test_sides_that_do_not_fit_or_are_empty_are_an_error(unchecked, queries, items, message):
    codes, others = np.ones(queries, np.int8), np.ones(items, np.int8)
    with pytest.raises(ValueError, match=message):
        distance_counts(codes, np.zeros(len(codes), int), others, np.zeros(len(others), int))


# Scores


def test_score_counts_without_ties_are_a_ranking():
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
def test_score_counts_with_ties(dtype):
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
