"""All retrieval metrics of a set of codes in one call."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped

from jaxhash.metrics._average_precision import (
    average_precision,
    chance_to_count,
    mean_average_precision,
)
from jaxhash.metrics._bits import Bits, dead_bits
from jaxhash.metrics._conventions import Convention, find_convention
from jaxhash.metrics._counts import DistanceCounts, distance_counts
from jaxhash.metrics._inputs import FEW, Zero, code_format, code_warnings
from jaxhash.metrics._radius import (
    PrecisionRecall,
    empty_bucket,
    precision_at_radius,
    precision_recall,
    recall_at_radius,
)
from jaxhash.metrics._ranking import hit_rate, ndcg, precision_at_k, r_precision, recall_at_k
from jaxhash.metrics._ties import Ties
from jaxhash.ops.arguments import Whole, whole_number


class Score(NamedTuple):
    """One metric, averaged over queries, with what it means."""

    expected: float
    """In expectation over the order of items at the same distance."""
    worst: float
    best: float
    definition: str


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """What `retrieval` returns.

    Attributes:
        bits: length of a code.
        queries: number of queries.
        items: size of the database.
        k: rank of the metrics named ``..._at_k``; None if there are none.
        radius: Hamming radius of the metrics named ``..._radius``.
        convention: the choices behind the numbers.
        scores: metrics by name.
        without_relevant: queries with nothing relevant in the database.
        curve: precision and recall within each Hamming radius, as `precision_recall` defines them.
        values: AP of each query, at k where k is given, in expectation over ties.
        weights: the chance of each query to count, for intervals and tests: they are about the sum
            of the values by that of the weights.
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
        """All but the values of single queries, as JSON values."""
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


