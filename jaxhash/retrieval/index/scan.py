"""Search of the shards of an index as they are: among some of the items, or where there is no cache."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Int64, UInt8

from jaxhash.retrieval.index.state import Block, IndexState
from jaxhash.retrieval.search import (
    Neighbors,
    count_at_distance,
    range_search_codes,
    search_blocks,
)

#: Codes of matching items that are in memory at once.
_ROWS = 2**18


class Scan:
    """A search of the shards of an index, with the methods of `SearchCache`.

    Args:
        state: state of the index.
        ids: ids of the items that are searched, ascending; all by default.

    Attributes:
        items: number of items that are searched.
    """

    def __init__(self, state: IndexState, ids: Int[np.ndarray, " n"] | None = None):
        self._state, self._ids = state, ids
        self.items = state.manifest.live if ids is None else len(ids)

    def search(self, queries: UInt8[np.ndarray, "q bytes"], k: int) -> Neighbors:
        """Returns the k nearest items of each query, ties in order of id."""
        return search_blocks(queries, self._blocks(), k)

    def range_search(self, queries: UInt8[np.ndarray, "q bytes"], radius: int) -> list[Neighbors]:
        """Returns, for each query, all items within a radius, by distance, then by id."""
        parts = [[Neighbors(np.empty(0, np.int32), np.empty(0, np.int64))] * len(queries)]
        for ids, codes in self._blocks():
            found = range_search_codes(queries, codes, radius)
            parts.append([Neighbors(distances, ids[rows]) for distances, rows in found])
        return [_merge(each) for each in zip(*parts, strict=True)]

    def count_at_distance(
        self, queries: UInt8[np.ndarray, "q bytes"], distances: Int[np.ndarray, " q"]
    ) -> Int64[np.ndarray, " q"]:
        """Counts, for each query, the items at exactly one distance."""
        counts = np.zeros(len(queries), np.int64)
        for _, codes in self._blocks():
            counts += count_at_distance(queries, codes, distances)
        return counts

    def _blocks(self) -> Iterator[Block]:
        for ids, codes in self._state.blocks():
            if self._ids is None:
                yield ids, codes
                continue
            first, stop = np.searchsorted(self._ids, [ids[0], ids[-1] + 1])
            for start in range(first, stop, _ROWS):
                some = self._ids[start : min(start + _ROWS, stop)]
                yield some, codes[np.searchsorted(ids, some)]


def _merge(parts: tuple[Neighbors, ...]) -> Neighbors:
    distances, ids = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(distances, kind="stable")  # ids ascend from part to part
    return Neighbors(distances[order], ids[order])
