"""Retrieval metrics, exact under ties, and measures of a set of codes.

Start with `evaluate_retrieval`, which computes every metric of a set of codes, and `code_health`.
`distance_counts` counts the database by Hamming distance on the devices, in integers; every metric
follows from the counts on the host, in float64. So metrics are exact, deterministic and independent
of the order of the database, the size of blocks and the devices.

Metrics of ``counts`` return one value per query, 0 where its denominator is 0. ``k`` is a rank, None
for the whole database. ``ties`` is the order of items at equal distance: ``"expected"``, the mean
over all orders, or ``"worst"`` or ``"best"``. They raise ValueError if k is not a rank of the
database, a radius is negative or an option is unknown, and TypeError if k is not an integer.

Measures of ``codes`` take -1 and +1 with shape [items, bits], and raise ValueError for empty codes
or other values and TypeError unless codes are signed integers or floats.
"""

from jaxhash.metrics._accumulator import Accumulator as Accumulator
from jaxhash.metrics._average_precision import average_precision as average_precision
from jaxhash.metrics._average_precision import mean_average_precision as mean_average_precision
from jaxhash.metrics._average_precision import nonempty_probability as nonempty_probability
from jaxhash.metrics._bits import FlipRate as FlipRate
from jaxhash.metrics._bits import bit_balance as bit_balance
from jaxhash.metrics._bits import bit_correlation as bit_correlation
from jaxhash.metrics._bits import bit_entropy as bit_entropy
from jaxhash.metrics._bits import dead_bits as dead_bits
from jaxhash.metrics._bits import duplicate_bits as duplicate_bits
from jaxhash.metrics._bits import flip_rate as flip_rate
from jaxhash.metrics._bits import mutual_information as mutual_information
from jaxhash.metrics._class_counts import similarity_counts as similarity_counts
from jaxhash.metrics._class_counts import (
    similarity_counts_from_scores as similarity_counts_from_scores,
)
from jaxhash.metrics._code_warnings import CodeStatistics as CodeStatistics
from jaxhash.metrics._code_warnings import code_warnings as code_warnings
from jaxhash.metrics._conventions import CONVENTIONS as CONVENTIONS
from jaxhash.metrics._conventions import Convention as Convention
from jaxhash.metrics._counts import DistanceCounts as DistanceCounts
from jaxhash.metrics._counts import SimilarityCounts as SimilarityCounts
from jaxhash.metrics._counts import counts_from_scores as counts_from_scores
from jaxhash.metrics._counts import distance_counts as distance_counts
from jaxhash.metrics._counts import leave_one_out as leave_one_out
from jaxhash.metrics._crossed import CrossedTest as CrossedTest
from jaxhash.metrics._crossed import crossed_test as crossed_test
from jaxhash.metrics._crossed import holm as holm
from jaxhash.metrics._divergence import knn_divergence as knn_divergence
from jaxhash.metrics._divergence import knn_entropy as knn_entropy
from jaxhash.metrics._graded import weighted_average_precision as weighted_average_precision
from jaxhash.metrics._health import COLLAPSE_BUCKET_SHARE as COLLAPSE_BUCKET_SHARE
from jaxhash.metrics._health import COLLAPSE_DEAD_SHARE as COLLAPSE_DEAD_SHARE
from jaxhash.metrics._health import BucketStatistics as BucketStatistics
from jaxhash.metrics._health import CodeHealth as CodeHealth
from jaxhash.metrics._health import bucket_statistics as bucket_statistics
from jaxhash.metrics._health import code_health as code_health
from jaxhash.metrics._health import collapse_reason as collapse_reason
from jaxhash.metrics._health import wasserstein_to_signs as wasserstein_to_signs
from jaxhash.metrics._hierarchical import (
    average_hierarchical_precision as average_hierarchical_precision,
)
from jaxhash.metrics._hierarchical import (
    average_hierarchical_precision_from_scores as average_hierarchical_precision_from_scores,
)
from jaxhash.metrics._hierarchical import hierarchical_precision as hierarchical_precision
from jaxhash.metrics._hierarchical import (
    mean_average_hierarchical_precision as mean_average_hierarchical_precision,
)
from jaxhash.metrics._inputs import CodeFormat as CodeFormat
from jaxhash.metrics._inputs import ZeroSign as ZeroSign
from jaxhash.metrics._inputs import infer_code_format as infer_code_format
from jaxhash.metrics._labels import Relevance as Relevance
from jaxhash.metrics._labels import check_labels as check_labels
from jaxhash.metrics._lists import ItemLists as ItemLists
from jaxhash.metrics._lists import QueryLists as QueryLists
from jaxhash.metrics._quantization_error import QuantizationError as QuantizationError
from jaxhash.metrics._quantization_error import quantization_error as quantization_error
from jaxhash.metrics._radius import PrecisionRecall as PrecisionRecall
from jaxhash.metrics._radius import is_bucket_empty as is_bucket_empty
from jaxhash.metrics._radius import precision_at_radius as precision_at_radius
from jaxhash.metrics._radius import precision_recall as precision_recall
from jaxhash.metrics._radius import recall_at_radius as recall_at_radius
from jaxhash.metrics._ranking import average_cumulative_gain as average_cumulative_gain
from jaxhash.metrics._ranking import hit_rate as hit_rate
from jaxhash.metrics._ranking import ndcg as ndcg
from jaxhash.metrics._ranking import precision_at_k as precision_at_k
from jaxhash.metrics._ranking import r_precision as r_precision
from jaxhash.metrics._ranking import recall_at_k as recall_at_k
from jaxhash.metrics._ranking import truncated_precision_at_k as truncated_precision_at_k
from jaxhash.metrics._retrieval import RetrievalResult as RetrievalResult
from jaxhash.metrics._retrieval import Score as Score
from jaxhash.metrics._retrieval import evaluate_counts as evaluate_counts
from jaxhash.metrics._retrieval import evaluate_retrieval as evaluate_retrieval
from jaxhash.metrics._statistics import ConfidenceInterval as ConfidenceInterval
from jaxhash.metrics._statistics import PairedTest as PairedTest
from jaxhash.metrics._statistics import SeedMean as SeedMean
from jaxhash.metrics._statistics import bootstrap_interval as bootstrap_interval
from jaxhash.metrics._statistics import mean_over_seeds as mean_over_seeds
from jaxhash.metrics._statistics import paired_test as paired_test

