"""The product quantizer: nearest centroids and distances by brute force, and the shape that fits the bytes."""

import numpy as np
import pytest

from jaxhash.retrieval.baselines import product_quantizer
from jaxhash.retrieval.baselines.product_quantizer import fit_product_quantizer, quantizer_shape
from jaxhash.retrieval.vectors import LazyVectors

RNG = np.random.default_rng(0)
TRAIN, QUERY = (RNG.normal(size=(n, 10)).astype(np.float32) * 7 for n in (400, 21))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def padded_parts(vectors, parts):
    """The parts of a vector, the last ones filled up with zeros."""
    length = -(-vectors.shape[1] // parts)
    wide = np.zeros((len(vectors), parts * length), np.float32)
    wide[:, : vectors.shape[1]] = unit(vectors)
    return wide.reshape(len(vectors), parts, length)


@pytest.mark.parametrize(("num_bytes", "items"), [(2, 400), (4, 400), (4, 50), (1, 3), (16, 400)])
def test_distances_are_those_to_the_decoded_items(num_bytes, items):
    quantizer = fit_product_quantizer(TRAIN[:items], num_bytes)
    parts, centroids, _ = quantizer.centroids.shape
    assert parts * np.log2(centroids) <= 8 * num_bytes and centroids <= items
    vectors = padded_parts(TRAIN, parts)
    distances = ((vectors[:, :, None] - quantizer.centroids) ** 2).sum(axis=3)
    codes = quantizer.encode(TRAIN)
    nearest = np.take_along_axis(distances, codes[:, :, None].astype(int), 2)[:, :, 0]
    np.testing.assert_allclose(nearest, distances.min(axis=2), atol=1e-5)
    decoded = quantizer.centroids[np.arange(parts), codes]
    expected = -((padded_parts(QUERY, parts)[:, None] - decoded) ** 2).sum(axis=(2, 3))
    for memory_bytes in (2**30, 2**15):
        found = quantizer.compare(QUERY, LazyVectors(TRAIN), memory_bytes=memory_bytes)
        rows, scores = (np.concatenate(each) for each in zip(*found, strict=True))
        assert rows.tolist() == list(range(21))
        offset = expected.mean(axis=1) - scores.mean(axis=1)  # of each query
        np.testing.assert_allclose(scores + offset[:, None], expected, atol=1e-4)


def test_distances_do_not_depend_on_the_blocks_of_items(monkeypatch):
    quantizer = fit_product_quantizer(TRAIN, 4)
    [(_, expected)] = quantizer.compare(QUERY, TRAIN)
    monkeypatch.setattr(product_quantizer, "_ITEMS", 7)
    [(_, scores)] = quantizer.compare(QUERY, TRAIN)
    np.testing.assert_array_equal(scores, expected)


def test_items_of_one_code_have_one_distance():
    """To the last bit, wherever they stand: the metrics average over the order of ties."""
    quantizer = fit_product_quantizer(TRAIN[:3], 1)
    codes = quantizer.encode(TRAIN)
    [(_, scores)] = quantizer.compare(QUERY, TRAIN)
    for code in np.unique(codes, axis=0):
        assert (np.ptp(scores[:, (codes == code).all(axis=1)], axis=1) == 0).all()


def test_centroids_follow_the_seed_and_the_length_does_not_matter():
    first, again, other = (fit_product_quantizer(TRAIN, 2, seed=seed) for seed in (0, 0, 1))
    assert first.centroids.tobytes() == again.centroids.tobytes() != other.centroids.tobytes()
    longer = fit_product_quantizer(4 * TRAIN, 2)
    assert longer.centroids.tobytes() == first.centroids.tobytes()
    np.testing.assert_array_equal(longer.encode(2 * TRAIN), first.encode(TRAIN))


@pytest.mark.parametrize(
    ("num_bytes", "items", "shape"),
    [(8, 5000, (8, 8)), (4, 256, (4, 8)), (4, 255, (4, 7)), (2, 16, (4, 4)), (1, 2, (8, 1))],
)
def test_shape_that_fits_bytes_and_items(num_bytes, items, shape):
    assert quantizer_shape(num_bytes, items) == shape


def test_memory_bounds_the_items():
    assert fit_product_quantizer(TRAIN, 2, memory_bytes=16 * 4 * 10 * 20).name == "PQ4x4"
