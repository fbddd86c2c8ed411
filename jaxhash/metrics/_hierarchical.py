"""Hierarchical precision: the similarity of the first items relative to the best possible."""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash.metrics._class_counts import check_ranking
from jaxhash.metrics._counts import SimilarityCounts
from jaxhash.metrics._ties import Ties, check_rank, check_ties, last_ranks, safe_divide
from jaxhash.ops.arguments import IntLike

#: The mean of HP@1 to HP@K, or the area under the curve by trapezoids of width 1/K.
Form = Literal["trapezoid", "mean"]


def hierarchical_precision(
    counts: SimilarityCounts, k: IntLike, *, ties: Ties = "expected"
) -> Float[np.ndarray, " queries"]:
    r"""Computes the similarity of the first k items over the largest that k items can have.

    .. math:: \mathrm{HP@}k = \frac{\sum_{i \le k} s_i}{\sum_{i \le k} s^*_i}

    s are the similarities to the query in the order of the ranking, s* those of the whole database in
    descending order. In expectation over the orders of ties an item has the mean similarity of its
    distance; the best order sorts the items of a distance by similarity.

    Args:
        counts: counts by distance and similarity, from `similarity_counts`,
            `similarity_counts_from_scores` or `leave_one_out`.
        k: rank to stop at.
        ties: order of the ties.

    Returns:
        One value in [0, 1] per query; 0 where nothing is similar.

    Example:
        >>> ranked = np.array([[[0, 1], [1, 0], [0, 0], [0, 1]]])  # similarities 0.5, 1, 0, 0.5
        >>> counts = SimilarityCounts(np.ones((1, 4), int), ranked, np.array([[1.0, 0.5]]))
        >>> [hierarchical_precision(counts, k).item() for k in (1, 2, 3, 4)]
        [0.5, 1.0, 0.75, 1.0]

    Reference:
        Known from public code: the formula is that of Barz and Denzler, "Hierarchy-based image
        embeddings for semantic image retrieval", WACV 2019. Recollection, not confirmed: it is from
        Deng, Berg and Fei-Fei, "Hierarchical semantic indexing for large scale image retrieval",
        CVPR 2011. Choices of this library: the mean over the orders of ties, after McSherry and
        Najork, ECIR 2008, and 0 for a query to which nothing is similar.
    """
    limit = last_ranks(counts, k)
    return np.array([at_k.item() for at_k in _precisions(counts, limit, limit, ties)])


def average_hierarchical_precision(
    counts: SimilarityCounts,
    k: IntLike | None = 250,
    *,
    form: Form = "trapezoid",
    ties: Ties = "expected",
) -> Float[np.ndarray, " queries"]:
    r"""Computes the average of HP@1 to HP@k.

    .. math:: \mathrm{AHP@}K = \frac1K \Big[\sum_{k=1}^K \mathrm{HP@}k
              - \frac{\mathrm{HP@}1 + \mathrm{HP@}K}2\Big]

    is the area under the curve from rank 1 to K by trapezoids of width 1/K (``"trapezoid"``). It is
    (K - 1) / K for a perfect ranking, and 0 for K = 1. ``"mean"`` omits the last term, so a perfect
    ranking has 1. All HP@k are worst, or best, in the same order of ties, and so is AHP.

    Args:
        counts: as in `hierarchical_precision`.
        k: the last rank, K; None for the whole database.
        form: ``"trapezoid"`` or ``"mean"``.
        ties: order of the ties.

    Returns:
        One value in [0, 1] per query; 0 where nothing is similar.

    Example:
        >>> ranked = np.array([[[0, 1], [1, 0], [0, 0], [0, 1]]])  # similarities 0.5, 1, 0, 0.5
        >>> counts = SimilarityCounts(np.ones((1, 4), int), ranked, np.array([[1.0, 0.5]]))
        >>> [average_hierarchical_precision(counts, 4, form=f).item() for f in ("trapezoid", "mean")]
        [0.625, 0.8125]

    Reference:
        Known from public code: ``"trapezoid"``, with K = 250, is that of Barz and Denzler, WACV
        2019; ``"mean"``, with K = 2500, that of the deep hierarchical hashing HPDH. Both use the
        order of ties that a sort leaves. The mean over all orders is a choice of this library.
    """
    _check_form(form)
    limit = last_ranks(counts, k)
    curves = _precisions(counts, np.ones_like(limit), limit, ties)
    return np.array([_average(curve, form) for curve in curves])


def mean_average_hierarchical_precision(
    counts: SimilarityCounts,
    k: IntLike | None = 250,
    *,
    form: Form = "trapezoid",
    ties: Ties = "expected",
) -> float:
    """Computes the mean of `average_hierarchical_precision` over all queries, mAHP@k.

    Args:
        counts: as in `hierarchical_precision`.
        k: the last rank; None for the whole database.
        form: ``"trapezoid"`` or ``"mean"``.
        ties: order of the ties.

    Example:
        >>> counts = SimilarityCounts(np.array([[2]]), np.array([[[1]]]), np.array([[1.0]]))
        >>> [mean_average_hierarchical_precision(counts, 2, form="mean", ties=t) for t in
        ...  ("worst", "expected", "best")]
        [0.5, 0.75, 1.0]
    """
    return float(average_hierarchical_precision(counts, k, form=form, ties=ties).mean())


