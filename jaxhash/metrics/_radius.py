"""Metrics of what lies within a Hamming radius, where ties play no part."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxhash.metrics._counts import DistanceCounts
from jaxhash.metrics._ties import divide
from jaxhash.ops.arguments import Whole, whole_number


class PrecisionRecall(NamedTuple):
    """Precision and recall within each radius, averaged over queries.

    A query that retrieves nothing at a radius has no precision there and is left out of that mean;
    where no query retrieves anything the precision is NaN.
    """

    precision: Float[np.ndarray, " distances"]
    recall: Float[np.ndarray, " distances"]

    def to_json(self) -> dict[str, list[float | None]]:
        """The same as lists, with None where the precision is NaN."""
        precision = [None if np.isnan(p) else p for p in self.precision.tolist()]
        return {"precision": precision, "recall": self.recall.tolist()}


def precision_at_radius(counts: DistanceCounts, radius: Whole = 2) -> Float[np.ndarray, " queries"]:
    """The share of relevant items among those within a Hamming radius; 0 where there are none.

    Args:
        counts: counts by Hamming distance.
        radius: largest distance that counts as retrieved.

    Raises:
        ValueError: if the radius is negative.

    Example:
        >>> precision_at_radius(DistanceCounts(np.array([[1, 0, 3]]), np.array([[1, 0, 1]])))
        array([0.5])
    """
    return divide(_within(counts.relevant, radius), _within(counts.total, radius))


def recall_at_radius(counts: DistanceCounts, radius: Whole = 2) -> Float[np.ndarray, " queries"]:
    """The share of the relevant items within a Hamming radius; 0 where nothing is relevant.

    Args:
        counts: counts by Hamming distance.
        radius: largest distance that counts as retrieved.

    Raises:
        ValueError: if the radius is negative.

    Example:
        >>> recall_at_radius(DistanceCounts(np.array([[1, 0, 3]]), np.array([[1, 0, 1]])), 1)
        array([0.5])
    """
    return divide(_within(counts.relevant, radius), counts.relevant.sum(axis=1))


def empty_bucket(counts: DistanceCounts, radius: Whole = 2) -> Float[np.ndarray, " queries"]:
    """1 for a query with no item within a Hamming radius, so that a lookup finds nothing.

    The mean over queries is the empty-bucket rate.

    Args:
        counts: counts by Hamming distance.
        radius: largest distance that counts as retrieved.

    Raises:
        ValueError: if the radius is negative.

    Example:
        >>> empty_bucket(DistanceCounts(np.array([[1, 0], [0, 3]]), np.array([[1, 0], [0, 1]])), 0)
        array([0., 1.])
    """
    return (_within(counts.total, radius) == 0).astype(np.float64)


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
    precision = np.where(seen, divide(divide(relevant, retrieved).sum(axis=0), seen), np.nan)
    return PrecisionRecall(precision, divide(relevant, relevant[:, -1:]).mean(axis=0))


def _within(counts: np.ndarray, radius: Whole) -> np.ndarray:
    radius = whole_number("radius", radius, least=0)
    return counts[:, : radius + 1].sum(axis=1)
