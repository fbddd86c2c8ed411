"""Average precision under graded relevance."""

from collections.abc import Callable
from typing import get_args

import numpy as np
from jaxtyping import Float, Int

from jaxhash.metrics._average_precision import DivideBy
from jaxhash.metrics._counts import DistanceCounts
from jaxhash.metrics._ties import (
    TieGroups,
    Ties,
    boundary_group,
    check_ties,
    harmonic_difference,
    hypergeometric,
    last_ranks,
    safe_divide,
    tie_groups,
)
from jaxhash.ops.arguments import IntLike

#: Queries per block where each query needs a row of probabilities.
_QUERIES = 256


def weighted_average_precision(
    counts: DistanceCounts,
    *,
    k: IntLike | None = None,
    divide_by: DivideBy = "all",
    ties: Ties = "expected",
) -> Float[np.ndarray, " queries"]:
    r"""Computes the weighted average precision: `average_precision` with ACG in place of precision.

    .. math:: \mathrm{WAP@}k = \frac1R \sum_{i \le k,\ g_i > 0} \mathrm{ACG@}i, \qquad
              \mathrm{ACG@}i = \frac1i \sum_{j \le i} g_j

    g is the number of labels in common, and R a number of relevant items, as in
    `average_precision`: that of the whole database (``"all"``), that within the first k
    (``"retrieved"``), or the largest that k ranks could hold (``"min"``). The mean over queries is
    the weighted mAP. The unit is labels; with binary relevance this is average precision.

    Consider a group of n tied items, r of them relevant, with G labels in common, after N items with
    F labels in common, and with t items within the first k. In expectation over its orders they add

    .. math:: \frac1n \Big[(rF + G)\,\Delta H
              + G\,\frac{r-1}{n-1}\,\big(t - (N+1)\,\Delta H\big)\Big],
              \qquad \Delta H = H_{N+t} - H_N

    (H are the harmonic numbers), since two places p and q of the group have
    :math:`E[1_{g_p > 0}\, g_q] = G (r-1) / (n (n-1))`. The best order of a group sorts its items by
    gain, largest first, and the worst order is the reverse: of two neighbors the one with more
    gain adds more in front. With ``"retrieved"`` the divisor depends on the order too: the
    expectation is taken over the number m of relevant items in the boundary group, which is
    hypergeometric, and the worst and the best order are the minimum and the maximum over m.

    Args:
        counts: counts by distance, under graded relevance; else a relevant item has gain 1.
        k: rank to stop at; None for the whole database.
        divide_by: divisor; ``"trapezoid"`` is not defined here.
        ties: ``"expected"``, ``"worst"`` or ``"best"`` order of the ties.

    Returns:
        One value per query, from 0 to the number of its labels; 0 where the divisor is 0.

    Example:
        >>> counts = DistanceCounts(np.array([[2]]), np.array([[1]]), np.array([[[0, 1]]]))
        >>> [weighted_average_precision(counts, ties=t).item() for t in ("worst", "expected", "best")]
        [1.0, 1.5, 2.0]

    Reference:
        Zhao et al., "Deep semantic ranking based hashing for multi-label image retrieval", CVPR
        2015 (the origin is recollection, not confirmed). The formula is known from public code,
        divided by the number retrieved within k, with 0 for a query that retrieves nothing. The
        other divisors and the orders of ties are derived here.
    """
    check_ties(ties)
    known = [name for name in get_args(DivideBy) if name != "trapezoid"]
    if divide_by not in known:
        raise ValueError(f"divide_by must be one of {known}, got {divide_by!r}")
    limit = last_ranks(counts, k)
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
    return safe_divide(
        sums.sum(axis=1), np.minimum(relevant, limit[:, 0]) if divide_by == "min" else relevant
    )


