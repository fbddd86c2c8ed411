"""Score rankings: by codes, and by the floats that they come from."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int8

from jaxhash import metrics
from jaxhash.codes import binarize
from jaxhash.similarity import share_a_label

#: How the numbers below are defined; stored beside them.
CONVENTIONS = {
    "map": "AP over all relevant items of the database, expectation over Hamming ties; mean over "
    "queries, 0 for a query without relevant items",
    "precision_at_radius_2": "mean over queries, 0 for a query with nothing within the radius",
    "bit_balance": "mean over bits of 1 - |mean of the bit over the database|",
    "quantization_error": "mean of (|u| - 1)^2 over the database",
    "distinct_codes": "number of different codes in the database",
    "bit_correlation": "mean over pairs of bits of the size of their correlation in the database",
    "relevance": "a class in common",
}


def score_codes(
    query: Float[np.ndarray, "queries bits"],
    query_labels: Int[np.ndarray, " queries *classes"],
    database: Float[np.ndarray, "items bits"],
    database_labels: Int[np.ndarray, " items *classes"],
) -> dict[str, Any]:
    """The metrics of a set of real-valued codes, cut at zero; `CONVENTIONS` says how."""
    database_signs = binarize(database)
    counts = metrics.distance_counts(binarize(query), query_labels, database_signs, database_labels)
    return {
        "map": metrics.mean_average_precision(counts),
        "map_best_ties": metrics.mean_average_precision(counts, ties="best"),
        "map_worst_ties": metrics.mean_average_precision(counts, ties="worst"),
        "precision_at_radius_2": float(metrics.precision_at_radius(counts, 2).mean()),
        "bit_balance": metrics.bit_balance(database_signs),
        "quantization_error": metrics.quantization_error(database),
        "distinct_codes": metrics.buckets(database_signs).distinct,
        "bit_correlation": _mean_correlation(database_signs),
        "precision_recall": metrics.precision_recall(counts).to_json(),
    }


def score_floats(
    query: Float[np.ndarray, "queries dimensions"],
    query_labels: Int[np.ndarray, " queries *classes"],
    database: Float[np.ndarray, "items dimensions"],
    database_labels: Int[np.ndarray, " items *classes"],
) -> dict[str, float]:
    """Score the ranking by cosine of real-valued vectors, by mAP."""
    query, database = unit_rows(query), unit_rows(database)

    def average_precision(scores, relevant):
        return metrics.average_precision(metrics.score_counts(scores, relevant)).item()

    precisions = []
    with ThreadPoolExecutor() as threads:  # most of the time goes into sorts, beside Python
        for block in np.array_split(np.arange(len(query)), -(-len(query) // 64)):
            relevant = share_a_label(query_labels[block], database_labels)
            precisions += threads.map(average_precision, query[block] @ database.T, relevant)
    return {"map": float(np.mean(precisions))}


def _mean_correlation(codes: Int8[np.ndarray, "items bits"]) -> float:
    """The mean size of the correlations of different bits; 0 of a single bit."""
    pairs = np.triu_indices(codes.shape[1], k=1)
    return float(np.abs(metrics.bit_correlation(codes)[pairs]).mean()) if len(pairs[0]) else 0.0


def unit_rows(vectors: Float[np.ndarray, "n dimensions"]) -> Float[np.ndarray, "n dimensions"]:
    """The rows at length 1; a row of zeros stays one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
