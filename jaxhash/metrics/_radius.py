"""Metrics within a Hamming radius, which do not depend on ties."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxhash.metrics._counts import DistanceCounts
from jaxhash.metrics._ties import safe_divide
from jaxhash.ops.arguments import IntLike, as_int


class PrecisionRecall(NamedTuple):
    """Precision and recall within each radius, averaged over queries.

    A query that retrieves nothing within a radius is left out of the mean precision there; if no
    query retrieves anything, the precision is NaN.
    """

    precision: Float[np.ndarray, " distances"]
    recall: Float[np.ndarray, " distances"]

    def to_json(self) -> dict[str, list[float | None]]:
        """Returns the curve as lists, with None where the precision is NaN."""
        precision = [None if np.isnan(p) else p for p in self.precision.tolist()]
        return {"precision": precision, "recall": self.recall.tolist()}


def precision_at_radius(
    counts: DistanceCounts, radius: IntLike = 2
) -> Float[np.ndarray, " queries"]:
    """Computes the share of relevant items among those within a Hamming radius; 0 if there are none.

    Args:
        counts: counts by Hamming distance.
        radius: largest distance that counts as retrieved.

    Example:
        >>> precision_at_radius(DistanceCounts(np.array([[1, 0, 3]]), np.array([[1, 0, 1]])))
        array([0.5])
    """
    return safe_divide(_within(counts.relevant, radius), _within(counts.total, radius))


def recall_at_radius(counts: DistanceCounts, radius: IntLike = 2) -> Float[np.ndarray, " queries"]:
    """Computes the share of the relevant items within a Hamming radius; 0 if nothing is relevant.

    Args:
        counts: counts by Hamming distance.
        radius: largest distance that counts as retrieved.

    Example:
        >>> recall_at_radius(DistanceCounts(np.array([[1, 0, 3]]), np.array([[1, 0, 1]])), 1)
        array([0.5])
    """
    return safe_divide(_within(counts.relevant, radius), counts.relevant.sum(axis=1))


def is_bucket_empty(counts: DistanceCounts, radius: IntLike = 2) -> Float[np.ndarray, " queries"]:
    """Returns 1 for a query without any item within a Hamming radius, and 0 for others.

    The mean over queries is the empty-bucket rate.

    Args:
        counts: counts by Hamming distance.
        radius: largest distance that counts as retrieved.

    Example:
        >>> is_bucket_empty(DistanceCounts(np.array([[1, 0], [0, 3]]), np.array([[1, 0], [0, 1]])), 0)
        array([0., 1.])
    """
    return (_within(counts.total, radius) == 0).astype(np.float64)


def precision_recall(counts: DistanceCounts) -> PrecisionRecall:
    """Computes precision and recall within each Hamming radius, from 0 to bits.

    Queries without any relevant item in the database count with recall 0; see `PrecisionRecall`.

    Example:
        >>> precision_recall(DistanceCounts(np.array([[1, 3]]), np.array([[1, 1]])))
        PrecisionRecall(precision=array([1. , 0.5]), recall=array([0.5, 1. ]))
    """
    retrieved = np.cumsum(counts.total, axis=1)
    relevant = np.cumsum(counts.relevant, axis=1)
    nonempty = (retrieved > 0).sum(axis=0)
    precision = np.where(
        nonempty, safe_divide(safe_divide(relevant, retrieved).sum(axis=0), nonempty), np.nan
    )
    return PrecisionRecall(precision, safe_divide(relevant, relevant[:, -1:]).mean(axis=0))


def _within(counts: np.ndarray, radius: IntLike) -> np.ndarray:
    radius = as_int("radius", radius, minimum=0)
    return counts[:, : radius + 1].sum(axis=1)
