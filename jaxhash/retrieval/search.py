"""Search a database of codes."""

import numpy as np
from jaxtyping import Float, Int, Int64, Shaped, UInt

#: Bytes that are held for an item while a query looks at it: its distance, and what picks the nearest.
_BYTES = 32


def nearest(
    query: Float[np.ndarray, "queries bits"],
    database: Float[np.ndarray, "items bits"],
    k: int,
    *,
    memory_bytes: int = 2**30,
) -> Int[np.ndarray, "queries k"]:
    """Indices of the k items nearest in Hamming distance, equal distances in database order.

    The database is packed, and compared block by block; the answer does not depend on the blocks.

    Args:
        query: real-valued codes, cut at zero.
        database: the same; it may be mapped from a file.
        k: neighbors a query; at most the size of the database.
        memory_bytes: bound on what is held besides the codes and the answer.

    Raises:
        ValueError: if the codes are no rows of one length, or k is below 1.

    Example:
        >>> nearest(np.array([[1.0, 1.0]]), np.array([[-1.0, -1], [1, -1], [1, 1]]), k=2)
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
    k, words = min(k, len(database)), _as_words(query)
    distance = np.full((len(query), k), np.iinfo(np.int64).max)
    index = np.zeros((len(query), k), np.int32 if len(database) < 2**31 else np.int64)
    rows = max(k, memory_bytes // (_BYTES + 4 * words.itemsize * words.shape[1] + query.shape[1]))
    for first in range(0, len(database), rows):
        block = np.ascontiguousarray(_as_words(database[first : first + rows]).T)
        for number, code in enumerate(words):
            of_block = _distances(code, block)
            near = _nearest_of(of_block, k)
            # Those found before come first: they lie before this block.
            both = np.concatenate([distance[number], of_block[near]])
            order = np.argsort(both, kind="stable")[:k]
            distance[number] = both[order]
            index[number] = np.concatenate([index[number], near + first])[order]
    return index


def _as_words(codes: Shaped[np.ndarray, "n bits"]) -> UInt[np.ndarray, "n words"]:
    """The signs of the codes in machine words, filled up with zeros."""
    size = -(-codes.shape[1] // 64) * 8
    packed, some = np.zeros((len(codes), size), np.uint8), 2**16
    for first in range(0, len(codes), some):
        rows = np.packbits(codes[first : first + some] >= 0, axis=1)
        packed[first : first + some, : rows.shape[1]] = rows
    return packed.view(np.uint64)


def _distances(
    code: UInt[np.ndarray, " words"], block: UInt[np.ndarray, "words items"]
) -> UInt[np.ndarray, " items"]:
    """Hamming distances of a code to those of a block."""
    first, *rest = (
        np.bitwise_count(theirs ^ mine) for mine, theirs in zip(code, block, strict=True)
    )
    return first if not rest else np.sum([first, *rest], axis=0, dtype=np.uint32)


def _nearest_of(distance: UInt[np.ndarray, " items"], k: int) -> Int64[np.ndarray, " k"]:
    """The first k by distance, then by place, by counting how many lie at each distance."""
    within = np.cumsum(np.bincount(distance))
    last = int(np.searchsorted(within, min(k, len(distance))))
    nearer = np.flatnonzero(distance < last)
    at_last = np.flatnonzero(distance == last)[: k - len(nearer)]
    nearer = nearer[np.argsort(distance[nearer], kind="stable")]
    return np.concatenate([nearer, at_last])
