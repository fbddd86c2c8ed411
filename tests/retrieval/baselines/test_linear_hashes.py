"""Linear hash functions: random half-spaces, isometries of principal components, and the rotation of ITQ."""

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from jaxhash.retrieval.baselines.linear_hashes import METHODS, fit_linear_hashes, fit_rotation
from jaxhash.retrieval.vectors import LazyVectors

MIXING = np.random.default_rng(1).normal(size=(6, 6))
TRAIN = (np.random.default_rng(0).normal(size=(80, 6)) @ MIXING + 3.0).astype(np.float32)
OTHERS = (np.random.default_rng(2).normal(size=(30, 6)) @ MIXING + 3.0).astype(np.float32)

each_method = pytest.mark.parametrize("method", METHODS)
each_length = pytest.mark.parametrize("bits", [1, 4, 6, 16])


def fit(method, train, bits, **options):
    return fit_linear_hashes(train, [method], bits, **options)[method]


def centered(vectors, train):
    """Unit vectors without the mean of the training items', by the definition."""
    unit, other = (
        rows.astype(np.float64) / np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))[:, None]
        for rows in (vectors, train)
    )
    return unit - other.mean(axis=0)


@each_method
@each_length
def test_codes_are_floats_centered_on_the_training_items(method, bits):
    function = fit(method, TRAIN, bits)
    assert function(OTHERS).shape == (30, bits) and function(OTHERS).dtype == np.float32
    np.testing.assert_allclose(function(TRAIN).mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_array_equal(function(1024 * OTHERS), function(OTHERS))


@each_method
def test_codes_are_fixed_by_the_seed(method):
    codes = fit(method, TRAIN, 6, seed=1)(OTHERS)
    np.testing.assert_array_equal(fit(method, TRAIN, 6, seed=1)(OTHERS), codes)
    differs = ((fit(method, TRAIN, 6, seed=2)(OTHERS) > 0) != (codes > 0)).any()
    assert differs == (method != "pca-sign")


@each_method
def test_threads_change_no_bit(method):
    vectors = np.random.default_rng(0).normal(size=(900, 200)).astype(np.float32)
    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            found.append(fit(method, vectors, 64).projection)
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


@each_method
@each_length
def test_the_scale_has_the_least_quantization_error(method, bits):
    codes = fit(method, TRAIN, bits)(TRAIN).astype(np.float64)

    def error(factor):
        return np.mean((np.abs(factor * codes) - 1) ** 2)

    assert error(1.0) < min(error(0.99), error(1.01))


@pytest.mark.parametrize("method", ["itq", "pca-rotation", "pca-sign"])
@pytest.mark.parametrize("items", [80, 5])
@each_length
def test_the_geometry_of_the_top_components_is_kept(method, items, bits):
    """Inner products of codes are those of the leading components, up to the one scale."""
    train = TRAIN[:items]
    _, sizes, components = np.linalg.svd(centered(train, train), full_matrices=False)
    used = components[: min(bits, np.sum(sizes > 1e-5))]  # n items span n - 1 of them
    scores = centered(OTHERS, train) @ used.T
    codes = fit(method, train, bits)(OTHERS).astype(np.float64)
    expected = np.sum(codes**2) / np.sum(scores**2) * scores @ scores.T
    np.testing.assert_allclose(codes @ codes.T, expected, atol=1e-4 * expected.max())


def test_pca_sign_cuts_each_component():
    covariance = sum(np.outer(row, row) for row in centered(TRAIN, TRAIN))
    _, vectors = np.linalg.eigh(covariance)
    expected = np.array(
        [[row @ vectors[:, -1 - bit] >= 0 for bit in range(4)] for row in centered(OTHERS, TRAIN)]
    )
    found = fit("pca-sign", TRAIN, 4)(OTHERS) >= 0
    flipped = (found != expected).mean(axis=0)
    assert set(flipped) <= {0.0, 1.0}  # the sign of a component is free
    longer = fit("pca-sign", TRAIN, 9)(OTHERS)
    assert (longer[:, 6:] == 0).all() and longer[:, :6].any(axis=0).all()


@each_length
def test_hyperplanes_go_through_the_mean(bits):
    normals = np.random.default_rng(7).normal(size=(6, bits))
    codes = fit("random", TRAIN, bits, seed=7)(OTHERS)
    np.testing.assert_array_equal(codes > 0, centered(OTHERS, TRAIN) @ normals > 0)


def test_a_rotation_spreads_the_variance_of_one_direction():
    """The first component, alone in a bit before, is seen by all bits."""
    line = np.linspace(-1, 1, 50, dtype=np.float32)[:, None] * np.eye(4, dtype=np.float32)[:1]
    line[:, 1] = 1
    deviation = fit("pca-rotation", line, 4)(line).std(axis=0)
    assert (deviation > 1e-2).all()


def objective(scores, rotation):
    values = scores @ rotation
    return np.sum((np.where(values >= 0, 1, -1) - values) ** 2)


@pytest.mark.parametrize(("directions", "bits"), [(8, 8), (5, 12)])
def test_no_step_of_itq_raises_its_objective(directions, bits):
    scores = np.random.default_rng(0).laplace(size=(5000, directions)).astype(np.float32)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(bits, directions)))[0].T
    values = [objective(scores, rotation)]
    for _ in range(30):
        rotation = fit_rotation(scores, rotation, steps=1)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(directions), atol=1e-10)
        values.append(objective(scores, rotation))
    assert (np.diff(values) <= 1e-6 * values[0]).all() and values[-1] < 0.97 * values[0]
    again = fit_rotation(scores, np.linalg.qr(np.ones((bits, directions)))[0].T, steps=0)
    np.testing.assert_array_equal(again, np.linalg.qr(np.ones((bits, directions)))[0].T)


