"""CCA-ITQ and LDA-ITQ: their directions against scikit-learn and the equations, blocks, and classes of many kinds."""

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from jaxhash.retrieval.baselines import labeled_hashes
from jaxhash.retrieval.baselines.labeled_hashes import (
    LABELED_METHODS,
    ClassMoments,
    cca_directions,
    fit_labeled_hashes,
    lda_directions,
)
from jaxhash.retrieval.baselines.training_vectors import TrainingVectors
from jaxhash.retrieval.vectors import LazyVectors
from jaxhash.utils.errors import UserError

RNG = np.random.default_rng(0)
IDS = np.array([2, 3, 5, 9])[RNG.integers(0, 4, 300)].astype(np.int32)
MIXING = RNG.normal(size=(8, 8))
TRAIN = (RNG.normal(size=(300, 8)) @ MIXING + 4 * np.eye(10, 8)[IDS] + 3).astype(np.float32)
SEVERAL = (RNG.random((300, 6)) < 0.3) * np.array([1, 1, 0, 1, 1, 1])
SEVERAL[~SEVERAL.any(axis=1), 0] = 1
TRAIN_SEVERAL = (TRAIN + 4 * SEVERAL @ RNG.normal(size=(6, 8))).astype(np.float32)

each_method = pytest.mark.parametrize("method", LABELED_METHODS)


def unit(vectors):
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fit(method, labels=IDS, bits=6, train=TRAIN, **options):
    return fit_labeled_hashes(train, labels, [method], bits, **options)[method]


