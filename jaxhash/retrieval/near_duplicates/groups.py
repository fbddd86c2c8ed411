"""Groups near duplicates, each group with the item that is kept.

Everything works on distinct codes in the order in which they are kept (`keep.in_keep_order`), so a code
with a smaller number is kept rather than one with a greater. An `Assignment` names, for each code, the
code that is kept in its place; `expand` turns codes into items.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64, UInt8
from scipy.sparse import coo_array

from jaxhash.retrieval.near_duplicates.join import DistinctCodes, Pairs

#: Codes that are compared with the kept ones at once.
_BLOCK = 2**16

#: Kept code of a code that is a duplicate of none.
NONE = -1


class Assignment(NamedTuple):
    """Which code is kept in the place of each code.

    Attributes:
        kept: number of the code that is kept; the code itself if it is kept, `NONE` if the codes that are
            kept are those of another index, and none is near.
        distances: Hamming distance to it.
    """

    kept: Int64[np.ndarray, " codes"]
    distances: Int32[np.ndarray, " codes"]


class Groups(NamedTuple):
    """Items and their near duplicates, in the order in which the items are kept.

    Attributes:
        kept: the id of the item of each group that is kept.
        starts: place of the first duplicate of each group, and the number of all duplicates.
        duplicates: ids of the others, by distance, then by id.
        distances: Hamming distance of each to the kept one.
    """

    kept: Int64[np.ndarray, " groups"]
    starts: Int64[np.ndarray, " starts"]
    duplicates: Int64[np.ndarray, " n"]
    distances: Int32[np.ndarray, " n"]

    @property
    def sizes(self) -> Int64[np.ndarray, " groups"]:
        """Returns the number of duplicates in each group."""
        return np.diff(self.starts)

    def take(self, which: Int[np.ndarray, " some"], most: int) -> "Groups":
        """Returns some of the groups, each with its nearest duplicates.

        Args:
            which: numbers of the groups.
            most: number of duplicates of each.
        """
        sizes = np.minimum(self.sizes[which], most)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        places = np.repeat(self.starts[which] - starts[:-1], sizes) + np.arange(starts[-1])
        return Groups(self.kept[which], starts, self.duplicates[places], self.distances[places])


def assign_by_star(pairs: Pairs, codes: int) -> Assignment:
    """Assigns codes so that each is within the radius of the code that is kept in its place.

    In keep order, a code is kept unless it is near one that is kept already. Each other code is assigned
    to the nearest of the kept codes before it, the first of them at equal distance. So the groups are a
    function of the keep order and the radius; items of equal codes stay together.

    Args:
        pairs: the pairs of codes within the radius, ``first`` below ``second``.
        codes: number of codes.

    Example:
        >>> chain = Pairs(np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([2, 1, 2], np.int32))
        >>> assign_by_star(chain, 4).kept.tolist()  # 1 is near 0; 2 is near 1 only, which is not kept
        [0, 0, 2, 2]
    """
    is_kept = _choose_kept(pairs, codes)
    near = is_kept[pairs.first]
    kept, distances = _nearest(
        *(each[near] for each in (pairs.second, pairs.first, pairs.distances)), codes
    )
    return Assignment(np.where(is_kept, np.arange(codes), kept), distances)


def assign_to_others(pairs: Pairs, codes: int) -> Assignment:
    """Assigns codes to the nearest of other codes, all of which are kept, and the first at equal distance.

    Args:
        pairs: the pairs within the radius, of a code and one of the others.
        codes: number of codes.
    """
    return _nearest(pairs.first, pairs.second, pairs.distances, codes)


def assign_by_component(
    components: Int[np.ndarray, " codes"], packed: UInt8[np.ndarray, "codes bytes"]
) -> Assignment:
    """Assigns all codes that are linked by pairs, however many, to the first of them.

    Args:
        components: number of the component of each code, see `jaxhash.retrieval.near_duplicates.links`.
        packed: the codes.

    Example:
        >>> assign_by_component(np.array([0, 1, 0]), np.array([[0], [255], [3]], np.uint8))
        Assignment(kept=array([0, 1, 0]), distances=array([0, 0, 2], dtype=int32))
    """
    first = np.full(int(components.max(initial=-1)) + 1, len(components), np.int64)
    np.minimum.at(first, components, np.arange(len(components)))
    kept = first[components]
    distances = np.zeros(len(kept), np.int32)
    others = np.flatnonzero(kept != np.arange(len(kept)))
    for start in range(0, len(others), _BLOCK):
        some = others[start : start + _BLOCK]
        differing = packed[some] ^ packed[kept[some]]
        distances[some] = np.bitwise_count(differing).sum(axis=1, dtype=np.int32)
    return Assignment(kept, distances)


def expand(
    distinct: DistinctCodes, assignment: Assignment, others: DistinctCodes | None = None
) -> Groups:
    """Returns the groups of items.

    Args:
        distinct: distinct codes in keep order.
        assignment: the code that is kept in the place of each.
        others: the codes that are kept, if they are those of another index.
    """
    sizes = np.diff(distinct.starts)
    kept_codes = distinct if others is None else others
    leaders = kept_codes.rows[kept_codes.starts[:-1]]
    is_duplicate = np.repeat(assignment.kept != NONE, sizes)
    if others is None:  # the first item of a kept code is the one that is kept
        is_kept = assignment.kept == np.arange(len(sizes))
        is_duplicate[distinct.starts[:-1][is_kept]] = False
    code = np.repeat(np.arange(len(sizes)), sizes)[is_duplicate]
    kept, distances = assignment.kept[code], assignment.distances[code]
    ids = distinct.rows[is_duplicate]
    order = np.lexsort((ids, distances, kept))
    groups, starts = np.unique(kept[order], return_index=True)
    return Groups(
        leaders[groups], np.append(starts, len(ids)), ids[order], distances[order].astype(np.int32)
    )


def _choose_kept(pairs: Pairs, codes: int) -> Bool[np.ndarray, " codes"]:
    """Returns which codes are kept: those that are near no code that is kept and before them."""
    edges = np.ones(len(pairs.first), bool), (pairs.first, pairs.second)
    after = coo_array(edges, shape=(codes, codes)).tocsr()  # of each code, those near and after it
    is_kept = np.ones(codes, bool)
    near, starts = after.indices, after.indptr
    for code in np.flatnonzero(np.diff(starts)).tolist():
        if is_kept[code]:
            is_kept[near[starts[code] : starts[code + 1]]] = False
    return is_kept


def _nearest(
    near: Int[np.ndarray, " p"],
    kept: Int[np.ndarray, " p"],
    distances: Int[np.ndarray, " p"],
    codes: int,
) -> Assignment:
    """Returns the nearest kept code of each code, the first at equal distance."""
    step = int(kept.max(initial=0)) + 1
    nothing = np.iinfo(np.int64).max
    best = np.full(codes, nothing)
    np.minimum.at(best, near, distances.astype(np.int64) * step + kept)
    is_near = best != nothing
    return Assignment(
        np.where(is_near, best % step, NONE), np.where(is_near, best // step, 0).astype(np.int32)
    )