def test_itq_finds_axes_that_were_rotated_away():
    corners = np.random.default_rng(0).choice([-1.0, 1.0], size=(500, 4))
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    rotation = fit_rotation((corners @ turned).astype(np.float32), np.eye(4))
    assert objective(corners @ turned, rotation) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("directions", "bits"), [(6, 6), (4, 9)])
def test_itq_is_that_of_the_paper(directions, bits):
    """B = sign(V R); the singular vectors of B' V = S Omega S~' give R = S~ S'."""
    rng = np.random.default_rng(0)
    scores = rng.laplace(size=(5000, directions)).astype(np.float32)
    start = np.linalg.qr(rng.normal(size=(bits, directions)))[0].T
    rotation = start
    for _ in range(7):
        signs = np.sign(scores @ rotation)
        left, _, right = np.linalg.svd(signs.T @ scores, full_matrices=False)
        rotation = right.T @ left.T
    np.testing.assert_allclose(fit_rotation(scores, start, steps=7), rotation, atol=1e-4)


def test_itq_is_no_worse_than_that_of_faiss():
    """Whose rotation, by 1.15.1, is about as good as a random one."""
    scores = np.random.default_rng(0).laplace(size=(2000, 16)).astype(np.float32)
    theirs = faiss.ITQMatrix(16)
    with threadpool_limits(1):
        theirs.train(scores)
    rotated = theirs.apply(scores)
    start = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]
    expected = np.sum((np.where(rotated >= 0, 1, -1) - rotated) ** 2)
    assert objective(scores, fit_rotation(scores, start)) < 1.01 * expected


def test_itq_has_less_quantization_error_than_a_random_rotation():
    hashes = fit_linear_hashes(TRAIN, ["itq", "pca-rotation"], 6)
    itq, rotated = (np.mean((np.abs(one(TRAIN)) - 1) ** 2) for one in hashes.values())
    assert itq < 0.9 * rotated


@each_method
@pytest.mark.parametrize("shape", [(300, 20), (40, 200)], ids=["many items", "many dimensions"])
def test_blocks_are_fitted_as_the_whole(method, shape):
    """Up to the sample that ITQ's rotation is fitted to, which the memory bounds."""
    rng = np.random.default_rng(4)
    features = (rng.normal(size=shape) * np.linspace(0.5, 5, shape[1]) + 3).astype(np.float32)
    memory_bytes = 64 * 8 * shape[1] if method != "itq" else 32 * 8 * shape[0]
    whole = fit(method, features, 8)(features)
    parts = fit(method, LazyVectors(features), 8, memory_bytes=memory_bytes)(features)
    if method == "pca-sign":  # the sign of a component is free
        whole, parts = np.abs(whole), np.abs(parts)
    if method in ("itq", "pca-rotation"):
        whole, parts = whole @ whole.T, parts @ parts.T
    np.testing.assert_allclose(parts, whole, atol=2e-3 * np.abs(whole).max())


@each_method
def test_vectors_without_a_difference_have_one_code(method):
    same = np.tile(np.float32([[3, 4, 0]]), (5, 1))
    for train in (same, same[:1], np.zeros((4, 3), np.float32)):
        function = fit(method, train, 4)
        codes = function(train)
        assert np.isfinite(codes).all() and (codes == codes[0]).all()
