"""Means of average precision: queries left out, joint orders of ties, the formulas of code bases."""

from itertools import product

import numpy as np
import pytest
from oracles import (
    DIVIDE_BY,
    TIES,
    assert_is_monte_carlo_mean,
    average_precision_by_walk,
    counts,
    expected_mean,
    expected_sums,
    extreme_mean,
    extreme_sums,
    is_empty,
    one_by_one,
    random_database,
    shuffles,
)
from oracles import average_precision as average_precision_of
from oracles import mean_average_precision as mean_average_precision_of

from jaxhash.metrics import CONVENTIONS, Convention, average_precision, mean_average_precision

EMPTY = ("zero", "skip")


def sparse_database(queries, distances, items, seed, chance=0.15):
    """Draws queries with few relevant items, some with none."""
    rng = np.random.default_rng(seed)
    total = rng.multinomial(items, np.full(distances, 1 / distances), size=queries)
    return counts(total, rng.binomial(total, chance))


# Means over queries


@pytest.mark.parametrize(("divide_by", "empty"), product(DIVIDE_BY, EMPTY))
@pytest.mark.parametrize("seed", range(4))
def test_joint_orders_of_all_ties(divide_by, empty, seed):
    """Compares with every combination of the orders of all queries' ties."""
    some = sparse_database(3, 3, 6, seed, chance=0.3)
    for ties, k in product(TIES, [None, *range(1, 7)]):
        options = {"k": k, "divide_by": divide_by, "empty": empty, "ties": ties}
        expected = mean_average_precision_of(some, **options)
        found = mean_average_precision(some, **options)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True), options


@pytest.mark.parametrize(
    ("total", "relevant"),
    [
        ([[2], [2]], [[1], [1]]),  # each may count or not
        ([[1, 1], [2, 0]], [[0, 0], [1, 0]]),  # the first never counts
        ([[1, 1], [2, 0]], [[1, 0], [1, 0]]),  # the first always counts
        ([[1, 3], [4, 0], [0, 4]], [[1, 1], [1, 0], [0, 2]]),
        ([[4], [4], [4]], [[0], [1], [4]]),
    ],
)
@pytest.mark.parametrize("divide_by", DIVIDE_BY)
def test_queries_that_may_or_may_not_count(total, relevant, divide_by):
    some = counts(total, relevant)
    for ties, empty, k in product(TIES, EMPTY, range(1, sum(total[0]) + 1)):
        options = {"k": k, "divide_by": divide_by, "empty": empty, "ties": ties}
        expected = mean_average_precision_of(some, **options)
        assert mean_average_precision(some, **options) == pytest.approx(expected, nan_ok=True)


def test_by_hand():
    """The first query has AP 1, the second has its relevant item at the rank 1 or 2, cut at 1.

    Where only the first item counts, the second query has AP 1 and counts, or it is left out.
    """
    some = counts([[1, 1], [2, 0]], [[1, 0], [1, 0]])
    zero = [mean_average_precision(some, k=1, divide_by="retrieved", ties=t) for t in TIES]
    assert zero == pytest.approx([1 / 2, 3 / 4, 1])
    options = {"k": 1, "divide_by": "retrieved", "empty": "skip"}
    assert [mean_average_precision(some, **options, ties=t) for t in TIES] == [1, 1, 1]


def test_expectation_of_a_mean_without_empty_queries_by_hand():
    """AP of the first is 1. Cut at 2, that of the second is 1/2 in one of two orders, else none.

    So the mean is 3/4 in one order and 1 in the other.
    """
    some = counts([[1, 2], [1, 2]], [[1, 0], [0, 1]])
    options = {"k": 2, "divide_by": "retrieved", "empty": "skip"}
    values = [mean_average_precision(some, **options, ties=t) for t in TIES]
    assert values == pytest.approx([3 / 4, 7 / 8, 1])


def test_best_order_may_leave_out_a_query():
    """Cut at 3, the first query has AP 1/2, the second 1/3 if it counts, in one of two orders."""
    some = counts([[1, 1, 2], [1, 1, 2]], [[0, 1, 0], [0, 0, 1]])
    options = {"k": 3, "divide_by": "retrieved", "empty": "skip"}
    values = [mean_average_precision(some, **options, ties=t) for t in TIES]
    assert values == pytest.approx([5 / 12, (5 / 12 + 1 / 2) / 2, 1 / 2])


