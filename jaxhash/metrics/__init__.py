"""Retrieval metrics from counts per Hamming distance, and the health of a set of codes.

Metrics are computed on the host, in integers and float64, so they are exact, deterministic and
independent of the order of the database and of the device.
"""

from jaxhash.metrics._health import bit_balance as bit_balance
from jaxhash.metrics._health import quantization_error as quantization_error
from jaxhash.metrics._retrieval import DistanceCounts as DistanceCounts
from jaxhash.metrics._retrieval import PrecisionRecall as PrecisionRecall
from jaxhash.metrics._retrieval import average_precision as average_precision
from jaxhash.metrics._retrieval import distance_counts as distance_counts
from jaxhash.metrics._retrieval import precision_at_radius as precision_at_radius
from jaxhash.metrics._retrieval import precision_recall as precision_recall
from jaxhash.metrics._retrieval import score_counts as score_counts

__all__ = [
    "DistanceCounts",
    "PrecisionRecall",
    "average_precision",
    "bit_balance",
    "distance_counts",
    "precision_at_radius",
    "precision_recall",
    "quantization_error",
    "score_counts",
]
