"""Training vectors: unit length, mean and principal directions, by blocks as by the whole."""

import numpy as np
import pytest

from jaxhash.retrieval.baselines.training_vectors import TrainingVectors, max_fitting_items
from jaxhash.retrieval.vectors import LazyVectors

RNG = np.random.default_rng(0)
SHAPES = {"many items": (300, 20), "many dimensions": (40, 200), "several threads": (700, 300)}


def spread(shape):
    """Vectors whose deviations differ from one dimension to the next, far from the origin."""
    return (RNG.normal(size=shape) * np.linspace(0.5, 5, shape[1]) + 3).astype(np.float32)


def unit(vectors):
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("rows", [10_000, 7], ids=["whole", "blocks"])
def test_moments_are_those_of_unit_vectors(shape, rows):
    vectors = spread(shape)
    training = TrainingVectors(LazyVectors(vectors), 64 * shape[1] * rows)
    expected = unit(vectors)
    np.testing.assert_allclose(training.mean, expected.mean(axis=0), atol=1e-7)
    _, sizes, directions = np.linalg.svd(expected - expected.mean(axis=0), full_matrices=False)
    found = training.principal_directions(5)
    assert np.abs(np.sum(found * directions[:5], axis=1)) == pytest.approx(np.ones(5), abs=1e-5)
    assert len(training.principal_directions(10**6)) == np.sum(sizes > 1e-6 * np.sqrt(shape[0]))


def test_every_nth_row_is_read_in_order():
    vectors = spread((50, 4))
    for every in (1, 3, 50, 80):
        training = TrainingVectors(LazyVectors(vectors), 64 * 4 * 7)
        numbers, rows = zip(*training.blocks(every), strict=True)
        assert np.concatenate([np.arange(100)[some] for some in numbers]).tolist() == list(
            range(len(vectors[::every]))
        )
        np.testing.assert_allclose(np.concatenate(rows), unit(vectors)[::every], atol=1e-6)


def test_directions_of_rounding_are_no_directions():
    line = np.outer([1.0, 2.0, 5.0], [3.0, 4.0, 12.0]).astype(np.float32)
    assert len(TrainingVectors(line).principal_directions(3)) == 0  # one direction at any length
    plane = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [2, 1, 0]], np.float32)
    assert len(TrainingVectors(plane).principal_directions(3)) == 2


@pytest.mark.parametrize(
    ("shape", "memory_bytes", "ridge", "size"),
    [
        ((60_000, 784), 2**30, True, 57_065),  # ridge regression
        ((5_000, 3072), 2**30, True, 5_000),
        ((50_000, 512), 2**30, True, 50_000),
        ((128_000, 150_528), 2**30, False, 1_783),  # a quarter of the memory, in bytes
        ((20_000, 6_000), 2**30, False, 5_792),  # the matrix of products
        ((60_000, 784), 2**24, False, 724),
        ((5, 10**6), 2**24, False, 4),
    ],
)
def test_sample_that_fits_the_memory(shape, memory_bytes, ridge, size):
    inputs = np.broadcast_to(np.zeros((), np.uint8), shape)
    assert max_fitting_items(LazyVectors(inputs), memory_bytes, ridge=ridge) == size
