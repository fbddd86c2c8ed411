"""Groups items of equal codes, so that a search compares each distinct code once."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64, UInt8, UInt64

Block = tuple[Int[np.ndarray, " n"], UInt8[np.ndarray, "n bytes"]]

#: Most groups that are made: their table is in memory.
MAX_GROUPS = 2**20

#: Items that are grouped at once.
_ROWS = 2**17

#: Ids that are in memory at once, while they are brought into the order of the groups.
_IDS = 2**22


class Grouping(NamedTuple):
    """The distinct codes of a database, in order of the first item that has each.

    Attributes:
        codes: packed code of each group.
        starts: place of each group's first id in the ids by group, and the number of all ids.
        hashes: hashes of the codes, ascending.
        groups: group of each hash.
    """

    codes: UInt8[np.ndarray, "groups bytes"]
    starts: Int64[np.ndarray, " starts"]
    hashes: UInt64[np.ndarray, " groups"]
    groups: Int64[np.ndarray, " groups"]

    def groups_of(self, codes: UInt8[np.ndarray, "n bytes"]) -> Int64[np.ndarray, " n"]:
        """Returns the groups of codes of the database."""
        return self.groups[np.searchsorted(self.hashes, _hash(codes))]

    def ids_by_group(
        self, blocks: Callable[[], Iterable[Block]]
    ) -> Iterator[Int64[np.ndarray, " n"]]:
        """Yields the ids by group, ascending in each, in parts of bounded size.

        Args:
            blocks: returns the database again.
        """
        for first in range(0, int(self.starts[-1]), _IDS):
            part = np.empty(min(_IDS, int(self.starts[-1]) - first), np.int64)
            place = self.starts[:-1] - first  # of the next id of each group in this part
            for ids, codes in _split(blocks()):
                groups = self.groups_of(codes)
                order = np.argsort(groups, kind="stable")
                ids, groups = ids[order], groups[order]
                rank = np.arange(len(groups)) - np.searchsorted(groups, groups)
                places = place[groups] + rank
                here = (places >= 0) & (places < len(part))
                part[places[here]] = ids[here]
                place += np.bincount(groups, minlength=len(place))
            yield part


def group_equal_codes(blocks: Callable[[], Iterable[Block]], items: int) -> Grouping | None:
    """Returns the distinct codes of a database if they are fewer than half of it, and few enough.

    Args:
        blocks: returns the database, ids ascending; called more than once.
        items: number of items in the database.

    Example:
        >>> codes = np.array([[7], [5], [7], [7]], np.uint8)
        >>> grouping = group_equal_codes(lambda: [(np.array([0, 1, 4, 9]), codes)], items=4)
        >>> grouping.codes.tolist(), grouping.starts.tolist()
        ([[7], [5]], [0, 3, 4])
        >>> [ids.tolist() for ids in grouping.ids_by_group(lambda: [(np.array([0, 1, 4, 9]), codes)])]
        [[0, 4, 9, 1]]
    """
    found = _distinct_hashes(blocks(), min(items // 2, MAX_GROUPS))
    if found is None:
        return None
    hashes, first_rows = found
    groups = np.empty(len(hashes), np.int64)
    groups[np.argsort(first_rows)] = np.arange(len(hashes))
    grouping, row, sizes = None, 0, np.zeros(len(hashes), np.int64)
    for _, codes in _split(blocks()):
        if grouping is None:
            distinct = np.empty((len(hashes), codes.shape[1]), np.uint8)
            grouping = Grouping(distinct, np.zeros(len(hashes) + 1, np.int64), hashes, groups)
        places = np.searchsorted(hashes, _hash(codes))
        is_first = first_rows[places] == row + np.arange(len(codes))
        distinct[groups[places[is_first]]] = codes[is_first]
        if (distinct[groups[places]] != codes).any():
            return None  # two codes of one hash
        sizes += np.bincount(groups[places], minlength=len(sizes))
        row += len(codes)
    if grouping is not None:
        np.cumsum(sizes, out=grouping.starts[1:])
    return grouping


def _distinct_hashes(
    blocks: Iterable[Block], most: int
) -> tuple[UInt64[np.ndarray, " groups"], Int64[np.ndarray, " groups"]] | None:
    """Returns the hashes of all codes, ascending, and the first row of each; None if there are more."""
    hashes, first_rows, row = np.empty(0, np.uint64), np.empty(0, np.int64), 0
    for _, codes in _split(blocks):
        rows = np.concatenate([first_rows, row + np.arange(len(codes))])
        hashes, first = np.unique(np.concatenate([hashes, _hash(codes)]), return_index=True)
        first_rows = rows[first]
        row += len(codes)
        if len(hashes) > most:
            return None
    return hashes, first_rows


def _hash(codes: UInt8[np.ndarray, "n bytes"]) -> UInt64[np.ndarray, " n"]:
    """Returns a hash of each code; codes of up to 64 bits have different ones."""
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    first, *others = padded.view(np.uint64).T
    result = first.copy()
    for word in others:
        result = (result ^ (result >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) ^ word
    return result


def _split(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yields the database in blocks of bounded size."""
    for ids, codes in blocks:
        for first in range(0, len(ids), _ROWS):
            yield ids[first : first + _ROWS], codes[first : first + _ROWS]