def test_best_order_keeps_the_best_of_the_queries_that_may_count():
    """Cut at 2, the first has AP 1, 1/2 or none, the second 1/2 or none: only one has to count.

    The first alone counts in 1/3 of all orders (mean 3/4), both in 1/6 (5/8), the second alone in
    1/6 (1/2), and none in the rest, which has no mean.
    """
    some = counts([[0, 4], [1, 3]], [[0, 1], [0, 1]])
    options = {"k": 2, "divide_by": "retrieved", "empty": "skip"}
    values = [mean_average_precision(some, **options, ties=t) for t in TIES]
    assert values == pytest.approx([1 / 2, (3 / 12 + 5 / 48 + 1 / 12) / (2 / 3), 1])


@pytest.mark.parametrize("divide_by", DIVIDE_BY)
def test_zero_is_the_mean_of_all_queries(divide_by):
    some = sparse_database(30, 5, 40, seed=0, chance=0.03)
    for ties, k in product(TIES, [None, 1, 7, 40]):
        options = {"k": k, "divide_by": divide_by, "ties": ties}
        found = mean_average_precision(some, **options)
        assert isinstance(found, float)
        assert found == pytest.approx(average_precision(some, **options).mean(), rel=1e-12)


@pytest.mark.parametrize("divide_by", DIVIDE_BY)
def test_skip_leaves_out_what_has_nothing_relevant_in_the_database(divide_by):
    """Over the whole database, or for fixed divisors at any rank, it does not depend on ties."""
    some = sparse_database(30, 5, 40, seed=1, chance=0.03)
    kept = some.relevant.any(axis=1)
    assert 0 < kept.sum() < 30
    for ties, k in product(TIES, [None] if divide_by == "retrieved" else [None, 1, 7, 40]):
        options = {"k": k, "divide_by": divide_by, "ties": ties}
        expected = average_precision(some, **options)[kept].mean()
        found = mean_average_precision(some, **options, empty="skip")
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("divide_by", DIVIDE_BY)
def test_no_query_can_count(divide_by, ties):
    some = counts([[1, 4], [5, 0]], [[0, 0], [0, 0]])
    for k in (None, 3):
        options = {"k": k, "divide_by": divide_by, "ties": ties}
        assert mean_average_precision(some, **options) == 0
        assert np.isnan(mean_average_precision(some, **options, empty="skip"))


@pytest.mark.parametrize("ties", TIES)
def test_no_query_can_count_before_the_cut(ties):
    """Relevant items behind the cut keep a query in the mean, unless only retrieved ones count."""
    some = counts([[2, 3]], [[0, 3]])
    options = {"k": 2, "empty": "skip", "ties": ties}
    assert np.isnan(mean_average_precision(some, **options, divide_by="retrieved"))
    assert mean_average_precision(some, **options, divide_by="all") == 0


# Many items


@pytest.mark.parametrize("seed", range(3))
def test_many_items_are_walks(seed):
    """Tries all choices of queries that count with their extreme value, or, if possible, do not count."""
    some = sparse_database(9, 4, 120, seed, chance=0.04)
    for k in (1, 5, 17, 60):
        walks = [expected_sums(n, r, k) for n, r in zip(*some[:2], strict=True)]
        pairs = []
        for chance, sums in walks:
            counts_with = chance[1:].sum()
            value = np.sum(sums[1:] / np.arange(1, len(sums))) / max(counts_with, 1e-300)
            pairs.append({(value, True): counts_with, (0.0, False): chance[0]})
        options = {"k": k, "divide_by": "retrieved", "empty": "skip"}
        found = mean_average_precision(some, **options)
        assert found == pytest.approx(expected_mean(pairs), rel=1e-10)
        for ties, pick in (("worst", min), ("best", max)):
            choices = []
            for n, r in zip(*some[:2], strict=True):
                sums = extreme_sums(n, r, k, ties=ties)
                means = [s / m for m, s in enumerate(sums) if m and np.isfinite(s)]
                choice = [(pick(means), True)] if means else []
                choices.append(choice + [(0.0, False)] * bool(np.isfinite(sums[0])))
            expected = extreme_mean(choices, ties)
            found = mean_average_precision(some, **options, ties=ties)
            assert found == pytest.approx(expected, rel=1e-10, nan_ok=True)


def test_expectation_of_queries_of_one_kind_is_a_monte_carlo_mean():
    """Compares with a thousand queries of one kind and random orders of ties."""
    one, options = counts([4, 20], [0, 3]), {"k": 9, "divide_by": "retrieved"}
    rankings = list(shuffles([4, 20], [0, 3], draws=4000))
    values = np.array([average_precision_of(r, **options) for r in rankings])
    counted = np.array([not is_empty(r, **options) for r in rankings])
    assert 0.3 < counted.mean() < 0.7
    found = mean_average_precision(one, **options, empty="skip")
    assert_is_monte_carlo_mean(found, values[counted])
    many = counts(np.repeat(one.total, 1000, axis=0), np.repeat(one.relevant, 1000, axis=0))
    assert mean_average_precision(many, **options, empty="skip") == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("empty", EMPTY)
