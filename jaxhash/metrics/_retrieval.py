"""All retrieval metrics of a set of codes."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped

from jaxhash.metrics._average_precision import (
    average_precision,
    mean_average_precision,
    nonempty_probability,
)
from jaxhash.metrics._bits import BitBlocks, dead_bits
from jaxhash.metrics._code_warnings import MIN_ITEMS, code_warnings
from jaxhash.metrics._conventions import Convention, get_convention
from jaxhash.metrics._counts import DistanceCounts, count_by_distance
from jaxhash.metrics._inputs import ZeroSign, infer_code_format
from jaxhash.metrics._lists import ItemLists
from jaxhash.metrics._radius import (
    PrecisionRecall,
    is_bucket_empty,
    precision_at_radius,
    precision_recall,
    recall_at_radius,
)
from jaxhash.metrics._ranking import (
    hit_rate,
    ndcg,
    precision_at_k,
    r_precision,
    recall_at_k,
    truncated_precision_at_k,
)
from jaxhash.metrics._ties import Ties
from jaxhash.ops.arguments import IntLike, as_int


class Score(NamedTuple):
    """One metric, averaged over queries, with its definition."""

    expected: float
    """The expectation over the order of items at equal distance."""
    worst: float
    best: float
    definition: str


@dataclasses.dataclass(frozen=True)
class RetrievalResult:
    """The result of `evaluate_retrieval`.

    Attributes:
        bits: length of a code.
        queries: number of queries.
        items: size of the database; with excluded items, the most that are ranked for a query.
        k: rank of the metrics named ``..._at_k``; None if there are none.
        radius: Hamming radius of the metrics named ``..._radius``.
        convention: convention of the metrics.
        scores: metrics by name.
        without_relevant: number of queries without any relevant item in the database.
        curve: precision and recall within each Hamming radius; see `precision_recall`.
        values: AP of each query, at k if k is given, in expectation over ties.
        weights: probability that each query counts. Intervals and tests are those of the sum of the
            values divided by the sum of the weights.
    """

    bits: int
    queries: int
    items: int
    k: int | None
    radius: int
    convention: Convention
    scores: dict[str, Score]
    without_relevant: int
    curve: PrecisionRecall
    values: Float[np.ndarray, " queries"]
    weights: Float[np.ndarray, " queries"]

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the values of single queries, as JSON values."""
        return {
            "bits": self.bits,
            "queries": self.queries,
            "queries_without_relevant": self.without_relevant,
            "items": self.items,
            "k": self.k,
            "radius": self.radius,
            "convention": dataclasses.asdict(self.convention),
            "scores": {name: _no_nan(score._asdict()) for name, score in self.scores.items()},
            "precision_recall": {
                "definition": "within each radius from 0 to bits; precision: mean over the queries "
                "that retrieve something there; recall: mean over all queries",
                **self.curve.to_json(),
            },
        }


