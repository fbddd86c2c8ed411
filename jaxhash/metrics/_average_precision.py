"""Average precision under ties, in every form that is published as mAP."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

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

#: The divisor of the sum of precisions; ``"trapezoid"`` is a different sum, see `average_precision`.
DivideBy = Literal["retrieved", "all", "min", "trapezoid"]
#: How a query without anything to divide by enters the mean: as 0, or not at all.
Empty = Literal["zero", "skip"]

#: Queries per block where each query needs a row of probabilities.
_QUERIES = 256


def average_precision(
    counts: DistanceCounts,
    *,
    k: IntLike | None = None,
    divide_by: DivideBy = "all",
    ties: Ties = "expected",
) -> Float[np.ndarray, " queries"]:
    r"""Computes the average precision of each query, over all ranks or the first k, exact under ties.

    AP sums the precision at the rank of each relevant item and divides by a number of relevant
    items: by that of the whole database (``"all"``), by that within the first k (``"retrieved"``,
    the convention of the hashing papers, which can reward retrieving fewer), or by the largest
    number that k ranks could hold (``"min"``). ``"trapezoid"`` is the area under the
    precision-recall curve by trapezoids: each relevant item adds the mean of the precision at its
    rank and the precision just before it, which is 1 before the first rank.

    Consider a group of n tied items, r of them relevant, after N items of which R are relevant, with
    t of its items within the first k. In expectation over its orders their precisions sum to

    .. math:: \frac rn \Big[(R+1)\,\Delta H
              + \frac{r-1}{n-1}\,\big(t - (N+1)\,\Delta H\big)\Big],
              \qquad \Delta H = H_{N+t} - H_N

    (H are the harmonic numbers), and to :math:`m + (R-N)(H_{N+m} - H_N)` in the best order, which
    begins with m = min(r, t) relevant items; the worst order ends with them. With ``"retrieved"``
    the divisor depends on the order too: the expectation is taken over the number m of relevant
    items in the boundary group, which is hypergeometric, and the worst and the best order are the
    minimum and the maximum over m.

    Args:
        counts: counts by distance.
        k: rank to stop at; None for the whole database.
        divide_by: divisor, or ``"trapezoid"``, which divides by all relevant items.
        ties: ``"expected"``, ``"worst"`` or ``"best"`` order of the ties.

    Returns:
        One value in [0, 1] per query; 0 where the divisor is 0.

    Example:
        >>> counts = DistanceCounts(np.array([[2]]), np.array([[1]]))  # relevant first, or second
        >>> [average_precision(counts, ties=t).item() for t in ("worst", "expected", "best")]
        [0.5, 0.75, 1.0]

    Reference:
        McSherry and Najork, "Computing information retrieval performance measures efficiently in
        the presence of tied scores", ECIR 2008, for the whole ranking. The boundary
        group and the divisor "retrieved" are derived here.
    """
    check_ties(ties)
    if divide_by not in get_args(DivideBy):
        raise ValueError(f"divide_by must be one of {get_args(DivideBy)}, got {divide_by!r}")
    limit = last_ranks(counts, k)
    groups = tie_groups(counts, limit)
    if divide_by == "retrieved" and k is not None:
        return _per_retrieved(groups, ties)
    relevant = counts.relevant.sum(axis=1)
    precisions = _precisions(groups, ties).sum(axis=1)
    if divide_by == "trapezoid":
        precisions = (precisions + _precisions_before(groups, ties).sum(axis=1)) / 2
    return safe_divide(
        precisions, np.minimum(relevant, limit[:, 0]) if divide_by == "min" else relevant
    )


def mean_average_precision(
    counts: DistanceCounts,
    *,
    k: IntLike | None = None,
    divide_by: DivideBy = "all",
    empty: Empty = "zero",
    ties: Ties = "expected",
) -> float:
    """Computes the mean of `average_precision` over queries.

    A query is empty if there is nothing to divide by: nothing relevant in the database, or, with
    ``divide_by="retrieved"``, nothing relevant within the first k. The latter depends on the order
    of ties, and with ``empty="skip"`` so does the number of queries that count. Expectation, worst
    and best are then over the orders of all queries, independent of each other, including orders in
    which a query is empty. (An order in which all queries are empty has no mean.)

    Args:
        counts: counts by distance.
        k: rank to stop at; None for the whole database.
        divide_by: as in `average_precision`.
        empty: whether empty queries count as 0 (``"zero"``) or not at all (``"skip"``).
        ties: order of the ties.

    Returns:
        A value in [0, 1]; NaN if all queries are empty in every order.

    Example:
        >>> counts = DistanceCounts(np.array([[1, 1], [1, 1]]), np.array([[0, 1], [0, 0]]))
        >>> [mean_average_precision(counts, empty=empty) for empty in ("zero", "skip")]
        [0.25, 0.5]
    """
    if empty not in get_args(Empty):
        raise ValueError(f"empty must be one of {get_args(Empty)}, got {empty!r}")
    values = average_precision(counts, k=k, divide_by=divide_by, ties=ties)
    if empty == "zero":
        return float(values.mean())
    chance = nonempty_probability(counts, k=k, divide_by=divide_by)
    if divide_by != "retrieved" or k is None:
        return float(values.sum() / chance.sum()) if chance.any() else np.nan
    if ties == "expected":
        return _expected_mean(values, chance)
    groups = tie_groups(counts, last_ranks(counts, k))
    certain = groups.fewest.sum(axis=1) > 0
    optional = (chance > 0) & ~certain
    extreme = _per_retrieved(groups, ties, minimum=1)
    return _extreme_mean(extreme[certain], extreme[optional], best=ties == "best")


def nonempty_probability(
    counts: DistanceCounts, *, k: IntLike | None = None, divide_by: DivideBy = "all"
) -> Float[np.ndarray, " queries"]:
    """Computes the probability, over the orders of ties, that a query is not empty.

    These are the weights of ``empty="skip"``; they are 0 or 1 unless the divisor is the number of
    relevant items retrieved.

    Example:
        >>> counts = DistanceCounts(np.array([[2, 1]]), np.array([[1, 0]]))
        >>> nonempty_probability(counts, k=1, divide_by="retrieved").item()
        0.5
    """
    if divide_by != "retrieved" or k is None:
        return (counts.relevant.sum(axis=1) > 0).astype(np.float64)
    return hit_probability(tie_groups(counts, last_ranks(counts, k)))


def hit_probability(groups: TieGroups) -> Float[np.ndarray, " queries"]:
    """Computes the probability that a relevant item is within each query's rank."""
    cut = boundary_group(groups)
    chance = (cut.relevant_ahead > 0).astype(np.float64)
    for rows in _blocks(np.flatnonzero(cut.relevant_ahead == 0)):
        values, probability = hypergeometric(TieGroups(*(part[rows] for part in cut)))
        chance[rows] = probability.sum(axis=1, where=values > 0)
    return chance


