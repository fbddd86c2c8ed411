"""Graded similarity of sets of labels against loops over sets, and distances of embeddings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash.similarity import (
    UNLABELLED,
    embedding_distance,
    label_cosine,
    label_iou,
    label_overlap,
    shares_label,
)

FORMULAS = {
    label_cosine: lambda a, b: len(a & b) / np.sqrt(len(a) * len(b)),
    label_iou: lambda a, b: len(a & b) / len(a | b),
    label_overlap: lambda a, b: len(a & b) / min(len(a), len(b)),
}
each_grade = pytest.mark.parametrize("grade", FORMULAS, ids=lambda grade: grade.__name__)
each_array = pytest.mark.parametrize("array", [np.array, jnp.array], ids=["numpy", "jax"])


def rows_of(items, classes=6, seed=0):
    """Sets of labels as multi-hot rows; the first is empty."""
    rows = np.random.default_rng(seed).random((items, classes)) < 0.5
    rows[0] = False
    return rows


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Sets of labels


@each_grade
@each_array
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_grades_are_those_of_sets(grade, array, dtype):
    rows, columns = rows_of(8), rows_of(12, seed=1)
    expected = np.zeros((8, 12))
    for i, j in np.ndindex(8, 12):
        a, b = set(np.flatnonzero(rows[i])), set(np.flatnonzero(columns[j]))
        expected[i, j] = FORMULAS[grade](a, b) if a and b else 0
    similarity = grade(array(rows.astype(dtype)), array(columns.astype(dtype)))
    assert similarity.dtype == jnp.float32
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)
    assert ((similarity > 0) == shares_label(rows, columns)).all()


@each_grade
@each_array
def test_grades_of_ids_are_one_or_zero(grade, array):
    ids, others = array([0, 1, UNLABELLED, 2]), array([1, 0, UNLABELLED, 0])
    similarity = grade(ids, others)
    assert similarity.dtype == jnp.float32
    np.testing.assert_array_equal(similarity, shares_label(ids, others))


def test_grades_by_hand():
    """Of {0, 1, 2} and {2, 3}, then {1}, then all four."""
    row, columns = np.array([[1, 1, 1, 0]]), np.array([[0, 0, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_allclose(label_cosine(row, columns), [np.array([1 / 6, 1 / 3, 3 / 4]) ** 0.5])
    np.testing.assert_allclose(label_iou(row, columns), [[1 / 4, 1 / 3, 3 / 4]])
    np.testing.assert_allclose(label_overlap(row, columns), [[1 / 2, 1, 1]])


@each_grade
def test_equal_sets_are_exactly_one(grade):
    rows = np.tri(300, dtype=np.uint8)  # sets of 1 to 300 labels
    assert (jnp.diag(grade(rows, rows)) == 1).all()
    assert (jnp.diag(jax.jit(grade)(jnp.array(rows), jnp.array(rows))) == 1).all()


def test_grades_are_in_order_and_symmetric():
    rows = rows_of(12)
    iou, cosine, overlap = (grade(rows, rows) for grade in (label_iou, label_cosine, label_overlap))
    assert (iou <= cosine + 1e-6).all() and (cosine <= overlap + 1e-6).all()
    assert (overlap <= 1).all() and (iou < 1 - 1e-6).any()
    for similarity in (iou, cosine, overlap):
        np.testing.assert_array_equal(similarity, similarity.T)


@each_grade
def test_jit_and_vmap_change_nothing(grade):
    rows, columns = jnp.array(rows_of(8)), jnp.array(rows_of(12, seed=1))
    expected = grade(rows, columns)
    np.testing.assert_allclose(jax.jit(grade)(rows, columns), expected, rtol=1e-6)
    halves = jax.jit(jax.vmap(grade, in_axes=(0, None)))(rows.reshape(2, 4, 6), columns)
    np.testing.assert_allclose(halves.reshape(8, 12), expected, rtol=1e-6)


@each_grade
@pytest.mark.parametrize(("one", "other"), [((4,), (4, 3)), ((4, 3), (4,)), ((2, 3, 1),) * 2])
def test_labels_of_two_kinds_or_of_neither_are_an_error(unchecked, grade, one, other):
    with pytest.raises(ValueError, match="labels must be class ids"):
        grade(np.zeros(one, int), np.zeros(other, int))


# Embeddings


def loop_distance(rows, columns):
    """Pair by pair, in float64; a row of zeros has a cosine of 0."""
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
@each_array
def test_distance_is_the_formula_in_float32(array, dtype):
    if dtype == "float64" and array is jnp.array:
        pytest.skip("JAX has none by default")
    rows, columns = (array(normal(n, 200, seed=n).astype(dtype)) for n in (5, 7))
    distance = embedding_distance(rows, columns)
    assert isinstance(distance, jax.Array) and distance.dtype == jnp.float32
    np.testing.assert_allclose(distance, loop_distance(rows, columns), atol=1e-6)


def test_distance_of_rows_among_themselves():
    rows = normal(6, 5)
    distance = embedding_distance(rows)
    np.testing.assert_array_equal(distance, embedding_distance(rows, rows))
    np.testing.assert_allclose(distance, loop_distance(rows, rows), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_distance_depends_on_directions_alone(scale):
    rows = normal(4, 6)
    scaled = rows * np.float32(scale)
    np.testing.assert_allclose(
        embedding_distance(scaled, rows), embedding_distance(rows), atol=1e-6
    )


def test_distance_stays_between_zero_and_one():
    """Rows are rounded before they are compared, and a cosine may come out above 1."""
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
        ((np.zeros((2, 3), int),), TypeError, "embeddings must be floating, got int"),
        ((np.zeros((2, 3)), np.zeros((2, 3), int)), TypeError, "others must be floating, got int"),
        ((np.zeros(3),), ValueError, r"embeddings must have 2 dimensions, got shape \(3,\)"),
        ((np.zeros((2, 3)), np.zeros((2, 4))), ValueError, r"shapes \(2, 3\) and \(2, 4\)"),
    ],
)
def test_what_is_no_embeddings_is_an_error(unchecked, arguments, error, message):
    with pytest.raises(error, match=message):
        embedding_distance(*arguments)
