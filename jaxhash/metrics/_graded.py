"""Average precision of graded relevance: the gain of what is found, rank by rank."""

from collections.abc import Callable
from typing import get_args

import numpy as np
from jaxtyping import Float, Int

from jaxhash.metrics._average_precision import DivideBy
from jaxhash.metrics._counts import DistanceCounts
from jaxhash.metrics._ties import (
    Groups,
    Ties,
    check_ties,
    cut_group,
    divide,
    harmonic_difference,
    hypergeometric,
    rank_limit,
    tie_groups,
)
from jaxhash.ops.arguments import Whole

#: Queries treated together where a query needs a row of probabilities.
_QUERIES = 256


def weighted_average_precision(
    counts: DistanceCounts,
    *,
    k: Whole | None = None,
    divide_by: DivideBy = "all",
    ties: Ties = "expected",
) -> Float[np.ndarray, " queries"]:
    r"""Weighted average precision: `average_precision` with the ACG of a rank for its precision.

    .. math:: \mathrm{WAP@}k = \frac1R \sum_{i \le k,\ g_i > 0} \mathrm{ACG@}i, \qquad
              \mathrm{ACG@}i = \frac1i \sum_{j \le i} g_j

    g is the number of labels in common, and R a number of relevant items, as in
    `average_precision`: of the whole database (``"all"``), of those within the first k
    (``"retrieved"``), or the most that k could hold (``"min"``). The mean over queries is the
    weighted mAP. A value is in units of labels; with binary relevance it is average precision.

    A group of n tied items, r of them relevant, with G labels in common, behind N items with F
    labels in common, has t of its items within the first k. In expectation over its orders they add

    .. math:: \frac1n \Big[(rF + G)\,\Delta H
              + G\,\frac{r-1}{n-1}\,\big(t - (N+1)\,\Delta H\big)\Big],
              \qquad \Delta H = H_{N+t} - H_N

    (H are the harmonic numbers), since two places p and q of the group have
    :math:`E[1_{g_p > 0}\, g_q] = G (r-1) / (n (n-1))`. The best order of a group sorts its items by
    gain, greatest first, and the worst order is the reverse: of two neighbors the one with more
    gain adds more in front. With ``"retrieved"`` the divisor depends on the order too: the
    expectation is taken over the number m of relevant items that a cut group contributes, which is
    hypergeometric, and the worst and the best order are the least and the greatest value over m.

    Args:
        counts: counts by distance, of graded relevance; else a relevant item has gain 1.
        k: rank to stop at; None for the whole database.
        divide_by: the divisor; ``"trapezoid"`` is not defined here.
        ties: ``"expected"``, ``"worst"`` or ``"best"`` order of the ties.

    Returns:
        One value a query, from 0 to the number of its labels; 0 where the divisor is 0.

    Raises:
        ValueError: if k is no rank of the database, or a name is unknown.

    Example:
        >>> counts = DistanceCounts(np.array([[2]]), np.array([[1]]), np.array([[[0, 1]]]))
        >>> [weighted_average_precision(counts, ties=t).item() for t in ("worst", "expected", "best")]
        [1.0, 1.5, 2.0]

    Reference:
        Zhao et al., "Deep semantic ranking based hashing for multi-label image retrieval", CVPR
        2015 (recollection, not confirmed: where it comes from). Known from public code: the
        formula, divided by what is retrieved within k, with 0 for a query that retrieves nothing.
        The other divisors and the orders of ties are worked out here.
    """
    check_ties(ties)
    known = [name for name in get_args(DivideBy) if name != "trapezoid"]
    if divide_by not in known:
        raise ValueError(f"divide_by must be one of {known}, got {divide_by!r}")
    limit = rank_limit(counts, k)
    groups = tie_groups(counts, limit)
    levels = counts.levels.astype(np.int64)
    gain = levels @ np.arange(1, levels.shape[-1] + 1)
    gain_ahead = np.cumsum(gain, axis=1) - gain
    if ties == "expected":
        sums = _expected(groups, gain, gain_ahead)
    else:
        found = groups.most if ties == "best" else groups.fewest
        sums = _ordered(groups, gain_ahead, levels, found, ties)
    if divide_by == "retrieved" and k is not None:
        return _per_retrieved(groups, gain, gain_ahead, levels, sums, ties)
    relevant = counts.relevant.sum(axis=1)
    return divide(
        sums.sum(axis=1), np.minimum(relevant, limit[:, 0]) if divide_by == "min" else relevant
    )


