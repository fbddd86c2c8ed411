"""Exact search over packed codes by Hamming distance, by faiss.

Results are in order of distance, and at equal distance in order of row, so they are the same for any
number of threads. faiss runs on one thread each in several Python threads, which share the queries: its
own threads wait for one another in busy loops, and take many times as long where other processes run.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import faiss
import numpy as np
from jaxtyping import Int, Int32, Int64, UInt8

from jaxhash.metrics import ItemLists
from jaxhash.utils.errors import UserError
from jaxhash.utils.hardware import cores_used

T = TypeVar("T")

#: Queries of one call of faiss, as many as its flat index takes at once.
_QUERIES_PER_CALL = 32

#: Rows that are searched within a radius at once: all of them may be found.
_ROWS_PER_RANGE = 2**16


class Neighbors(NamedTuple):
    """Rows of a database near one query, or near each of several.

    Attributes:
        distances: Hamming distances, ascending; int32.
        rows: rows of the database, or the ids given to them; int64, ascending at equal distance.
    """

    distances: Int32[np.ndarray, "*queries k"]
    rows: Int64[np.ndarray, "*queries k"]


def search_codes(
    queries: UInt8[np.ndarray, "queries bytes"], codes: UInt8[np.ndarray, "n bytes"], k: int
) -> Neighbors:
    """Returns the k nearest rows of each query in Hamming distance, ties in order of row.

    Args:
        queries: packed codes of the queries.
        codes: packed codes of the database; may be mapped from a file.
        k: number of rows to return per query.

    Raises:
        ValueError: if the codes are not packed, or are of two lengths.
        UserError: if ``k`` is below 1, or above the number of rows.

    Example:
        >>> codes = np.array([[0b0000_0000], [0b1000_0000], [0b1100_0000]], np.uint8)
        >>> search_codes(np.array([[0b1100_0000]], np.uint8), codes, k=2)
        Neighbors(distances=array([[0, 1]], dtype=int32), rows=array([[2, 1]]))
    """
    queries, codes = _check_codes(queries, codes)
    check_k(k, len(codes))

    def search(some: UInt8[np.ndarray, "some bytes"]) -> tuple[np.ndarray, np.ndarray]:
        return faiss.knn_hamming(some, codes, k)

    found = list(_over_queries(search, queries))
    empty = (np.empty((0, k), np.int32), np.empty((0, k), np.int64))
    return Neighbors(*map(np.concatenate, zip(empty, *found, strict=True)))


def search_allowed(
    queries: UInt8[np.ndarray, "queries bytes"],
    codes: UInt8[np.ndarray, "n bytes"],
    k: int,
    excluded: ItemLists | None,
) -> Neighbors:
    """Returns what `search_codes` does, without the items that each query must not find.

    Args:
        queries: packed codes of the queries.
        codes: packed codes of the database.
        k: number of rows to return per query; fewer if a query is allowed fewer.
        excluded: rows that each query must not find; None for nothing.

    Example:
        >>> codes = np.array([[0b0000_0000], [0b1000_0000], [0b1100_0000]], np.uint8)
        >>> itself = ItemLists(np.array([0, 1]), np.array([2]))
        >>> search_allowed(codes[2:], codes, 2, itself).rows
        array([[1, 0]])
    """
    most = 0 if excluded is None else int(excluded.sizes.max(initial=0))
    k = min(k, len(codes) - most)
    found = search_codes(queries, codes, k + most)
    if excluded is None:
        return found
    # The excluded rows of a query go behind the others, which keep their order.
    is_out = [np.isin(rows, excluded.of(query)) for query, rows in enumerate(found.rows)]
    first = np.argsort(np.reshape(is_out, found.rows.shape), axis=1, kind="stable")[:, :k]
    return Neighbors(*(np.take_along_axis(part, first, axis=1) for part in found))


def search_blocks(
    queries: UInt8[np.ndarray, "queries bytes"],
    blocks: Iterable[tuple[Int[np.ndarray, " n"], UInt8[np.ndarray, "n bytes"]]],
    k: int,
) -> Neighbors:
    """Returns the k nearest items of each query in a database that comes in blocks.

    Args:
        queries: packed codes of the queries.
        blocks: ids, ascending over all blocks, and packed codes.
        k: number of items to return per query.

    Raises:
        ValueError: if the codes are not packed, or are of two lengths.
        UserError: if ``k`` is below 1, or above the number of items.
    """
    best = Neighbors(np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.int64))
    check_k(k)
    items = 0
    for ids, codes in blocks:
        if not len(ids):
            continue
        items += len(ids)
        distances, rows = search_codes(queries, codes, min(k, len(ids)))
        distances = np.concatenate([best.distances, distances], axis=1)
        # Items of earlier blocks come first: at equal distance they have the smaller ids.
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        rows = np.concatenate([best.rows, ids[rows]], axis=1)
        best = Neighbors(*(np.take_along_axis(each, order, axis=1) for each in (distances, rows)))
    check_k(k, items)
    return best


def range_search_codes(
    queries: UInt8[np.ndarray, "queries bytes"], codes: UInt8[np.ndarray, "n bytes"], radius: int
) -> list[Neighbors]:
    """Returns, for each query, all rows within a Hamming radius, in order of distance, then of row.

    Args:
        queries: packed codes of the queries.
        codes: packed codes of the database; may be mapped from a file.
        radius: greatest distance that is returned.

    Raises:
        ValueError: if the codes are not packed, or are of two lengths.
        UserError: if ``radius`` is below 0.

    Example:
        >>> codes = np.array([[0b0000_0000], [0b1000_0000], [0b1100_0000]], np.uint8)
        >>> range_search_codes(np.array([[0b1100_0000]], np.uint8), codes, radius=1)
        [Neighbors(distances=array([0, 1], dtype=int32), rows=array([2, 1]))]
    """
    queries, codes = _check_codes(queries, codes)
    check_radius(radius)

    def search(some: UInt8[np.ndarray, "some bytes"]) -> list[Neighbors]:
        blocks = [[_NOTHING] * len(some), *_range_blocks(some, codes, radius)]
        found = [map(np.concatenate, zip(*each, strict=True)) for each in zip(*blocks, strict=True)]
        return [_sort(*each) for each in found]

    return list(itertools.chain.from_iterable(_over_queries(search, queries)))


def count_at_distance(
    queries: UInt8[np.ndarray, "queries bytes"],
    codes: UInt8[np.ndarray, "n bytes"],
    distances: Int[np.ndarray, " queries"],
    weights: Int[np.ndarray, " n"] | None = None,
) -> Int64[np.ndarray, " queries"]:
    """Counts, for each query, the rows at exactly one Hamming distance.

    Args:
        queries: packed codes of the queries.
        codes: packed codes of the database; may be mapped from a file.
        distances: the distance of each query.
        weights: what each row counts; 1 by default.

    Raises:
        ValueError: if the codes are not packed, or are of two lengths.

    Example:
        >>> codes = np.array([[0b0000_0000], [0b1000_0000], [0b0100_0000]], np.uint8)
        >>> count_at_distance(np.array([[0]], np.uint8), codes, np.array([1]))
        array([2])
    """
    queries, codes = _check_codes(queries, codes)
    counts = np.zeros(len(queries), np.int64)
    for distance in np.unique(distances):
        same = np.flatnonzero(distances == distance)

        def count(
            some: UInt8[np.ndarray, "some bytes"], distance: int = int(distance)
        ) -> list[int]:
            totals = [0] * len(some)
            for found in _range_blocks(some, codes, distance):
                for number, each in enumerate(found):
                    rows = each.rows[each.distances == distance]
                    totals[number] += len(rows) if weights is None else int(weights[rows].sum())
            return totals

        counts[same] = list(itertools.chain.from_iterable(_over_queries(count, queries[same])))
    return counts


def check_k(k: int, items: int | None = None, which: str = "") -> None:
    """Raises a `UserError` unless there are k items, and k is at least 1.

    Args:
        k: number of items to return per query.
        items: number of items that there are, if it is known.
        which: which items they are, for the message.
    """
    if k < 1:
        raise UserError(f"`k` must be at least 1, got {k}")
    if items is not None and k > items:
        raise UserError(f"`k={k}` is above the number of items{which}, {items:,}")


def check_radius(radius: int) -> None:
    """Raises a `UserError` if a Hamming radius is below 0."""
    if radius < 0:
        raise UserError(f"`radius` must be at least 0, got {radius}")


_NOTHING = Neighbors(np.empty(0, np.int32), np.empty(0, np.int64))


def _over_queries(
    search: Callable[[UInt8[np.ndarray, "some bytes"]], T], queries: UInt8[np.ndarray, "q bytes"]
) -> Iterator[T]:
    """Yields what a function of faiss returns for slices of the queries, in order."""
    starts = range(0, len(queries), _QUERIES_PER_CALL)
    slices = [queries[start : start + _QUERIES_PER_CALL] for start in starts]
    threads = min(cores_used() or 1, len(slices))
    if not threads:
        return
    # OpenMP keeps its number of threads for each thread: that of the caller, and of anybody else who
    # uses faiss in this process, stays as it is.
    pool = ThreadPoolExecutor(threads, initializer=faiss.omp_set_num_threads, initargs=(1,))
    try:
        yield from pool.map(search, slices)
    finally:
        pool.shutdown(cancel_futures=True)


def _range_blocks(
    queries: UInt8[np.ndarray, "q bytes"], codes: UInt8[np.ndarray, "n bytes"], radius: int
) -> Iterator[list[Neighbors]]:
    """Yields what each query finds within a radius, unsorted, for each block of the codes."""
    for first in range(0, len(codes), _ROWS_PER_RANGE):
        block = codes[first : first + _ROWS_PER_RANGE]
        result = faiss.RangeSearchResult(len(queries))
        faiss.hamming_range_search(
            *(faiss.swig_ptr(queries), faiss.swig_ptr(block), len(queries), len(block)),
            radius + 1,  # faiss finds what is below the radius
            *(codes.shape[1], result),
        )
        ends = faiss.rev_swig_ptr(result.lims, len(queries) + 1).tolist()
        distances = faiss.rev_swig_ptr(result.distances, ends[-1]).astype(np.int32)
        rows = faiss.rev_swig_ptr(result.labels, ends[-1]) + first
        yield [Neighbors(distances[a:b], rows[a:b]) for a, b in itertools.pairwise(ends)]


def _sort(distances: Int32[np.ndarray, " n"], rows: Int64[np.ndarray, " n"]) -> Neighbors:
    order = np.lexsort((rows, distances))
    return Neighbors(distances[order], rows[order])


def _check_codes(
    queries: UInt8[np.ndarray, "q bytes"], codes: UInt8[np.ndarray, "n bytes"]
) -> tuple[UInt8[np.ndarray, "q bytes"], UInt8[np.ndarray, "n bytes"]]:
    """Returns both as faiss takes them: contiguous, and without a copy if they are."""
    for name, array in (("queries", queries), ("codes", codes)):
        if array.dtype != np.uint8 or array.ndim != 2:
            raise ValueError(
                f"{name} must be packed codes, uint8 [n, bytes], got {array.dtype} of shape "
                f"{array.shape}"
            )
    if queries.shape[1] != codes.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} bytes, and codes {codes.shape[1]}")
    return np.ascontiguousarray(queries), np.ascontiguousarray(codes)
