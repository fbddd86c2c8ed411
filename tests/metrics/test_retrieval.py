"""Retrieval metrics against brute force: every order of the ties, naive counts, Monte Carlo."""

from itertools import chain, permutations, product

import jaxtyping
import numpy as np
import pytest

from jaxhash.metrics import (
    DistanceCounts,
    average_precision,
    distance_counts,
    precision_at_radius,
    precision_recall,
    score_counts,
)


def frozen(array):
    """The same array, which raises where someone writes to it."""
    array.flags.writeable = False
    return array


def counts(total, relevant):
    return DistanceCounts(frozen(np.atleast_2d(total)), frozen(np.atleast_2d(relevant)))


def random_counts(queries, distances, largest, seed):
    rng = np.random.default_rng(seed)
    total = rng.integers(largest + 1, size=(queries, distances))
    return counts(total, rng.binomial(total, 0.4))


def precision_average(ranking):
    """AP of one order of the database, nearest first, 1 where relevant; straight from its name."""
    precisions = [sum(ranking[: k + 1]) / (k + 1) for k, hit in enumerate(ranking) if hit]
    return np.mean(precisions) if precisions else 0.0


def precision_averages(total, relevant):
    """AP in every order of one query's ties."""
    groups = [[1] * r + [0] * (n - r) for n, r in zip(total, relevant, strict=True)]
    orders = product(*map(permutations, groups))
    return [precision_average(list(chain(*order))) for order in orders]


def assert_average_precision_is_brute_force(some):
    """The expected, best and worst AP are the mean, maximum and minimum over all orders."""
    every = [precision_averages(n, r) for n, r in zip(*some, strict=True)]
    for ties, summary in {"expected": np.mean, "best": np.max, "worst": np.min}.items():
        expected = [summary(values) for values in every]
        np.testing.assert_allclose(average_precision(some, ties=ties), expected, atol=1e-12)


# Average precision


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_of_random_ties(seed):
    """Queries of different sizes side by side, some of them without any relevant item."""
    assert_average_precision_is_brute_force(random_counts(6, 4, 3, seed))


@pytest.mark.parametrize(
    ("total", "relevant"),
    [
        ([1], [1]),
        ([1], [0]),
        ([5], [2]),  # one group
        ([5], [5]),
        ([0, 3, 0, 2], [0, 0, 0, 0]),  # nothing relevant
        ([0, 3, 0, 2], [0, 3, 0, 2]),  # everything relevant
        ([1, 1, 1, 1, 1], [0, 1, 0, 1, 1]),  # no ties
        ([3, 4], [0, 1]),  # the only relevant item among the last
        ([2, 4, 1], [1, 3, 0]),
    ],
)
def test_average_precision_of_particular_ties(total, relevant):
    assert_average_precision_is_brute_force(counts(total, relevant))


def test_average_precision_by_hand():
    """Relevant items at the ranks 1 and 3, then at 1 and 2, for either order of the last pair."""
    some = counts([1, 2], [1, 1])
    late, early = (1 / 1 + 2 / 3) / 2, (1 / 1 + 2 / 2) / 2
    values = [average_precision(some, ties=t).item() for t in ("worst", "expected", "best")]
    assert values == pytest.approx([late, (late + early) / 2, early])


def test_expected_average_precision_of_many_items_is_a_monte_carlo_mean():
    some, rng = random_counts(1, 12, 40, seed=0), np.random.default_rng(1)
    group = np.repeat(np.arange(12), some.total[0])
    hit = np.concatenate([np.arange(n) < r for n, r in zip(*map(np.ravel, some), strict=True)])
    orders = np.lexsort((rng.random((4000, len(group))), group[None].repeat(4000, axis=0)))
    hits = hit[orders]
    precision = np.cumsum(hits, axis=1) / np.arange(1, len(group) + 1)
    draws = np.sum(precision * hits, axis=1) / hit.sum()
    expected = average_precision(some).item()
    assert abs(draws.mean() - expected) < 4 * draws.std() / np.sqrt(len(draws))
    assert average_precision(some, ties="worst") <= draws.min()
    assert draws.max() <= average_precision(some, ties="best")


def test_average_precision_is_ordered_and_in_the_unit_interval():
    some = random_counts(50, 20, 30, seed=2)
    worst, expected, best = (average_precision(some, ties=t) for t in ("worst", "expected", "best"))
    assert np.all(worst >= 0) and np.all(worst < expected)
    assert np.all(expected < best) and np.all(best <= 1)


def test_a_query_does_not_depend_on_the_others():
    some = random_counts(6, 4, 30, seed=3)
    alone = [average_precision(counts(n, r)).item() for n, r in zip(*some, strict=True)]
    np.testing.assert_array_equal(average_precision(some), alone)


