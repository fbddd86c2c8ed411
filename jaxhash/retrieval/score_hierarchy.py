"""Scores rankings by how similar in meaning their first items are to the query."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash import metrics
from jaxhash.retrieval.counting import count_by_similarity, mean_over_queries, own_rows
from jaxhash.retrieval.packed_codes import PackedCodes, as_packed_codes
from jaxhash.retrieval.score import num_ranking_threads
from jaxhash.retrieval.vectors import (
    Comparison,
    LazyVectors,
    ProgressTracker,
    inner_products,
    no_progress,
)

#: Definition of each score; stored beside the scores.
HIERARCHY_CONVENTIONS = {
    "mahp_at_250": "area under HP@1 to HP@250 by trapezoids (a perfect ranking has 0.996), "
    "expectation over Hamming ties; mean over queries",
    "mahp_at_250_among_queries": "mahp_at_250, the queries in search of one another, each without "
    "itself",
    "mahp_at_2500": "mean of HP@1 to HP@2500, expectation over Hamming ties; mean over queries",
}

#: Number of queries whose counts are held at a time.
_QUERIES = 1000

#: What a similarity function compares, a row for each item: class ids, or embeddings.
Targets = Shaped[np.ndarray, "_ ..."]


def score_hierarchy(
    query: PackedCodes | Float[np.ndarray, "queries bits"],
    query_labels: Int[np.ndarray, " queries"],
    database: PackedCodes | Float[np.ndarray, "items bits"],
    database_labels: Int[np.ndarray, " items"],
    similarity: Float[np.ndarray, "classes classes"],
) -> dict[str, float]:
    """Computes the hierarchical metrics of real-valued codes, cut at zero.

    `HIERARCHY_CONVENTIONS` has the definitions. A rank beyond the last item counts as the last one.

    Args:
        query: codes of the queries.
        query_labels: class ids of the queries.
        database: codes of the items.
        database_labels: class ids of the items.
        similarity: similarity of each two classes, 0 or above.
    """
    query, database = as_packed_codes(query), as_packed_codes(database)
    sides = (query, query_labels), (database, database_labels)
    values = {name: [] for name in HIERARCHY_CONVENTIONS}
    for rows in np.array_split(np.arange(len(query)), -(-len(query) // _QUERIES)):
        counts = count_by_similarity(*sides[0], *sides[1], similarity, rows=rows)
        values["mahp_at_250"].append(_precision_of_counts(counts, 250))
        values["mahp_at_2500"].append(_precision_of_counts(counts, 2500, form="mean"))
        if len(query) > 1:
            counts = count_by_similarity(*sides[0], *sides[0], similarity, rows=rows)
            others = _precision_of_counts(metrics.leave_one_out(counts), 250)
            values["mahp_at_250_among_queries"].append(others)
    return {name: float(np.concatenate(each).mean()) for name, each in values.items() if each}


def score_hierarchy_of_vectors(
    query: LazyVectors | Shaped[np.ndarray, "queries dimensions"],
    query_targets: Targets,
    database: LazyVectors | Shaped[np.ndarray, "items dimensions"],
    database_targets: Targets,
    similarity: Callable[[Targets, Targets], Float[np.ndarray, "rows columns"]],
    *,
    compare: Comparison = inner_products,
    memory_bytes: int = 2**30,
    track: ProgressTracker = no_progress,
    description: str = "ranking",
) -> dict[str, float]:
    """Computes the metrics of `score_hierarchy` for the ranking by inner products of vectors.

    Signs rank as the Hamming distance of their codes does, with the same ties. Each query costs a partial sort of the database.

    Args:
        query: vectors of the queries, or signs.
        query_targets: input of ``similarity``, a row for each query.
        database: vectors of the items, of the same kind.
        database_targets: input of ``similarity``, a row for each item.
        similarity: function that returns the similarity, 0 or above, of each row of its first
            argument to each row of its second.
        compare: what ranks the items in place of inner products.
        memory_bytes: bound on the memory in bytes, beside vectors that are arrays.
        track: shows the progress.
        description: text beside the progress.
    """

    def average(row):
        _, scores, of_item = row
        return (
            _precision_of_scores(scores, of_item, 250),
            _precision_of_scores(scores, of_item, 2500, form="mean"),
        )

    def average_among(row):
        number, scores, of_item = row
        others = (np.delete(each, number) for each in (scores, of_item))
        return (_precision_of_scores(*others, 250),)

    def means(names, items, targets, measure, description):
        """Returns the mean metrics of the rankings of all queries, some queries at a time."""
        step = max(1, memory_bytes // 8 // (8 * len(items)))
        options = {"memory_bytes": memory_bytes, "track": track, "description": description}
        found = {}
        for rows, scores in own_rows(compare(query, items, **options)):
            for at in range(0, len(rows), step):
                some = rows[at : at + step]
                of_items = similarity(query_targets[some], targets)
                ranked = zip(some, scores[at : at + step], of_items, strict=True)
                found |= zip(some.tolist(), threads.map(measure, ranked), strict=True)
        return mean_over_queries(found, names, len(query))

    with ThreadPoolExecutor(num_ranking_threads(memory_bytes, len(database))) as threads:
        names = ("mahp_at_250", "mahp_at_2500")
        found = means(names, database, database_targets, average, description)
        if len(query) > 1:
            names, description = ("mahp_at_250_among_queries",), f"{description}, among queries"
            found |= means(names, query, query_targets, average_among, description)
    return {name: found[name] for name in HIERARCHY_CONVENTIONS if name in found}


def embedding_similarity(
    rows: Float[np.ndarray, "n dimensions"], columns: Float[np.ndarray, "m dimensions"]
) -> Float[np.ndarray, "n m"]:
    """Returns the cosine of embeddings of length 1; a negative cosine becomes 0.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> embedding_similarity(rows[:1], rows).tolist()
        [[1.0, 0.0, 0.0]]
    """
    return np.maximum(rows @ columns.T, 0.0)


def _precision_of_counts(
    counts: metrics.SimilarityCounts, k: int, **form
) -> Float[np.ndarray, " queries"]:
    k = min(k, int(counts.total.sum(axis=1).min()))
    return metrics.average_hierarchical_precision(counts, k, **form)


def _precision_of_scores(scores: np.ndarray, similarity: np.ndarray, k: int, **form) -> float:
    k = min(k, len(scores))
    return metrics.average_hierarchical_precision_from_scores(scores, similarity, k, **form)
