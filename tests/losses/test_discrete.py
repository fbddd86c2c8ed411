"""Losses against binary codes, and the steps that find these codes, against loops."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import (
    asymmetric_dsh,
    asymmetric_dsh_codes,
    distance_to_codes,
    dsdh_classifier,
    dsdh_codes,
)

jit_asymmetric = jax.jit(asymmetric_dsh, static_argnames=("balanced", "axis_name"))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def signs(*shape, seed=0):
    return jnp.sign(normal(*shape, seed=seed))


def pairs(n, m, bits=4, seed=0):
    marks = np.random.default_rng(seed).random((n, m)) < 0.3
    return jnp.tanh(normal(n, bits, seed=seed)), signs(m, bits, seed=seed + 1), jnp.asarray(marks)


# The asymmetric loss


def asymmetric_loop(codes, others, similar, where, balanced):
    codes, others = np.asarray(codes, float), np.asarray(others, float)
    similar = np.asarray(similar)
    ratio = (where & similar).sum() / (where & ~similar).sum()
    apart, total = -min(ratio, 1) if balanced else -1.0, 0.0
    for i, j in zip(*np.nonzero(where), strict=True):
        wanted = 1.0 if similar[i, j] else apart
        total += (codes[i] @ others[j] / codes.shape[1] - wanted) ** 2
    return total / where.sum()


def test_asymmetric_by_hand():
    """h . v / 2 is 0.75 and -0.25, and is to be 1 and -1."""
    codes, others = jnp.array([[0.5, 1.0]]), jnp.array([[1.0, 1.0], [1.0, -1.0]])
    loss = asymmetric_dsh(codes, others, jnp.array([[True, False]]))
    assert loss == pytest.approx((0.25**2 + 0.75**2) / 2)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_asymmetric_is_the_formula(balanced, masked):
    batch = pairs(5, 7)
    where = np.random.default_rng(2).random((5, 7)) < (0.7 if masked else 2)
    loss = jit_asymmetric(*batch, balanced=balanced, where=jnp.asarray(where) if masked else None)
    assert loss == pytest.approx(asymmetric_loop(*batch, where, balanced), rel=1e-5)


def test_dissimilar_pairs_are_never_asked_for_more_than_minus_one():
    codes, others, similar = pairs(5, 7)
    similar = similar.at[:].set(True).at[0, 0].set(False)
    balanced = jit_asymmetric(codes, others, similar)
    assert balanced == jit_asymmetric(codes, others, similar, balanced=False)


# The distance to codes


def test_distance_is_the_formula_and_targets_are_constants():
    codes, targets = normal(5, 3), signs(5, 3, seed=1)
    expected = np.mean([(codes[i] - targets[i]) @ (codes[i] - targets[i]) / 3 for i in range(5)])
    value, slopes = jax.value_and_grad(distance_to_codes, argnums=(0, 1))(codes, targets)
    assert value == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(slopes[0], 2 / 15 * (codes - targets), rtol=1e-5)
    np.testing.assert_array_equal(slopes[1], 0.0)


# The steps of DSDH


def test_classifier_is_ridge_regression():
    """The gradient of |Y - BW|^2 + 3 |W|^2 over valid and labelled rows is 0."""
    codes, labels = signs(12, 4), (normal(12, 3, seed=1) > 0.5).astype(jnp.float32)
    labels = labels.at[5].set(0.0)
    where = jnp.arange(12) < 10
    found = dsdh_classifier(
        jnp.where(where[:, None], codes, jnp.nan), labels, ridge=3.0, where=where
    )
    rows = np.flatnonzero(np.asarray(labels.any(axis=1)) & np.asarray(where))
    assert 2 < len(rows) < 10
    b, y, w = (np.asarray(x, float) for x in (codes[rows], labels[rows], found))
    np.testing.assert_allclose(b.T @ (b @ w - y) + 3 * w, 0.0, atol=1e-5)
    assert np.abs(w).max() > 0.01


def better_bit(row, k, cost):
    """The row with bit k set to what costs less."""
    rows = [np.where(np.arange(len(row)) == k, bit, row) for bit in (1.0, -1.0)]
    return min(rows, key=cost)


def dsdh_codes_loop(codes, relaxed, labels, classifier, weight):
    codes = np.array(codes, float)
    relaxed, labels, classifier = (np.asarray(x, float) for x in (relaxed, labels, classifier))

    def cost(row, i):
        of_labels = np.sum((labels[i] - row @ classifier) ** 2) if labels[i].any() else 0.0
        return of_labels + weight * np.sum((row - relaxed[i]) ** 2)

    for k, i in product(range(codes.shape[1]), range(len(codes))):
        codes[i] = better_bit(codes[i], k, partial(cost, i=i))
    return codes


@pytest.mark.parametrize("weight", [0.0, 0.3, 1e4])
def test_codes_of_dsdh_are_the_best_of_two_bit_by_bit(weight):
    codes, relaxed = signs(20, 5), normal(20, 5, seed=1)
    labels = (normal(20, 3, seed=2) > 0.3).astype(jnp.float32)
    classifier = normal(5, 3, seed=3)
    found = jax.jit(dsdh_codes)(codes, relaxed, labels, classifier, weight=weight)
    labelled = np.asarray(labels.any(axis=1)) | (weight > 0)  # else both bits are as good
    expected = dsdh_codes_loop(codes, relaxed, labels, classifier, weight)
    np.testing.assert_array_equal(found[labelled], expected[labelled])
    if weight == 1e4:
        np.testing.assert_array_equal(found, np.sign(relaxed))


# The step of ADSH


def asymmetric_codes_loop(codes, relaxed, wanted_of, gamma, seen):
    """Each bit of each image by the cost itself, pair by pair."""
    codes, relaxed, bits = np.array(codes, float), np.asarray(relaxed, float), codes.shape[1]

    def cost(row, j):
        gaps = [relaxed[i] @ row - bits * wanted_of[i, j] for i in np.flatnonzero(seen)]
        return np.square(gaps).sum() + gamma * np.sum((row - relaxed[j]) ** 2)

    for k, j in product(range(bits), np.flatnonzero(seen)):
        codes[j] = better_bit(codes[j], k, partial(cost, j=j))
    return codes


@pytest.mark.parametrize("gamma", [0.0, 5.0, 1e4])
def test_codes_of_adsh_are_the_best_of_two_bit_by_bit(gamma):
    codes, relaxed, seen = signs(10, 5), jnp.tanh(normal(10, 5, seed=1)), np.arange(10) != 4
    similar = np.random.default_rng(2).random((10, 10)) < 0.3
    wanted_of = np.where(similar | similar.T, 1.0, -0.4)
    wanted = wanted_of.T @ np.where(seen[:, None], relaxed, 0.0)
    broken = jnp.where(seen[:, None], relaxed, jnp.nan)
    found = jax.jit(asymmetric_dsh_codes)(
        codes, broken, jnp.asarray(wanted, jnp.float32), gamma=gamma, where=jnp.asarray(seen)
    )
    expected = asymmetric_codes_loop(codes, relaxed, wanted_of, gamma, seen)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[4], codes[4])
    rows, kept = slice(2, 6), np.asarray(relaxed)[seen]
    part = asymmetric_dsh_codes(
        *(codes[rows], broken[rows], jnp.asarray(wanted[rows], jnp.float32)),
        gamma=gamma,
        where=jnp.asarray(seen[rows]),
        gram=jnp.asarray(kept.T @ kept),
    )
    np.testing.assert_array_equal(part, expected[rows])
    if gamma == 1e4:
        np.testing.assert_array_equal(found[seen], np.sign(relaxed[seen]))


# Errors


STEPS = {
    asymmetric_dsh_codes: {name: (4, 2) for name in ("codes", "relaxed", "wanted")},
    dsdh_classifier: {"codes": (4, 2), "labels": (4, 3)},
    dsdh_codes: {"codes": (4, 2), "relaxed": (4, 2), "labels": (4, 3), "classifier": (2, 3)},
}


@pytest.mark.parametrize("step", STEPS)
def test_errors_of_the_steps_name_the_argument(unchecked, step):
    batch = {name: jnp.ones(shape) for name, shape in STEPS[step].items()}
    assert step(**batch, where=jnp.ones(4, bool)).ndim == 2
    for name, array in batch.items():
        with pytest.raises(TypeError, match=f"^{name} must be"):
            step(**batch | {name: array.astype(complex if name == "labels" else int)})
        with pytest.raises(ValueError, match=f"^{name} must have"):
            step(**batch | {name: array[0]})
        if name != "codes":
            with pytest.raises(ValueError, match=f"^{name} must have shape"):
                step(**batch | {name: array[1:]})
    if "classifier" in batch:
        with pytest.raises(ValueError, match="^classifier must have shape"):
            step(**batch | {"classifier": jnp.ones((2, 4))})
    for where in (jnp.ones(3, bool), jnp.ones((4, 2), bool)):
        with pytest.raises(ValueError, match="^where must have shape"):
            step(**batch, where=where)
