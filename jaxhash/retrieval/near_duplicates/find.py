"""Finds the near duplicates of an index, in it or between it and another one."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64
from rich.console import Console
from scipy.sparse import csr_array

from jaxhash.retrieval.index import Index
from jaxhash.retrieval.near_duplicates.columns import ItemNames, read_names
from jaxhash.retrieval.near_duplicates.counts import PairCounts, count_labels, count_pairs
from jaxhash.retrieval.near_duplicates.groups import (
    Groups,
    assign_by_component,
    assign_by_star,
    assign_to_others,
    expand,
)
from jaxhash.retrieval.near_duplicates.join import DistinctCodes, Pairs, distinct_codes, join_within
from jaxhash.retrieval.near_duplicates.keep import in_keep_order, keep_ranks
from jaxhash.retrieval.near_duplicates.links import Links, explain_chaining, link_by_radius
from jaxhash.utils.console import show_work
from jaxhash.utils.errors import UserError

#: How items are grouped.
Kind = Literal["star", "components"]


class NearPair(NamedTuple):
    """Two items that are near each other.

    Attributes:
        first: id of the one that is first in keep order; the one of the other index, if there is one.
        second: id of the other one.
        distance: Hamming distance of their codes.
    """

    first: int
    second: int
    distance: int


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """The pairs of near items, of which groups are made.

    Attributes:
        radius: greatest distance of a pair.
        items: number of items that were compared: of the index, without those of the other.
        distinct: distinct codes of the index, in keep order.
        others: those of the other index, in keep order; None without one.
        pairs: pairs of them.
        names: paths and labels of the items that have a near one.
        other_names: likewise, of the other index; else the same as ``names``.
        counts: pairs within each radius up to the given one.
        links: what the pairs of each radius link; None with another index, whose items are all kept.
        components: number of the component of each code that the pairs make; likewise.
    """

    radius: int
    items: int
    distinct: DistinctCodes
    others: DistinctCodes | None
    pairs: Pairs
    names: ItemNames
    other_names: ItemNames
    counts: Sequence[PairCounts]
    links: Sequence[Links] | None
    components: Int32[np.ndarray, " codes"] | None

    def check_chaining(self, kind: Kind) -> None:
        """Raises a `UserError` if items that are far apart are linked by others between them.

        Args:
            kind: how they are to be grouped; see `jaxhash.retrieval.near_duplicates.links`.
        """
        reason = self.links and explain_chaining(self.links, kind, self.items)
        if reason:
            raise UserError(reason)

    def group(self, kind: Kind = "star") -> Groups:
        """Returns the groups, in keep order.

        Args:
            kind: ``star`` for a kept item with items that are within the radius of it, ``components`` for
                all items that pairs link. With another index, its items are kept, whatever the kind.
        """
        if self.others is not None:
            assignment = assign_to_others(self.pairs, len(self.distinct.codes))
        elif kind == "star":
            assignment = assign_by_star(self.pairs, len(self.distinct.codes))
        else:
            assignment = assign_by_component(self.components, self.distinct.codes)
        return expand(self.distinct, assignment, self.others)

    def boundary(self, most: int) -> list[NearPair]:
        """Returns pairs at the greatest distance that there is within the radius, evenly spaced.

        Args:
            most: number of pairs.
        """
        farthest = int(self.pairs.distances.max(initial=0))
        at = np.flatnonzero(self.pairs.distances == farthest)
        kept = self.distinct if self.others is None else self.others
        if not len(at):  # only equal codes, each of which is there once
            repeated = _spread(np.flatnonzero(np.diff(kept.starts) > 1), most)
            first = kept.starts[:-1][repeated]
            return [
                NearPair(int(a), int(b), 0) for a, b in kept.rows[np.stack([first, first + 1], 1)]
            ]
        first, second = self.pairs.first[at], self.pairs.second[at]
        some = _spread(np.lexsort((second, first)), most)
        first, second = self.distinct.starts[first[some]], kept.starts[second[some]]
        ends = self.distinct.rows[first], kept.rows[second]
        kept_ids, others = ends if self.others is None else ends[::-1]
        return [NearPair(int(a), int(b), farthest) for a, b in zip(kept_ids, others, strict=True)]


def find_near_duplicates(
    index: Index,
    radius: int,
    *,
    keep: str = "first",
    against: Index | None = None,
    console: Console | None = None,
) -> NearDuplicates:
    """Finds all pairs of items whose codes are within a radius.

    Equal codes are compared once, so it takes time and memory for the distinct codes and their pairs, and
    for a few numbers per item.

    Args:
        index: the index.
        radius: greatest Hamming distance of a pair.
        keep: the rule by which one of several near items is kept, of `keep.KEEP_RULES`.
        against: another index of the same hash function; then pairs are of an item of each, and the
            items of this one are all kept.
        console: where to show progress; the error stream by default.

    Raises:
        UserError: if an argument is not allowed, the indexes are of different hash functions or the same
            folder, or there are more pairs than memory is meant for.
    """
    if not 0 <= radius < index.bits:
        raise UserError(f"`radius` must be from 0 to {index.bits - 1}, got {radius}")
    if against is not None:
        if index.folder.resolve() == against.folder.resolve():
            raise UserError(f"`against={against.folder}` is the index itself")
        index.check_hasher(against.digest, against.bits, f"that of {against.folder}")
    with show_work("reading codes", console):
        distinct = _read_codes(index, keep)
        others = None if against is None else _read_codes(against, keep)
    packed = None if others is None else others.codes
    pairs = _collect(join_within(distinct.codes, radius, others=packed, console=console))
    with show_work("counting pairs", console):
        return _describe(index, against, distinct, others, pairs, radius)


def _describe(
    index: Index,
    against: Index | None,
    distinct: DistinctCodes,
    others: DistinctCodes | None,
    pairs: Pairs,
    radius: int,
) -> NearDuplicates:
    """Reads the names of items that are near another one, and counts their pairs."""
    near, sizes = _which(pairs.first, distinct), np.diff(distinct.starts)
    if others is None:
        near |= _which(pairs.second, distinct) | (sizes > 1)
        [names] = [other_names] = read_names((index, _rows_of(distinct, near)))
        counts = count_pairs(pairs, sizes, _count_labels(distinct, names), radius)
        links, components = link_by_radius(distinct, pairs, radius)
    else:
        other_near, other_sizes = _which(pairs.second, others), np.diff(others.starts)
        sides = (index, _rows_of(distinct, near)), (against, _rows_of(others, other_near))
        names, other_names = read_names(*sides)
        label_counts = _count_labels(distinct, names), _count_labels(others, other_names)
        counts = count_pairs(
            pairs, sizes, label_counts[0], radius, others=(other_sizes, label_counts[1])
        )
        links = components = None
    return NearDuplicates(
        radius=radius,
        items=len(distinct.rows),
        distinct=distinct,
        others=others,
        pairs=pairs,
        names=names,
        other_names=other_names,
        counts=counts,
        links=links,
        components=components,
    )


def _read_codes(index: Index, keep: str) -> DistinctCodes:
    """Returns the distinct codes of an index in keep order."""
    distinct = distinct_codes(index)
    if not len(index):  # which has no block that tells the length of a code
        distinct = distinct._replace(codes=np.empty((0, index.manifest.code_bytes), np.uint8))
    return in_keep_order(distinct, keep_ranks(index, distinct.rows, keep))


def _which(numbers: Int[np.ndarray, " p"], distinct: DistinctCodes) -> Bool[np.ndarray, " codes"]:
    """Returns which codes have one of the numbers."""
    found = np.zeros(len(distinct.codes), bool)
    found[numbers] = True
    return found


def _rows_of(distinct: DistinctCodes, some: Bool[np.ndarray, " codes"]) -> Int64[np.ndarray, " n"]:
    """Returns the ids of the items of some codes."""
    return distinct.rows[np.repeat(some, np.diff(distinct.starts))]


def _count_labels(distinct: DistinctCodes, names: ItemNames) -> csr_array:
    """Returns the number of items of each code and label; without those that are near no other."""
    labels = np.full(len(distinct.rows), -1)
    is_named = np.isin(distinct.rows, names.ids, assume_unique=True)
    labels[is_named] = names.labels_of(distinct.rows[is_named])
    return count_labels(distinct, labels, len(names.vocabulary))


def _collect(blocks: Iterable[Pairs]) -> Pairs:
    """Returns all pairs; numbers of codes take 4 bytes."""
    parts = [Pairs(*(each.astype(np.int32) for each in block)) for block in blocks]
    empty = Pairs(*np.empty((3, 0), np.int32))
    return Pairs(*map(np.concatenate, zip(empty, *parts, strict=True)))


def _spread(values: Int64[np.ndarray, " n"], most: int) -> Int64[np.ndarray, " m"]:
    """Returns values that are evenly spaced among some, or all of them if they are few."""
    return values[np.linspace(0, len(values), min(len(values), most), endpoint=False).astype(int)]
