"""Public metrics of arrays that are spread over devices, and under an ambient mesh: NumPy's values."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxhash import metrics

ROWS, BITS, CLASSES = 64, 16, 5

_RNG = np.random.default_rng(0)
REAL = _RNG.normal(size=(ROWS, BITS)).astype(np.float32)
OTHER = (1.1 * REAL[::-1] + 0.1).astype(np.float32)
CODES = np.where(REAL > 0, 1, -1).astype(np.int8)
OTHER_CODES = np.where(OTHER > 0, 1, -1).astype(np.int8)
LABELS = _RNG.integers(0, CLASSES, ROWS).astype(np.int32)
SCORES, GRADES = REAL[:, 0], LABELS.astype(np.float32)
SIMILARITY = 1 - np.abs(np.arange(CLASSES)[:, None] - np.arange(CLASSES)) / CLASSES

#: Metrics of arrays; those of counts see what these return.
CASES = {
    "bit_balance": [CODES],
    "bit_entropy": [CODES],
    "bit_correlation": [CODES],
    "mutual_information": [CODES, LABELS],
    "dead_bits": [CODES],
    "duplicate_bits": [CODES],
    "flip_rate": [CODES, OTHER_CODES],
    "code_health": [REAL, LABELS],
    "bucket_statistics": [CODES],
    "quantization_error": [REAL],
    "wasserstein_to_signs": [REAL],
    "collapse_reason": [CODES],
    "distance_counts": [CODES, LABELS, OTHER_CODES, LABELS],
    "similarity_counts": [CODES, LABELS, OTHER_CODES, LABELS, SIMILARITY],
    "evaluate_retrieval": [CODES, LABELS, OTHER_CODES, LABELS],
    "infer_code_format": [REAL, OTHER],
    "knn_divergence": [REAL, OTHER],
    "knn_entropy": [REAL],
    "counts_from_scores": [SCORES, LABELS > 2],
    "similarity_counts_from_scores": [SCORES, GRADES],
    "average_hierarchical_precision_from_scores": [SCORES, GRADES, 10],
}


def leaves_of(result):
    """The numbers and texts in the result of a metric."""
    if dataclasses.is_dataclass(result):
        result = vars(result)
    if isinstance(result, dict):
        result = tuple(result.values())
    if isinstance(result, tuple):
        return [leaf for part in result for leaf in leaves_of(part)]
    return [result]


@pytest.mark.parametrize("name", CASES)
def test_spread_arrays_have_the_values_of_numpy(name, unchecked):
    """To the last digit: metrics accumulate in float64, which JAX does not have by default."""
    metric = getattr(metrics, name)
    expected = leaves_of(metric(*CASES[name]))
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    rows = NamedSharding(mesh, P(("data", "model")))
    spread = [
        jax.device_put(array, rows) if np.ndim(array) and len(array) == ROWS else array
        for array in CASES[name]
    ]
    for arguments, ambient in ((spread, False), (CASES[name], True), (spread, True)):
        with jax.set_mesh(mesh) if ambient else contextlib.nullcontext():
            found = leaves_of(metric(*arguments))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
