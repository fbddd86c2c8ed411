"""Numbers, scores and relevance of every accepted form are read alike; others are refused."""

import json

import ml_dtypes
import numpy as np
import pytest

from jaxhash import metrics
from jaxhash.metrics import (
    DistanceCounts,
    counts_from_scores,
    distance_counts,
    evaluate_counts,
    knn_divergence,
    knn_entropy,
)

COUNTS = DistanceCounts(np.array([[1, 0, 2, 4]]), np.array([[0, 0, 1, 3]]))
POINTS = np.random.default_rng(0).normal(size=(12, 3))

#: Each number that a metric takes, by its name.
NUMBERS = {
    "k": [
        lambda k: metrics.average_precision(COUNTS, k=k),
        lambda k: metrics.mean_average_precision(COUNTS, k=k),
        lambda k: metrics.weighted_average_precision(COUNTS, k=k),
        lambda k: metrics.ndcg(COUNTS, k),
        lambda k: metrics.precision_at_k(COUNTS, k),
        lambda k: metrics.recall_at_k(COUNTS, k),
        lambda k: metrics.hit_rate(COUNTS, k),
        lambda k: metrics.average_cumulative_gain(COUNTS, k),
        lambda k: json.dumps(evaluate_counts(COUNTS, k=k).to_json()),
        lambda k: knn_divergence(POINTS, POINTS[:9], k=k),
        lambda k: knn_entropy(POINTS, k=k),
    ],
    "radius": [
        lambda radius: metrics.precision_at_radius(COUNTS, radius),
        lambda radius: metrics.recall_at_radius(COUNTS, radius),
        lambda radius: metrics.is_bucket_empty(COUNTS, radius),
        lambda radius: json.dumps(evaluate_counts(COUNTS, radius=radius).to_json()),
    ],
    "bits": [lambda bits: packed_counts(bits=bits)],
    "block": [lambda block: packed_counts(bits=3, block=block)],
    "resamples": [lambda number: metrics.bootstrap_interval(POINTS[:, 0], resamples=number)],
}


def packed_counts(**options):
    codes = np.array([[0b10100000], [0b01000000]], np.uint8)
    return distance_counts(codes, np.array([0, 1]), codes, np.array([0, 1]), **options)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_numpy_are_numbers(name):
    for function in NUMBERS[name]:
        expected = function(3)
        for number in (np.int64(3), np.uint8(3)):
            np.testing.assert_equal(function(number), expected)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("wrong", [2.0, np.float32(2), True, "2"])
def test_other_numbers_are_refused(unchecked, name, wrong):
    for function in NUMBERS[name]:
        with pytest.raises(TypeError, match=f"^{name} .*integer"):
            function(wrong)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, ml_dtypes.bfloat16])
def test_relevance_of_every_dtype(dtype):
    scores, relevant = np.array([0.5, 0.9, 0.5, 0.1]), np.array([True, False, False, True])
    expected = counts_from_scores(scores, relevant)
    np.testing.assert_equal(counts_from_scores(scores, relevant.astype(dtype)), expected)


@pytest.mark.parametrize(
    ("error", "words", "scores", "relevant"),
    [
        (ValueError, "scores must be finite", [0.5, np.nan], [True, False]),
        (TypeError, "scores must be floating", np.array([0, 1], np.uint8), [True, False]),
        (ValueError, "scores must have shape", np.ones((2, 2)), [True, False]),
        (ValueError, "scores .*at least one", np.ones(0), []),
        (ValueError, "relevant must be 0 or 1", [0.5, 0.1], [0, 2]),
        (TypeError, "relevant must be bool", [0.5, 0.1], ["a", "b"]),
        (ValueError, "relevant must have shape", [0.5, 0.1], [True]),
    ],
)
def test_invalid_rankings_are_refused(unchecked, error, words, scores, relevant):
    with pytest.raises(error, match=f"^{words}"):
        counts_from_scores(np.asarray(scores), np.asarray(relevant, None if relevant else bool))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize(
    "ranking",
    [metrics.similarity_counts_from_scores, metrics.average_hierarchical_precision_from_scores],
)
def test_scores_of_integers_are_refused(unchecked, ranking, dtype):
    """The negative of an unsigned score ranks 0 first."""
    with pytest.raises(TypeError, match="^scores .*floating"):
        ranking(np.array([0, 1, 2], dtype), np.array([1.0, 0.5, 0.0]))