def retrieval(
    query_codes: Shaped[np.ndarray, "queries columns"],
    query_labels: Shaped[np.ndarray, " queries *classes"],
    database_codes: Shaped[np.ndarray, "items columns"],
    database_labels: Shaped[np.ndarray, " items *classes"],
    *,
    k: Whole | None = None,
    radius: Whole = 2,
    convention: str | Convention = "jaxhash",
    bits: Whole | None = None,
    zero: Zero = "+1",
    block: Whole | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Retrieval:
    """Evaluate hash codes: every metric, exact, in expectation over ties with both extremes beside.

    The result does not depend on the order of the database, the block size or the devices, to the
    last bit. What is implausible in the codes of one side beside those of the other is warned of; see
    `jaxhash.metrics.code_warnings`.

    Args:
        query_codes: packed uint8, bool, 0/1, -1/+1 or real-valued codes; see
            `jaxhash.metrics.code_format`.
        query_labels: class ids [queries] with -1 for none, or multi-hot rows [queries, classes].
        database_codes: codes of the same form.
        database_labels: labels of the same kind.
        k: rank of mAP@k, precision@k and their like; None leaves these out.
        radius: Hamming radius of precision, recall and the empty-bucket rate.
        convention: a name in `jaxhash.metrics.CONVENTIONS`, or a `Convention`.
        bits: length of a code, where packed codes do not fill their last byte.
        zero: what an exact zero of real-valued codes counts as: ``"+1"``, ``"-1"`` or ``"error"``.
        block: items counted at a time.
        devices: where to count; all local devices by default.

    Raises:
        ValueError: if codes, labels, k, the radius or the convention are not possible.
        TypeError: if codes or labels hold no numbers.

    Example:
        >>> codes, labels = np.array([[1, 1], [1, -1], [-1, -1]]), np.array([0, 0, 1])
        >>> result = retrieval(codes, labels, codes, labels, k=1, radius=0)
        >>> result.scores["map_at_k"].expected
        1.0
        >>> result.scores["map_at_k"].definition
        'AP@1 over min(1, relevant), empty queries count 0, relevant: a label in common'
    """
    convention = find_convention(convention)
    form = code_format(query_codes, database_codes, bits=bits, zero=zero)
    said = code_warnings(query_codes, database_codes, form)
    for side, codes in (("query", query_codes), ("database", database_codes)):
        if len(codes) >= FEW and len(dead_bits(Bits(codes, form.bits, form.read))) == form.bits:
            said.append(f"all {len(codes):,} {side} codes are the same")
    for words in said:
        warnings.warn(words, stacklevel=2)
    counts = distance_counts(
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        bits=bits,
        zero=zero,
        relevance=convention.relevance,
        block=block,
        devices=devices,
    )
    return summarize(counts, k=k, radius=radius, convention=convention)


def summarize(
    counts: DistanceCounts,
    *,
    k: Whole | None = None,
    radius: Whole = 2,
    convention: str | Convention = "jaxhash",
) -> Retrieval:
    """The metrics of `retrieval` from counts that are there already.

    Args:
        counts: counts by Hamming distance, with the convention's relevance.
        k: as in `retrieval`.
        radius: as in `retrieval`.
        convention: as in `retrieval`.

    Raises:
        ValueError: if k, the radius or the convention are not possible.

    Example:
        >>> counts = DistanceCounts(np.array([[1, 3]]), np.array([[1, 1]]))
        >>> summarize(counts).scores["empty_bucket_rate"].expected
        0.0
    """
    convention, radius = find_convention(convention), whole_number("radius", radius, least=0)
    k = None if k is None else whole_number("k", k, least=1)
    divide_by, empty, others = convention.divide_by, convention.empty, convention.others()
    answerable = counts.relevant.sum(axis=1) > 0
    every = np.ones_like(answerable)

    def of_average_precision(rank: int | None) -> Score:
        def mean(ties: Ties) -> float:
            return mean_average_precision(
                counts, k=rank, divide_by=divide_by, empty=empty, ties=ties
            )

        return _by_ties(mean, convention.average_precision(rank))

    def of(metric: Callable[..., np.ndarray], title: str, counted=answerable, *args, **options):
        kept = counted if empty == "skip" else every

        def mean(ties: Ties) -> float:
            values = metric(counts, *args, ties=ties, **options)
            return float(values[kept].mean()) if kept.any() else np.nan

        return _by_ties(mean, f"{title}, {others}")

    def within(metric: Callable[..., np.ndarray], title: str, counted) -> Score:
        return of(
            lambda counts, ties: metric(counts, radius), f"{title} within radius {radius}", counted
        )

    found = counts.total[:, : radius + 1].sum(axis=1) > 0
    scores = {"map": of_average_precision(None)}
    if k is not None:
        scores |= {
            "map_at_k": of_average_precision(k),
            "precision_at_k": of(precision_at_k, f"precision@{k}", every, k),
            "recall_at_k": of(recall_at_k, f"recall@{k}", answerable, k),
            "hit_rate_at_k": of(hit_rate, f"hit rate@{k}", answerable, k),
            "ndcg_at_k": of(ndcg, f"nDCG@{k}", answerable, k, gain=convention.gain),
        }
    scores |= {
        "ndcg": of(ndcg, "nDCG@all", answerable, gain=convention.gain),
        "r_precision": of(r_precision, "R-precision"),
        "precision_at_radius": within(precision_at_radius, "precision", found),
        "recall_at_radius": within(recall_at_radius, "recall", answerable),
        "empty_bucket_rate": within(empty_bucket, "share of queries with nothing", every),
    }
    return Retrieval(
        bits=counts.total.shape[1] - 1,
        queries=len(counts.total),
        items=int(counts.total[0].sum()),
        k=k,
        radius=radius,
        convention=convention,
        scores=scores,
        without_relevant=int((~answerable).sum()),
        curve=precision_recall(counts),
        values=average_precision(counts, k=k, divide_by=divide_by),
        weights=np.ones(len(every))
        if empty == "zero"
        else chance_to_count(counts, k=k, divide_by=divide_by),
    )


def _by_ties(mean: Callable[[Ties], float], definition: str) -> Score:
    worst, best = mean("worst"), mean("best")
    # Without ties the three are one number, computed in different ways: rounding must not part them.
    return Score(float(np.clip(mean("expected"), worst, best)), worst, best, definition)


def _no_nan(score: dict[str, Any]) -> dict[str, Any]:
    """NaN, the mean of no query, as JSON knows it."""
    return {key: None if value != value else value for key, value in score.items()}
