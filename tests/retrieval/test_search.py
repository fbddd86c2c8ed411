"""Nearest codes against a sort of all distances."""

import numpy as np
import pytest

from jaxhash.retrieval.search import nearest


def codes(n, bits, seed):
    return np.random.default_rng(seed).normal(size=(n, bits)).astype(np.float32)


@pytest.mark.parametrize("bits", [3, 8, 20])
@pytest.mark.parametrize("k", [1, 5, 60, 100])
def test_nearest_are_ranked_by_distance_then_by_index(bits, k):
    """Also where k is larger than the database, which is then ranked whole."""
    query, database = codes(10, bits, seed=0), codes(60, bits, seed=1)
    distance = ((query[:, None] >= 0) != (database[None] >= 0)).sum(axis=2)
    expected = np.argsort(distance, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(nearest(query, database, k), expected)


def test_zero_counts_as_plus_one():
    assert nearest(np.array([[0.0]]), np.array([[-1.0], [1.0]]), k=1).tolist() == [[1]]
