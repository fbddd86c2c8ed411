"""The nearest codes, ordered again by the vectors themselves."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, UInt

from jaxhash.retrieval.packed_codes import PackedCodes
from jaxhash.retrieval.vectors import LazyVectors, cosine_similarities

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
    codes: Mapping[str, PackedCodes],
    **options: Any,
) -> Iterator[tuple[Int[np.ndarray, " rows"], Float32[np.ndarray, "rows items"]]]:
    """Yields scores that rank the nearest codes by cosine and the others by Hamming distance behind them.

    The nearest are the first `num_reranked` by Hamming distance, and all items as near as the last
    of them, so that the order of the database plays no part.

    Args:
        query: vectors of the queries.
        database: vectors of the items.
        codes: codes of the ``query`` and of the ``database``.
        options: ``memory_bytes``, beside the codes, ``track`` and ``description``, as `inner_products`
            takes them.

    Returns:
        Pairs of the row numbers of some queries and their scores, a row for each query.

    Example:
        >>> from jaxhash.retrieval.packed_codes import as_packed_codes
        >>> vectors = np.array([[1.0, 0.1], [1, 0.9], [-1, 1]], np.float32)
        >>> codes = {"query": as_packed_codes(vectors[:1]), "database": as_packed_codes(vectors)}
        >>> [(_, scores)] = reranked_similarities(vectors[:1], vectors, codes=codes)
        >>> np.argsort(-scores[0]).tolist()
        [0, 1, 2]
    """
    of_queries, of_items = _words(codes["query"]), _words(codes["database"]).T.copy()
    count = num_reranked(len(database))
    for rows, scores in cosine_similarities(query, database, **options):
        for row, code in zip(scores, of_queries[rows], strict=True):
            distances = np.zeros(len(database), np.uint32)
            for word, items in zip(code, of_items, strict=True):
                distances += np.bitwise_count(items ^ word)
            within = np.cumsum(np.bincount(distances))
            far = distances > np.searchsorted(within, count)
            np.copyto(row, -2.0 - distances, where=far)  # below any cosine
        yield rows, scores


def _words(codes: PackedCodes) -> UInt[np.ndarray, "n words"]:
    """Returns codes in words of 64 bits, filled up with zeros."""
    packed = codes.packed
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)
