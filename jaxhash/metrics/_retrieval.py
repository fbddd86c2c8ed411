"""Retrieval metrics without a sort: everything a Hamming ranking holds, from counts per distance.

Codes at the same distance from a query are tied, and a ranking has to put them in some order. Here
no order is chosen: a metric is its expectation over all orders of the ties, with the best and the
worst order beside it.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int8, Shaped

from jaxhash.similarity import share_a_label

Ties = Literal["expected", "best", "worst"]


class DistanceCounts(NamedTuple):
    """How many database items lie at each distance from each query, nearest distance first."""

    total: Int[np.ndarray, "queries distances"]
    relevant: Int[np.ndarray, "queries distances"]


class PrecisionRecall(NamedTuple):
    """Precision and recall within each radius, averaged over queries.

    A query that retrieves nothing at a radius has no precision there and is left out of that mean;
    where no query retrieves anything the precision is NaN.
    """

    precision: Float[np.ndarray, " distances"]
    recall: Float[np.ndarray, " distances"]


def distance_counts(
    query_codes: Int8[np.ndarray, "queries bits"],
    query_labels: Shaped[np.ndarray, " queries *classes"],
    database_codes: Int8[np.ndarray, "items bits"],
    database_labels: Shaped[np.ndarray, " items *classes"],
    *,
    block: int = 64,
) -> DistanceCounts:
    """Count the database by Hamming distance from each query; relevant means a label in common.

    Args:
        query_codes: codes of -1 and +1.
        query_labels: class ids [queries], or multi-hot rows [queries, classes].
        database_codes: codes of -1 and +1.
        database_labels: labels of the same kind.
        block: queries counted at a time; memory grows with block x items.

    Returns:
        Two integer arrays [queries, bits + 1]; column d counts the items at distance d.

    Raises:
        ValueError: if the two sides differ in bits, or either is empty.

    Example:
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]], np.int8)
        >>> labels = np.array([0, 0, 1])
        >>> distance_counts(codes[:1], labels[:1], codes, labels)
        DistanceCounts(total=array([[1, 1, 1]]), relevant=array([[1, 1, 0]]))
    """
    queries, bits = query_codes.shape
    if database_codes.shape[1] != bits:
        raise ValueError(f"queries have {bits} bits, the database {database_codes.shape[1]}")
    if not queries or not len(database_codes):
        raise ValueError(f"nothing to count: {queries} queries, {len(database_codes)} items")
    columns = database_codes.T.astype(np.float32)
    counts = [
        _count_block(query_codes[rows], query_labels[rows], columns, database_labels)
        for rows in (slice(i, i + block) for i in range(0, queries, block))
    ]
    return DistanceCounts(*map(np.concatenate, zip(*counts, strict=True)))


def _count_block(query_codes, query_labels, columns, database_labels) -> DistanceCounts:
    queries, bits = query_codes.shape
    # Inner products of signs are small integers: exact in float32, and a matrix product is fast.
    distance = ((bits - query_codes.astype(np.float32) @ columns) / 2).astype(np.int64)
    bins = distance + np.arange(queries)[:, None] * (bits + 1)
    relevant = share_a_label(query_labels, database_labels)
    size, shape = queries * (bits + 1), (queries, bits + 1)
    return DistanceCounts(
        np.bincount(bins.ravel(), minlength=size).reshape(shape),
        np.bincount(bins[relevant], minlength=size).reshape(shape),
    )


def score_counts(
    scores: Float[np.ndarray, " items"], relevant: Shaped[np.ndarray, " items"]
) -> DistanceCounts:
    """The counts of one query for a ranking by real-valued scores, highest first.

    Equal scores share a column, so the metrics treat them as ties too.

    Args:
        scores: score of each database item, such as a cosine.
        relevant: True for the relevant items.

    Example:
        >>> score_counts(np.array([0.5, 0.9, 0.5]), np.array([True, False, False]))
        DistanceCounts(total=array([[1, 2]]), relevant=array([[0, 1]]))
    """
    order = np.argsort(-scores)  # in no particular order within ties: they share a column
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    total = np.diff(starts, append=len(scores))
    return DistanceCounts(
        total[None, :], np.add.reduceat(relevant[order].astype(np.int64), starts)[None, :]
    )


def average_precision(
    counts: DistanceCounts, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    r"""Average precision of each query over the whole database, exact under ties.

    AP is the mean, over all relevant items, of the precision at the item's rank. For a group of n
    tied items, r of them relevant, behind N items of which R are relevant, the precisions sum to

    .. math:: \frac rn \Big[(R+1)\,\Delta H
              + \frac{r-1}{n-1}\,\big(n - (N+1)\,\Delta H\big)\Big],
              \qquad \Delta H = H_{N+n} - H_N

    in expectation over the orders of the group (H are the harmonic numbers), and to
    :math:`r + (R-N)(H_{N+r} - H_N)` in the best order; the worst is the best with N replaced by
    N + n - r.

    Args:
        counts: counts by distance.
        ties: ``"expected"``, ``"best"`` or ``"worst"`` order of the ties.

    Returns:
        One value in [0, 1] a query; 0 for a query with nothing relevant in the database. The mean
        over queries is mAP.

    Raises:
        ValueError: if ``ties`` is unknown.

    Example:
        >>> counts = DistanceCounts(np.array([[2]]), np.array([[1]]))  # relevant first, or second
        >>> [average_precision(counts, ties=t).item() for t in ("worst", "expected", "best")]
        [0.5, 0.75, 1.0]

    Reference:
        McSherry and Najork, "Computing information retrieval performance measures efficiently in
        the presence of tied scores", ECIR 2008.
    """
    n, r = counts.total, counts.relevant
    ahead, relevant_ahead = np.cumsum(n, axis=1) - n, np.cumsum(r, axis=1) - r
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n.sum(axis=1).max() + 1))])
    if ties == "expected":
        delta = harmonic[ahead + n] - harmonic[ahead]
        others = (r - 1) / np.maximum(n - 1, 1) * (n - (ahead + 1) * delta)
        precisions = r / np.maximum(n, 1) * ((relevant_ahead + 1) * delta + others)
    elif ties in ("best", "worst"):
        before = ahead if ties == "best" else ahead + n - r
        precisions = r + (relevant_ahead - before) * (harmonic[before + r] - harmonic[before])
    else:
        raise ValueError(f"ties must be 'expected', 'best' or 'worst', got {ties!r}")
    return precisions.sum(axis=1) / np.maximum(r.sum(axis=1), 1)


def precision_at_radius(counts: DistanceCounts, radius: int = 2) -> Float[np.ndarray, " queries"]:
    """The share of relevant items among those within a Hamming radius; 0 where there are none.

    Args:
        counts: counts by Hamming distance.
        radius: largest distance that counts as retrieved.

    Example:
        >>> precision_at_radius(DistanceCounts(np.array([[1, 0, 3]]), np.array([[1, 0, 1]])))
        array([0.5])
    """
    retrieved = counts.total[:, : radius + 1].sum(axis=1)
    return counts.relevant[:, : radius + 1].sum(axis=1) / np.maximum(retrieved, 1)


def precision_recall(counts: DistanceCounts) -> PrecisionRecall:
    """Precision and recall within each Hamming radius, from 0 to bits; see `PrecisionRecall`.

    Queries with nothing relevant in the database count with recall 0.

    Example:
        >>> precision_recall(DistanceCounts(np.array([[1, 3]]), np.array([[1, 1]])))
        PrecisionRecall(precision=array([1. , 0.5]), recall=array([0.5, 1. ]))
    """
    retrieved = np.cumsum(counts.total, axis=1)
    relevant = np.cumsum(counts.relevant, axis=1)
    seen = (retrieved > 0).sum(axis=0)
    summed = (relevant / np.maximum(retrieved, 1)).sum(axis=0)
    precision = np.divide(summed, seen, out=np.full(len(seen), np.nan), where=seen > 0)
    return PrecisionRecall(precision, np.mean(relevant / np.maximum(relevant[:, -1:], 1), axis=0))
