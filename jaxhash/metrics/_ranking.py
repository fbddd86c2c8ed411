"""Metrics of the first k items of a ranking, exact under ties."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from jaxhash.metrics._average_precision import chance_of_a_hit
from jaxhash.metrics._counts import DistanceCounts
from jaxhash.metrics._ties import (
    Ties,
    check_ties,
    divide,
    rank_limit,
    relevant_within,
    tie_groups,
)
from jaxhash.ops.arguments import Whole

#: The gain of an item with g labels in common: 2^g - 1, or g.
Gain = Literal["exponential", "linear"]


def precision_at_k(
    counts: DistanceCounts, k: Whole, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    """The share of relevant items among the first k.

    Args:
        counts: counts by distance.
        k: number of items looked at.
        ties: order of the ties.

    Raises:
        ValueError: if k is no rank of the database, or ``ties`` is unknown.

    Example:
        >>> counts = DistanceCounts(np.array([[1, 4]]), np.array([[1, 2]]))
        >>> [precision_at_k(counts, 3, ties=t).item() for t in ("worst", "expected", "best")]
        [0.3333333333333333, 0.6666666666666666, 1.0]
    """
    return relevant_within(counts, rank_limit(counts, k), ties) / k


def recall_at_k(
    counts: DistanceCounts, k: Whole, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    """The share of the relevant items that is among the first k; 0 where nothing is relevant.

    Args:
        counts: counts by distance.
        k: number of items looked at.
        ties: order of the ties.

    Raises:
        ValueError: if k is no rank of the database, or ``ties`` is unknown.

    Example:
        >>> recall_at_k(DistanceCounts(np.array([[1, 4]]), np.array([[1, 3]])), 3)
        array([0.625])
    """
    return divide(relevant_within(counts, rank_limit(counts, k), ties), counts.relevant.sum(axis=1))


def hit_rate(
    counts: DistanceCounts, k: Whole, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    """The probability that something relevant is among the first k.

    Args:
        counts: counts by distance.
        k: number of items looked at.
        ties: order of the ties.

    Raises:
        ValueError: if k is no rank of the database, or ``ties`` is unknown.

    Example:
        >>> hit_rate(DistanceCounts(np.array([[4]]), np.array([[2]])), 2)  # 1 - 2/4 * 1/3
        array([0.83333333])
    """
    limit = rank_limit(counts, k)
    if ties == "expected":
        return chance_of_a_hit(tie_groups(counts, limit))
    return (relevant_within(counts, limit, ties) > 0).astype(np.float64)


def r_precision(
    counts: DistanceCounts, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    """Precision at rank R, where R is the number of relevant items of the query; 0 where it is 0.

    Args:
        counts: counts by distance.
        ties: order of the ties.

    Raises:
        ValueError: if ``ties`` is unknown.

    Example:
        >>> r_precision(DistanceCounts(np.array([[1, 4]]), np.array([[1, 2]])))
        array([0.66666667])
    """
    relevant = counts.relevant.sum(axis=1)
    return divide(relevant_within(counts, relevant[:, None], ties), relevant)


def ndcg(
    counts: DistanceCounts,
    k: Whole | None = None,
    *,
    gain: Gain = "exponential",
    ties: Ties = "expected",
) -> Float[np.ndarray, " queries"]:
    r"""Normalized discounted cumulative gain of the first k.

    .. math:: \mathrm{DCG} = \sum_{i \le k} \frac{\mathrm{gain}(g_i)}{\log_2(1 + i)}

    over the DCG of the best order of the whole database; g is the number of labels in common where
    the counts are graded, else 1 for a relevant item.

    Args:
        counts: counts by distance.
        k: number of items looked at; None for the whole database.
        gain: ``"exponential"``, 2^g - 1, or ``"linear"``, g.
        ties: order of the ties.

    Returns:
        One value in [0, 1] a query; 0 where nothing is relevant.

    Raises:
        ValueError: if k is no rank of the database, or a name is unknown.

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
    limit = rank_limit(counts, k)
    level = np.arange(1, counts.levels.shape[-1] + 1)
    gains = np.exp2(level) - 1.0 if gain == "exponential" else level.astype(np.float64)
    discount = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, limit.max() + 2)))])

    def discounts(first, count):
        """The sum of the discounts of some ranks in a row, of those up to k."""
        first, last = np.minimum(first, limit), np.minimum(first + count, limit)
        return discount[last] - discount[first]

    ideal, start = np.zeros(len(limit)), np.zeros_like(limit)
    for one in reversed(range(len(gains))):
        number = counts.levels[..., one].sum(axis=1, keepdims=True)
        ideal += gains[one] * discounts(start, number)[:, 0]
        start = start + number
    return divide(_gained(counts, gains, discounts, ties), ideal)


def average_cumulative_gain(
    counts: DistanceCounts, k: Whole, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    r"""Average cumulative gain: the mean number of labels in common of the first k.

    .. math:: \mathrm{ACG@}k = \frac1k \sum_{i \le k} g_i

    Args:
        counts: counts by distance, of graded relevance; else a relevant item has gain 1, and this
            is `precision_at_k`.
        k: number of items looked at.
        ties: order of the ties.

    Returns:
        One value a query, from 0 to the number of its labels.

    Raises:
        ValueError: if k is no rank of the database, or ``ties`` is unknown.

    Example:
        >>> counts = DistanceCounts(np.array([[2]]), np.array([[2]]), np.array([[[1, 0, 1]]]))
        >>> [average_cumulative_gain(counts, 1, ties=t).item() for t in ("worst", "expected", "best")]
        [1.0, 2.0, 3.0]

    Reference:
        Järvelin and Kekäläinen, "IR evaluation methods for retrieving highly relevant documents",
        SIGIR 2000, for the cumulated gain; its mean with labels in common is textbook in multi-label
        hashing. The mean over the orders of ties, as McSherry and Najork have it, is a choice of
        this library.
    """
    limit = rank_limit(counts, k)
    gains = np.arange(1.0, counts.levels.shape[-1] + 1)

    def ranks(first, count):
        """How many of some ranks in a row are up to k."""
        return np.minimum(first + count, limit) - np.minimum(first, limit)

    return _gained(counts, gains, ranks, ties) / k


def _gained(
    counts: DistanceCounts,
    gains: Float[np.ndarray, " levels"],
    weights: Callable[..., np.ndarray],
    ties: Ties,
) -> Float[np.ndarray, " queries"]:
    """The sum of weighted gains; ``weights`` has the sum of some ranks, from (ahead, how many)."""
    check_ties(ties)
    levels, size = counts.levels, counts.total.astype(np.int64)
    ahead = np.cumsum(size, axis=1) - size
    if ties == "expected":
        return np.sum(divide(levels @ gains, size) * weights(ahead, size), axis=1)
    order = np.arange(len(gains))[:: -1 if ties == "best" else 1]
    start = ahead if ties == "best" else ahead + size - levels.sum(axis=-1)
    found = np.zeros(len(size))
    for one in order:
        found += gains[one] * weights(start, levels[..., one]).sum(axis=1)
        start = start + levels[..., one]
    return found
