"""Retrieval of instances: lists of relevant items and junk, as the published script evaluates them."""

from itertools import permutations

import numpy as np
import pytest
from oracles import TIES, counts

from jaxhash.metrics import (
    Accumulator,
    ItemLists,
    distance_counts,
    evaluate_counts,
    evaluate_retrieval,
    leave_one_out,
    truncated_precision_at_k,
)

QUERIES, ITEMS, BITS = 12, 30, 40
RNG = np.random.default_rng(0)
CODES = RNG.choice(np.array([-1, 1], np.int8), (QUERIES + ITEMS, BITS))
QUERY, DATABASE = CODES[:QUERIES], CODES[QUERIES:]


def compute_map(ranks, ground_truth, ranks_of_precision):
    """The function of that name of revisited Oxford and Paris, with ranks [items, queries]."""

    def compute_ap(positions, relevant):
        average = 0
        for j, rank in enumerate(positions):
            before = 1.0 if rank == 0 else float(j) / rank
            average += (before + float(j + 1) / (rank + 1)) / relevant / 2.0
        return average

    mean, precisions, empty = 0.0, np.zeros(len(ranks_of_precision)), 0
    for i, (ok, junk) in enumerate(ground_truth):
        if not len(ok):
            empty += 1
            continue
        positions = np.arange(len(ranks))[np.isin(ranks[:, i], ok)]
        junk_positions = np.arange(len(ranks))[np.isin(ranks[:, i], junk)]
        for j in range(len(positions)):
            positions[j] -= np.sum(junk_positions < np.flatnonzero(np.isin(ranks[:, i], ok))[j])
        mean += compute_ap(positions, len(ok))
        positions = positions + 1
        for j, k in enumerate(ranks_of_precision):
            last = min(positions.max(), k)
            precisions[j] += (positions <= last).sum() / last
    return mean / (len(ground_truth) - empty), precisions / (len(ground_truth) - empty)


def lists_of(rows):
    pairs = [(query, item) for query, items in enumerate(rows) for item in items]
    return ItemLists.from_pairs(np.array(pairs, int), queries=len(rows))


def separated():
    """Items at different distances from each query, and their ranking: no ties."""
    steps = np.arange(ITEMS)
    query, rows = np.ones((QUERIES, BITS), np.int8), np.ones((ITEMS, BITS), np.int8)
    for item in steps:
        rows[item, :item] = -1  # farther by one than the item before
    query[:, ITEMS:] = QUERY[:, ITEMS:]
    signs = np.tile(np.array([-1, 1], np.int8), BITS // 2)
    return query * signs, rows * signs, np.tile(steps[:, None], QUERIES)


def test_map_and_precision_are_those_of_compute_map():
    """Some queries find nothing; some have a single relevant item, behind junk."""
    query, database, ranks = separated()
    rng = np.random.default_rng(3)
    truth = []
    for _ in range(QUERIES):
        items = rng.permutation(ITEMS)
        relevant, junk = rng.integers(0, 8), rng.integers(0, 12)
        truth.append((items[:relevant], items[relevant : relevant + junk]))
    truth[0] = (np.array([], int), np.arange(3))
    truth[1] = (np.array([5]), np.arange(5))
    mean, precisions = compute_map(ranks, truth, (1, 5, 10))
    result = evaluate_retrieval(
        *(query, None, database, None),
        relevance=lists_of([ok for ok, _ in truth]),
        excluded=lists_of([junk for _, junk in truth]),
        ranks=(1, 5, 10),
        convention="revisited-oxford",
    )
    for found, expected in zip(
        [result.scores[f"truncated_precision_at_{k}"] for k in (1, 5, 10)], precisions, strict=True
    ):
        np.testing.assert_allclose(found[:3], expected, rtol=1e-12)
    np.testing.assert_allclose(result.scores["map"][:3], mean, rtol=1e-12)
    assert "on the query's list" in result.scores["map"].definition
    assert "left out" in result.scores["map"].definition


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("total", "relevant"),
    [
        ([2, 3], [1, 2]),
        ([0, 5], [0, 1]),
        ([3, 2], [2, 0]),
        ([1, 4], [0, 4]),
        ([2, 2, 1], [0, 2, 0]),
        ([5], [0]),
    ],
)
def test_truncated_precision_is_the_mean_over_all_orders(total, relevant, k):
    orders = [()]
    for size, hits in zip(total, relevant, strict=True):
        group = [1] * hits + [0] * (size - hits)
        orders = [order + each for order in orders for each in permutations(group)]
    values = []
    for order in orders:
        places = np.flatnonzero(order) + 1
        last = min(k, places.max()) if len(places) else k
        values.append((places <= last).sum() / last)
    expected = {"worst": min(values), "expected": np.mean(values), "best": max(values)}
    for ties in TIES:
        found = truncated_precision_at_k(counts(total, relevant), k, ties=ties).item()
        assert found == pytest.approx(expected[ties], rel=1e-12, abs=1e-15), ties


def test_truncated_precision_of_large_ties():
    """The law of the last of 3 relevant items among a million, against its definition in integers."""
    items, k = 10**6, 400
    found = truncated_precision_at_k(counts([items], [3]), k).item()
    whole = items * (items - 1) * (items - 2) // 6
    chance = [(p - 1) * (p - 2) // 2 / whole for p in range(1, k + 1)]
    early = sum(chance[p - 1] * 3 / p for p in range(3, k + 1))
    late = (3 * k / items - 3 * sum(chance)) / k
    assert found == pytest.approx(early + late, rel=1e-12)


def test_queries_that_leave_themselves_out():
    """The hit rate is the recall@k of metric learning: a mean over the orders of ties, drawn here."""
    codes, labels = CODES[:20, :4], np.arange(20) % 5
    itself = ItemLists(np.arange(21), np.arange(20))
    result = evaluate_retrieval(codes, labels, codes, labels, excluded=itself, ranks=(1, 2, 4))
    some = leave_one_out(distance_counts(codes, labels, codes, labels))
    expected = evaluate_counts(some, ranks=(1, 2, 4))
    assert result.scores == expected.scores and result.items == expected.items == 19
    rng, hits = np.random.default_rng(5), np.zeros(3)
    for _ in range(400):
        for query in range(20):
            others = rng.permutation(np.delete(np.arange(20), query))
            distance = (codes[others] != codes[query]).sum(axis=1)
            order = others[np.argsort(distance, kind="stable")]
            hits += [np.any(labels[order[:k]] == labels[query]) for k in (1, 2, 4)]
    found = [result.scores[f"hit_rate_at_{k}"].expected for k in (1, 2, 4)]
    np.testing.assert_allclose(found, hits / 8000, atol=0.02)


@pytest.mark.parametrize("labels", [None, np.zeros(QUERIES, int)])
def test_pieces_by_lists_name_the_lists(labels):
    relevant = lists_of([[query, query + 9] for query in range(QUERIES)])
    whole = evaluate_retrieval(QUERY, None, DATABASE, None, relevance=relevant, ranks=(2,))
    pieces = Accumulator(QUERY, labels)
    for first, last in ((0, 11), (11, ITEMS)):
        pieces.update(DATABASE[first:last], relevance=relevant.of_rows(first, last))
    assert pieces.compute(ranks=(2,)).scores == whole.scores
    assert whole.to_json()["convention"]["relevance"] == "listed"
