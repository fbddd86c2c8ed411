"""The nearest codes, ordered again by the vectors themselves."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Float32, Int, UInt

from jaxhash.retrieval.vectors import (
    LazyVectors,
    ProgressTracker,
    as_lazy_vectors,
    inner_products,
    no_progress,
    normalize_rows,
)

#: Items that are ranked again, of a database of ten times as many or more.
RERANKED = 1000


def num_reranked(items: int) -> int:
    """Returns how many items of a database are ranked again: `RERANKED`, or a tenth of the database.

    Example:
        >>> num_reranked(54_000), num_reranked(797)
        (1000, 79)
    """
    return max(1, min(RERANKED, items // 10))


def reranked_similarities(
    query: LazyVectors | Float[np.ndarray, "queries dimensions"],
    database: LazyVectors | Float[np.ndarray, "items dimensions"],
    *,
    hash_function: Callable[[np.ndarray], Float[np.ndarray, "n bits"]],
    memory_bytes: int = 2**30,
    track: ProgressTracker = no_progress,
    description: str = "ranking",
) -> Iterator[tuple[Int[np.ndarray, " rows"], Float32[np.ndarray, "rows items"]]]:
    """Yields scores that rank the nearest codes by cosine and the others by Hamming distance behind them.

    The nearest are the first `num_reranked` by Hamming distance, and all items as near as the last
    of them, so that the order of the database plays no part.

    Args:
        query: vectors of the queries.
        database: vectors of the items.
        hash_function: function from vectors to real-valued codes.
        memory_bytes: bound on the memory in bytes, beside the packed codes.
        track: shows the progress.
        description: text beside the progress.

    Returns:
        Pairs of the row numbers of some queries and their scores, a row for each query.

    Example:
        >>> vectors = np.array([[1.0, 0.1], [1, 0.9], [-1, 1]], np.float32)
        >>> [(_, scores)] = reranked_similarities(vectors[:1], vectors, hash_function=lambda rows: rows)
        >>> np.argsort(-scores[0]).tolist()
        [0, 1, 2]
    """
    query, database = as_lazy_vectors(query), as_lazy_vectors(database)
    codes = _pack(database, hash_function, memory_bytes).T.copy()
    of_queries = _pack(query, hash_function, memory_bytes)
    count = num_reranked(len(database))
    for rows, scores in inner_products(
        query,
        database,
        normalize_rows,
        memory_bytes=memory_bytes,
        track=track,
        description=description,
    ):
        for row, code in zip(scores, of_queries[rows], strict=True):
            distances = np.zeros(len(database), np.uint32)
            for word, items in zip(code, codes, strict=True):
                distances += np.bitwise_count(items ^ word)
            within = np.cumsum(np.bincount(distances))
            far = distances > np.searchsorted(within, count)
            np.copyto(row, -2.0 - distances, where=far)  # below any cosine
        yield rows, scores


def _pack(
    vectors: LazyVectors,
    hash_function: Callable[[np.ndarray], Float[np.ndarray, "n bits"]],
    memory_bytes: int,
) -> UInt[np.ndarray, "n words"]:
    """Returns the codes of vectors in words of 64 bits, filled up with zeros."""
    packed = np.concatenate(
        [
            np.packbits(hash_function(vectors[rows]) >= 0, axis=1)
            for rows in vectors.row_blocks(memory_bytes // 16)
        ]
    )
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)