def _blocks(rows: Int[np.ndarray, " n"]):
    return (rows[start : start + _QUERIES] for start in range(0, len(rows), _QUERIES))


def _precisions(groups: TieGroups, ties: Ties) -> Float[np.ndarray, "queries groups"]:
    """Sums the precisions at the relevant items of each group within the rank."""
    groups = TieGroups(*np.broadcast_arrays(*groups))
    # Half the groups of a ranking by real values hold nothing relevant.
    sums, held = np.zeros(groups.size.shape), np.flatnonzero(groups.relevant)
    some = TieGroups(*(part.ravel()[held] for part in groups))
    np.put(sums, held, _precisions_of_some(some, ties))
    return sums


def _precisions_of_some(groups: TieGroups, ties: Ties) -> Float[np.ndarray, " groups"]:
    """Does so for some groups, each with a relevant item."""
    size, relevant, ahead, relevant_ahead, taken = groups
    if ties == "expected":
        rank = harmonic_difference(ahead, taken)
        others = (relevant - 1) / np.maximum(size - 1, 1)
        inside = (relevant_ahead + 1) * rank + others * (taken - (ahead + 1) * rank)
        return relevant / size * inside
    found = groups.most if ties == "best" else groups.fewest
    start = ahead if ties == "best" else ahead + taken - found
    return found + (relevant_ahead - start) * harmonic_difference(start, found)


def _precisions_before(groups: TieGroups, ties: Ties) -> Float[np.ndarray, "queries groups"]:
    """Sums the precisions one rank before these items; it is 1 before the first rank."""
    size, relevant, ahead, relevant_ahead, taken = groups
    if ties == "expected":
        others = (relevant - 1) / np.maximum(size - 1, 1)
        rank = harmonic_difference(np.maximum(ahead - 1, 0), taken)
        inside = others * taken + (relevant_ahead - others * ahead) * rank
        first = np.where(ahead == 0, 1 - others, 0)  # 1 instead of `others` before the first rank
        return safe_divide(relevant, size) * (inside + first)
    found = groups.most if ties == "best" else groups.fewest
    start = ahead if ties == "best" else ahead + taken - found
    return found + (relevant_ahead - start) * harmonic_difference(np.maximum(start - 1, 0), found)


