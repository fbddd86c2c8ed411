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

#: The same of the numbers of `score_hierarchy`.
HIERARCHY_CONVENTIONS = {
    "mahp_at_250": "area under HP@1 to HP@250 by trapezoids (a perfect ranking has 0.996), "
    "expectation over Hamming ties; mean over queries",
    "mahp_at_250_among_queries": "mahp_at_250, the queries in search of one another, each without "
    "itself",
    "mahp_at_2500": "mean of HP@1 to HP@2500, expectation over Hamming ties; mean over queries",
}

#: Queries whose counts are held at a time.
_QUERIES = 1000


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


def score_hierarchy(
    query: Float[np.ndarray, "queries bits"],
    query_labels: Int[np.ndarray, " queries"],
    database: Float[np.ndarray, "items bits"],
    database_labels: Int[np.ndarray, " items"],
    similarity: Float[np.ndarray, "classes classes"],
) -> dict[str, float]:
    """The hierarchical metrics of real-valued codes, cut at zero; `HIERARCHY_CONVENTIONS` says how.

    A rank beyond the last item is that of the last item.
    """
    query, database = binarize(query), binarize(database)
    found = {name: [] for name in HIERARCHY_CONVENTIONS}
    for rows in np.array_split(np.arange(len(query)), -(-len(query) // _QUERIES)):
        mine = query[rows], query_labels[rows]
        counts = metrics.similarity_counts(*mine, database, database_labels, similarity)
        found["mahp_at_250"].append(_hierarchical(counts, 250))
        found["mahp_at_2500"].append(_hierarchical(counts, 2500, form="mean"))
        if len(query) > 1:
            among = metrics.similarity_counts(*mine, query, query_labels, similarity)
            others = _hierarchical(metrics.leave_one_out(among), 250)
            found["mahp_at_250_among_queries"].append(others)
    return {name: float(np.concatenate(each).mean()) for name, each in found.items() if each}


def score_floats(
    query: Float[np.ndarray, "queries dimensions"],
    query_labels: Int[np.ndarray, " queries *classes"],
    database: Float[np.ndarray, "items dimensions"],
    database_labels: Int[np.ndarray, " items *classes"],
) -> dict[str, float]:
    """Score the ranking by cosine of real-valued vectors, by mAP."""
    query, database = _unit(query), _unit(database)

    def average_precision(scores, relevant):
        return metrics.average_precision(metrics.score_counts(scores, relevant)).item()

    precisions = []
    with ThreadPoolExecutor() as threads:  # most of the time goes into sorts, beside Python
        for block in np.array_split(np.arange(len(query)), -(-len(query) // 64)):
            relevant = share_a_label(query_labels[block], database_labels)
            precisions += threads.map(average_precision, query[block] @ database.T, relevant)
    return {"map": float(np.mean(precisions))}


def _hierarchical(counts: metrics.SimilarityCounts, k: int, **form) -> np.ndarray:
    k = min(k, int(counts.total.sum(axis=1).min()))
    return metrics.average_hierarchical_precision(counts, k, **form)


def _mean_correlation(codes: Int8[np.ndarray, "items bits"]) -> float:
    """The mean size of the correlations of different bits; 0 of a single bit."""
    pairs = np.triu_indices(codes.shape[1], k=1)
    return float(np.abs(metrics.bit_correlation(codes)[pairs]).mean()) if len(pairs[0]) else 0.0


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
