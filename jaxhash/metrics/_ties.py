"""Tie groups and ranks, which all metrics of a ranking share.

Items at equal distance are tied. The first k ranks hold the nearer groups completely, a part of the
*boundary group*, and nothing of the others; which part depends on the order of the ties.
"""

import functools
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash.metrics._counts import DistanceCounts, SimilarityCounts
from jaxhash.ops.arguments import IntLike, as_int

#: The order of tied items: the mean over all orders, or the worst or the best order.
Ties = Literal["expected", "worst", "best"]

#: The asymptotic series of harmonic numbers is exact in float64 from this number on.
_SERIES = 64

#: Ranks whose single reciprocals are kept, 1 MiB.
_TABLE = 2**17


class TieGroups(NamedTuple):
    """The tie groups of each query [queries, groups], nearest first, and their items within rank k."""

    size: Int[np.ndarray, "..."]
    relevant: Int[np.ndarray, "..."]
    ahead: Int[np.ndarray, "..."]
    """Number of items in nearer groups."""
    relevant_ahead: Int[np.ndarray, "..."]
    taken: Int[np.ndarray, "..."]
    """Number of items of the group within rank k."""

    @property
    def fewest(self) -> Int[np.ndarray, "..."]:
        """The smallest number of relevant items within rank k, over the orders of the group."""
        return np.maximum(self.taken - (self.size - self.relevant), 0)

    @property
    def most(self) -> Int[np.ndarray, "..."]:
        """The largest number of relevant items within rank k, over the orders of the group."""
        return np.minimum(self.relevant, self.taken)


def check_ties(ties: str) -> None:
    """Raises ValueError unless ``ties`` is an order."""
    if ties not in get_args(Ties):
        raise ValueError(f"ties must be one of {get_args(Ties)}, got {ties!r}")


def last_ranks(
    counts: DistanceCounts | SimilarityCounts, k: IntLike | None
) -> Int[np.ndarray, "queries 1"]:
    """Returns the last rank of each query, k or the size of the database.

    Raises:
        ValueError: if k is below 1 or above the size of the database.
        TypeError: if k is not an integer.
    """
    items = counts.total.sum(axis=1, keepdims=True)
    return items if k is None else np.full_like(items, check_rank(k, items.min()))


def check_rank(k: IntLike | None, items: int | np.integer) -> int:
    """Returns the rank k among a number of items, the last for None; raises like `last_ranks`."""
    if k is None:
        return int(items)
    k = as_int("k", k, minimum=1)
    if k > items:
        raise ValueError(f"k={k} is larger than the database of {items} items")
    return k


def tie_groups(counts: DistanceCounts, limit: Int[np.ndarray, "queries 1"]) -> TieGroups:
    """Returns the tie groups, with the items of each within the query's last rank."""
    size, relevant = counts.total.astype(np.int64), counts.relevant.astype(np.int64)
    ahead = np.cumsum(size, axis=1) - size
    relevant_ahead = np.cumsum(relevant, axis=1) - relevant
    return TieGroups(size, relevant, ahead, relevant_ahead, np.clip(limit - ahead, 0, size))


def boundary_group(groups: TieGroups) -> TieGroups:
    """Returns the last group within each query's rank, as columns [queries]."""
    reached = groups.taken[:, ::-1] > 0
    last = groups.taken.shape[1] - 1 - reached.argmax(axis=1)[:, None]
    return TieGroups(*(np.take_along_axis(part, last, axis=1)[:, 0] for part in groups))


def relevant_in_top_ranks(
    counts: DistanceCounts, limit: Int[np.ndarray, "queries 1"], ties: Ties
) -> Float[np.ndarray, " queries"]:
    """Counts the relevant items within the last rank."""
    check_ties(ties)
    groups = tie_groups(counts, limit)
    if ties == "expected":
        share = groups.relevant / np.maximum(groups.size, 1)
        return np.sum(groups.taken * share, axis=1)
    return (groups.fewest if ties == "worst" else groups.most).sum(axis=1).astype(np.float64)


def safe_divide(
    part: Shaped[np.ndarray, "..."], whole: Shaped[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Returns the quotient, and 0 where the whole is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def harmonic_difference(
    first: Int[np.ndarray, "..."], count: Int[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Returns the sum of ``count`` reciprocals, 1 / (first + 1) + 1 / (first + 2) + ...

    Differences of a table of harmonic numbers would lose digits at the end of a large database, so
    there the asymptotic series of both ends are subtracted term by term.

    Example:
        >>> harmonic_difference(np.array([0, 2]), np.array([2, 2]))
        array([1.5       , 0.58333333])
    """
    first, count = np.broadcast_arrays(first, count)
    sums = _reciprocals().take(first, mode="clip")  # what a ranking by real values needs most
    others = (count != 1) | (first >= _TABLE)
    sums[others] = _sum_of_reciprocals(first[others], count[others])
    return sums


@functools.cache
def _reciprocals() -> Float[np.ndarray, " ranks"]:
    """Returns the sums of one reciprocal, of the same digits as any other sum."""
    first = np.arange(_TABLE)
    return _sum_of_reciprocals(first, np.ones_like(first))


def _sum_of_reciprocals(
    first: Int[np.ndarray, " n"], count: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Does what `harmonic_difference` does, by table and series."""
    end = first + count
    table = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, _SERIES + 1))])
    a, b = (np.maximum(n, _SERIES).astype(np.float64) for n in (first, end))
    series = np.log1p((b - a) / a) - (b - a) / (2 * a * b)
    for coefficient, power in ((-1 / 12, 2), (1 / 120, 4), (-1 / 252, 6)):
        series += coefficient * (b**-power - a**-power)
    near = table[np.minimum(end, _SERIES)] - table[np.minimum(first, _SERIES)]
    return near + series


def hypergeometric(
    cut: TieGroups,
) -> tuple[Int[np.ndarray, "queries m"], Float[np.ndarray, "queries m"]]:
    """Returns the distribution of the number m of relevant items within the rank in a boundary group.

    It is computed by ratios from the mode outwards, which loses no digits as factorials would. Values
    of m farther away than 5 sqrt(taken), whose probability is below 1e-21 (Hoeffding), are left out.

    Returns:
        Values of m, some of them impossible, and the probability of each, 0 for impossible ones.
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
