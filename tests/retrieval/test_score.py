"""The scores of a run: the metrics functions put together, and ready for JSON."""

import json

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from jaxhash import metrics
from jaxhash.ops.codes import binarize
from jaxhash.retrieval.score import SCORE_CONVENTIONS, score_codes, score_floats

RNG = np.random.default_rng(0)
QUERY, DATABASE = (RNG.normal(size=(n, 12)).astype(np.float32) for n in (70, 200))
LABELS, OTHER_LABELS = (RNG.integers(0, 4, n) for n in (70, 200))
QUERY_AND_DATABASE = QUERY, LABELS, DATABASE, OTHER_LABELS

each_score = pytest.mark.parametrize("score", [score_codes, score_floats])


def test_codes_have_the_metrics_of_their_signs():
    scores = score_codes(*QUERY_AND_DATABASE)
    counts = metrics.distance_counts(binarize(QUERY), LABELS, binarize(DATABASE), OTHER_LABELS)
    curve = metrics.precision_recall(counts)
    assert scores == {
        "map": metrics.average_precision(counts).mean(),
        "map_best_ties": metrics.average_precision(counts, ties="best").mean(),
        "map_worst_ties": metrics.average_precision(counts, ties="worst").mean(),
        "precision_at_radius_2": metrics.precision_at_radius(counts, 2).mean(),
        "bit_balance": metrics.bit_balance(binarize(DATABASE)),
        "quantization_error": metrics.quantization_error(DATABASE),
        "distinct_codes": len(np.unique(binarize(DATABASE), axis=0)),
        "bit_correlation": pytest.approx(
            np.abs(np.corrcoef(binarize(DATABASE).T)[np.triu_indices(12, k=1)]).mean()
        ),
        "precision_recall": {
            "precision": pytest.approx(curve.precision, nan_ok=True),
            "recall": curve.recall.tolist(),
        },
    }
    assert scores["map_worst_ties"] < scores["map"] < scores["map_best_ties"]


def test_one_bit_has_no_correlation():
    assert score_codes(*(side[:, :1] if side.ndim == 2 else side for side in QUERY_AND_DATABASE))[
        "bit_correlation"
    ] == 0  # fmt: skip


def test_precision_where_nothing_is_retrieved_is_none():
    """All items are at distance 2 of the only query."""
    far = np.array([[1.0, -1, -1], [-1, -1, 1]])
    scores = score_codes(np.ones((1, 3)), np.array([0]), far, np.array([0, 1]))
    assert scores["precision_recall"]["precision"] == [None, None, 0.5, 0.5]
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_floats_are_ranked_by_cosine():
    cosine = (QUERY / np.linalg.norm(QUERY, axis=1, keepdims=True)) @ (
        DATABASE / np.linalg.norm(DATABASE, axis=1, keepdims=True)
    ).T
    relevant = LABELS[:, None] == OTHER_LABELS
    expected = np.mean(
        [average_precision_score(*row) for row in zip(relevant, cosine, strict=True)]
    )
    assert score_floats(*QUERY_AND_DATABASE) == {"map": pytest.approx(expected, rel=1e-6)}


def test_floats_that_are_zero_are_all_tied():
    """Half of the items are relevant; in expectation the precision is a little above one half."""
    zeros, labels = np.zeros((2, 3)), np.array([0, 1])
    assert score_floats(zeros, labels, zeros, labels) == {"map": pytest.approx(0.75)}


@each_score
def test_scores_do_not_depend_on_the_order_of_the_database(score):
    order = np.random.default_rng(1).permutation(len(DATABASE))
    shuffled = score(QUERY, LABELS, DATABASE[order], OTHER_LABELS[order])
    same = pytest.approx(jax.tree.leaves(score(*QUERY_AND_DATABASE)), rel=1e-12)
    assert jax.tree.leaves(shuffled) == same


def test_conventions_are_those_of_scores():
    assert SCORE_CONVENTIONS.keys() - {"relevance"} <= score_codes(*QUERY_AND_DATABASE).keys()