def _expected(
    groups: Groups,
    gain: Float[np.ndarray, "..."] | Int[np.ndarray, "..."],
    gain_ahead: Int[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """What a group adds in expectation, where its items have this gain in all."""
    size, relevant, ahead, _, taken = groups
    rank = harmonic_difference(ahead, taken)
    others = (relevant - 1) / np.maximum(size - 1, 1)
    inside = (relevant * gain_ahead + gain) * rank + gain * others * (taken - (ahead + 1) * rank)
    return divide(inside, size)


def _ordered(
    groups: Groups,
    gain_ahead: Int[np.ndarray, "..."],
    levels: Int[np.ndarray, "... levels"],
    found: Int[np.ndarray, "..."],
    ties: Ties,
) -> Float[np.ndarray, "..."]:
    """What a group adds in its best or worst order, if this many of those taken are relevant.

    They come first and are those of the greatest gain, or last and those of the least. Items of one
    gain, in a row, add ACG that is a constant and a multiple of the reciprocal rank.
    """
    start = groups.ahead if ties == "best" else groups.ahead + groups.taken - found
    added, left = np.zeros(np.shape(found)), found
    for one in np.arange(levels.shape[-1])[:: -1 if ties == "best" else 1]:
        number, gain = np.minimum(levels[..., one], left), one + 1
        added += gain * number + (gain_ahead - gain * start) * harmonic_difference(start, number)
        start, left, gain_ahead = start + number, left - number, gain_ahead + gain * number
    return added


def _per_retrieved(
    groups: Groups,
    gain: Int[np.ndarray, "queries groups"],
    gain_ahead: Int[np.ndarray, "queries groups"],
    levels: Int[np.ndarray, "queries groups levels"],
    sums: Float[np.ndarray, "queries groups"],
    ties: Ties,
) -> Float[np.ndarray, " queries"]:
    """The sum divided by the relevant items within the rank."""
    cut = cut_group(groups)
    before = sums.sum(axis=1, where=groups.ahead < cut.ahead[:, None])
    last = (groups.ahead == cut.ahead[:, None]) & (groups.taken > 0)
    gain, gain_ahead, levels = (part[last] for part in (gain, gain_ahead, levels))
    if ties == "expected":
        values = np.empty(len(before))
        for start in range(0, len(values), _QUERIES):
            rows = slice(start, start + _QUERIES)
            part = Groups(*(column[rows] for column in cut))
            own, ahead = (column[rows, None] for column in (gain, gain_ahead))
            m, probability = hypergeometric(part)
            size, relevant, *_, taken = columns = Groups(*(column[:, None] for column in part))
            m = np.clip(m, 0, taken)
            drawn = columns._replace(size=taken, relevant=m)  # a group of its own
            inside = _expected(drawn, m * divide(own, relevant), ahead)
            found = divide(before[rows, None] + inside, columns.relevant_ahead + m)
            values[rows] = np.sum(probability * found, axis=1)
        return values

    def mean(m):
        inside = _ordered(cut, gain_ahead, levels, m, ties)
        return divide(before + inside, cut.relevant_ahead + m)

    if ties == "worst":  # the sum is convex in m
        return mean(_turn(lambda m: mean(m + 1) >= mean(m), cut.fewest, cut.most))
    # What one more item adds rises ever more slowly with m, then falls. So the mean may fall first,
    # then rise, then fall, but over less than half of the way to any greater value: halving the way
    # never lands there.
    top = _turn(lambda m: mean(m + 1) <= mean(m), cut.fewest, cut.most)
    return np.maximum(mean(cut.fewest), mean(top))


def _turn(
    turned: Callable[[np.ndarray], np.ndarray],
    low: Int[np.ndarray, " queries"],
    high: Int[np.ndarray, " queries"],
) -> Int[np.ndarray, " queries"]:
    """The first number from low on where this holds, of those below high; else high."""
    while np.any(low < high):
        middle = (low + high) // 2
        now = turned(middle)
        low, high = (
            np.where(now, low, np.minimum(middle + 1, high)),
            np.where(now, middle, high),
        )
    return low
