"""Scores rankings by codes, and by the real-valued vectors that codes are cut from."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxhash import metrics
from jaxhash.retrieval.counting import count_by_distance, mean_over_queries, own_rows
from jaxhash.retrieval.packed_codes import PackedCodes, as_packed_codes
from jaxhash.retrieval.vectors import (
    Comparison,
    LazyVectors,
    ProgressTracker,
    cosine_similarities,
    no_progress,
)
from jaxhash.similarity import shares_label

#: Definition of each score; stored beside the scores.
SCORE_CONVENTIONS = {
    "map": "AP over all relevant items of the database, expectation over Hamming ties; mean over "
    "queries, 0 for a query without relevant items",
    "precision_at_radius_2": "mean over queries, 0 for a query with nothing within the radius",
    "bit_balance": "mean over bits of 1 - |mean of the bit over the database|",
    "quantization_error": "mean of (|u| - 1)^2 over the database",
    "distinct_codes": "number of different codes in the database",
    "bit_correlation": "mean over pairs of bits of the size of their correlation in the database",
    "relevance": "a class in common",
}

#: Ranks of recall and nDCG, where the relevant items of each query are listed.
LIST_RANKS = (20, 50)

#: The same where they are listed, which changes some.
LIST_CONVENTIONS = SCORE_CONVENTIONS | {
    "relevance": "an item on the query's list; items that it must not find are no part of any ranking",
    **{
        f"{name}_at_{k}": f"mean over queries, expectation over ties: {words}"
        for k in LIST_RANKS
        for name, words in (
            ("recall", f"relevant items among the first {k}, over all relevant items"),
            ("ndcg", f"DCG of the first {k}, over that of the best order of the whole database"),
        )
    },
}


def score_codes(
    query: PackedCodes | Float[np.ndarray, "queries bits"],
    query_labels: Int[np.ndarray, " queries *classes"],
    database: PackedCodes | Float[np.ndarray, "items bits"],
    database_labels: Int[np.ndarray, " items *classes"],
    *,
    relevance: metrics.ItemLists | None = None,
    excluded: metrics.ItemLists | None = None,
    health: metrics.CodeHealth | None = None,
    track: ProgressTracker = no_progress,
    description: str = "counting",
) -> dict[str, Any]:
    """Computes the metrics of real-valued codes, cut at zero; `SCORE_CONVENTIONS` defines them.

    Args:
        query: codes of the queries.
        query_labels: class ids of the queries, or multi-hot rows.
        database: codes of the items.
        database_labels: labels of the items, of the same kind.
        relevance: the relevant items of each query, in place of labels; then `LIST_CONVENTIONS` hold.
        excluded: items that each query must not find.
        health: the measures of the database's codes, where they are known.
        track: shows the progress.
        description: text beside the progress.
    """
    query, database = as_packed_codes(query), as_packed_codes(database)
    bits = database.bits
    counts = count_by_distance(
        *(query, query_labels, database, database_labels),
        relevance="shared" if relevance is None else relevance,
        excluded=excluded,
        track=track,
        description=description,
    )
    if health is None:
        health = metrics.code_health(database.packed, form=metrics.CodeFormat("packed", bits))
    at_ranks = {}
    if relevance is not None:
        at_ranks = _metrics_at_ranks(int(counts.total.sum(axis=1).min()))
    pairs = np.triu_indices(bits, k=1)
    correlation = np.abs(health.bit_correlation[pairs]).mean() if bits > 1 else 0.0
    return {
        "map": metrics.mean_average_precision(counts),
        "map_best_ties": metrics.mean_average_precision(counts, ties="best"),
        "map_worst_ties": metrics.mean_average_precision(counts, ties="worst"),
        **{name: float(metric(counts).mean()) for name, metric in at_ranks.items()},
        "precision_at_radius_2": float(metrics.precision_at_radius(counts, 2).mean()),
        "bit_balance": health.bit_balance,
        "quantization_error": database.quantization_error,
        "distinct_codes": health.buckets.distinct,
        "bit_correlation": float(correlation),
        "precision_recall": metrics.precision_recall(counts).to_json(),
    }


def _metrics_at_ranks(
    ranked: int,
) -> dict[str, Callable[[metrics.DistanceCounts], Float[np.ndarray, " queries"]]]:
    """Returns recall and nDCG at those `LIST_RANKS` that rankings of so many items have."""
    return {
        f"{name}_at_{k}": partial(metric, k=k)
        for k in LIST_RANKS
        if k <= ranked
        for name, metric in (("recall", metrics.recall_at_k), ("ndcg", metrics.ndcg))
    }


def score_floats(
    query: LazyVectors | Float[np.ndarray, "queries dimensions"],
    query_labels: Int[np.ndarray, " queries *classes"],
    database: LazyVectors | Float[np.ndarray, "items dimensions"],
    database_labels: Int[np.ndarray, " items *classes"],
    *,
    relevance: metrics.ItemLists | None = None,
    excluded: metrics.ItemLists | None = None,
    compare: Comparison = cosine_similarities,
    memory_bytes: int = 2**30,
    track: ProgressTracker = no_progress,
    description: str = "ranking",
) -> dict[str, float]:
    """Computes the mAP of the ranking of real-valued vectors, by cosine or another comparison.

    Args:
        query: vectors of the queries.
        query_labels: class ids of the queries, or multi-hot rows.
        database: vectors of the items.
        database_labels: labels of the items, of the same kind.
        relevance: the relevant items of each query, in place of labels.
        excluded: items that each query must not find.
        compare: what ranks the items.
        memory_bytes: bound on the memory in bytes, beside vectors that are arrays.
        track: shows the progress.
        description: text beside the progress.
    """
    measured = {"map": metrics.average_precision}
    if relevance is not None:
        most_excluded = 0 if excluded is None else int(excluded.sizes.max())
        measured |= _metrics_at_ranks(len(database) - most_excluded)

    def measure(row, scores, relevant):
        if excluded is not None:
            allowed = np.ones(len(scores), bool)
            allowed[excluded.of(row)] = False
            scores, relevant = scores[allowed], relevant[allowed]
        counts = metrics.counts_from_scores(scores, relevant)
        return [metric(counts).item() for metric in measured.values()]

    found = {}
    with ThreadPoolExecutor(num_ranking_threads(memory_bytes, len(database))) as threads:
        options = {"memory_bytes": memory_bytes, "track": track, "description": description}
        for rows, scores in own_rows(compare(query, database, **options)):
            if relevance is None:
                relevant = _relevance(query_labels[rows], database_labels, memory_bytes // 8)
            else:
                relevant = relevance.marks(rows, len(database))
            found |= zip(rows.tolist(), threads.map(measure, rows, scores, relevant), strict=True)
    return mean_over_queries(found, measured, len(query))


def num_ranking_threads(memory_bytes: int, items: int) -> int:
    """Returns how many threads can each rank that number of items within a quarter of the memory.

    A thread takes 64 bytes an item. Threads help since most of the time goes into sorts, which
    release Python's lock.
    """
    return max(1, min((os.cpu_count() or 1) + 4, memory_bytes // 4 // (64 * items)))


def _relevance(
    labels: Shaped[np.ndarray, " rows *classes"],
    others: Shaped[np.ndarray, " items *classes"],
    memory_bytes: int,
) -> Bool[np.ndarray, "rows items"]:
    """Computes `shares_label` in blocks of items whose labels fit into the memory as floats."""
    step = max(1, memory_bytes // (4 * (others.shape[1] if others.ndim > 1 else 1)))
    blocks = (others[at : at + step] for at in range(0, len(others), step))
    return np.concatenate([shares_label(labels, block) for block in blocks], axis=1)
