"""Baselines: isometries of principal components, random half-spaces, and codes of a class index."""

import numpy as np
import pytest

from jaxhash.retrieval.baselines import (
    class_index,
    class_index_from_predictor,
    max_fitting_items,
    pca_random_rotation,
    random_hyperplanes,
)
from jaxhash.retrieval.vectors import LazyVectors

MIXING = np.random.default_rng(1).normal(size=(6, 6))
TRAIN = (np.random.default_rng(0).normal(size=(80, 6)) @ MIXING + 3.0).astype(np.float32)
OTHERS = (np.random.default_rng(2).normal(size=(30, 6)) @ MIXING + 3.0).astype(np.float32)

each_baseline = pytest.mark.parametrize("baseline", [random_hyperplanes, pca_random_rotation])
each_length = pytest.mark.parametrize("bits", [1, 4, 6, 16])


@each_baseline
@each_length
def test_codes_are_floats_centered_on_the_training_items(baseline, bits):
    function = baseline(TRAIN, bits)
    assert function(OTHERS).shape == (30, bits) and function(OTHERS).dtype == np.float32
    np.testing.assert_allclose(function(TRAIN).mean(axis=0), 0.0, atol=1e-5)


@each_baseline
def test_codes_are_fixed_by_the_seed(baseline):
    codes = baseline(TRAIN, 8, seed=1)(OTHERS)
    np.testing.assert_array_equal(baseline(TRAIN, 8, seed=1)(OTHERS), codes)
    assert ((baseline(TRAIN, 8, seed=2)(OTHERS) > 0) != (codes > 0)).any()


@each_baseline
@each_length
def test_the_scale_has_the_least_quantization_error(baseline, bits):
    codes = baseline(TRAIN, bits)(TRAIN).astype(np.float64)

    def error(factor):
        return np.mean((np.abs(factor * codes) - 1) ** 2)

    assert error(1.0) < min(error(0.99), error(1.01))


@each_length
def test_pca_rotation_keeps_the_geometry_of_the_top_components(bits):
    """Inner products of codes are those of the leading components' scores, up to the one scale."""
    centered = (OTHERS - TRAIN.mean(axis=0)).astype(np.float64)
    _, components = np.linalg.eigh(np.cov(TRAIN.T))  # smallest first
    scores = centered @ components[:, ::-1][:, :bits]
    codes = pca_random_rotation(TRAIN, bits)(OTHERS)
    scale = np.sum(codes**2) / np.sum(scores**2)
    expected = scale * scores @ scores.T
    np.testing.assert_allclose(codes @ codes.T, expected, atol=1e-4 * expected.max())


@each_length
def test_pca_of_fewer_items_than_dimensions_keeps_all_of_them(bits):
    """Seven items span six components: with six bits or more, their own distances."""
    few = np.random.default_rng(3).normal(size=(7, 40)).astype(np.float32)
    codes = pca_random_rotation(few, bits)(few).astype(np.float64)
    centered = (few - few.mean(axis=0)).astype(np.float64)
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    scores = (left * sizes)[:, : min(bits, 6)]
    expected = np.sum(codes**2) / np.sum(scores**2) * scores @ scores.T
    np.testing.assert_allclose(codes @ codes.T, expected, atol=1e-4 * expected.max())


def test_pca_rotation_spreads_the_variance_of_one_direction():
    """The first component, alone in a bit before, is seen by all bits."""
    line = np.linspace(-1, 1, 50, dtype=np.float32)[:, None] * np.eye(4, dtype=np.float32)[:1]
    deviation = pca_random_rotation(line, 4)(line).std(axis=0)
    assert (deviation > 1e-2).all()


@each_length
def test_hyperplanes_go_through_the_mean(bits):
    normals = np.random.default_rng(7).normal(size=(6, bits))
    codes = random_hyperplanes(TRAIN, bits, seed=7)(OTHERS)
    np.testing.assert_array_equal(codes > 0, (OTHERS - TRAIN.mean(axis=0)) @ normals > 0)


def test_class_index_has_a_code_for_each_class():
    """Three clusters, of which ridge regression makes no mistake; the ids have gaps."""
    rng = np.random.default_rng(0)
    labels = np.array([1, 4, 6])[np.arange(90) % 3]
    features = np.eye(7)[labels] + rng.normal(scale=0.05, size=(90, 7))
    codes = class_index(features, labels, 16)(features)
    assert set(np.unique(codes)) == {-1, 1} and codes.dtype == np.float32
    same = (codes[:, None] == codes).all(axis=2)
    np.testing.assert_array_equal(same, labels[:, None] == labels)
    np.testing.assert_array_equal(class_index(features, labels, 16)(features), codes)
    assert (class_index(features, labels, 16, seed=1)(features) != codes).any()


def test_class_index_of_one_class_is_its_code():
    codes = class_index(np.eye(5), np.full(5, 3), 8)(np.eye(5)[:2])
    assert codes.shape == (2, 8) and (codes[0] == codes[1]).all()


def test_codes_of_classes_are_fair_bits():
    codes = class_index_from_predictor(lambda rows: rows, np.array([999]), 64)(np.arange(1000))
    assert len(np.unique(codes, axis=0)) == 1000
    assert abs(codes.mean()) < 4 / np.sqrt(codes.size)


@pytest.mark.parametrize("baseline", [random_hyperplanes, pca_random_rotation])
@pytest.mark.parametrize("shape", [(300, 20), (40, 200)], ids=["many items", "many dimensions"])
def test_blocks_are_fitted_as_the_whole(baseline, shape):
    """The functions are linear: they agree everywhere if they do on the features."""
    rng = np.random.default_rng(4)
    features = (rng.normal(size=shape) * np.linspace(0.5, 5, shape[1]) + 3).astype(np.float32)
    whole = baseline(features, 8)(features)
    parts = baseline(LazyVectors(features), 8, memory_bytes=32 * 8 * shape[1])(features)
    np.testing.assert_allclose(parts, whole, atol=1e-3 * np.abs(whole).max())


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
