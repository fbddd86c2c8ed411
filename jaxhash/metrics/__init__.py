"""Retrieval metrics from counts per Hamming distance, and the health of a set of codes.

The database is counted on the devices, in integers; metrics follow from the counts on the host, in
float64. So they are exact, deterministic and independent of the order of the database, of the size of
blocks and of the devices.
"""

from jaxhash.metrics._average_precision import average_precision as average_precision
from jaxhash.metrics._average_precision import chance_to_count as chance_to_count
from jaxhash.metrics._average_precision import mean_average_precision as mean_average_precision
from jaxhash.metrics._bits import FlipRate as FlipRate
from jaxhash.metrics._bits import bit_balance as bit_balance
from jaxhash.metrics._bits import bit_correlation as bit_correlation
from jaxhash.metrics._bits import bit_entropy as bit_entropy
from jaxhash.metrics._bits import dead_bits as dead_bits
from jaxhash.metrics._bits import duplicate_bits as duplicate_bits
from jaxhash.metrics._bits import flip_rate as flip_rate
from jaxhash.metrics._bits import mutual_information as mutual_information
from jaxhash.metrics._class_counts import similarity_counts as similarity_counts
from jaxhash.metrics._class_counts import similarity_score_counts as similarity_score_counts
from jaxhash.metrics._conventions import CONVENTIONS as CONVENTIONS
from jaxhash.metrics._conventions import Convention as Convention
from jaxhash.metrics._counts import DistanceCounts as DistanceCounts
from jaxhash.metrics._counts import SimilarityCounts as SimilarityCounts
from jaxhash.metrics._counts import distance_counts as distance_counts
from jaxhash.metrics._counts import leave_one_out as leave_one_out
from jaxhash.metrics._counts import score_counts as score_counts
from jaxhash.metrics._divergence import kl_entropy as kl_entropy
from jaxhash.metrics._divergence import knn_divergence as knn_divergence
from jaxhash.metrics._graded import weighted_average_precision as weighted_average_precision
from jaxhash.metrics._health import COLLAPSE_BUCKET_SHARE as COLLAPSE_BUCKET_SHARE
from jaxhash.metrics._health import COLLAPSE_DEAD_SHARE as COLLAPSE_DEAD_SHARE
from jaxhash.metrics._health import Buckets as Buckets
from jaxhash.metrics._health import CodeHealth as CodeHealth
from jaxhash.metrics._health import buckets as buckets
from jaxhash.metrics._health import code_health as code_health
from jaxhash.metrics._health import collapse as collapse
from jaxhash.metrics._health import quantization_error as quantization_error
from jaxhash.metrics._health import wasserstein_to_signs as wasserstein_to_signs
from jaxhash.metrics._hierarchical import (
    average_hierarchical_precision as average_hierarchical_precision,
)
from jaxhash.metrics._hierarchical import (
    average_hierarchical_precision_of_scores as average_hierarchical_precision_of_scores,
)
from jaxhash.metrics._hierarchical import hierarchical_precision as hierarchical_precision
from jaxhash.metrics._hierarchical import (
    mean_average_hierarchical_precision as mean_average_hierarchical_precision,
)
from jaxhash.metrics._inputs import CodeFormat as CodeFormat
from jaxhash.metrics._inputs import Relevance as Relevance
from jaxhash.metrics._inputs import Zero as Zero
from jaxhash.metrics._inputs import check_labels as check_labels
from jaxhash.metrics._inputs import code_format as code_format
from jaxhash.metrics._inputs import code_warnings as code_warnings
from jaxhash.metrics._radius import PrecisionRecall as PrecisionRecall
from jaxhash.metrics._radius import empty_bucket as empty_bucket
from jaxhash.metrics._radius import precision_at_radius as precision_at_radius
from jaxhash.metrics._radius import precision_recall as precision_recall
from jaxhash.metrics._radius import recall_at_radius as recall_at_radius
from jaxhash.metrics._ranking import average_cumulative_gain as average_cumulative_gain
from jaxhash.metrics._ranking import hit_rate as hit_rate
from jaxhash.metrics._ranking import ndcg as ndcg
from jaxhash.metrics._ranking import precision_at_k as precision_at_k
from jaxhash.metrics._ranking import r_precision as r_precision
from jaxhash.metrics._ranking import recall_at_k as recall_at_k
from jaxhash.metrics._retrieval import Retrieval as Retrieval
from jaxhash.metrics._retrieval import Score as Score
from jaxhash.metrics._retrieval import retrieval as retrieval
from jaxhash.metrics._retrieval import summarize as summarize
from jaxhash.metrics._statistics import Interval as Interval
from jaxhash.metrics._statistics import Mean as Mean
from jaxhash.metrics._statistics import PairedTest as PairedTest
from jaxhash.metrics._statistics import bootstrap_interval as bootstrap_interval
from jaxhash.metrics._statistics import over_seeds as over_seeds
from jaxhash.metrics._statistics import paired_test as paired_test

__all__ = [
    "Buckets",
    "COLLAPSE_BUCKET_SHARE",
    "COLLAPSE_DEAD_SHARE",
    "CONVENTIONS",
    "CodeFormat",
    "CodeHealth",
    "Convention",
    "DistanceCounts",
    "FlipRate",
    "Interval",
    "Mean",
    "PairedTest",
    "PrecisionRecall",
    "Relevance",
    "Retrieval",
    "Score",
    "SimilarityCounts",
    "Zero",
    "average_cumulative_gain",
    "average_hierarchical_precision",
    "average_hierarchical_precision_of_scores",
    "average_precision",
    "bit_balance",
    "bit_correlation",
    "bit_entropy",
    "bootstrap_interval",
    "buckets",
    "chance_to_count",
    "check_labels",
    "code_format",
    "code_health",
    "code_warnings",
    "collapse",
    "dead_bits",
    "distance_counts",
    "duplicate_bits",
    "empty_bucket",
    "flip_rate",
    "hierarchical_precision",
    "hit_rate",
    "kl_entropy",
    "knn_divergence",
    "leave_one_out",
    "mean_average_hierarchical_precision",
    "mean_average_precision",
    "mutual_information",
    "ndcg",
    "over_seeds",
    "paired_test",
    "precision_at_k",
    "precision_at_radius",
    "precision_recall",
    "quantization_error",
    "r_precision",
    "recall_at_k",
    "recall_at_radius",
    "retrieval",
    "score_counts",
    "similarity_counts",
    "similarity_score_counts",
    "summarize",
    "wasserstein_to_signs",
    "weighted_average_precision",
]
