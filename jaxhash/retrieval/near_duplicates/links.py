"""Links codes by the pairs within each radius, and says where these links chain.

If a is near b and b near c, the three are linked, and a may be far from c. Where many are, the radius is
too large for near duplicates: it links what is merely alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxhash.retrieval.near_duplicates.groups import assign_by_component
from jaxhash.retrieval.near_duplicates.join import DistinctCodes, Pairs

#: A linked group that chains is tolerated among stars if it holds at most so many items, or at most this
#: share of all. Of 20,000 images of CIFAR-10 (ITQ, 64 bits) the largest holds 0.4 % at radius 4, where
#: pairs look alike, 2.6 % at 6 and 8 % at 8.
SMALL_GROUP = 50
SMALL_SHARE = 0.01


class Links(NamedTuple):
    """The groups of items that the pairs within a radius link, directly or by others.

    Attributes:
        radius: the radius.
        groups: number of groups of at least two items.
        largest: items in the largest group; 0 if there is none.
        farthest: greatest distance of an item to the one that is kept of its group.
        chained_groups: number of groups that hold an item farther than the radius from the kept one.
        largest_chained: items in the largest of these; 0 if there is none.
    """

    radius: int
    groups: int
    largest: int
    farthest: int
    chained_groups: int
    largest_chained: int


def link_by_radius(
    distinct: DistinctCodes, pairs: Pairs, radius: int
) -> tuple[list[Links], Int32[np.ndarray, " codes"]]:
    """Returns what is linked at each radius up to one, and the component of each code at that one.

    Args:
        distinct: distinct codes in keep order.
        pairs: their pairs within the radius.
        radius: the greatest radius.

    Example:
        >>> codes = np.array([[0b0000], [0b0001], [0b0011], [0b1111_0000]], np.uint8)
        >>> distinct = DistinctCodes(codes, np.array([0, 1, 2, 4, 5]), np.arange(5))
        >>> pairs = Pairs(np.array([0, 1]), np.array([1, 2]), np.array([1, 1], np.int32))
        >>> found, components = link_by_radius(distinct, pairs, 1)
        >>> found[1], components.tolist()
        (Links(radius=1, groups=1, largest=4, farthest=2, chained_groups=1, largest_chained=4), [0, 0, 0, 1])
    """
    sizes = np.diff(distinct.starts)
    components = np.arange(len(sizes), dtype=np.int32)
    found = []
    for each in range(radius + 1):
        at = pairs.distances == each
        if at.any():
            components = _link(components, pairs.first[at], pairs.second[at])
        distances = assign_by_component(components, distinct.codes).distances
        count = int(components.max(initial=-1)) + 1
        items = np.bincount(components, weights=sizes, minlength=count).astype(np.int64)
        farthest = np.zeros(count, np.int32)
        np.maximum.at(farthest, components, distances)
        linked, chained = items[items > 1], items[farthest > each]
        found.append(
            Links(
                each,
                groups=len(linked),
                largest=int(linked.max(initial=0)),
                farthest=int(farthest.max(initial=0)),
                chained_groups=len(chained),
                largest_chained=int(chained.max(initial=0)),
            )
        )
    return found, components


def explain_chaining(links: Sequence[Links], kind: str, items: int) -> str | None:
    """Returns why groups are refused at the last radius; None if they are not.

    Components are refused if one holds an item farther than the radius from the item that is kept. Stars
    hold none; they are refused if the pairs chain into one large group all the same, since then it depends
    on little which items are kept.

    Args:
        links: what is linked at each radius, from 0.
        kind: ``star`` or ``components``.
        items: number of all items.
    """
    last = links[-1]
    if not _is_refused(last, kind, items):
        return None
    good = max(each.radius for each in links if not _is_refused(each, kind, items))  # 0 always is
    return (
        f"pairs within `radius={last.radius}` chain: {last.chained_groups:,} of {last.groups:,} groups "
        f"that they link hold items farther than that from the one that is kept, up to {last.farthest}; "
        f"the largest has {last.largest_chained:,} items, {last.largest_chained / items:.1%} of all; "
        f"choose {f'`radius={good}` or less' if good else '`radius=0`'}, or `force`"
    )


def _is_refused(links: Links, kind: str, items: int) -> bool:
    if kind == "components":
        return links.chained_groups > 0
    return is_large(links.largest_chained, items)


def is_large(group: int, items: int) -> bool:
    """Returns whether a group holds so many of all items that they are hardly copies of one."""
    return group > max(SMALL_GROUP, SMALL_SHARE * items)


def _link(
    components: Int[np.ndarray, " codes"],
    first: Int[np.ndarray, " p"],
    second: Int[np.ndarray, " p"],
) -> Int32[np.ndarray, " codes"]:
    """Returns the components of codes once some pairs more link them."""
    count = int(components.max()) + 1
    edges = np.ones(len(first), bool), (components[first], components[second])
    _, merged = connected_components(coo_array(edges, shape=(count, count)), directed=False)
    return merged[components]
