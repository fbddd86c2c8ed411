"""Score rankings: by codes, and by the floats that they come from."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from jaxhash import metrics
from jaxhash.retrieval.vectors import Track, Vectors, inner_products, unit_rows, untracked
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
    *,
    track: Track = untracked,
    what: str = "counting",
) -> dict[str, Any]:
    """The metrics of a set of real-valued codes, cut at zero; `CONVENTIONS` says how.

    Args:
        query: the queries.
        query_labels: class ids, or multi-hot rows.
        database: the items.
        database_labels: labels of the same kind.
        track: shows the progress.
        what: what is counted, in words.
    """
    bits = database.shape[1]
    sides = pack_rows(query), query_labels, pack_rows(database), database_labels
    counts = metrics.distance_counts(
        *sides, bits=bits, track=lambda blocks, total: track(blocks, what, total)
    )
    health = metrics.code_health(sides[2], form=metrics.CodeFormat("packed", bits))
    pairs = np.triu_indices(bits, k=1)
    correlation = np.abs(health.bit_correlation[pairs]).mean() if bits > 1 else 0.0
    return {
        "map": metrics.mean_average_precision(counts),
        "map_best_ties": metrics.mean_average_precision(counts, ties="best"),
        "map_worst_ties": metrics.mean_average_precision(counts, ties="worst"),
        "precision_at_radius_2": float(metrics.precision_at_radius(counts, 2).mean()),
        "bit_balance": health.bit_balance,
        "quantization_error": metrics.quantization_error(database),
        "distinct_codes": health.buckets.distinct,
        "bit_correlation": float(correlation),
        "precision_recall": metrics.precision_recall(counts).to_json(),
    }


def pack_rows(codes: Float[np.ndarray, "n bits"]) -> UInt8[np.ndarray, "n bytes"]:
    """Codes cut at zero, eight bits a byte, with no copy of them on the way."""
    some = 2**13
    blocks = (codes[at : at + some] >= 0 for at in range(0, len(codes), some))
    return np.concatenate([np.packbits(block, axis=1) for block in blocks])


def score_floats(
    query: Vectors | Float[np.ndarray, "queries dimensions"],
    query_labels: Int[np.ndarray, " queries *classes"],
    database: Vectors | Float[np.ndarray, "items dimensions"],
    database_labels: Int[np.ndarray, " items *classes"],
    *,
    memory_bytes: int = 2**30,
    track: Track = untracked,
    what: str = "ranking",
) -> dict[str, float]:
    """Score the ranking by cosine of real-valued vectors, by mAP.

    Args:
        query: the queries.
        query_labels: class ids, or multi-hot rows.
        database: the items.
        database_labels: labels of the same kind.
        memory_bytes: bound on what is held besides vectors that are arrays.
        track: shows the progress.
        what: what is ranked, in words.
    """

    def average_precision(scores, relevant):
        return metrics.average_precision(metrics.score_counts(scores, relevant)).item()

    precisions = []
    with ThreadPoolExecutor(threads_within(memory_bytes, len(database))) as threads:
        for rows, scores in inner_products(
            query, database, unit_rows, memory_bytes=memory_bytes, track=track, what=what
        ):
            relevant = _relevant(query_labels[rows], database_labels, memory_bytes // 8)
            precisions += threads.map(average_precision, scores, relevant)
    return {"map": float(np.mean(precisions))}


def threads_within(memory_bytes: int, items: int) -> int:
    """Threads that rank so many items each, at 64 bytes an item, within a quarter of the memory.

    Most of the time goes into sorts, beside Python.
    """
    return max(1, min((os.cpu_count() or 1) + 4, memory_bytes // 4 // (64 * items)))


def _relevant(
    labels: Shaped[np.ndarray, " rows *classes"],
    others: Shaped[np.ndarray, " items *classes"],
    memory_bytes: int,
) -> Bool[np.ndarray, "rows items"]:
    """`share_a_label`, of so many items at a time that their labels fit as floats."""
    some = max(1, memory_bytes // (4 * (others.shape[1] if others.ndim > 1 else 1)))
    blocks = (others[at : at + some] for at in range(0, len(others), some))
    return np.concatenate([share_a_label(labels, block) for block in blocks], axis=1)
