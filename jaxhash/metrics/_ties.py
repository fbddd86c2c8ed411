"""Tie groups and a rank that cuts them: what all metrics of a ranking share.

Items at one distance are tied. A rank k takes all of the nearer groups, a part of one, and none of
the rest; which items of the group it takes depends on their order.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash.metrics._counts import DistanceCounts, SimilarityCounts
from jaxhash.ops.arguments import Whole, whole_number

#: The order of tied items: the mean over all orders, or the order that is worst or best.
Ties = Literal["expected", "worst", "best"]

#: From here on the series of harmonic numbers is exact to float64.
_SERIES = 64


class Groups(NamedTuple):
    """The tie groups of each query [queries, groups], nearest first, and how k cuts them."""

    size: Int[np.ndarray, "..."]
    relevant: Int[np.ndarray, "..."]
    ahead: Int[np.ndarray, "..."]
    """Items in nearer groups."""
    relevant_ahead: Int[np.ndarray, "..."]
    taken: Int[np.ndarray, "..."]
    """Items of the group within rank k."""

    @property
    def fewest(self) -> Int[np.ndarray, "..."]:
        """The fewest relevant items among those taken, over the orders of the group."""
        return np.maximum(self.taken - (self.size - self.relevant), 0)

    @property
    def most(self) -> Int[np.ndarray, "..."]:
        """The most relevant items among those taken."""
        return np.minimum(self.relevant, self.taken)


def check_ties(ties: str) -> None:
    """Raise unless ``ties`` names an order."""
    if ties not in get_args(Ties):
        raise ValueError(f"ties must be one of {get_args(Ties)}, got {ties!r}")


def rank_limit(
    counts: DistanceCounts | SimilarityCounts, k: Whole | None
) -> Int[np.ndarray, "queries 1"]:
    """The rank k for each query; the whole database where it is None.

    Raises:
        ValueError: if k is below 1 or above the size of the database.
        TypeError: if k is no integer.
    """
    items = counts.total.sum(axis=1, keepdims=True)
    return items if k is None else np.full_like(items, check_rank(k, items.min()))


def check_rank(k: Whole | None, items: int | np.integer) -> int:
    """The rank k among so many items, the last where it is None; raise as `rank_limit`."""
    if k is None:
        return int(items)
    k = whole_number("k", k, least=1)
    if k > items:
        raise ValueError(f"k={k} is larger than the database of {items} items")
    return k


def tie_groups(counts: DistanceCounts, limit: Int[np.ndarray, "queries 1"]) -> Groups:
    """The groups, cut at each query's rank."""
    size, relevant = counts.total.astype(np.int64), counts.relevant.astype(np.int64)
    ahead = np.cumsum(size, axis=1) - size
    relevant_ahead = np.cumsum(relevant, axis=1) - relevant
    return Groups(size, relevant, ahead, relevant_ahead, np.clip(limit - ahead, 0, size))


def cut_group(groups: Groups) -> Groups:
    """The last group that each query's rank reaches, the one it may cut, as columns [queries]."""
    reached = groups.taken[:, ::-1] > 0
    last = groups.taken.shape[1] - 1 - reached.argmax(axis=1)[:, None]
    return Groups(*(np.take_along_axis(part, last, axis=1)[:, 0] for part in groups))


def relevant_within(
    counts: DistanceCounts, limit: Int[np.ndarray, "queries 1"], ties: Ties
) -> Float[np.ndarray, " queries"]:
    """How many relevant items are ranked within the limit."""
    check_ties(ties)
    groups = tie_groups(counts, limit)
    if ties == "expected":
        share = groups.relevant / np.maximum(groups.size, 1)
        return np.sum(groups.taken * share, axis=1)
    return (groups.fewest if ties == "worst" else groups.most).sum(axis=1).astype(np.float64)


def divide(
    part: Shaped[np.ndarray, "..."], whole: Shaped[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """The quotient, and 0 where the whole is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def harmonic_difference(
    first: Int[np.ndarray, "..."], count: Int[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """The sum of ``count`` reciprocals: of first + 1, of first + 2, and so on.

    Differences of a table of harmonic numbers would lose digits at the end of a large database;
    there the asymptotic series of both ends is subtracted term by term.

    Example:
        >>> harmonic_difference(np.array([0, 2]), np.array([2, 2]))
        array([1.5       , 0.58333333])
    """
    first, count = np.broadcast_arrays(first, count)
    end = first + count
    table = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, _SERIES + 1))])
    a, b = (np.maximum(n, _SERIES).astype(np.float64) for n in (first, end))
    series = np.log1p((b - a) / a) - (b - a) / (2 * a * b)
    for coefficient, power in ((-1 / 12, 2), (1 / 120, 4), (-1 / 252, 6)):
        series += coefficient * (b**-power - a**-power)
    near = table[np.minimum(end, _SERIES)] - table[np.minimum(first, _SERIES)]
    return near + series


def hypergeometric(
    cut: Groups,
) -> tuple[Int[np.ndarray, "queries m"], Float[np.ndarray, "queries m"]]:
    """How likely m of the items taken from a cut group are relevant, over the group's orders.

    Computed by ratios from the mode outwards, which loses no digits as factorials would. Values of
    m further away than 5 sqrt(taken), which have a probability below 1e-21 (Hoeffding), are left
    out.

    Returns:
        Values of m, some of them impossible, and the probability of each, 0 for the impossible.
    """
    size, relevant, taken = (
        part[:, None].astype(np.float64) for part in (cut.size, cut.relevant, cut.taken)
    )
    mode = np.floor((relevant + 1) * (taken + 1) / (size + 2))
    most = taken.max()
    step = np.arange(min(np.ceil(5 * np.sqrt(most)), most))
    irrelevant_left = size - relevant - taken
    m = mode + step
    rise = (relevant - m) * (taken - m) / ((m + 1) * (irrelevant_left + m + 1))
    m = mode - step
    fall = m * (irrelevant_left + m) / ((relevant - m + 1) * (taken - m + 1))
    above, below = (np.cumprod(ratio, axis=1) for ratio in (rise, fall))
    weights = np.concatenate([below[:, ::-1], np.ones_like(mode), above], axis=1)
    values = mode + np.arange(-len(step), len(step) + 1)
    return values.astype(np.int64), weights / weights.sum(axis=1, keepdims=True)
