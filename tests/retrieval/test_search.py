"""Nearest codes against a sort of all distances."""

import tracemalloc

import numpy as np
import pytest

from jaxhash.retrieval.search import nearest_neighbors


def codes(n, bits, seed):
    return np.random.default_rng(seed).normal(size=(n, bits)).astype(np.float32)


@pytest.mark.parametrize("bits", [3, 8, 20])
@pytest.mark.parametrize("k", [1, 5, 60, 100])
def test_nearest_are_ranked_by_distance_then_by_index(bits, k):
    """Also where k is larger than the database, which is then ranked whole."""
    query, database = codes(10, bits, seed=0), codes(60, bits, seed=1)
    distance = ((query[:, None] >= 0) != (database[None] >= 0)).sum(axis=2)
    expected = np.argsort(distance, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(nearest_neighbors(query, database, k), expected)


def test_zero_counts_as_plus_one():
    assert nearest_neighbors(np.array([[0.0]]), np.array([[-1.0], [1.0]]), k=1).tolist() == [[1]]


@pytest.mark.parametrize("bits", [20, 64, 130])
@pytest.mark.parametrize("memory_bytes", [1, 1000, 2**30])
def test_blocks_change_nothing(bits, memory_bytes):
    """A block of a few items, ties across blocks, and codes that are repeated."""
    query, database = codes(7, bits, seed=2), np.tile(codes(20, bits, seed=3), (4, 1))
    distance = ((query[:, None] >= 0) != (database[None] >= 0)).sum(axis=2)
    expected = np.argsort(distance, axis=1, kind="stable")[:, :9]
    found = nearest_neighbors(query, database, 9, memory_bytes=memory_bytes)
    np.testing.assert_array_equal(found, expected)


def test_memory_is_bounded():
    """A table of distances of all pairs would take 20 MB, and their bytes eight times as much."""
    query, database = codes(250, 64, seed=0), codes(20_000, 64, seed=1)
    tracemalloc.start()
    nearest_neighbors(query, database, 10, memory_bytes=2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


@pytest.mark.parametrize(("bits", "k", "said"), [(5, 1, "of one length"), (4, 0, "k must be")])
def test_what_cannot_be_searched(unchecked, bits, k, said):
    with pytest.raises(ValueError, match=said):
        nearest_neighbors(codes(2, bits, seed=0), codes(3, 4, seed=1), k)
