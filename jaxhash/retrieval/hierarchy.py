"""Score rankings by the similarity of meanings that their first items hold."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash import metrics
from jaxhash.ops.codes import binarize
from jaxhash.retrieval.score import threads_within
from jaxhash.retrieval.vectors import Track, Vectors, inner_products, untracked

#: How the numbers below are defined; stored beside them.
HIERARCHY_CONVENTIONS = {
    "mahp_at_250": "area under HP@1 to HP@250 by trapezoids (a perfect ranking has 0.996), "
    "expectation over Hamming ties; mean over queries",
    "mahp_at_250_among_queries": "mahp_at_250, the queries in search of one another, each without "
    "itself",
    "mahp_at_2500": "mean of HP@1 to HP@2500, expectation over Hamming ties; mean over queries",
}

#: Queries whose counts are held at a time.
_QUERIES = 1000

#: What is known of the meaning of items, a row each: class ids, or embeddings.
Meanings = Shaped[np.ndarray, "_ ..."]


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
        found["mahp_at_250"].append(_of_counts(counts, 250))
        found["mahp_at_2500"].append(_of_counts(counts, 2500, form="mean"))
        if len(query) > 1:
            among = metrics.similarity_counts(*mine, query, query_labels, similarity)
            others = _of_counts(metrics.leave_one_out(among), 250)
            found["mahp_at_250_among_queries"].append(others)
    return {name: float(np.concatenate(each).mean()) for name, each in found.items() if each}


def score_vectors_hierarchy(
    query: Vectors | Shaped[np.ndarray, "queries dimensions"],
    query_meanings: Meanings,
    database: Vectors | Shaped[np.ndarray, "items dimensions"],
    database_meanings: Meanings,
    similarity: Callable[[Meanings, Meanings], Float[np.ndarray, "rows columns"]],
    *,
    prepare: Callable[[np.ndarray], np.ndarray] = lambda vectors: vectors,
    memory_bytes: int = 2**30,
    track: Track = untracked,
    what: str = "ranking",
) -> dict[str, float]:
    """The same of the ranking by the inner products of vectors, whatever the similarity is made of.

    Signs rank as the Hamming distance of their codes does, with the same ties; rows of length 1 by
    cosine. The time is that of a partial sort of the database for each query.

    Args:
        query: vectors, or signs.
        query_meanings: what ``similarity`` takes, a row for each query.
        database: vectors of the same kind.
        database_meanings: likewise.
        similarity: 0 or above, of each two of some rows and some others.
        prepare: what is done to vectors before they are multiplied.
        memory_bytes: bound on what is held besides vectors that are arrays.
        track: shows the progress.
        what: what is ranked, in words.
    """
    found = {name: [] for name in HIERARCHY_CONVENTIONS}

    def average(row):
        _, scores, of_item = row
        return _of_scores(scores, of_item, 250), _of_scores(scores, of_item, 2500, form="mean")

    def average_among(row):
        number, scores, of_item = row
        return _of_scores(np.delete(scores, number), np.delete(of_item, number), 250)

    def ranked(items, meanings, what):
        """Each query's number, scores and similarities, some queries at a time."""
        some = max(1, memory_bytes // 8 // (8 * len(items)))
        for rows, scores in inner_products(
            query, items, prepare, memory_bytes=memory_bytes, track=track, what=what
        ):
            for at in range(0, len(rows), some):
                mine = rows[at : at + some]
                of_items = similarity(query_meanings[mine], meanings)
                yield zip(mine, scores[at : at + some], of_items, strict=True)

    with ThreadPoolExecutor(threads_within(memory_bytes, len(database))) as threads:
        for block in ranked(database, database_meanings, what):
            for near, far in threads.map(average, block):
                found["mahp_at_250"].append(near)
                found["mahp_at_2500"].append(far)
        if len(query) > 1:
            for block in ranked(query, query_meanings, f"{what}, among queries"):
                found["mahp_at_250_among_queries"] += threads.map(average_among, block)
    return {name: float(np.mean(each)) for name, each in found.items() if each}


def embedding_similarity(
    rows: Float[np.ndarray, "n dimensions"], columns: Float[np.ndarray, "m dimensions"]
) -> Float[np.ndarray, "n m"]:
    """The cosine of embeddings of length 1, at least 0: what points apart has nothing in common.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> embedding_similarity(rows[:1], rows).tolist()
        [[1.0, 0.0, 0.0]]
    """
    return np.maximum(rows @ columns.T, 0.0)


def _of_counts(counts: metrics.SimilarityCounts, k: int, **form) -> Float[np.ndarray, " queries"]:
    k = min(k, int(counts.total.sum(axis=1).min()))
    return metrics.average_hierarchical_precision(counts, k, **form)


def _of_scores(scores: np.ndarray, similarity: np.ndarray, k: int, **form) -> float:
    k = min(k, len(scores))
    return metrics.average_hierarchical_precision_of_scores(scores, similarity, k, **form)
