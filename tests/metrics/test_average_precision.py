"""Average precision against every order of the ties, hand-worked values, walks and scikit-learn."""

from itertools import product
from math import fsum

import numpy as np
import pytest
from oracles import (
    DIVIDE_BY,
    TIES,
    assert_is_monte_carlo_mean,
    average_precision_by_walk,
    brute_force,
    counts,
    extreme_sums,
    frozen,
    one_by_one,
    random_counts,
    random_database,
    shuffles,
)
from oracles import average_precision as average_precision_of
from sklearn import metrics

from jaxhash.metrics import DistanceCounts, average_precision
from jaxhash.metrics._ties import harmonic_difference

EVERY = list(product(DIVIDE_BY, TIES))
SMALL = [
    ([1], [1]),
    ([1], [0]),
    ([5], [2]),  # one group
    ([5], [5]),
    ([5], [1]),
    ([0, 3, 0, 2], [0, 0, 0, 0]),  # nothing relevant
    ([0, 3, 0, 2], [0, 3, 0, 2]),  # everything relevant
    ([1, 1, 1, 1, 1], [0, 1, 0, 1, 1]),  # no ties
    ([3, 4], [0, 1]),  # the only relevant item among the last
    ([2, 4, 1], [1, 3, 0]),
    ([1, 5], [1, 2]),  # one more relevant item may lower the mean of those retrieved
    ([2, 3, 3], [0, 2, 1]),
]


def average_precisions_by_walk(some, **options):
    return [average_precision_by_walk(n, r, **options) for n, r in zip(*some[:2], strict=True)]


def assert_average_precision_is_brute_force(some, **options):
    """Asserts that expected, best and worst AP are the mean, maximum and minimum over all orders."""
    for ties in TIES:
        expected = brute_force(average_precision_of, some, ties, **options)
        found = average_precision(some, ties=ties, **options)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


# Every order of the ties


@pytest.mark.parametrize("seed", range(5))
def test_random_ties(seed):
    """Queries of different sizes side by side, some of them without any relevant item."""
    assert_average_precision_is_brute_force(random_counts(6, 4, 3, seed))


@pytest.mark.parametrize("divide_by", DIVIDE_BY)
@pytest.mark.parametrize(("total", "relevant"), SMALL)
def test_particular_ties_cut_at_every_rank(total, relevant, divide_by):
    some = counts(total, relevant)
    assert_average_precision_is_brute_force(some, divide_by=divide_by)
    for k in range(1, sum(total) + 1):
        assert_average_precision_is_brute_force(some, k=k, divide_by=divide_by)


@pytest.mark.parametrize("divide_by", DIVIDE_BY)
@pytest.mark.parametrize("seed", range(3))
def test_random_ties_cut_at_every_rank(divide_by, seed):
    some = random_database(4, 3, 8, seed)
    for k in range(1, 9):
        assert_average_precision_is_brute_force(some, k=k, divide_by=divide_by)


# By hand


@pytest.mark.parametrize(
    ("divide_by", "expected"),
    [
        ("retrieved", (1 + 2 / 3) / 2),
        ("all", (1 + 2 / 3) / 4),
        ("min", (1 + 2 / 3) / 3),
        ("trapezoid", (1 + (1 / 2 + 2 / 3) / 2) / 4),
    ],
)
def test_cut_ranking_by_hand(divide_by, expected):
    """The first three of six: relevant are the ranks 1 and 3, behind them 4 and 6."""
    some = one_by_one([[1, 0, 1, 1, 0, 1]])
    assert average_precision(some, k=3, divide_by=divide_by).item() == pytest.approx(expected)


def test_ties_by_hand():
    """Relevant items at the ranks 1 and 3, then at 1 and 2, for either order of the last pair."""
    some = counts([1, 2], [1, 1])
    late, early = (1 / 1 + 2 / 3) / 2, (1 / 1 + 2 / 2) / 2
    values = [average_precision(some, ties=t).item() for t in TIES]
    assert values == pytest.approx([late, (late + early) / 2, early])


def test_cut_ties_by_hand():
    """The second rank is relevant in one of two orders.

    Of those retrieved, the mean precision is 1 without it and (1 + 2/2) / 2 with it. Where the first
    rank is irrelevant it is 0 or 1/2.
    """
    some = counts([[1, 2], [1, 2]], [[1, 1], [0, 1]])
    retrieved = [average_precision(some, k=2, divide_by="retrieved", ties=t) for t in TIES]
    np.testing.assert_allclose(retrieved, [[1, 0], [1, 1 / 4], [1, 1 / 2]])
    everything = [average_precision(some, k=2, ties=t) for t in TIES]
    np.testing.assert_allclose(everything, [[1 / 2, 0], [3 / 4, 1 / 4], [1, 1 / 2]])


