"""Metrics of the first k ranks, exact under ties."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from jaxhash.metrics._average_precision import hit_probability
from jaxhash.metrics._counts import DistanceCounts
from jaxhash.metrics._ties import (
    Ties,
    check_ties,
    last_ranks,
    relevant_in_top_ranks,
    safe_divide,
    tie_groups,
)
from jaxhash.ops.arguments import IntLike

#: The gain of an item with g labels in common: 2^g - 1 or g.
Gain = Literal["exponential", "linear"]


def precision_at_k(
    counts: DistanceCounts, k: IntLike, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    """Computes the share of relevant items among the first k.

    Args:
        counts: counts by distance.
        k: rank to stop at.
        ties: order of the ties.

    Example:
        >>> counts = DistanceCounts(np.array([[1, 4]]), np.array([[1, 2]]))
        >>> [precision_at_k(counts, 3, ties=t).item() for t in ("worst", "expected", "best")]
        [0.3333333333333333, 0.6666666666666666, 1.0]
    """
    return relevant_in_top_ranks(counts, last_ranks(counts, k), ties) / k


def truncated_precision_at_k(
    counts: DistanceCounts, k: IntLike, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    r"""Computes the precision at rank k, or at the last relevant item's rank L if that comes first.

    .. math:: \frac{\text{relevant items within } \min(k, L)}{\min(k, L)}

    In expectation over ties, L is the largest rank of the r relevant items among the n of the last
    group that holds any: it is within the first p of the group with chance C(p, r) / C(n, r).

    Args:
        counts: counts by distance.
        k: rank to stop at.
        ties: order of the ties.

    Returns:
        One value in [0, 1] per query; 0 where nothing is relevant.

    Example:
        >>> counts = DistanceCounts(np.array([[1, 4]]), np.array([[1, 1]]))
        >>> [truncated_precision_at_k(counts, 3, ties=t).item() for t in ("worst", "best")]
        [0.3333333333333333, 1.0]

    Reference:
        Radenović et al., "Revisiting Oxford and Paris: large-scale image retrieval benchmarking",
        CVPR 2018, the mP@k of its `compute_map`. The mean over the orders of ties is a choice of
        this library.
    """
    limit = last_ranks(counts, k)
    found = relevant_in_top_ranks(counts, limit, ties)
    groups = tie_groups(counts, limit)
    last = groups.relevant.shape[1] - 1 - (groups.relevant[:, ::-1] > 0).argmax(axis=1)
    size, relevant, ahead, _, taken = (
        np.take_along_axis(part, last[:, None], axis=1)[:, 0] for part in groups
    )
    values, all_relevant = found / limit[:, 0], counts.relevant.sum(axis=1)
    if ties != "expected":
        end = ahead + (size if ties == "worst" else relevant)
        return np.where(end <= limit[:, 0], safe_divide(all_relevant, end), values)
    for query in np.flatnonzero((relevant > 0) & (relevant <= taken)):
        n, r, t, start = (int(part[query]) for part in (size, relevant, taken, ahead))
        places = np.arange(r, t + 1)  # of the last relevant item in its group
        all_in_taken = np.prod((t - np.arange(r)) / (n - np.arange(r)))
        falls = np.concatenate([[1.0], np.cumprod(((places[1:] - r) / places[1:])[::-1])])[::-1]
        chance = all_in_taken * falls * r / places
        total = all_relevant[query]
        values[query] += chance @ (total / (start + places) - total / limit[query, 0])
    return values


def recall_at_k(
    counts: DistanceCounts, k: IntLike, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    """Computes the share of the relevant items that are among the first k; 0 if nothing is relevant.

    Args:
        counts: counts by distance.
        k: rank to stop at.
        ties: order of the ties.

    Example:
        >>> recall_at_k(DistanceCounts(np.array([[1, 4]]), np.array([[1, 3]])), 3)
        array([0.625])
    """
    return safe_divide(
        relevant_in_top_ranks(counts, last_ranks(counts, k), ties), counts.relevant.sum(axis=1)
    )


def hit_rate(
    counts: DistanceCounts, k: IntLike, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    """Computes the probability that a relevant item is among the first k.

    Args:
        counts: counts by distance.
        k: rank to stop at.
        ties: order of the ties.

    Example:
        >>> hit_rate(DistanceCounts(np.array([[4]]), np.array([[2]])), 2)  # 1 - 2/4 * 1/3
        array([0.83333333])
    """
    limit = last_ranks(counts, k)
    if ties == "expected":
        return hit_probability(tie_groups(counts, limit))
    return (relevant_in_top_ranks(counts, limit, ties) > 0).astype(np.float64)


def r_precision(
    counts: DistanceCounts, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    """Computes the precision at rank R, the number of relevant items of the query; 0 if R is 0.

    Args:
        counts: counts by distance.
        ties: order of the ties.

    Example:
        >>> r_precision(DistanceCounts(np.array([[1, 4]]), np.array([[1, 2]])))
        array([0.66666667])
    """
    relevant = counts.relevant.sum(axis=1)
    return safe_divide(relevant_in_top_ranks(counts, relevant[:, None], ties), relevant)


def ndcg(
    counts: DistanceCounts,
    k: IntLike | None = None,
    *,
    gain: Gain = "exponential",
    ties: Ties = "expected",
) -> Float[np.ndarray, " queries"]:
    r"""Computes the normalized discounted cumulative gain of the first k.

    .. math:: \mathrm{DCG} = \sum_{i \le k} \frac{\mathrm{gain}(g_i)}{\log_2(1 + i)}

    is divided by the DCG of the best order of the whole database. g is the number of labels in common
    under graded relevance, else 1 for a relevant item.

    Args:
        counts: counts by distance.
        k: rank to stop at; None for the whole database.
        gain: ``"exponential"`` for 2^g - 1, or ``"linear"`` for g.
        ties: order of the ties.

    Returns:
        One value in [0, 1] per query; 0 where nothing is relevant.

    Example:
        >>> counts = DistanceCounts(np.array([[1, 1]]), np.array([[0, 1]]))
        >>> ndcg(counts)  # the only relevant item comes second: 1 / log2(3)
        array([0.63092975])

    Reference:
        Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002, with
        the exponential gain of Burges et al., ICML 2005. Ties as in McSherry and Najork, ECIR 2008.
    """
    check_ties(ties)
    if gain not in get_args(Gain):
        raise ValueError(f"gain must be one of {get_args(Gain)}, got {gain!r}")
    limit = last_ranks(counts, k)
    level = np.arange(1, counts.levels.shape[-1] + 1)
    gains = np.exp2(level) - 1.0 if gain == "exponential" else level.astype(np.float64)
    discount = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, limit.max() + 2)))])

    def discounts(first, count):
        """Sums the discounts of consecutive ranks, up to k."""
        first, last = np.minimum(first, limit), np.minimum(first + count, limit)
        return discount[last] - discount[first]

    ideal, start = np.zeros(len(limit)), np.zeros_like(limit)
    for one in reversed(range(len(gains))):
        number = counts.levels[..., one].sum(axis=1, keepdims=True)
        ideal += gains[one] * discounts(start, number)[:, 0]
        start = start + number
    return safe_divide(_cumulative_gain(counts, gains, discounts, ties), ideal)


def average_cumulative_gain(
    counts: DistanceCounts, k: IntLike, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    r"""Computes the average cumulative gain, the mean number of labels in common of the first k.

    .. math:: \mathrm{ACG@}k = \frac1k \sum_{i \le k} g_i

    Args:
        counts: counts by distance, under graded relevance; else a relevant item has gain 1, and the
            result is `precision_at_k`.
        k: rank to stop at.
        ties: order of the ties.

    Returns:
        One value per query, from 0 to the number of its labels.

    Example:
        >>> counts = DistanceCounts(np.array([[2]]), np.array([[2]]), np.array([[[1, 0, 1]]]))
        >>> [average_cumulative_gain(counts, 1, ties=t).item() for t in ("worst", "expected", "best")]
        [1.0, 2.0, 3.0]

    Reference:
        Järvelin and Kekäläinen, "IR evaluation methods for retrieving highly relevant documents",
        SIGIR 2000, for the cumulated gain; its mean with labels in common is standard in multi-label
        hashing. The mean over the orders of ties, after McSherry and Najork, is a choice of this
        library.
    """
    limit = last_ranks(counts, k)
    gains = np.arange(1.0, counts.levels.shape[-1] + 1)

    def ranks(first, count):
        """Counts those of consecutive ranks that are up to k."""
        return np.minimum(first + count, limit) - np.minimum(first, limit)

    return _cumulative_gain(counts, gains, ranks, ties) / k


def _cumulative_gain(
    counts: DistanceCounts,
    gains: Float[np.ndarray, " levels"],
    weights: Callable[..., np.ndarray],
    ties: Ties,
) -> Float[np.ndarray, " queries"]:
    """Sums weighted gains; ``weights(ahead, count)`` is the total weight of consecutive ranks."""
    check_ties(ties)
    levels, size = counts.levels, counts.total.astype(np.int64)
    ahead = np.cumsum(size, axis=1) - size
    if ties == "expected":
        return np.sum(safe_divide(levels @ gains, size) * weights(ahead, size), axis=1)
    order = np.arange(len(gains))[:: -1 if ties == "best" else 1]
    start = ahead if ties == "best" else ahead + size - levels.sum(axis=-1)
    found = np.zeros(len(size))
    for one in order:
        found += gains[one] * weights(start, levels[..., one]).sum(axis=1)
        start = start + levels[..., one]
    return found