def _per_retrieved(
    groups: TieGroups, ties: Ties, minimum: int = 0
) -> Float[np.ndarray, " queries"]:
    """Computes AP over the relevant items within the rank, at least ``minimum`` of them if possible."""
    cut = boundary_group(groups)
    before = groups.ahead < cut.ahead[:, None]
    sums = _precisions(groups, ties).sum(axis=1, where=before)
    if ties == "expected":
        values = np.empty(len(sums))
        for rows in _blocks(np.arange(len(sums))):
            part = TieGroups(*(column[rows] for column in cut))
            m, probability = hypergeometric(part)
            values[rows] = np.sum(
                probability * _precision_given(part, sums[rows], m, "expected"), axis=1
            )
        return values
    fewest = np.maximum(
        cut.fewest, np.minimum(np.maximum(minimum - cut.relevant_ahead, 0), cut.most)
    )
    m = np.stack([fewest, cut.most], axis=1)
    if ties == "best":  # the value falls, then rises with m: its maximum is at an end
        return _precision_given(cut, sums, m, "best").max(axis=1)
    low, high = m.T  # and its minimum is where it begins to rise
    while np.any(low < high):
        middle = (low + high) // 2
        now, then = _precision_given(cut, sums, np.stack([middle, middle + 1], axis=1), "worst").T
        rises = then >= now
        low, high = (
            np.where(rises, low, np.minimum(middle + 1, high)),
            np.where(rises, middle, high),
        )
    return _precision_given(cut, sums, low[:, None], "worst")[:, 0]


def _precision_given(
    cut: TieGroups,
    sums: Float[np.ndarray, " queries"],
    m: Int[np.ndarray, "queries m"],
    ties: Ties,
) -> Float[np.ndarray, "queries m"]:
    """Computes AP if m items of the boundary group within the rank are relevant."""
    _, _, ahead, relevant_ahead, taken = (part[:, None] for part in cut)
    m = np.clip(m, 0, taken)
    inside = _precisions(
        TieGroups(taken, m, ahead, relevant_ahead, taken), ties
    )  # these as a group
    return safe_divide(sums[:, None] + inside, relevant_ahead + m)


def _expected_mean(
    values: Float[np.ndarray, " queries"], chance: Float[np.ndarray, " queries"]
) -> float:
    r"""Computes the expected mean over the queries that count, where query i counts with chance p_i.

    .. math:: \sum_i E[v_i c_i]\; E\Big[\frac{1}{1 + \sum_{j \ne i} c_j}\Big]

    with c = 1 for a query that counts; the number of others that count is Poisson binomial.
    """
    certain = chance >= 1.0
    p = chance[~certain & (chance > 0)]
    law = np.ones(1)  # probabilities of the number of these that count
    for one in p:
        law = np.append(law * (1 - one), 0.0) + np.append(0.0, law * one)
    none = 0.0 if certain.any() else law[0]
    if none == 1.0:
        return np.nan
    others = certain.sum() + np.arange(len(law))
    total = values[certain].sum() * safe_divide(law, others).sum()
    total += values[~certain & (chance > 0)] @ _mean_reciprocal(law, p, int(certain.sum()) + 1)
    return float(total / (1 - none))


def _mean_reciprocal(
    law: Float[np.ndarray, " numbers"], p: Float[np.ndarray, " queries"], offset: int
) -> Float[np.ndarray, " queries"]:
    """Computes E[1 / (offset + number of the others that count)] for each query.

    The query's own chance p is divided out of the law of the number, from the end where that is
    stable.
    """
    result = np.zeros(len(p))
    for rows, own, factor, terms in (
        (p <= 0.5, p, 1 - p, list(enumerate(law[:-1]))),
        (p > 0.5, 1 - p, p, list(enumerate(law[1:]))[::-1]),
    ):
        own, factor, without = own[rows], factor[rows], np.zeros(rows.sum())
        for number, chance in terms:
            without = (chance - own * without) / factor
            result[rows] += without / (offset + number)
    return result


def _extreme_mean(
    certain: Float[np.ndarray, " n"], optional: Float[np.ndarray, " m"], *, best: bool
) -> float:
    """Returns the smallest or largest mean of all certain values and any subset of the optional ones."""
    optional = np.sort(optional)[:: -1 if best else 1]
    sums = certain.sum() + np.concatenate([[0.0], np.cumsum(optional)])
    number = len(certain) + np.arange(len(sums))
    means = sums[number > 0] / number[number > 0]
    if not len(means):
        return np.nan
    return float(means.max() if best else means.min())
