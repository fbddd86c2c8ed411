"""Losses without labels against loops over pairs and rows, and their invariances."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import (
    cosine_regression,
    nt_xent,
    semantic_consistency,
    semantic_structure,
    view_divergence,
)

N, M, BITS = 5, 7, 3


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def some(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random(shape) < 0.7)


def cosine(x, y):
    return x @ y / np.sqrt((x @ x) * (y @ y))


# The formulas in loops, in float64


def loop_cosine_regression(codes, others, similarity, where):
    costs = [
        (cosine(codes[i], others[j]) - similarity[i, j]) ** 2
        for i, j in np.ndindex(*where.shape)
        if where[i, j]
    ]
    return np.mean(costs)


def loop_semantic_structure(codes, others, similarity, where):
    costs = []
    for i, j in np.ndindex(*where.shape):
        if where[i, j] and similarity[i, j]:
            costs.append((codes[i] @ others[j] / len(codes[i]) - similarity[i, j]) ** 2)
    return np.mean(costs)


def loop_nt_xent(codes, others, where, temperature=0.3):
    views = [*codes[where], *others[where]]
    images, costs = len(views) // 2, []
    for i, z in enumerate(views):
        scores = [cosine(z, other) / temperature for other in views]
        positive = scores[(i + images) % (2 * images)]
        costs.append(np.log(sum(np.exp(s) for k, s in enumerate(scores) if k != i)) - positive)
    return np.mean(costs)


def loop_view_divergence(codes, others, where):
    costs = []
    for u, v in zip(codes[where], others[where], strict=True):
        p, q = 1 / (1 + np.exp(-u)), 1 / (1 + np.exp(-v))
        there = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        back = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
        costs.append(sum(there + back) / 2)
    return np.mean(costs)


def of_pairs(seed=0):
    similarity = np.random.default_rng(seed).integers(-1, 2, (N, M)).astype(np.float32)
    return normal(N, BITS, seed=seed), normal(M, BITS, seed=seed + 1), jnp.asarray(similarity)


def of_views(seed=0):
    return normal(N, BITS, seed=seed), normal(N, BITS, seed=seed + 1)


PAIRS = {cosine_regression: loop_cosine_regression, semantic_structure: loop_semantic_structure}
VIEWS = {nt_xent: loop_nt_xent, view_divergence: loop_view_divergence}
each_of_views = pytest.mark.parametrize("loss", VIEWS)
each = pytest.mark.parametrize("loss", [*PAIRS, *VIEWS])


@cache
def jitted(loss):
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def arguments_of(loss, seed=0):
    arguments = of_pairs(seed) if loss in PAIRS else of_views(seed)
    return arguments, some(N, M, seed=9) if loss in PAIRS else jnp.arange(N) != 2


# Values


@each
@pytest.mark.parametrize("seed", [0, 10])
def test_is_the_formula(loss, seed):
    arguments, where = arguments_of(loss, seed)
    formula = (PAIRS | VIEWS)[loss]
    exact = [np.asarray(x, float) for x in arguments]
    value, _ = jitted(loss)(*arguments, where=where)
    np.testing.assert_allclose(value, formula(*exact, np.asarray(where)), rtol=1e-5)
    value, _ = jitted(loss)(*arguments)
    np.testing.assert_allclose(value, formula(*exact, np.ones(where.shape, bool)), rtol=1e-5)
    assert value.dtype == jnp.float32


def test_cosine_regression_by_hand():
    """Cosines 1, 0.6 and -0.6 to 1, 1 and -1."""
    u, v = jnp.array([[2.0, 0.0]]), jnp.array([[0.5, 0.0], [3.0, 4.0], [-3.0, 4.0]])
    value = cosine_regression(u, v, jnp.array([[1.0, 1.0, -1.0]]))
    np.testing.assert_allclose(value, (0 + 0.16 + 0.16) / 3, rtol=1e-6)


def test_semantic_structure_by_hand():
    """Inner products over bits 1/2, 0 and -1/2; the middle pair is not decided."""
    h = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    value = semantic_structure(h[:1], h[1:], jnp.array([[1, 0, -1]]))
    np.testing.assert_allclose(value, (0.25 + 0.25) / 2)
    assert semantic_structure(h, h, jnp.zeros((4, 4))) == 0


def test_semantic_consistency_is_the_formula():
    """Pairs without confidence count in the mean."""
    (codes, others, similarity), where = of_pairs(), some(N, M, seed=9)
    confidence = np.random.default_rng(3).choice([0.0, 0.25, 1.0], (N, M))
    costs = [
        confidence[i, j] * (np.dot(codes[i], others[j]) / BITS - float(similarity[i, j])) ** 2
        for i, j in np.argwhere(where)
    ]
    value = semantic_consistency(codes, others, similarity, jnp.asarray(confidence), where=where)
    np.testing.assert_allclose(value, np.mean(costs), rtol=1e-5)
    for wrong in (-0.5, 1.5):
        with pytest.raises(ValueError, match=r"\bconfidence\b"):
            semantic_consistency(codes, others, similarity, jnp.full((N, M), wrong))


def test_nt_xent_by_hand():
    """Images on opposite sides, whose views agree: each finds 1 of 3, at cosine 1 against -1."""
    z = jnp.array([[1.0, 1.0], [-2.0, -2.0]])
    value = nt_xent(z, 3 * z, temperature=0.5)
    np.testing.assert_allclose(value, np.log(np.exp(2) + 2 * np.exp(-2)) - 2, rtol=1e-5)


def test_nt_xent_of_one_image_is_zero():
    value, slopes = jitted(nt_xent)(normal(1, BITS), normal(1, BITS, seed=1))
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(slopes, np.zeros((2, 1, BITS)), atol=1e-6)


def test_view_divergence_is_a_sum_over_bits_and_a_mean_over_rows():
    u, v = jnp.zeros((1, 1)), jnp.full((1, 1), np.log(3.0))
    one = np.log(3) / 8
    np.testing.assert_allclose(view_divergence(u, v), one, rtol=1e-5)
    tiled = view_divergence(jnp.tile(u, (4, 6)), jnp.tile(v, (4, 6)))
    np.testing.assert_allclose(tiled, 6 * one, rtol=1e-5)
    assert view_divergence(v, v) == 0


# Gradients


def test_gradient_of_the_divergence_holds_the_other_law_fixed():
    """dKL(p || q) / du = p (1 - p) (u - v), and half of it counts."""
    u, v = of_views()
    _, (of_u, of_v) = jitted(view_divergence)(u, v)
    p, q = 1 / (1 + np.exp(-u)), 1 / (1 + np.exp(-v))
    np.testing.assert_allclose(of_u, p * (1 - p) * (u - v) / (2 * N), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(of_v, q * (1 - q) * (v - u) / (2 * N), rtol=1e-4, atol=1e-7)


def test_a_row_of_zeros_has_cosine_zero():
    u = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    value, (slope, _) = jitted(cosine_regression)(u, u, jnp.ones((2, 2)))
    assert value == 0.75
    np.testing.assert_array_equal(slope[0], 0.0)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_cosine_regression_of_long_and_short_codes_by_hand(size):
    """Cosines 1 and 0.8 to 1 and 1/2."""
    u, v = size * jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 2.0], [2.0, 1.0]])
    value = cosine_regression(u, v, jnp.array([[1.0, 0.5]]))
    np.testing.assert_allclose(value, 0.3**2 / 2, rtol=1e-5)


# Invariances


@each_of_views
def test_order_of_images_and_of_views(loss):
    (codes, others), where = arguments_of(loss)
    rows = np.random.default_rng(3).permutation(N)
    value, _ = jitted(loss)(others[rows], codes[rows], where=where[rows])
    np.testing.assert_allclose(value, jitted(loss)(codes, others, where=where)[0], rtol=1e-6)


# Errors


@pytest.mark.parametrize(
    ("loss", "error", "name", "change"),
    [
        (cosine_regression, TypeError, "similarity", {"similarity": jnp.ones((N, M), bool)}),
        (semantic_structure, TypeError, "similarity", {"similarity": jnp.ones((N, M), bool)}),
        (semantic_structure, ValueError, "similarity", {"similarity": jnp.full((N, M), 2)}),
        (nt_xent, ValueError, "temperature", {"temperature": 0.0}),
    ],
)
def test_errors_name_the_argument(unchecked, loss, error, name, change):
    arguments, _ = arguments_of(loss)
    names = ("codes", "others", "similarity")[: len(arguments)]
    with pytest.raises(error, match=rf"\b{name}\b"):
        loss(**(dict(zip(names, arguments, strict=True)) | change))