def test_more_relevant_items_can_be_worse_where_only_they_count():
    """Rank 1 is relevant, 2 to 4 are not, and the tie at 5 and 6 holds one relevant item.

    The first five have a mean precision of 1 without it, of (1 + 2/5) / 2 with it.
    """
    some = counts([1, 3, 2], [1, 0, 1])
    values = [average_precision(some, k=5, divide_by="retrieved", ties=t).item() for t in TIES]
    assert values == pytest.approx([0.7, 0.85, 1.0])


# Many items


def test_walks_are_brute_force():
    """Compares the two oracles."""
    some = random_database(4, 3, 7, seed=8)
    for (divide_by, ties), k in product(EVERY, [None, 1, 2, 3, 4, 5, 6, 7]):
        options = {"k": k, "divide_by": divide_by}
        expected = brute_force(average_precision_of, some, ties, **options)
        found = average_precisions_by_walk(some, ties=ties, **options)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("divide_by", "ties"), EVERY)
def test_many_items_are_walks(divide_by, ties):
    some = random_database(5, 8, 200, seed=0)
    for k in (None, 1, 13, 60, 117, 199, 200):
        options = {"k": k, "divide_by": divide_by, "ties": ties}
        found = average_precision(some, **options)
        np.testing.assert_allclose(found, average_precisions_by_walk(some, **options), rtol=1e-10)