__all__ = [
    "BucketStatistics",
    "COLLAPSE_BUCKET_SHARE",
    "COLLAPSE_DEAD_SHARE",
    "CONVENTIONS",
    "CodeFormat",
    "CodeHealth",
    "CodeStatistics",
    "ConfidenceInterval",
    "Convention",
    "CrossedTest",
    "DistanceCounts",
    "FlipRate",
    "ItemLists",
    "PairedTest",
    "PrecisionRecall",
    "QuantizationError",
    "QueryLists",
    "Relevance",
    "RetrievalResult",
    "Score",
    "SeedMean",
    "SimilarityCounts",
    "ZeroSign",
    "average_cumulative_gain",
    "average_hierarchical_precision",
    "average_hierarchical_precision_from_scores",
    "average_precision",
    "bit_balance",
    "bit_correlation",
    "bit_entropy",
    "bootstrap_interval",
    "bucket_statistics",
    "check_labels",
    "code_health",
    "code_warnings",
    "collapse_reason",
    "counts_from_scores",
    "crossed_test",
    "dead_bits",
    "distance_counts",
    "duplicate_bits",
    "evaluate_counts",
    "evaluate_retrieval",
    "flip_rate",
    "hierarchical_precision",
    "hit_rate",
    "holm",
    "infer_code_format",
    "is_bucket_empty",
    "knn_divergence",
    "knn_entropy",
    "leave_one_out",
    "mean_average_hierarchical_precision",
    "mean_average_precision",
    "mean_over_seeds",
    "mutual_information",
    "ndcg",
    "nonempty_probability",
    "paired_test",
    "precision_at_k",
    "precision_at_radius",
    "precision_recall",
    "quantization_error",
    "r_precision",
    "recall_at_k",
    "recall_at_radius",
    "similarity_counts",
    "similarity_counts_from_scores",
    "truncated_precision_at_k",
    "wasserstein_to_signs",
    "weighted_average_precision",
]
