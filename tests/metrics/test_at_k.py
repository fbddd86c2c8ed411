"""Precision, recall and hits within a rank or a radius, by brute force and by naive counting."""

import numpy as np
import pytest
from oracles import (
    TIES,
    assert_is_monte_carlo_mean,
    brute_force,
    counts,
    expected_sums,
    hit_rate,
    one_by_one,
    precision_at_k,
    r_precision,
    random_counts,
    random_database,
    recall_at_k,
    shuffles,
)

from jaxhash import metrics
from jaxhash.metrics import (
    is_bucket_empty,
    precision_at_radius,
    precision_recall,
    recall_at_radius,
)

AT_K = {
    metrics.precision_at_k: precision_at_k,
    metrics.recall_at_k: recall_at_k,
    metrics.hit_rate: hit_rate,
}
each_at_k = pytest.mark.parametrize("metric", AT_K, ids=lambda metric: metric.__name__)
SMALL = [
    ([1], [1]),
    ([1], [0]),
    ([5], [2]),  # one group
    ([5], [5]),
    ([0, 3, 0, 2], [0, 0, 0, 0]),  # nothing relevant
    ([0, 3, 0, 2], [0, 3, 0, 2]),  # everything relevant
    ([1, 1, 1, 1, 1], [0, 1, 0, 1, 1]),  # no ties
    ([3, 4], [0, 1]),
    ([2, 4, 1], [1, 3, 0]),
]


# Within a rank


@each_at_k
@pytest.mark.parametrize(("total", "relevant"), SMALL)
def test_particular_ties_cut_at_every_rank(metric, total, relevant):
    some = counts(total, relevant)
    for ties in TIES:
        for k in range(1, sum(total) + 1):
            expected = brute_force(AT_K[metric], some, ties, k=k)
            np.testing.assert_allclose(metric(some, k, ties=ties), expected, atol=1e-12)


@each_at_k
@pytest.mark.parametrize("seed", range(3))
def test_random_ties_cut_at_every_rank(metric, seed):
    some = random_database(4, 3, 8, seed)
    for ties in TIES:
        for k in range(1, 9):
            expected = brute_force(AT_K[metric], some, ties, k=k)
            np.testing.assert_allclose(metric(some, k, ties=ties), expected, atol=1e-12)


def test_by_hand():
    """Three of a tie of four are among the first four; it holds two relevant items.

    They hold one relevant item in half of the orders and two in the other half.
    """
    some = counts([1, 4], [0, 2])
    at_4 = {
        metrics.precision_at_k: [1 / 4, 3 / 8, 2 / 4],
        metrics.recall_at_k: [1 / 2, 3 / 4, 2 / 2],
        metrics.hit_rate: [1, 1, 1],
    }
    for metric, expected in at_4.items():
        values = [metric(some, 4, ties=t).item() for t in TIES]
        assert values == pytest.approx(expected), metric
    assert [metrics.hit_rate(some, 2, ties=t).item() for t in TIES] == [0, 1 / 2, 1]
    assert [metrics.r_precision(some, ties=t).item() for t in TIES] == [0, 1 / 4, 1 / 2]


@pytest.mark.parametrize("ties", TIES)
def test_r_precision_cuts_each_query_at_its_own_rank(ties):
    for some in (random_database(6, 3, 8, seed=4), random_counts(6, 3, 3, seed=5)):
        expected = brute_force(r_precision, some, ties)
        np.testing.assert_allclose(metrics.r_precision(some, ties=ties), expected, atol=1e-12)
    for total, relevant in SMALL:
        some = counts(total, relevant)
        expected = brute_force(r_precision, some, ties)
        np.testing.assert_allclose(metrics.r_precision(some, ties=ties), expected, atol=1e-12)


@pytest.mark.parametrize("ties", TIES)
def test_r_precision_is_precision_and_recall_at_that_rank(ties):
    some = random_database(12, 5, 60, seed=6)
    found = metrics.r_precision(some, ties=ties)
    for query, relevant in enumerate(some.relevant.sum(axis=1)):
        alone = counts(some.total[query], some.relevant[query])
        for metric in (metrics.precision_at_k, metrics.recall_at_k):
            value = metric(alone, int(relevant), ties=ties).item()
            assert found[query] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("k", [1, 37, 100])
def test_expectations_are_monte_carlo_means(k):
    some = random_database(1, 4, 150, seed=7)
    rankings = list(shuffles(some.total[0], some.relevant[0], draws=2000))
    for metric, oracle in AT_K.items():
        draws = [oracle(ranking, k) for ranking in rankings]
        assert_is_monte_carlo_mean(metric(some, k).item(), draws)
    draws = [r_precision(ranking) for ranking in rankings]
    assert_is_monte_carlo_mean(metrics.r_precision(some).item(), draws)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("relevant", [1, 59, 5_900, 58_990, 59_000])
def test_large_database_at_one_distance(relevant, dtype):
    """Compares with the distribution of relevant items in the first thousand, rank by rank."""
    total, relevant = np.array([59_000], dtype), np.array([relevant], dtype)
    chance, _ = expected_sums(total, relevant, 1000)
    some, mean = counts(total, relevant), np.sum(np.arange(len(chance)) * chance)
    assert metrics.precision_at_k(some, 1000).item() == pytest.approx(mean / 1000, rel=1e-9)
    recall = metrics.recall_at_k(some, 1000).item()
    assert recall == pytest.approx(mean / relevant.item(), rel=1e-9)
    assert metrics.hit_rate(some, 1000).item() == pytest.approx(chance[1:].sum(), rel=1e-9)


