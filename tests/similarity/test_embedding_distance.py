"""Distances of embeddings against a loop, their gradient and their refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash.similarity import embedding_distance


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def loop_distance(rows, columns):
    """Computes distances pair by pair in float64; a row of zeros has a cosine of 0."""
    rows, columns = np.asarray(rows, float), np.asarray(columns, float)
    distance = np.full((len(rows), len(columns)), 0.5)
    for i, j in np.ndindex(distance.shape):
        lengths = np.sqrt(sum(x * x for x in rows[i]) * sum(y * y for y in columns[j]))
        if lengths > 0:
            inner = sum(x * y for x, y in zip(rows[i], columns[j], strict=True))
            distance[i, j] = (1 - inner / lengths) / 2
    return distance


def test_distance_by_hand():
    rows = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    columns = np.array([[6.0, 8.0], [-4.0, 3.0], [-3.0, -4.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    expected = [[0, 0.5, 1, 0.2, 0.5], [0.5] * 5]
    np.testing.assert_allclose(embedding_distance(rows, columns), expected, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("array", [np.array, jnp.array], ids=["numpy", "jax"])
def test_distance_is_the_formula_in_float32(array, dtype):
    if dtype == "float64" and array is jnp.array:
        pytest.skip("JAX has none by default")
    rows, columns = (array(normal(n, 200, seed=n).astype(dtype)) for n in (5, 7))
    distance = embedding_distance(rows, columns)
    assert isinstance(distance, jax.Array) and distance.dtype == jnp.float32
    np.testing.assert_allclose(distance, loop_distance(rows, columns), atol=1e-6)


def test_others_are_the_rows_by_default():
    rows = normal(6, 5)
    distance = embedding_distance(rows)
    np.testing.assert_array_equal(distance, embedding_distance(rows, rows))
    np.testing.assert_allclose(distance, loop_distance(rows, rows), atol=1e-6)


@pytest.mark.parametrize("exponent", range(-30, 31, 5))
def test_distance_does_not_depend_on_the_scale(exponent):
    """The distance is 0 to the row itself, 1/2 at a right angle and 1 to the opposite."""
    rows = np.array([[3, 4], [-4, 3], [-3, -4]], np.float32)
    scaled = (10.0**exponent * rows).astype(np.float32)
    expected = [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]
    for others in (scaled, rows):
        np.testing.assert_allclose(embedding_distance(scaled, others), expected, atol=1e-6)


def test_distance_stays_between_zero_and_one():
    """Rounding may make a cosine larger than 1."""
    rows = normal(500, 7)
    with_itself, with_opposite = embedding_distance(rows), embedding_distance(rows, -rows)
    assert (with_itself >= 0).all() and (with_opposite <= 1).all()
    np.testing.assert_allclose(jnp.diag(with_itself), 0, atol=3e-7)
    np.testing.assert_allclose(jnp.diag(with_opposite), 1, atol=3e-7)


def test_distance_under_jit_and_vmap():
    rows, columns = jnp.array(normal(8, 5)), jnp.array(normal(3, 5, seed=1))
    expected = embedding_distance(rows, columns)
    np.testing.assert_allclose(jax.jit(embedding_distance)(rows, columns), expected, atol=1e-6)
    mapped = jax.jit(jax.vmap(embedding_distance, in_axes=(0, None)))
    halves = mapped(rows.reshape(2, 4, 5), columns)
    np.testing.assert_allclose(halves.reshape(8, 3), expected, atol=1e-6)


def test_distance_has_the_gradient_of_the_formula():
    check_grads(
        jax.jit(embedding_distance), (normal(3, 4), normal(5, 4, seed=1)), order=1, modes=["rev"]
    )


def test_rows_of_zeros_have_no_gradient():
    rows = jnp.array(normal(4, 3)).at[1].set(0.0)
    others = jnp.array(normal(5, 3, seed=1))
    slope = jax.jit(jax.grad(lambda rows: embedding_distance(rows, others).sum()))(rows)
    assert (slope[1] == 0).all() and jnp.isfinite(slope).all() and (slope[0] != 0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((2, 3), int),), TypeError, "embeddings must be floating"),
        ((np.zeros((2, 3)), np.zeros((2, 3), int)), TypeError, "others must be floating"),
        ((np.zeros(3),), ValueError, "embeddings .*2 dim"),
        ((np.zeros((2, 3)), np.zeros((2, 4))), ValueError, r"shapes \(2, 3\) and \(2, 4\)"),
    ],
)
def test_other_arrays_are_refused(unchecked, arguments, error, message):
    with pytest.raises(error, match=message):
        embedding_distance(*arguments)