def evaluate_retrieval(
    query_codes: Shaped[np.ndarray, "queries columns"],
    query_labels: Shaped[np.ndarray, " queries *classes"] | None,
    database_codes: Shaped[np.ndarray, "items columns"],
    database_labels: Shaped[np.ndarray, " items *classes"] | None,
    *,
    relevance: ItemLists | None = None,
    excluded: ItemLists | None = None,
    k: IntLike | None = None,
    ranks: Sequence[IntLike] = (),
    radius: IntLike = 2,
    convention: str | Convention = "jaxhash",
    bits: IntLike | None = None,
    zero: ZeroSign = "+1",
    block: IntLike | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> RetrievalResult:
    """Computes every retrieval metric of hash codes, exact: expected, worst and best over ties.

    The result does not depend, to the last bit, on the order of the database, the block size or the
    devices. Implausible codes are warned of; see `jaxhash.metrics.code_warnings`.

    Args:
        query_codes: packed uint8, bool, 0/1, -1/+1 or real-valued codes; see
            `jaxhash.metrics.infer_code_format`.
        query_labels: class ids [queries] with -1 for none, or multi-hot rows [queries, classes].
        database_codes: codes of the same form.
        database_labels: labels of the same kind.
        relevance: the relevant items of each query, in place of labels, which are then not read.
        excluded: items that are no part of a query's ranking, such as the query itself, or junk.
        k: rank of mAP@k, precision@k and the like; None omits these.
        ranks: further ranks; see `evaluate_counts`.
        radius: Hamming radius of precision, recall and the empty-bucket rate.
        convention: a name in `jaxhash.metrics.CONVENTIONS`, or a `Convention`.
        bits: length of a code, if packed codes do not fill their last byte.
        zero: meaning of an exact zero of real-valued codes: ``"+1"``, ``"-1"`` or ``"error"``.
        block: number of items per block.
        devices: devices to count on; all local devices by default.

    Raises:
        ValueError: if codes, labels, lists, k, a rank, the radius or the convention are invalid.
        TypeError: if codes or labels are not numbers.

    Example:
        >>> codes, labels = np.array([[1, 1], [1, -1], [-1, -1]]), np.array([0, 0, 1])
        >>> result = evaluate_retrieval(codes, labels, codes, labels, k=1, radius=0)
        >>> result.scores["map_at_k"].expected
        1.0
        >>> result.scores["map_at_k"].definition
        'AP@1 over min(1, relevant), empty queries count 0, relevant: a label in common'
        >>> itself = ItemLists.from_pairs(np.array([[0, 0], [1, 1], [2, 2]]), queries=3)
        >>> result = evaluate_retrieval(codes, labels, codes, labels, excluded=itself, ranks=(1,))
        >>> result.scores["hit_rate_at_1"].expected  # the second query's neighbors are tied
        0.5
    """
    convention = get_convention(convention)
    if relevance is not None:
        convention = dataclasses.replace(convention, relevance="listed")
    form = infer_code_format(query_codes, database_codes, bits=bits, zero=zero)
    messages = code_warnings(query_codes, database_codes, form)
    for side, codes in (("query", query_codes), ("database", database_codes)):
        if (
            len(codes) >= MIN_ITEMS
            and len(dead_bits(BitBlocks(codes, form.bits, form.read))) == form.bits
        ):
            messages.append(f"all {len(codes):,} {side} codes are the same")
    for message in messages:
        warnings.warn(message, stacklevel=2)
    counts = count_by_distance(
        (np.asanyarray(query_codes), query_labels),
        (np.asanyarray(database_codes), database_labels),
        form,
        relevance=convention.relevance if relevance is None else relevance,
        excluded=excluded,
        block=block,
        devices=devices,
    )
    return evaluate_counts(counts, k=k, ranks=ranks, radius=radius, convention=convention)


def evaluate_counts(
    counts: DistanceCounts,
    *,
    k: IntLike | None = None,
    ranks: Sequence[IntLike] = (),
    radius: IntLike = 2,
    convention: str | Convention = "jaxhash",
) -> RetrievalResult:
    """Computes the metrics of `evaluate_retrieval` from counts.

    Args:
        counts: counts by Hamming distance, with the convention's relevance.
        k: rank, as in `evaluate_retrieval`.
        ranks: further ranks of the hit rate, which metric learning calls recall@k; and under a
            convention of trapezoids also of `truncated_precision_at_k`, the mP@k of its code base.
        radius: Hamming radius, as in `evaluate_retrieval`.
        convention: convention, as in `evaluate_retrieval`.

    Example:
        >>> counts = DistanceCounts(np.array([[1, 3]]), np.array([[1, 1]]))
        >>> evaluate_counts(counts).scores["empty_bucket_rate"].expected
        0.0
    """
    convention, radius = get_convention(convention), as_int("radius", radius, minimum=0)
    k = None if k is None else as_int("k", k, minimum=1)
    divide_by, empty, shared = convention.divide_by, convention.empty, convention.describe()
    answerable = counts.relevant.sum(axis=1) > 0
    all_queries = np.ones_like(answerable)

    def average_precision_score(rank: int | None) -> Score:
        def mean(ties: Ties) -> float:
            return mean_average_precision(
                counts, k=rank, divide_by=divide_by, empty=empty, ties=ties
            )

        return _score(mean, convention.describe_average_precision(rank))

    def score(metric: Callable[..., np.ndarray], title: str, counted=answerable, *args, **options):
        kept = counted if empty == "skip" else all_queries

        def mean(ties: Ties) -> float:
            values = metric(counts, *args, ties=ties, **options)
            return float(values[kept].mean()) if kept.any() else np.nan

        return _score(mean, f"{title}, {shared}")

    def within(metric: Callable[..., np.ndarray], title: str, counted) -> Score:
        return score(
            lambda counts, ties: metric(counts, radius), f"{title} within radius {radius}", counted
        )

    found = counts.total[:, : radius + 1].sum(axis=1) > 0
    scores = {"map": average_precision_score(None)}
    if k is not None:
        scores |= {
            "map_at_k": average_precision_score(k),
            "precision_at_k": score(precision_at_k, f"precision@{k}", all_queries, k),
            "recall_at_k": score(recall_at_k, f"recall@{k}", answerable, k),
            "hit_rate_at_k": score(hit_rate, f"hit rate@{k}", answerable, k),
            "ndcg_at_k": score(ndcg, f"nDCG@{k}", answerable, k, gain=convention.gain),
        }
    for rank in (as_int("ranks", rank, minimum=1) for rank in ranks):
        scores[f"hit_rate_at_{rank}"] = score(hit_rate, f"hit rate@{rank}", answerable, rank)
        if divide_by == "trapezoid":
            scores[f"truncated_precision_at_{rank}"] = score(
                truncated_precision_at_k,
                f"precision@min({rank}, rank of the last relevant)",
                answerable,
                rank,
            )
    scores |= {
        "ndcg": score(ndcg, "nDCG@all", answerable, gain=convention.gain),
        "r_precision": score(r_precision, "R-precision"),
        "precision_at_radius": within(precision_at_radius, "precision", found),
        "recall_at_radius": within(recall_at_radius, "recall", answerable),
        "empty_bucket_rate": within(is_bucket_empty, "share of queries with nothing", all_queries),
    }
    return RetrievalResult(
        bits=counts.total.shape[1] - 1,
        queries=len(counts.total),
        items=int(counts.total.sum(axis=1).max()),
        k=k,
        radius=radius,
        convention=convention,
        scores=scores,
        without_relevant=int((~answerable).sum()),
        curve=precision_recall(counts),
        values=average_precision(counts, k=k, divide_by=divide_by),
        weights=np.ones(len(all_queries))
        if empty == "zero"
        else nonempty_probability(counts, k=k, divide_by=divide_by),
    )


def _score(mean: Callable[[Ties], float], definition: str) -> Score:
    worst, best = mean("worst"), mean("best")
    # Without ties the three are equal but computed differently; clipping removes rounding errors.
    return Score(float(np.clip(mean("expected"), worst, best)), worst, best, definition)


def _no_nan(score: dict[str, Any]) -> dict[str, Any]:
    """Replaces NaN, the mean over no query, by None for JSON."""
    return {key: None if value != value else value for key, value in score.items()}