def average_hierarchical_precision_from_scores(
    scores: Float[np.ndarray, " items"],
    similarity: Shaped[np.ndarray, " items"],
    k: IntLike | None = 250,
    *,
    form: Form = "trapezoid",
    ties: Ties = "expected",
) -> float:
    """Computes `average_hierarchical_precision` of one query for a ranking by real-valued scores.

    It equals that of `similarity_counts_from_scores`, but needs no table of scores by similarities,
    which is large if every item has a similarity of its own, as with embeddings.

    Args:
        scores: score of each database item, such as a cosine; the highest ranks first, and equal
            scores are ties.
        similarity: similarity of each item to the query, 0 or above.
        k: the last rank; None for the whole database.
        form: ``"trapezoid"`` or ``"mean"``.
        ties: order of the ties.

    Returns:
        A value in [0, 1]; 0 where nothing is similar.

    Raises:
        ValueError: if k is not a rank of the database, there are no items, a score is not finite, a
            similarity is not finite or is negative, or an option is unknown.

    Example:
        >>> scores, similarity = np.array([4.0, 3.0, 2.0, 1.0]), np.array([0.5, 1.0, 0.0, 0.5])
        >>> average_hierarchical_precision_from_scores(scores, similarity, 4)
        0.625

    Reference:
        That of `average_hierarchical_precision`.
    """
    _check_form(form)
    check_ties(ties)
    check_ranking(scores, similarity)
    scores, similarity = (
        np.asarray(scores),
        np.asarray(similarity),
    )  # they may be spread over a mesh
    k = check_rank(k, len(scores))
    top = scores >= np.partition(scores, -k)[-k]  # the first k, and items tied with the last
    scores, found = scores[top], similarity[top].astype(np.float64)
    order = np.lexsort((found if ties == "worst" else -found, -scores))
    scores, found = scores[order], found[order]
    starts = np.arange(len(scores))
    if ties == "expected":
        starts = np.flatnonzero(np.diff(scores, prepend=np.inf))
    runs = np.diff(starts, append=len(scores)), np.add.reduceat(found, starts)
    ideal = np.sort(np.partition(similarity, -k)[-k:].astype(np.float64))[::-1]
    return _average(
        safe_divide(_cumulative_gain(np.arange(1, k + 1), *runs), np.cumsum(ideal)), form
    )


def _check_form(form: Form) -> None:
    if form not in get_args(Form):
        raise ValueError(f"form must be one of {get_args(Form)}, got {form!r}")


def _average(curve: Float[np.ndarray, " ranks"], form: Form) -> float:
    """Averages the curve HP@1, HP@2, ..."""
    ends = 0.5 if form == "trapezoid" else 0.0
    return float((curve.sum() - ends * (curve[0] + curve[-1])) / len(curve))


def _precisions(
    counts: SimilarityCounts,
    first: Int[np.ndarray, "queries 1"],
    last: Int[np.ndarray, "queries 1"],
    ties: Ties,
) -> Iterator[Float[np.ndarray, " ranks"]]:
    """Yields HP at consecutive ranks for each query; the curve of a whole database may be long."""
    check_ties(ties)
    for row, (total, items, similarity) in enumerate(
        zip(counts.total, counts.items, counts.similarity, strict=True)
    ):
        ranks = np.arange(first[row, 0], last[row, 0] + 1)
        found = _cumulative_gain(ranks, *_runs(total, items, similarity, ties))
        of_level = items.sum(axis=0)
        yield safe_divide(found, _cumulative_gain(ranks, of_level, of_level * similarity))


def _runs(
    total: Int[np.ndarray, " distances"],
    items: Int[np.ndarray, "distances levels"],
    similarity: Float[np.ndarray, " levels"],
    ties: Ties,
) -> tuple[Int[np.ndarray, " runs"], Float[np.ndarray, " runs"]]:
    """Returns the sizes and summed similarities of runs of items of one (expected) similarity."""
    if ties == "expected":
        return total, items @ similarity
    items = np.concatenate([items, (total - items.sum(axis=1))[:, None]], axis=1)
    order = slice(None, None, -1 if ties == "worst" else 1)
    sums = items * np.append(similarity, 0.0)
    return items[:, order].ravel(), sums[:, order].ravel()


def _cumulative_gain(
    ranks: Int[np.ndarray, " ranks"],
    items: Int[np.ndarray, " runs"],
    sums: Float[np.ndarray, " runs"],
) -> Float[np.ndarray, " ranks"]:
    """Returns the summed similarity up to each rank, linear within a run, constant after the last."""
    nonempty = items > 0
    ends, gain = np.cumsum(items[nonempty]), np.cumsum(sums[nonempty])
    return np.interp(ranks, np.append(0, ends), np.append(0.0, gain))