def test_unknown_order_of_ties_is_an_error(unchecked):
    with pytest.raises(ValueError, match="ties must be"):
        average_precision(counts([1], [1]), ties="random")


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


@pytest.mark.parametrize("bits", [1, 5, 8, 13, 70, 300])
@pytest.mark.parametrize("multi_hot", [False, True])
def test_distance_counts_are_naive_counts(bits, multi_hot):
    sides = database(bits, multi_hot)
    for found, expected in zip(distance_counts(*sides), naive_counts(*sides), strict=True):
        assert np.issubdtype(found.dtype, np.integer)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("block", [1, 3, 7, 64])
def test_distance_counts_do_not_depend_on_the_block(block):
    sides = database(12, multi_hot=True)
    np.testing.assert_array_equal(distance_counts(*sides, block=block), distance_counts(*sides))


def test_metrics_do_not_depend_on_the_order_of_the_database():
    query_codes, query_labels, codes, labels = database(6, multi_hot=False)
    order = np.random.default_rng(1).permutation(len(codes))
    some = distance_counts(query_codes, query_labels, codes, labels)
    shuffled = distance_counts(query_codes, query_labels, codes[order], labels[order])
    np.testing.assert_array_equal(shuffled, some)
    np.testing.assert_array_equal(average_precision(shuffled), average_precision(some))


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of the test run, which would speak before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize(
    ("queries", "items", "message"),
    [
        ((3, 8), (5, 9), "queries have 8 bits, the database 9"),
        ((0, 8), (5, 8), "0 queries, 5 items"),
        ((3, 8), (0, 8), "3 queries, 0 items"),
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
    some = score_counts(scores, relevant)
    ranking = relevant[np.argsort(scores)[::-1]]
    np.testing.assert_array_equal(some.total, np.ones((1, 20)))
    np.testing.assert_array_equal(some.relevant, [ranking])
    for ties in ("worst", "expected", "best"):
        assert average_precision(some, ties=ties).item() == pytest.approx(
            precision_average(list(ranking))
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_score_counts_with_ties(dtype):
    scores = frozen(np.array([0.1, 0.7, -0.2, 0.1, 0.7, 0.1, -0.2], dtype))
    relevant = frozen(np.array([1, 0, 1, 1, 1, 0, 0], bool))
    some = score_counts(scores, relevant)
    np.testing.assert_array_equal(some.total, [[2, 3, 2]])  # 0.7, 0.1 and -0.2
    np.testing.assert_array_equal(some.relevant, [[1, 2, 1]])
    assert_average_precision_is_brute_force(some)


@pytest.mark.parametrize("relevant", [False, True])
def test_scores_that_are_all_equal_are_one_group(relevant):
    some = score_counts(np.zeros(5), np.full(5, relevant))
    assert some.total.tolist() == [[5]] and some.relevant.tolist() == [[5 * relevant]]


# Precision and recall


def test_precision_at_radius_by_hand():
    """The second query has nothing within the radius 1."""
    some = counts([[1, 2, 3], [0, 0, 4]], [[1, 1, 0], [0, 0, 4]])
    np.testing.assert_array_equal(precision_at_radius(some, 0), [1 / 1, 0])
    np.testing.assert_array_equal(precision_at_radius(some, 1), [2 / 3, 0])
    np.testing.assert_array_equal(precision_at_radius(some, 2), [2 / 6, 4 / 4])
    np.testing.assert_array_equal(precision_at_radius(some), precision_at_radius(some, 2))


def test_precision_and_recall_are_naive():
    """Naively: for each radius gather each query's precision, if any, and its recall."""
    some = random_counts(8, 6, 2, seed=4)
    precision, recall = precision_recall(some)
    for radius in range(6):
        precisions, recalls = [], []
        for total, relevant in zip(*some, strict=True):
            found = sum(relevant[: radius + 1])
            if sum(total[: radius + 1]):
                precisions.append(found / sum(total[: radius + 1]))
            recalls.append(found / sum(relevant) if sum(relevant) else 0.0)
        assert precision[radius] == pytest.approx(np.mean(precisions))
        assert recall[radius] == pytest.approx(np.mean(recalls))


def test_precision_is_nan_where_no_query_retrieves_anything():
    precision, recall = precision_recall(counts([[0, 1, 3], [0, 0, 4]], [[0, 1, 1], [0, 0, 0]]))
    np.testing.assert_array_equal(precision, [np.nan, 1 / 1, (2 / 4 + 0 / 4) / 2])
    np.testing.assert_array_equal(recall, [0, (1 / 2 + 0) / 2, (2 / 2 + 0) / 2])
