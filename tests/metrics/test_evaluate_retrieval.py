"""`evaluate_retrieval`: every metric in one call, as it is by itself, and as JSON."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from oracles import TIES, frozen
from oracles import counts as counts_of

from jaxhash import metrics
from jaxhash.metrics import (
    CONVENTIONS,
    Convention,
    distance_counts,
    evaluate_counts,
    evaluate_retrieval,
)

QUERIES, ITEMS, BITS = 9, 200, 12
AT_K = {"map_at_k", "precision_at_k", "recall_at_k", "hit_rate_at_k", "ndcg_at_k"}
ALWAYS = {
    "map",
    "ndcg",
    "r_precision",
    "precision_at_radius",
    "recall_at_radius",
    "empty_bucket_rate",
}


def problem(multi_hot=False, seed=0):
    """Draws codes that depend on the labels; the first query has no label."""
    rng = np.random.default_rng(seed)
    centers, sides = rng.normal(size=(4, BITS)), []
    for n in (QUERIES, ITEMS):
        rows = rng.random((n, 4)) < 0.35 if multi_hot else np.eye(4)[rng.integers(4, size=n)] > 0
        codes = rows @ centers + 0.5 * rng.normal(size=(n, BITS))
        labels = rows if multi_hot else rows.argmax(axis=1)
        if n == QUERIES:
            labels[0] = False if multi_hot else -1
        sides += [codes, labels]
    return tuple(map(frozen, sides))


def one_by_one(counts, k, radius, convention):
    """The mean of each metric for each order of ties, from the functions that compute them."""
    answerable = counts.relevant.any(axis=1)
    found = counts.total[:, : radius + 1].any(axis=1)

    def mean(values, counted):
        values = values[counted] if convention.empty == "skip" else values
        return values.mean() if len(values) else np.nan

    every = np.ones(len(answerable), bool)
    scores = {}
    for ties in TIES:

        def ap(rank, ties=ties):
            return metrics.mean_average_precision(
                counts, k=rank, divide_by=convention.divide_by, empty=convention.empty, ties=ties
            )

        scores[ties] = {
            "map": ap(None),
            "map_at_k": ap(k),
            "precision_at_k": mean(metrics.precision_at_k(counts, k, ties=ties), every),
            "recall_at_k": mean(metrics.recall_at_k(counts, k, ties=ties), answerable),
            "hit_rate_at_k": mean(metrics.hit_rate(counts, k, ties=ties), answerable),
            "ndcg_at_k": mean(metrics.ndcg(counts, k, gain=convention.gain, ties=ties), answerable),
            "ndcg": mean(metrics.ndcg(counts, gain=convention.gain, ties=ties), answerable),
            "r_precision": mean(metrics.r_precision(counts, ties=ties), answerable),
            "precision_at_radius": mean(metrics.precision_at_radius(counts, radius), found),
            "recall_at_radius": mean(metrics.recall_at_radius(counts, radius), answerable),
            "empty_bucket_rate": mean(metrics.is_bucket_empty(counts, radius), every),
        }
    return scores


@pytest.mark.parametrize("relevance", ["shared", "equal", "graded"])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_scores_are_those_of_the_functions_one_by_one(unchecked, name, relevance):
    sides = problem(multi_hot=True)
    convention = dataclasses.replace(CONVENTIONS[name], relevance=relevance, gain="linear")
    result = evaluate_retrieval(*sides, k=7, radius=3, convention=convention)
    counts = distance_counts(*sides, relevance=relevance)
    expected = one_by_one(counts, 7, 3, convention)
    assert result.scores.keys() == AT_K | ALWAYS == expected["best"].keys()
    for metric, score in result.scores.items():
        for ties in TIES:
            value = getattr(score, ties)
            assert type(value) is float
            assert value == pytest.approx(expected[ties][metric], rel=1e-12), (metric, ties)
        assert score.worst <= score.expected + 1e-12 <= score.best + 2e-12, metric
    np.testing.assert_equal(result.curve, metrics.precision_recall(counts))
    np.testing.assert_equal(
        dataclasses.asdict(evaluate_counts(counts, k=7, radius=3, convention=convention)),
        dataclasses.asdict(result),
    )


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("k", [None, 5])
def test_values_and_weights_give_the_mean(unchecked, name, k):
    result = evaluate_retrieval(*problem(), k=k, convention=name)
    mean = result.scores["map" if k is None else "map_at_k"].expected
    assert result.values.shape == result.weights.shape == (QUERIES,)
    assert result.values.sum() / result.weights.sum() == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(("name", "answerable", "found"), [("jaxhash", 3, 3), ("hashnet", 2, 2)])
def test_which_queries_count_by_hand(name, answerable, found):
    """The relevant item is first, or in the tie behind the first; or none is, and none at radius 0.

    Such a query, without anything relevant or anything found, is the one left out.
    """
    some = counts_of([[1, 2], [1, 2], [0, 3]], [[1, 0], [0, 1], [0, 0]])
    scores = evaluate_counts(some, k=2, radius=0, convention=name).scores
    second = 1 / np.log2(3)
    expected = {
        "precision_at_k": (1 / 2 + 1 / 4) / 3,
        "recall_at_k": (1 + 1 / 2) / answerable,
        "hit_rate_at_k": (1 + 1 / 2) / answerable,
        "ndcg_at_k": (1 + second / 2) / answerable,
        "ndcg": (1 + (second + 1 / 2) / 2) / answerable,
        "r_precision": 1 / answerable,
        "precision_at_radius": 1 / found,
        "recall_at_radius": 1 / answerable,
        "empty_bucket_rate": 1 / 3,
    }
    assert {metric: scores[metric].expected for metric in expected} == pytest.approx(expected)


def test_weights_are_chances_to_count_by_hand():
    """Cut at 2, the second query retrieves its item in one of two orders, with an AP of 1/2."""
    some = counts_of([[1, 2], [1, 2], [1, 2]], [[1, 0], [0, 1], [0, 0]])
    result = evaluate_counts(some, k=2, convention="hashnet")
    assert result.values.tolist() == [1, 1 / 4, 0]
    assert result.weights.tolist() == [1, 1 / 2, 0]
    assert result.scores["map_at_k"].expected == pytest.approx((1 + 3 / 4) / 2)
    assert evaluate_counts(some, k=2).weights.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_mean_of_no_query_is_nan(name):
    some = counts_of([[0, 0, 4]], [[0, 0, 0]])
    scores = evaluate_counts(some, k=2, radius=1, convention=name).scores
    skip = CONVENTIONS[name].empty == "skip"
    none = {metric for metric, score in scores.items() if np.isnan(score[:3]).all()}
    assert none == ((AT_K | ALWAYS) - {"precision_at_k", "empty_bucket_rate"} if skip else set())


@pytest.mark.parametrize("name", CONVENTIONS)
def test_definitions_name_the_convention(unchecked, name):
    convention = CONVENTIONS[name]
    result = evaluate_retrieval(*problem(), k=5, convention=name)
    assert result.convention is convention
    assert result.scores["map"].definition == convention.describe_average_precision(None)
    assert result.scores["map_at_k"].definition == convention.describe_average_precision(5)
    for metric, score in result.scores.items():
        assert score.definition.endswith(f", {convention.describe()}")
        assert ("5" in score.definition) == (metric in AT_K)
        assert ("within radius 2" in score.definition) == (
            metric in ALWAYS - {"map", "ndcg", "r_precision"}
        )


def test_metrics_at_k_are_omitted_without_a_rank():
    result = evaluate_retrieval(*problem())
    sizes = result.bits, result.queries, result.items, result.k, result.radius
    assert sizes == (BITS, QUERIES, ITEMS, None, 2)
    assert result.scores.keys() == ALWAYS
    some = evaluate_counts(counts_of([[1, 2]], [[1, 0]]))
    assert (some.k, some.radius, some.convention) == (None, 2, CONVENTIONS["jaxhash"])


def test_definitions_name_the_metric():
    others = CONVENTIONS["jaxhash"].describe()
    scores = evaluate_retrieval(*problem(), k=5, radius=3).scores
    titles = {name: score.definition.removesuffix(f", {others}") for name, score in scores.items()}
    assert titles == {
        "map": "AP@all over all relevant",
        "map_at_k": "AP@5 over min(5, relevant)",
        "precision_at_k": "precision@5",
        "recall_at_k": "recall@5",
        "hit_rate_at_k": "hit rate@5",
        "ndcg_at_k": "nDCG@5",
        "ndcg": "nDCG@all",
        "r_precision": "R-precision",
        "precision_at_radius": "precision within radius 3",
        "recall_at_radius": "recall within radius 3",
        "empty_bucket_rate": "share of queries with nothing within radius 3",
    }


@pytest.mark.parametrize("name", ["jaxhash", "hashnet"])
@pytest.mark.parametrize("labelled", [True, False])
def test_json_holds_all_but_single_queries(unchecked, name, labelled):
    """Where nothing is relevant, hashnet has no mean; near the first query there is no item."""
    query_codes, query_labels, codes, labels = problem()
    labels = labels if labelled else np.full(ITEMS, -1)
    result = evaluate_retrieval(
        -codes[:1], query_labels[1:2], codes[:1], labels[:1], k=1, convention=name
    )
    found = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert found == result.to_json()
    assert found["convention"] == dataclasses.asdict(CONVENTIONS[name])
    for metric, score in result.scores.items():
        for key, value in score._asdict().items():
            there = found["scores"][metric][key]
            assert there is None if value != value else there == value
    assert found["precision_recall"]["precision"] == [None] * BITS + [result.curve.precision[-1]]
    assert found["precision_recall"]["recall"] == result.curve.recall.tolist()
    assert {key: found[key] for key in ("bits", "queries", "items", "k", "radius")} == {
        "bits": BITS,
        "queries": 1,
        "items": 1,
        "k": 1,
        "radius": 2,
    }


@pytest.mark.parametrize("multi_hot", [False, True])
def test_result_is_the_same_to_the_last_bit(multi_hot):
    """The order of the database, the block and the devices do not matter."""
    query_codes, query_labels, codes, labels = problem(multi_hot)
    convention = Convention("graded", relevance="graded")
    expected = evaluate_retrieval(
        query_codes, query_labels, codes, labels, k=7, convention=convention
    )
    order = np.random.default_rng(1).permutation(ITEMS)
    for devices, block in ((1, 33), (3, None), (8, 1)):
        found = evaluate_retrieval(
            query_codes,
            query_labels,
            codes[order],
            labels[order],
            k=7,
            convention=convention,
            block=block,
            devices=jax.local_devices()[:devices],
        )
        np.testing.assert_equal(dataclasses.asdict(found), dataclasses.asdict(expected))


@pytest.mark.parametrize("radius", [BITS, BITS + 1, 1000])
def test_radius_that_holds_everything(radius):
    query_codes, query_labels, codes, labels = problem()
    scores = evaluate_retrieval(
        query_codes[1:], query_labels[1:], codes, labels, radius=radius
    ).scores
    share = (query_labels[1:, None] == labels).mean()
    assert scores["precision_at_radius"].expected == pytest.approx(share, rel=1e-12)
    assert scores["recall_at_radius"].expected == 1
    assert scores["empty_bucket_rate"].expected == 0


@pytest.mark.parametrize("same", [True, False])
def test_one_query_and_one_item(same):
    codes = np.array([[True, False]])
    result = evaluate_retrieval(codes, np.array([3]), codes, np.array([3 if same else 4]), k=1)
    for name, score in result.scores.items():
        value = 0.0 if name == "empty_bucket_rate" else float(same)
        assert score[:3] == (value, value, value), name


@pytest.mark.parametrize(("zero", "missed"), [("+1", 0), ("-1", 1)])
def test_zero_is_the_sign_asked_for(zero, missed):
    query, item, labels = np.array([[-0.5, 0.5]]), np.array([[-0.5, 0.0]]), np.array([1])
    scores = evaluate_retrieval(query, labels, item, labels, radius=0, zero=zero).scores
    assert scores["empty_bucket_rate"].expected == missed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": ITEMS + 1}, "k=201 .*200"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"radius": -1}, "radius .*-1"),
        ({"convention": "mean"}, "convention 'mean'.*jaxhash"),
        ({"bits": 8}, "bits=8, .*12 columns"),
        ({"block": 0}, "block .*0"),
        ({"block": 9, "devices": ()}, "devices .*9 and 0"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_retrieval(*problem(), **options)
