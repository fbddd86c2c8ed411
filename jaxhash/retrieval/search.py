"""Searches a database of codes by Hamming distance."""

import numpy as np
from jaxtyping import Float, Int, Int64, Shaped, UInt

#: Bytes an item takes while one query is compared with it: its distance, and room for the selection.
_BYTES_PER_ITEM = 32


def nearest_neighbors(
    query: Float[np.ndarray, "queries bits"],
    database: Float[np.ndarray, "items bits"],
    k: int,
    *,
    memory_bytes: int = 2**30,
) -> Int[np.ndarray, "queries k"]:
    """Returns the indices of the k nearest items in Hamming distance, ties in database order.

    The database is packed and compared block by block. The result does not depend on the blocks.

    Args:
        query: real-valued codes of the queries, cut at zero.
        database: real-valued codes of the items, cut at zero; may be mapped from a file.
        k: number of neighbors a query; at most the size of the database.
        memory_bytes: bound on the memory in bytes, beside the codes and the result.

    Raises:
        ValueError: if the codes are not matrices with rows of one length, or ``k`` is below 1.

    Example:
        >>> nearest_neighbors(np.array([[1.0, 1.0]]), np.array([[-1.0, -1], [1, -1], [1, 1]]), k=2)
        array([[2, 1]], dtype=int32)
    """
    query, database = np.asanyarray(query), np.asanyarray(database)
    if query.ndim != 2 or query.shape[1:] != database.shape[1:]:
        raise ValueError(
            "query and database must be codes [items, bits] of one length, got shapes "
            f"{query.shape} and {database.shape}"
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    k, words = min(k, len(database)), _pack_words(query)
    distance = np.full((len(query), k), np.iinfo(np.int64).max)
    index = np.zeros((len(query), k), np.int32 if len(database) < 2**31 else np.int64)
    rows = max(
        k, memory_bytes // (_BYTES_PER_ITEM + 4 * words.itemsize * words.shape[1] + query.shape[1])
    )
    for first in range(0, len(database), rows):
        block = np.ascontiguousarray(_pack_words(database[first : first + rows]).T)
        for number, code in enumerate(words):
            in_block = _hamming_distances(code, block)
            near = _top_k(in_block, k)
            # Neighbors from earlier blocks come first: at equal distance the earlier item wins.
            both = np.concatenate([distance[number], in_block[near]])
            order = np.argsort(both, kind="stable")[:k]
            distance[number] = both[order]
            index[number] = np.concatenate([index[number], near + first])[order]
    return index


def _pack_words(codes: Shaped[np.ndarray, "n bits"]) -> UInt[np.ndarray, "n words"]:
    """Packs the signs of the codes into 64-bit words, filled up with zeros."""
    size = -(-codes.shape[1] // 64) * 8
    packed, step = np.zeros((len(codes), size), np.uint8), 2**16
    for first in range(0, len(codes), step):
        rows = np.packbits(codes[first : first + step] >= 0, axis=1)
        packed[first : first + step, : rows.shape[1]] = rows
    return packed.view(np.uint64)


def _hamming_distances(
    code: UInt[np.ndarray, " words"], block: UInt[np.ndarray, "words items"]
) -> UInt[np.ndarray, " items"]:
    """Computes the Hamming distances of a code to the codes of a block."""
    first, *rest = (np.bitwise_count(items ^ word) for word, items in zip(code, block, strict=True))
    return first if not rest else np.sum([first, *rest], axis=0, dtype=np.uint32)


def _top_k(distance: UInt[np.ndarray, " items"], k: int) -> Int64[np.ndarray, " k"]:
    """Returns the first k items by distance, then by position, from the counts per distance."""
    within = np.cumsum(np.bincount(distance))
    last = int(np.searchsorted(within, min(k, len(distance))))
    nearer = np.flatnonzero(distance < last)
    at_last = np.flatnonzero(distance == last)[: k - len(nearer)]
    nearer = nearer[np.argsort(distance[nearer], kind="stable")]
    return np.concatenate([nearer, at_last])