@each_at_k
@pytest.mark.parametrize("ties", TIES)
def test_without_ties_is_the_ranking(metric, ties):
    rankings = (np.random.default_rng(8).random((20, 12)) < 0.2).astype(int)
    rankings[0] = 0
    for k in range(1, 13):
        expected = [AT_K[metric](ranking, k) for ranking in rankings]
        found = metric(one_by_one(rankings), k, ties=ties)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_hit_rate_of_a_certain_hit_is_one():
    """Four irrelevant items of a tie of six cannot fill five ranks; they can fill two."""
    some = counts([[6], [6]], [[2], [0]])
    np.testing.assert_array_equal(metrics.hit_rate(some, 5), [1, 0])
    np.testing.assert_array_equal(metrics.hit_rate(some, 5, ties="worst"), [1, 0])
    np.testing.assert_array_equal(metrics.hit_rate(some, 4, ties="worst"), [0, 0])
    np.testing.assert_allclose(metrics.hit_rate(some, 4), [14 / 15, 0])


# Within a radius


def test_precision_at_radius_by_hand():
    """The second query has nothing within the radius 1."""
    some = counts([[1, 2, 3], [0, 0, 4]], [[1, 1, 0], [0, 0, 4]])
    np.testing.assert_array_equal(precision_at_radius(some, 0), [1 / 1, 0])
    np.testing.assert_array_equal(precision_at_radius(some, 1), [2 / 3, 0])
    np.testing.assert_array_equal(precision_at_radius(some, 2), [2 / 6, 4 / 4])
    np.testing.assert_array_equal(precision_at_radius(some), precision_at_radius(some, 2))


def test_recall_at_radius_and_empty_bucket_by_hand():
    """The second query has nothing within the radius 1, the third nothing relevant at all."""
    some = counts([[1, 2, 3], [0, 0, 4], [0, 1, 0]], [[1, 1, 2], [0, 0, 4], [0, 0, 0]])
    np.testing.assert_array_equal(recall_at_radius(some, 0), [1 / 4, 0, 0])
    np.testing.assert_array_equal(recall_at_radius(some, 1), [2 / 4, 0, 0])
    np.testing.assert_array_equal(recall_at_radius(some, 2), [4 / 4, 4 / 4, 0])
    np.testing.assert_array_equal(is_bucket_empty(some, 0), [0, 1, 1])
    np.testing.assert_array_equal(is_bucket_empty(some, 1), [0, 1, 0])
    np.testing.assert_array_equal(is_bucket_empty(some, 2), [0, 0, 0])
    assert is_bucket_empty(some).dtype == np.float64


@pytest.mark.parametrize("radius", [0, 1, 4, 5, 99])
def test_within_a_radius_is_naive(radius):
    some = random_counts(12, 6, 1, seed=9)
    naive = {precision_at_radius: [], recall_at_radius: [], is_bucket_empty: []}
    for total, relevant in zip(*some[:2], strict=True):
        items = found = 0
        for distance, (n, r) in enumerate(zip(total, relevant, strict=True)):
            if distance <= radius:
                items, found = items + n, found + r
        naive[precision_at_radius].append(found / items if items else 0.0)
        naive[recall_at_radius].append(found / sum(relevant) if sum(relevant) else 0.0)
        naive[is_bucket_empty].append(0.0 if items else 1.0)
    for metric, expected in naive.items():
        np.testing.assert_allclose(metric(some, radius), expected, rtol=1e-12)


@pytest.mark.parametrize("metric", [precision_at_radius, recall_at_radius, is_bucket_empty])
def test_the_usual_radius_is_two(metric):
    some = counts([[0, 2, 2, 2], [0, 0, 1, 1], [0, 0, 0, 1]], [[0, 1, 2, 1], [0, 0, 1, 0], [0] * 4])
    np.testing.assert_array_equal(metric(some), metric(some, 2))
    assert np.any(metric(some) != metric(some, 1)) and np.any(metric(some) != metric(some, 3))


@pytest.mark.parametrize("metric", [precision_at_radius, recall_at_radius, is_bucket_empty])
def test_negative_radius_is_an_error(metric):
    """A negative radius would slice from the other end."""
    with pytest.raises(ValueError, match="radius .*-2"):
        metric(random_counts(2, 4, 3, seed=12), -2)


# Within every radius


def test_precision_and_recall_are_naive():
    """Compares with a loop over radii and queries."""
    some = random_counts(8, 6, 2, seed=4)
    precision, recall = precision_recall(some)
    for radius in range(6):
        precisions, recalls = [], []
        for total, relevant in zip(*some[:2], strict=True):
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


def test_recall_within_every_radius_is_the_mean_of_recall_at_radius():
    some = random_counts(8, 6, 2, seed=11)
    recalls = [recall_at_radius(some, radius).mean() for radius in range(6)]
    np.testing.assert_allclose(precision_recall(some).recall, recalls, rtol=1e-12)
