"""What a search finds: a ranking of items by their distance, of which pages are shown."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from jaxhash.retrieval.index import Index

#: Items of a ranking.
MAX_RANKED = 1000


class TiesAtEnd(NamedTuple):
    """Items at the distance of the last one of a ranking.

    Attributes:
        distance: the distance.
        shown: how many of them are in the ranking.
        total: how many there are.
    """

    distance: int
    shown: int
    total: int


class Ranking(NamedTuple):
    """The nearest items of a code, at most `MAX_RANKED`.

    Attributes:
        ids: ids of the items.
        distances: their Hamming distances, ascending.
        items_in_all: number of items that were searched.
        ties: the items at the last distance, if some of them are left out.
    """

    ids: Int64[np.ndarray, " n"]
    distances: Int32[np.ndarray, " n"]
    items_in_all: int
    ties: TiesAtEnd | None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, and something for the object."""
        return self.ids.nbytes + self.distances.nbytes + 500


def rank(index: Index, code: UInt8[np.ndarray, " bytes"], label: str | None, items: int) -> Ranking:
    """Searches an index.

    Args:
        index: the index.
        code: packed code of the query.
        label: label of the items that are searched; all by default.
        items: their number.
    """
    if not items:
        return Ranking(np.empty(0, np.int64), np.empty(0, np.int32), 0, None)
    where = None if label is None else {"label": label}
    found = index.search(code[None], min(MAX_RANKED, items), where=where)
    ties = None
    if items > MAX_RANKED:
        counted = index.count_ties(code[None], found, where=where)
        last = TiesAtEnd(*(int(each[0]) for each in counted))
        ties = last if last.shown < last.total else None
    return Ranking(found.ids[0], found.distances[0], items, ties)
