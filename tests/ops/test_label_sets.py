"""Sets of labels against NumPy's unique rows."""

import jax
import numpy as np
import pytest

from jaxhash.ops.label_sets import LabelSets


@pytest.mark.parametrize("classes", [1, 5, 32, 33, 70])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_sets_are_the_distinct_rows(classes, dtype):
    """With rows that differ in their first and last label alone, and an empty one."""
    rng = np.random.default_rng(classes)
    distinct = (rng.random((12, classes)) < 0.4).astype(dtype)
    distinct[:3] = 0
    distinct[1, 0], distinct[2, -1] = 1, 1
    labels = distinct[rng.integers(0, 12, 90)]
    sets = jax.jit(LabelSets.of)(labels)
    count = len(np.unique(labels, axis=0))
    assert int(sets.count) == count and sets.labels.dtype == labels.dtype
    assert len(np.unique(sets.of_row)) == count and int(sets.of_row.max()) == count - 1
    np.testing.assert_array_equal(sets.labels[sets.of_row], labels)
    assert len(np.unique(sets.labels[:count], axis=0)) == count
    assert not np.asarray(sets.labels[count:]).any()


def test_one_row():
    sets = jax.jit(LabelSets.of)(np.ones((1, 3), np.uint8))
    assert int(sets.count) == 1 and sets.labels.tolist() == [[1, 1, 1]]