def _expected(
    groups: TieGroups,
    gain: Float[np.ndarray, "..."] | Int[np.ndarray, "..."],
    gain_ahead: Int[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """Computes what a group of a total gain adds in expectation."""
    size, relevant, ahead, _, taken = groups
    rank = harmonic_difference(ahead, taken)
    others = (relevant - 1) / np.maximum(size - 1, 1)
    inside = (relevant * gain_ahead + gain) * rank + gain * others * (taken - (ahead + 1) * rank)
    return safe_divide(inside, size)


def _ordered(
    groups: TieGroups,
    gain_ahead: Int[np.ndarray, "..."],
    levels: Int[np.ndarray, "... levels"],
    found: Int[np.ndarray, "..."],
    ties: Ties,
) -> Float[np.ndarray, "..."]:
    """Computes what a group adds in its best or worst order with ``found`` relevant items in the rank.

    These come first and have the largest gains, or last and have the smallest. The ACG of a run of
    items of one gain is a constant plus a multiple of the reciprocal rank.
    """
    start = groups.ahead if ties == "best" else groups.ahead + groups.taken - found
    added, left = np.zeros(np.shape(found)), found
    for one in np.arange(levels.shape[-1])[:: -1 if ties == "best" else 1]:
        number, gain = np.minimum(levels[..., one], left), one + 1
        added += gain * number + (gain_ahead - gain * start) * harmonic_difference(start, number)
        start, left, gain_ahead = start + number, left - number, gain_ahead + gain * number
    return added


def _per_retrieved(
    groups: TieGroups,
    gain: Int[np.ndarray, "queries groups"],
    gain_ahead: Int[np.ndarray, "queries groups"],
    levels: Int[np.ndarray, "queries groups levels"],
    sums: Float[np.ndarray, "queries groups"],
    ties: Ties,
) -> Float[np.ndarray, " queries"]:
    """Divides the sum by the number of relevant items within the rank."""
    cut = boundary_group(groups)
    before = sums.sum(axis=1, where=groups.ahead < cut.ahead[:, None])
    last = (groups.ahead == cut.ahead[:, None]) & (groups.taken > 0)
    gain, gain_ahead, levels = (part[last] for part in (gain, gain_ahead, levels))
    if ties == "expected":
        values = np.empty(len(before))
        for start in range(0, len(values), _QUERIES):
            rows = slice(start, start + _QUERIES)
            part = TieGroups(*(column[rows] for column in cut))
            own, ahead = (column[rows, None] for column in (gain, gain_ahead))
            m, probability = hypergeometric(part)
            size, relevant, *_, taken = columns = TieGroups(*(column[:, None] for column in part))
            m = np.clip(m, 0, taken)
            drawn = columns._replace(size=taken, relevant=m)  # these as a group
            inside = _expected(drawn, m * safe_divide(own, relevant), ahead)
            found = safe_divide(before[rows, None] + inside, columns.relevant_ahead + m)
            values[rows] = np.sum(probability * found, axis=1)
        return values

    def mean(m):
        inside = _ordered(cut, gain_ahead, levels, m, ties)
        return safe_divide(before + inside, cut.relevant_ahead + m)

    if ties == "worst":  # the sum is convex in m
        return mean(_first_true(lambda m: mean(m + 1) >= mean(m), cut.fewest, cut.most))
    # The gain of one more item rises at a decreasing rate in m, then falls. So the mean may first fall,
    # then rise, then fall; but it first falls over less than half of the way to a larger value, where
    # bisection never looks.
    top = _first_true(lambda m: mean(m + 1) <= mean(m), cut.fewest, cut.most)
    return np.maximum(mean(cut.fewest), mean(top))


def _first_true(
    predicate: Callable[[np.ndarray], np.ndarray],
    low: Int[np.ndarray, " queries"],
    high: Int[np.ndarray, " queries"],
) -> Int[np.ndarray, " queries"]:
    """Returns the first number in [low, high) where the predicate holds, else high, by bisection."""
    while np.any(low < high):
        middle = (low + high) // 2
        holds = predicate(middle)
        low, high = (
            np.where(holds, low, np.minimum(middle + 1, high)),
            np.where(holds, middle, high),
        )
    return low