@pytest.mark.parametrize("tie", [40, 61, 200])
@pytest.mark.parametrize(("first", "then"), [(1, 5), (3, 9), (8, 9), (8, 30)])
def test_worst_number_of_relevant_items_is_in_between(first, then, tie):
    """Relevant items first, then irrelevant ones, then a tie of which half is within the first k.

    Relevant items of the tie lower the mean of those retrieved, until they are dense.
    """
    some, k = counts([first, then, tie], [first, 0, tie // 2]), first + then + tie // 2
    sums = extreme_sums(some.total[0], some.relevant[0], k)[first:]
    means = sums / np.arange(first, first + len(sums))
    assert 0 < means.argmin() < len(means) - 1
    found = average_precision(some, k=k, divide_by="retrieved", ties="worst").item()
    assert found == pytest.approx(means.min(), rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_harmonic_differences_keep_their_digits(count):
    """Tests the borders of table, series and single reciprocals, and numbers that agree in nine digits."""
    first = np.array([0, 1, 57, 62, 63, 64, 65, 100, 2**17 - 1, 2**17, 10**9])
    expected = [fsum(1 / n for n in range(f + 1, f + count + 1)) for f in first.tolist()]
    np.testing.assert_allclose(harmonic_difference(first, np.array(count)), expected, rtol=1e-13)


@pytest.mark.parametrize("divide_by", DIVIDE_BY)
@pytest.mark.parametrize("k", [None, 37, 100])
def test_expectation_is_a_monte_carlo_mean(divide_by, k):
    some = random_database(1, 6, 150, seed=1)
    options = {"k": k, "divide_by": divide_by}
    draws = [average_precision_of(r, **options) for r in shuffles(*map(np.ravel, some[:2]), 2000)]
    value = {t: average_precision(some, ties=t, **options).item() for t in TIES}
    assert_is_monte_carlo_mean(value["expected"], draws)
    assert value["worst"] <= min(draws) + 1e-12 and max(draws) - 1e-12 <= value["best"]


def large_database(dtype=np.int64):
    """59,000 items by the distances of 64 random bits, 5,900 of them relevant and nearer."""
    rng = np.random.default_rng(0)
    total = np.bincount(rng.binomial(64, 0.5, 53_100), minlength=65)
    relevant = np.bincount(rng.binomial(64, 0.4, 5_900), minlength=65)
    return counts(np.asarray(total + relevant, dtype), np.asarray(relevant, dtype))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("divide_by", "ties"), EVERY)
def test_large_database(divide_by, ties, dtype):
    """In 32 bits a product of two counts would wrap around."""
    some = large_database(dtype)
    options = {"k": 1000, "divide_by": divide_by, "ties": ties}
    expected = average_precisions_by_walk(some, **options)
    np.testing.assert_allclose(average_precision(some, **options), expected, rtol=1e-9)


@pytest.mark.parametrize("divide_by", ["retrieved", "min"])
def test_large_database_cut_far_behind(divide_by):
    some = large_database()
    options = {"k": 5000, "divide_by": divide_by}
    found = average_precision(some, **options).item()
    assert found == pytest.approx(average_precisions_by_walk(some, **options)[0], rel=1e-9)
    rankings = shuffles(some.total[0], some.relevant[0], draws=100)
    assert_is_monte_carlo_mean(found, [average_precision_of(r, **options) for r in rankings])


@pytest.mark.parametrize("relevant", [1, 2, 5_900, 17_700, 58_999, 59_000])
@pytest.mark.parametrize(("divide_by", "ties"), EVERY)
def test_large_database_at_one_distance(relevant, divide_by, ties):
    """Collapsed codes: the probabilities of retrieving 0, 1, 2, ... span hundreds of digits."""
    options = {"k": 300, "divide_by": divide_by, "ties": ties}
    some = counts([59_000], [relevant])
    expected = average_precisions_by_walk(some, **options)
    np.testing.assert_allclose(average_precision(some, **options), expected, rtol=1e-9)


def test_large_database_as_a_whole():
    """The precision of each rank of a tie group, in expectation, one by one."""
    some, precisions = large_database(), []
    rank = found = 0
    for n, r in zip(some.total[0].tolist(), some.relevant[0].tolist(), strict=True):
        for others in range(n):
            rank += 1
            found_here = 1 + others * (r - 1) / max(n - 1, 1)
            precisions.append(r / n * (found + found_here) / rank)
        found += r
    expected = sum(precisions) / found
    for divide_by in ("retrieved", "all", "min"):
        value = average_precision(some, divide_by=divide_by).item()
        assert value == pytest.approx(expected, rel=1e-10)


# Without ties


@pytest.mark.parametrize(("divide_by", "ties"), EVERY)
def test_without_ties_is_the_ranking(divide_by, ties):
    rankings = (np.random.default_rng(2).random((20, 12)) < 0.3).astype(int)
    rankings[0] = 0
    for k in (None, *range(1, 13)):
        expected = [average_precision_of(r, k, divide_by) for r in rankings]
        found = average_precision(one_by_one(rankings), k=k, divide_by=divide_by, ties=ties)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_ties_is_that_of_scikit_learn():
    """Its curve interpolates between the points (0, 1), ..., like the trapezoids."""
    hits = np.random.default_rng(3).random(40) < 0.3
    some, scores = one_by_one([hits.astype(int)]), -np.arange(40.0)
    value = average_precision(some).item()
    assert value == pytest.approx(metrics.average_precision_score(hits, scores), rel=1e-12)
    precision, recall, _ = metrics.precision_recall_curve(hits, scores)
    area = average_precision(some, divide_by="trapezoid").item()
    assert area == pytest.approx(metrics.auc(recall, precision), rel=1e-12)


# What the denominators have to do with each other


def test_over_the_whole_database_denominators_agree():
    some = random_counts(20, 5, 6, seed=4)
    for ties in TIES:
        values = [average_precision(some, divide_by=d, ties=ties) for d in DIVIDE_BY[:3]]
        np.testing.assert_allclose(values[1:], [values[0]] * 2, rtol=1e-12)


@pytest.mark.parametrize("ties", TIES)
def test_smaller_denominators_give_larger_values(ties):
    some = random_database(30, 5, 40, seed=5)
    for k in (1, 7, 40):
        whole, least, found = (
            average_precision(some, k=k, divide_by=d, ties=ties)
            for d in ("all", "min", "retrieved")
        )
        assert np.all(whole <= least + 1e-12) and np.all(least <= found + 1e-12)


def test_k_of_the_whole_database_is_none():
    some = random_database(10, 4, 30, seed=6)
    for divide_by, ties in EVERY:
        options = {"divide_by": divide_by, "ties": ties}
        np.testing.assert_allclose(
            average_precision(some, k=30, **options), average_precision(some, **options), rtol=1e-12
        )


def test_ties_make_a_difference():
    some = random_counts(50, 20, 30, seed=2)
    worst, expected, best = (average_precision(some, ties=t) for t in TIES)
    assert np.all(worst >= 0) and np.all(worst < expected)
    assert np.all(expected < best) and np.all(best <= 1)


def test_a_query_does_not_depend_on_the_others():
    """Results are equal to the last digit."""
    some = random_counts(6, 4, 30, seed=3)
    alone = [average_precision(counts(n, r)).item() for n, r in zip(*some[:2], strict=True)]
    np.testing.assert_array_equal(average_precision(some), alone)


def test_unknown_denominator_is_an_error(unchecked):
    with pytest.raises(ValueError, match="divide_by .*'retrieved'.*'trapezoid'.*'found'"):
        average_precision(counts([1], [1]), divide_by="found")


def test_counts_of_one_query_are_two_rows():
    """The tuple may be built by hand from counts."""
    some = DistanceCounts(frozen(np.array([[1, 2]])), frozen(np.array([[1, 1]])))
    assert average_precision(some).shape == (1,)
    assert average_precision(some).dtype == np.float64
