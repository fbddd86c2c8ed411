"""Finds all pairs of codes within a Hamming radius, exactly.

Codes that repeat are joined once: `distinct_codes` groups the items of equal codes, and `join_within`
finds the pairs of distinct ones.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt8, UInt64
from rich.console import Console

from jaxhash.retrieval.near_duplicates.tables import Tables, choose_tables, to_words
from jaxhash.retrieval.search import check_radius, range_search_codes
from jaxhash.utils.console import track_progress
from jaxhash.utils.errors import UserError

#: Most pairs that a join returns by default.
MAX_PAIRS = 2**25

#: Pairs that are compared at once.
_PAIRS = 2**20

#: Queries and rows of a block of a scan; all of their pairs may be found.
_SCAN_QUERIES, _SCAN_ROWS = 2**8, 2**16


class TooManyPairs(UserError):
    """More pairs are within the radius than a join may return."""


@runtime_checkable
class HasBlocks(Protocol):
    """What has codes in blocks, as `jaxhash.retrieval.Index` does."""

    def blocks(self) -> Iterable[tuple[Int[np.ndarray, " n"], UInt8[np.ndarray, "n bytes"]]]:
        """Returns ids, ascending over all blocks, and packed codes."""


class DistinctCodes(NamedTuple):
    """The distinct codes of some items, in order of the first item that has each.

    Attributes:
        codes: packed codes.
        starts: place in ``rows`` of the first item of each code, and the number of items.
        rows: the rows, or the ids, of the items, by code, and ascending for each.
    """

    codes: UInt8[np.ndarray, "m bytes"]
    starts: Int64[np.ndarray, " starts"]
    rows: Int64[np.ndarray, " n"]

    def rows_of(self, code: int | np.integer) -> Int64[np.ndarray, " k"]:
        """Returns the rows, or the ids, of the items of one distinct code, by its number."""
        return self.rows[self.starts[code] : self.starts[code + 1]]


class Pairs(NamedTuple):
    """Pairs of codes, by their numbers.

    Attributes:
        first: number of one code; the smaller one, if codes are joined with themselves.
        second: number of the other.
        distances: Hamming distance of the two.
    """

    first: Int64[np.ndarray, " p"]
    second: Int64[np.ndarray, " p"]
    distances: Int32[np.ndarray, " p"]


def distinct_codes(items: HasBlocks | UInt8[np.ndarray, "n bytes"]) -> DistinctCodes:
    """Groups items of equal codes.

    Args:
        items: packed codes, or an index; of an index, the ids of the items stand for rows.

    Example:
        >>> found = distinct_codes(np.array([[7], [5], [7]], np.uint8))
        >>> found.codes.tolist(), found.starts.tolist(), found.rows.tolist()
        ([[7], [5]], [0, 2, 3], [0, 2, 1])
    """
    if isinstance(items, np.ndarray):
        ids, codes = None, items
    else:
        blocks = list(items.blocks())
        ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in blocks)])
        codes = np.concatenate([codes for _, codes in blocks]) if blocks else np.empty((0, 1), "u1")
    words = to_words(codes)
    order = np.lexsort(words)  # stable: rows ascend
    is_new = np.ones(len(order), bool)
    is_new[1:] = (words[:, order[1:]] != words[:, order[:-1]]).any(axis=0)
    starts = np.flatnonzero(is_new)
    sizes = np.diff(starts, append=len(order))
    by_first = np.argsort(order[starts])
    starts, sizes = starts[by_first], sizes[by_first]
    new_starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = order[np.repeat(starts - new_starts[:-1], sizes) + np.arange(len(order))]
    return DistinctCodes(codes[order[starts]], new_starts, rows if ids is None else ids[rows])


def join_within(
    codes: UInt8[np.ndarray, "n bytes"],
    radius: int,
    *,
    others: UInt8[np.ndarray, "m bytes"] | None = None,
    max_pairs: int = MAX_PAIRS,
    console: Console | None = None,
) -> Iterator[Pairs]:
    """Yields all pairs of codes within a Hamming radius, each once.

    The pairs come in blocks of at most some millions, in an order that is the same each time. Beside the
    codes it takes memory for a few numbers per code. It compares the codes that agree in enough of their
    bits to be within the radius, found by sorting (`jaxhash.retrieval.near_duplicates.tables`); or, where
    that saves nothing, all of them.

    Args:
        codes: packed codes.
        radius: greatest distance of a pair, in bits.
        others: packed codes that they are joined with; themselves by default.
        max_pairs: most pairs that are returned.
        console: where to show progress; the error stream by default.

    Raises:
        ValueError: if the codes are not packed, or are of two lengths.
        UserError: if the radius is below 0; `TooManyPairs`, while it joins, if there are more pairs.

    Example:
        >>> codes = np.array([[0b0000_0000], [0b1000_0000], [0b1100_0000]], np.uint8)
        >>> [pairs] = join_within(codes, radius=1)
        >>> pairs.first.tolist(), pairs.second.tolist(), pairs.distances.tolist()
        ([0, 1], [1, 2], [1, 1])
    """
    check_radius(radius)
    for name, array in (("codes", codes), ("others", codes if others is None else others)):
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != codes.shape[1]:
            raise ValueError(
                f"{name} must be packed codes, uint8 [n, {codes.shape[-1]}], got {array.dtype} of "
                f"shape {array.shape}"
            )
    return _join(codes, others, radius, max_pairs, console)


def _join(
    codes: UInt8[np.ndarray, "n bytes"],
    others: UInt8[np.ndarray, "m bytes"] | None,
    radius: int,
    max_pairs: int,
    console: Console | None,
) -> Iterator[Pairs]:
    if not len(codes) or (others is not None and not len(others)):
        return
    tables = choose_tables(codes, others, radius)
    if tables is None:
        blocks = _scan(codes, others, radius, console)
    else:
        blocks = _join_by_tables(tables, codes, others, radius, console)
    found = 0
    for pairs in blocks:
        found += len(pairs.first)
        if found > max_pairs:
            raise TooManyPairs(
                f"`radius={radius}` is too large: more than {max_pairs:,} pairs of different codes are "
                "within it"
            )
        if len(pairs.first):
            yield pairs


def _scan(
    codes: UInt8[np.ndarray, "n bytes"],
    others: UInt8[np.ndarray, "m bytes"] | None,
    radius: int,
    console: Console | None,
) -> Iterator[Pairs]:
    """Yields the pairs within a radius by comparing every pair."""
    database = codes if others is None else others
    starts = range(0, len(codes), _SCAN_QUERIES)
    for start in track_progress(starts, "comparing codes", len(starts), console):
        queries = codes[start : start + _SCAN_QUERIES]
        for first in range(start if others is None else 0, len(database), _SCAN_ROWS):
            near = range_search_codes(queries, database[first : first + _SCAN_ROWS], radius)
            rows = np.repeat(start + np.arange(len(queries)), [len(each.rows) for each in near])
            other_rows = first + np.concatenate([each.rows for each in near])
            distances = np.concatenate([each.distances for each in near])
            keep = slice(None) if others is not None else rows < other_rows
            yield Pairs(rows[keep], other_rows[keep], distances[keep])


def _join_by_tables(
    tables: Tables,
    codes: UInt8[np.ndarray, "n bytes"],
    others: UInt8[np.ndarray, "m bytes"] | None,
    radius: int,
    console: Console | None,
) -> Iterator[Pairs]:
    """Yields the pairs within a radius by comparing, in each table, the codes of equal keys."""
    words = to_words(codes)
    other_words = words if others is None else to_words(others)
    row_bits = max(words.shape[1], other_words.shape[1]).bit_length()
    what = "comparing codes, tables"
    for choice in track_progress(tables.choices, what, len(tables.choices), console):
        rows, keys = _sort_by_key(tables.keys(choice, words), row_bits)
        if others is None:
            # The partners of a code are those after it with its key: their rows are greater.
            other_rows, low = rows, np.arange(1, len(rows) + 1)
            ends = np.append(np.flatnonzero(keys[1:] != keys[:-1]) + 1, len(keys))
            high = np.repeat(ends, np.diff(ends, prepend=0))
        else:
            other_rows, other_keys = _sort_by_key(tables.keys(choice, other_words), row_bits)
            low, high = (np.searchsorted(other_keys, keys, side) for side in ("left", "right"))
        some = np.flatnonzero(high > low)
        sorted_words, sorted_others = words[:, rows[some]], other_words[:, other_rows]
        for first, second in _partners(low[some], (high - low)[some]):
            keep, differing, distances = _compare(
                sorted_words, sorted_others, first, second, radius
            )
            own = tables.owns(choice, differing)
            yield Pairs(rows[some[first[keep[own]]]], other_rows[second[keep[own]]], distances[own])


def _sort_by_key(
    keys: UInt64[np.ndarray, " n"], row_bits: int
) -> tuple[Int64[np.ndarray, " n"], UInt64[np.ndarray, " n"]]:
    """Returns the rows in order of the upper bits of their keys, then of row, and these bits of each.

    Keys and rows are sorted as one number each, which is several times as quick as an argsort.
    """
    row_mask = np.uint64(2**row_bits - 1)
    keys = keys & ~row_mask | np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return (keys & row_mask).astype(np.int64), keys & ~row_mask


def _partners(
    low: Int64[np.ndarray, " n"], counts: Int64[np.ndarray, " n"]
) -> Iterator[tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]]:
    """Yields each place with each of its partners, ``counts`` of them from ``low`` on, in blocks."""
    ends = np.cumsum(counts)
    starts = ends - counts
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, _PAIRS):
        stop = min(begin + _PAIRS, total)
        some = slice(np.searchsorted(ends, begin, "right"), np.searchsorted(ends, stop) + 1)
        sizes = np.minimum(ends[some], stop) - np.maximum(starts[some], begin)
        first = np.repeat(np.arange(some.start, some.stop), sizes)
        yield first, np.repeat(low[some] - starts[some], sizes) + np.arange(begin, stop)


def _compare(
    words: UInt64[np.ndarray, "words n"],
    others: UInt64[np.ndarray, "words m"],
    first: Int64[np.ndarray, " p"],
    second: Int64[np.ndarray, " p"],
    radius: int,
) -> tuple[Int64[np.ndarray, " k"], UInt64[np.ndarray, "words k"], Int32[np.ndarray, " k"]]:
    """Returns the places of the pairs within a radius, the bits in which they differ, and how many."""
    keep = np.arange(len(first))
    distances = np.zeros(len(first), np.int32)
    for word, other in zip(words, others, strict=True):  # most pairs are too far by the first word
        distances = distances + np.bitwise_count(word[first[keep]] ^ other[second[keep]])
        near = distances <= radius
        keep, distances = keep[near], distances[near]
    return keep, words[:, first[keep]] ^ others[:, second[keep]], distances