def test_large_database(empty):
    """Relevant items are so few that each query may well retrieve none of them."""
    rng = np.random.default_rng(3)
    total = rng.multinomial(59_000, [0.005, 0.02, 0.1, 0.875], size=2)
    some = counts(total, rng.binomial(total, 2e-3))
    options = {"k": 1000, "divide_by": "retrieved"}
    choices = []
    for n, r in zip(*some[:2], strict=True):
        value, none = average_precision_by_walk(n, r, **options), expected_sums(n, r, 1000)[0][0]
        counts_with = 1 - none
        choices.append({(value / counts_with, True): counts_with, (0.0, empty == "zero"): none})
    found = mean_average_precision(some, **options, empty=empty)
    assert found == pytest.approx(expected_mean(choices), rel=1e-9)
    worst, best = (
        mean_average_precision(some, **options, empty=empty, ties=t) for t in ("worst", "best")
    )
    assert 0 <= worst <= found <= best <= 1


# Conventions of code bases, each written as it is there; hits are in ranked order


def deephash_pytorch(hits, k):
    """CalcTopMap: ranks of the relevant items retrieved; queries without any add 0."""
    summed = 0
    for gnd in hits:
        tgnd = gnd[0:k]
        tsum = np.sum(tgnd).astype(int)
        if tsum == 0:
            continue
        summed = summed + np.mean(np.arange(1, tsum + 1) / (np.flatnonzero(tgnd) + 1))
    return summed / len(hits)


def hashnet(hits, k):
    """Averages the precision at the ranks of relevant items; queries without any are dropped."""
    values = []
    for match in hits[:, :k]:
        precision = np.cumsum(match) / np.arange(1, k + 1)
        if np.sum(match) != 0:
            values.append(np.sum(precision * match) / np.sum(match))
    return np.mean(values) if values else np.nan


def orthohash(hits, k):
    """The same; queries without any relevant item are 0."""
    values = []
    for match in hits[:, :k]:
        precision = np.cumsum(match) / np.arange(1, k + 1)
        relevant = np.sum(match)
        values.append(np.sum(precision * match) / relevant if relevant != 0 else 0)
    return np.mean(values)


def tensorflow_similarity(hits, k):
    """MapAtK: over all items of the query's class; where the index has none, 0 over anything."""
    match = hits[:, :k]
    precision = np.cumsum(match, axis=1) / np.arange(1, k + 1)
    of_class = hits.sum(axis=1)
    return np.mean(np.sum(match * precision, axis=1) / np.where(of_class, of_class, -1))


def google_landmarks(hits, k):
    """MeanAveragePrecision: over what could be expected of k predictions, 0 where that is none."""
    summed = 0
    for match in hits:
        expected, correct, value = min(np.sum(match), k), 0, 0
        for i in range(min(len(match), k)):
            if match[i]:
                correct += 1
                value += correct / (i + 1)
        summed += value / expected if expected else 0
    return summed / len(hits)


def revisited_oxford(hits, k):
    """compute_map: trapezoids of the ranks from 0; queries without positive images are excluded."""
    summed, excluded = 0, 0
    for match in hits:
        if not np.any(match):
            excluded += 1
            continue
        for j, rank in enumerate(np.flatnonzero(match[:k])):
            before = 1 if rank == 0 else j / rank
            summed += (before + (j + 1) / (rank + 1)) / np.sum(match) / 2
    return summed / (len(hits) - excluded)


def jaxhash(hits, k):
    """Divides by the largest number that k ranks can hold."""
    values = []
    for match in hits:
        most = min(k, sum(match))
        precisions = [sum(match[: rank + 1]) / (rank + 1) for rank in range(k) if match[rank]]
        values.append(sum(precisions) / most if most else 0)
    return sum(values) / len(values)


CODE_BASES = {
    "jaxhash": jaxhash,
    "deephash-pytorch": deephash_pytorch,
    "hashnet": hashnet,
    "orthohash": orthohash,
    "tensorflow-similarity": tensorflow_similarity,
    "google-landmarks": google_landmarks,
    "revisited-oxford": revisited_oxford,
}


def test_every_convention_has_a_code_base():
    assert set(CONVENTIONS) == set(CODE_BASES)
    assert all(convention.name == name for name, convention in CONVENTIONS.items())
    assert {c.relevance for c in CONVENTIONS.values()} <= {"shared", "equal", "graded"}


