"""Two-stage search: first the nearest class anchors of a query, then the items of those classes alone."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64, UInt8

from jaxhash.retrieval.search import Neighbors, check_k, search_codes
from jaxhash.utils.errors import UserError

#: The class of an item without one.
NO_CLASS = -1


class ClassedCodes(NamedTuple):
    """A database in order of class, with an anchor of each class.

    Attributes:
        anchors: packed code of each class.
        codes: packed codes of the items, by class; those without a class come last.
        ids: ids of the items, in the order of the codes; ascending in each class.
        starts: place of each class's first item, of the first without a class, and their number.
    """

    anchors: UInt8[np.ndarray, "classes bytes"]
    codes: UInt8[np.ndarray, "n bytes"]
    ids: Int64[np.ndarray, " n"]
    starts: Int64[np.ndarray, " bounds"]

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.ids)

    def search(
        self, queries: UInt8[np.ndarray, "q bytes"], k: int, *, near_classes: int
    ) -> Neighbors:
        """Returns the k nearest items of each query among those of its nearest classes.

        Classes at equal distance are in order of their number. Items without a class are always
        searched. A query whose classes hold fewer than k items takes more classes, one by one.

        Args:
            queries: packed codes of the queries.
            k: number of items to return per query.
            near_classes: number of classes whose items are searched.

        Raises:
            UserError: if k is below 1 or above the number of items, or ``near_classes`` is below 1 or
                above the number of classes.
        """
        check_k(k, self.items)
        if not 1 <= near_classes <= len(self.anchors):
            raise UserError(
                f"`near_classes` must be from 1 to the number of classes, {len(self.anchors):,}, got "
                f"{near_classes}"
            )
        is_near = self.nearest_classes(queries, k, near_classes)
        shape = (len(queries), k)
        distances, ids = np.full(shape, np.iinfo(np.int32).max, np.int32), np.zeros(shape, np.int64)
        for number in range(len(self.starts) - 1):
            rows = slice(self.starts[number], self.starts[number + 1])
            asked = np.flatnonzero(is_near[:, number])
            if not len(asked) or rows.start == rows.stop:
                continue
            found = search_codes(
                queries[asked], self.codes[rows], min(k, int(rows.stop - rows.start))
            )
            joined = np.concatenate([distances[asked], found.distances], axis=1)
            joined_ids = np.concatenate([ids[asked], self.ids[rows][found.rows]], axis=1)
            order = np.lexsort((joined_ids, joined), axis=1)[:, :k]
            distances[asked] = np.take_along_axis(joined, order, axis=1)
            ids[asked] = np.take_along_axis(joined_ids, order, axis=1)
        return Neighbors(distances, ids)

    def nearest_classes(
        self, queries: UInt8[np.ndarray, "q bytes"], k: int, near_classes: int
    ) -> np.ndarray:
        """Returns which classes each query searches, the last column being the items without one."""
        order = search_codes(queries, self.anchors, len(self.anchors)).rows
        sizes = np.diff(self.starts)
        before = np.cumsum(sizes[order], axis=1) - sizes[order] + sizes[-1]
        taken = (np.arange(order.shape[1])[None, :] < near_classes) | (before < k)
        is_near = np.ones((len(queries), len(sizes)), bool)
        np.put_along_axis(is_near, order, taken, axis=1)
        return is_near

    def share_searched(
        self, queries: UInt8[np.ndarray, "q bytes"], k: int, near_classes: int
    ) -> float:
        """Returns the share of the items that queries are compared with, the anchors left out."""
        is_near = self.nearest_classes(queries, k, near_classes)
        return float((is_near @ np.diff(self.starts)).mean() / self.items)


def classed_codes(
    codes: UInt8[np.ndarray, "n bytes"],
    classes: Int[np.ndarray, " n"],
    ids: Int[np.ndarray, " n"] | None = None,
) -> ClassedCodes:
    """Orders a database by class; the anchor of a class has the majority of its items' bits.

    Args:
        codes: packed codes.
        classes: class of each item, from 0, or `NO_CLASS`. A class without an item has no anchor, and
            the later ones are counted on.
        ids: ids of the items, ascending; their rows if not given.

    Raises:
        UserError: if no item has a class.

    Example:
        >>> codes = np.array([[0b1100_0000], [0b1000_0000], [0b0000_0011], [0b0000_0001]], np.uint8)
        >>> database = classed_codes(codes, np.array([0, 0, 1, 1]))
        >>> database.search(codes[3:], k=2, near_classes=1).rows
        array([[3, 2]])

    Reference:
        Ghita and Ionescu, "Class anchor margin loss for content-based image retrieval", 2023, whose
        abstract has the two stages. There anchors are trained; here the majority of each class stands
        for them, so that any codes with labels can be searched so. An equal vote is a 1.
    """
    known = np.unique(classes[classes != NO_CLASS])
    if not len(known):
        raise UserError("`near_classes` needs items with a label")
    number = np.searchsorted(known, classes)
    number[classes == NO_CLASS] = len(known)
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(len(known) + 2))
    codes = np.ascontiguousarray(codes[order])
    bits = [
        np.unpackbits(codes[first:stop], axis=1).mean(axis=0) >= 0.5
        for first, stop in zip(starts[:-2], starts[1:-1], strict=True)
    ]
    ids = np.arange(len(codes)) if ids is None else ids
    return ClassedCodes(
        np.packbits(bits, axis=1), codes, ids[order].astype(np.int64), starts.astype(np.int64)
    )