def same_up_to_signs(found, expected, rtol=2e-3):
    signs = np.sign(np.sum(found * expected, axis=1, keepdims=True))
    np.testing.assert_allclose(found * signs, expected, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize(("train", "labels"), [(TRAIN, IDS), (TRAIN_SEVERAL, SEVERAL)])
def test_correlations_and_directions_are_those_of_scikit_learn(train, labels, monkeypatch):
    """Without the ridge, which it has not: the length of a direction is its correlation."""
    monkeypatch.setattr(labeled_hashes, "RIDGE", 1e-12)
    hot = (
        (labels[:, None] == np.unique(labels))[:, 1:]
        if labels.ndim == 1
        else labels[:, [0, 1, 3, 4, 5]]
    )
    count = 3
    peer = CCA(n_components=count, scale=False, max_iter=10_000, tol=1e-12).fit(unit(train), hot)
    scores, of_labels = peer.transform(unit(train), hot)
    correlations = [np.corrcoef(scores[:, k], of_labels[:, k])[0, 1] for k in range(count)]
    directions = cca_directions(ClassMoments.of(TrainingVectors(train), labels), count)
    mine = directions @ (unit(train) - unit(train).mean(axis=0)).T
    np.testing.assert_allclose(mine.std(axis=1), correlations, rtol=1e-3)
    same_up_to_signs(mine / mine.std(axis=1, keepdims=True), (scores / scores.std(axis=0)).T)


def test_discriminants_are_those_of_scikit_learn(monkeypatch):
    """Each with variance 1 within classes."""
    monkeypatch.setattr(labeled_hashes, "RIDGE", 1e-12)
    peer = LinearDiscriminantAnalysis(solver="eigen").fit(unit(TRAIN), IDS)
    directions = lda_directions(ClassMoments.of(TrainingVectors(TRAIN), IDS), 8)
    assert len(directions) == 3
    mine, theirs = directions @ unit(TRAIN).T, peer.scalings_[:, :3].T @ unit(TRAIN).T
    within = [row - np.array([row[label == IDS].mean() for label in IDS]) for row in mine]
    np.testing.assert_allclose(np.square(within).mean(axis=1), 1, rtol=1e-6)
    for values in (mine, theirs):
        values -= values.mean(axis=1, keepdims=True)
        values /= values.std(axis=1, keepdims=True)
    same_up_to_signs(mine, theirs)


@pytest.mark.parametrize("directions_of", [cca_directions, lda_directions])
def test_directions_solve_the_equation_with_the_ridge(directions_of):
    vectors = unit(TRAIN) - unit(TRAIN).mean(axis=0)
    hot = (IDS[:, None] == np.unique(IDS)).astype(float)
    covariance, ridge = vectors.T @ vectors / 300, 1e-4 * np.eye(8)
    centered = hot - hot.mean(axis=0)
    cross = centered.T @ vectors / 300
    if directions_of is cca_directions:
        of_classes = centered.T @ centered / 300 + 1e-4 * np.eye(4)
        between, within = cross.T @ np.linalg.inv(of_classes) @ cross, covariance
    else:
        means = np.array([vectors[label == IDS].mean(axis=0) for label in np.unique(IDS)])
        between = means.T @ (hot.mean(axis=0)[:, None] * means)
        within = covariance - between
    directions = directions_of(ClassMoments.of(TrainingVectors(TRAIN), IDS), 3)
    lengths = np.einsum("kd,de,ke->k", directions, within + ridge, directions)
    values = np.einsum("kd,de,ke->k", directions, between, directions) / lengths
    np.testing.assert_allclose(
        directions @ between, values[:, None] * directions @ (within + ridge), atol=1e-6
    )
    assert (np.diff(values) <= 0).all() and (values > 1e-3).all()
    np.testing.assert_allclose(lengths, values if directions_of is cca_directions else 1, rtol=1e-6)


@each_method
@pytest.mark.parametrize("bits", [1, 3, 20])
def test_inner_products_of_codes_are_those_of_the_directions(method, bits):
    """A rotation, or an isometry into the longer code, and one scale."""
    directions = LABELED_METHODS[method].directions(
        ClassMoments.of(TrainingVectors(TRAIN), IDS), bits
    )
    assert len(directions) == min(bits, 3)
    scores = (unit(TRAIN) - unit(TRAIN).mean(axis=0)) @ directions.T
    codes = fit(method, bits=bits)(TRAIN).astype(np.float64)
    assert codes.shape == (300, bits)
    expected = np.sum(codes**2) / np.sum(scores**2) * scores @ scores.T
    np.testing.assert_allclose(codes @ codes.T, expected, atol=1e-4 * expected.max())


@each_method
def test_classes_far_apart_have_codes_of_their_own(method):
    """Where the principal component is not what tells them apart."""
    labels = np.arange(200) % 4
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[labels]
    noise = np.random.default_rng(3).normal(size=(200, 6)) * [0.05, 0.05, 5, 5, 0.1, 0.1]
    vectors = (noise + np.pad(corners, ((0, 0), (0, 4))) + [0, 0, 0, 0, 9, 0]).astype(np.float32)
    signs = fit(method, labels, 8, vectors)(vectors) > 0
    means = np.array([signs[labels == label].mean(axis=0) for label in range(4)])
    assert (np.abs(means - 0.5) > 0.4).mean() > 0.9
    assert len(np.unique(means > 0.5, axis=0)) == 4


@each_method
def test_blocks_and_memory_change_nothing_but_rounding(method):
    whole = fit(method, bits=3)(TRAIN)
    parts = fit(method, bits=3, train=LazyVectors(TRAIN), memory_bytes=64 * 8 * 100)(TRAIN)
    np.testing.assert_allclose(np.abs(parts), np.abs(whole), rtol=1e-4, atol=1e-4)


@each_method
def test_items_without_a_label_move_the_mean_alone(method):
    labels = np.where(np.arange(300) < 200, IDS, -1).astype(np.int32)
    some = ClassMoments.of(TrainingVectors(TRAIN), labels)
    alone = ClassMoments.of(TrainingVectors(TRAIN[:200]), IDS[:200])
    for mine, theirs in zip(some, alone, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    np.testing.assert_allclose(fit(method, labels).mean, unit(TRAIN).mean(axis=0), atol=1e-6)


def test_rows_of_one_label_are_the_ids():
    hot = (IDS[:, None] == np.arange(12)).astype(np.uint8)
    np.testing.assert_array_equal(fit("cca-itq", hot).projection, fit("cca-itq").projection)


@each_method
def test_the_seed_fixes_the_codes(method):
    codes = fit(method, seed=1)(TRAIN)
    np.testing.assert_array_equal(fit(method, seed=1)(TRAIN), codes)
    assert ((fit(method, seed=2)(TRAIN) > 0) != (codes > 0)).any()


@pytest.mark.parametrize(
    ("method", "labels", "words"),
    [
        ("cca-itq", np.full(300, 2), "two classes.*1"),
        ("cca-itq", np.full(300, -1), "two classes.*0"),
        ("lda-itq", SEVERAL, "one label each"),
        ("lda-itq", np.arange(300), "memory_bytes.*300 classes"),
    ],
)
def test_what_is_refused(method, labels, words):
    with pytest.raises(UserError, match=words):
        fit(method, labels, memory_bytes=2**21)