@pytest.mark.parametrize("name", CODE_BASES)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.9])
@pytest.mark.parametrize("ties", TIES)
def test_convention_is_the_formula_of_its_code_base(name, share, ties):
    """Tests rankings without ties, some of which retrieve nothing or have no relevant item."""
    hits = (np.random.default_rng(4).random((40, 50)) < share).astype(int)
    hits[0] = 0
    hits[1] = np.arange(50) == 49
    some, convention = one_by_one(hits), CONVENTIONS[name]
    for k in (1, 2, 10, 49, 50):
        found = mean_average_precision(
            some, k=k, divide_by=convention.divide_by, empty=convention.empty, ties=ties
        )
        assert found == pytest.approx(CODE_BASES[name](hits, k), rel=0, abs=1e-12, nan_ok=True)


def test_conventions_differ():
    """The values of one ranking, all of which are called mAP@10 somewhere."""
    hits = (np.random.default_rng(5).random((40, 50)) < 0.1).astype(int)
    hits[:, 20:40] |= np.arange(40)[:, None] % 2
    names_of = {}
    for name, convention in CONVENTIONS.items():
        options = {"divide_by": convention.divide_by, "empty": convention.empty}
        value = mean_average_precision(one_by_one(hits), k=10, **options)
        names_of.setdefault(round(value, 4), set()).add(name)
    same = [names for names in names_of.values() if len(names) > 1]
    assert same == [{"jaxhash", "google-landmarks"}, {"deephash-pytorch", "orthohash"}]


# What stands beside a number


@pytest.mark.parametrize(
    ("names", "at_5", "at_all", "empty"),
    [
        (["jaxhash", "google-landmarks"], "over min(5, relevant)", "over all relevant", "count 0"),
        (
            ["deephash-pytorch", "orthohash"],
            "over relevant retrieved",
            "over all relevant",
            "count 0",
        ),
        (["hashnet"], "over relevant retrieved", "over all relevant", "left out"),
        (["tensorflow-similarity"], "over all relevant", "over all relevant", "count 0"),
        (["revisited-oxford"], *["by trapezoids, over all relevant"] * 2, "left out"),
    ],
)
def test_definitions_by_hand(names, at_5, at_all, empty):
    """Over the whole database all divisors are one, and so are their names."""
    others = f"empty queries {empty}, relevant: a label in common"
    for name in names:
        assert CONVENTIONS[name].describe_average_precision(5) == f"AP@5 {at_5}, {others}"
        assert CONVENTIONS[name].describe_average_precision(None) == f"AP@all {at_all}, {others}"


@pytest.mark.parametrize(
    ("options", "relevant"),
    [
        ({}, "a label in common"),
        ({"relevance": "equal"}, "the same labels"),
        ({"relevance": "graded"}, "labels in common, graded with exponential gain"),
        ({"relevance": "graded", "gain": "linear"}, "labels in common, graded with linear gain"),
    ],
)
def test_definitions_name_what_is_relevant(options, relevant):
    convention = Convention("mine", **options)
    assert convention.describe() == f"empty queries count 0, relevant: {relevant}"


# Mistakes


@pytest.mark.parametrize("empty", ["one", None])
def test_unknown_treatment_of_empty_queries_is_an_error(unchecked, empty):
    with pytest.raises(ValueError, match=f"empty .*'zero'.*'skip'.*{empty}"):
        mean_average_precision(random_database(2, 2, 3, seed=6), empty=empty)


def test_expectation_over_joint_orders_of_many_queries_that_may_count():
    """Compares queries of small and large probabilities to count with random joint orders."""
    rng = np.random.default_rng(5)
    total = np.stack([rng.integers(1, 6, 60), rng.integers(20, 60, 60)], axis=1)
    relevant = np.stack([np.zeros(60, int), rng.integers(0, 20, 60)], axis=1)
    options = {"k": 7, "divide_by": "retrieved"}
    draws = [list(shuffles(n, r, draws=2000)) for n, r in zip(total, relevant, strict=True)]
    values = np.array([[average_precision_of(r, **options) for r in rows] for rows in draws])
    counted = np.array([[not is_empty(r, **options) for r in rows] for rows in draws])
    found = mean_average_precision(counts(total, relevant), **options, empty="skip")
    assert_is_monte_carlo_mean(found, (values * counted).sum(axis=0) / counted.sum(axis=0))


@pytest.mark.parametrize("field", ["divide_by", "empty", "relevance", "gain"])
def test_convention_of_unknown_choices_is_an_error(unchecked, field):
    with pytest.raises(ValueError, match=f"{field} .*'foo'"):
        Convention("mine", **{field: "foo"})
