"""Similarity of both kinds of labels in both kinds of arrays, against loops over sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.similarity import (
    UNLABELLED,
    has_label,
    label_cosine,
    label_iou,
    label_overlap,
    multi_hot,
    shares_label,
)

PAIRED = [shares_label, label_cosine, label_iou, label_overlap]

each_kind = pytest.mark.parametrize(
    ("array", "kind"), [(np.array, np.ndarray), (jnp.array, jnp.ndarray)], ids=["numpy", "jax"]
)


@each_kind
def test_ids_are_similar_where_equal_and_labelled(array, kind):
    similar = shares_label(array([0, 1, UNLABELLED]), array([1, 0, UNLABELLED, 0]))
    assert isinstance(similar, kind) and similar.dtype == bool
    np.testing.assert_array_equal(similar, [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])


@each_kind
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.float32])
def test_multi_hot_rows_are_similar_where_they_share_a_class(array, kind, dtype):
    labels = array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=dtype)
    others = array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=dtype)
    similar = shares_label(labels, others)
    assert isinstance(similar, kind) and similar.dtype == bool
    np.testing.assert_array_equal(similar, [[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])


def test_many_shared_classes_do_not_overflow():
    labels = np.ones((1, 300), np.uint8)  # 256 shared classes would be 0 in this dtype
    assert shares_label(labels[:, :256], labels[:, :256]).all()
    assert shares_label(labels, labels).all()


def test_ids_are_their_one_hot_rows():
    ids, others = np.random.default_rng(0).integers(5, size=(2, 9))
    one_hot = np.eye(5, dtype=np.int32)
    np.testing.assert_array_equal(
        shares_label(ids, others), shares_label(one_hot[ids], one_hot[others])
    )


@pytest.mark.parametrize(("one", "other"), [((4,), (4, 3)), ((4, 3), (4,)), ((2, 3, 1),) * 2])
@pytest.mark.parametrize("function", PAIRED)
def test_labels_of_two_kinds_or_of_neither_are_refused(unchecked, function, one, other):
    with pytest.raises(ValueError, match="class ids"):
        function(np.zeros(one, int), np.zeros(other, int))


@each_kind
@pytest.mark.parametrize("function", PAIRED)
def test_labels_of_every_dtype_are_alike(array, kind, function):
    rows, ids = [[1, 1, 0], [0, 0, 1]], [0, 255, 1]
    of_rows, of_ids = (
        function(np.array(rows), np.array(rows)),
        function(np.array(ids), np.array(ids)),
    )
    for dtype in (bool, np.int8, np.uint8, np.int32, np.float32, jnp.bfloat16):
        labels = array(rows, dtype=dtype)
        np.testing.assert_array_equal(function(labels, labels), of_rows)
    for dtype in (np.uint8, np.int16, np.int32):  # in a byte, 255 is -1
        labels = array(ids, dtype=dtype)
        np.testing.assert_array_equal(function(labels, labels), of_ids)
        np.testing.assert_array_equal(has_label(labels), [True, True, True])


@pytest.mark.parametrize("function", PAIRED)
@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        (ValueError, np.array([0, -2])),
        (ValueError, np.array([0.5, 1.0])),
        (ValueError, np.array([[0, 2], [1, 0]])),
        (ValueError, np.array([[0, -1], [1, 0]])),
        (ValueError, np.array([[0, np.nan], [1, 0]])),
        (TypeError, np.array([True, False])),
        (TypeError, np.array(["a", "b"])),
        (TypeError, np.array([1j, 0])),
    ],
)
def test_other_labels_are_refused_by_name(unchecked, function, error, wrong):
    right = np.zeros_like(wrong, shape=wrong.shape, dtype=int)
    for name, sides in (("labels", (wrong, right)), ("others", (right, wrong))):
        with pytest.raises(error, match=rf"\b{name} must be"):
            function(*sides)


def test_multi_hot_of_labels_of_every_dtype():
    for dtype in (np.int8, np.uint8, np.float32):
        np.testing.assert_array_equal(multi_hot(np.array([1, 0], dtype), 2), [[0, 1], [1, 0]])
    for dtype in (bool, np.int8, np.float32):
        rows = np.array([[0, 1], [0, 0]]).astype(dtype)
        np.testing.assert_array_equal(multi_hot(rows, np.int64(2)), rows)


@pytest.mark.parametrize(
    ("error", "words", "labels", "classes"),
    [
        (ValueError, "labels .*below 3, got 5", np.array([5]), 3),
        (ValueError, "labels .*-1 or more, got -2", np.array([-2]), 3),
        (ValueError, "labels .*3 columns", np.array([[0, 1]]), 3),
        (ValueError, "labels .*0 or 1, got 2", np.array([[0, 2]]), 2),
        (TypeError, "classes .*integer", np.array([0]), 2.0),
    ],
)
def test_multi_hot_refuses_labels_out_of_range(unchecked, error, words, labels, classes):
    with pytest.raises(error, match=words):
        multi_hot(labels, classes)


def test_traced_ids_beyond_the_classes_are_nan():
    rows = jax.jit(multi_hot, static_argnums=1)(jnp.array([0, -1, 2, -2]), 2)
    np.testing.assert_array_equal(rows, [[1, 0], [0, 0], [np.nan] * 2, [np.nan] * 2])


def test_large_ids_of_numpy_are_not_truncated_beside_jax():
    """2^32 would be 0 in int32."""
    large, zero = np.array([2**32]), np.array([0])
    assert not shares_label(large, zero).any()
    for sides in ((large, jnp.asarray(zero)), (jnp.asarray(zero), large)):
        with pytest.raises(ValueError, match="2147483648"):
            shares_label(*sides)


# Graded similarity

FORMULAS = {
    label_cosine: lambda a, b: len(a & b) / np.sqrt(len(a) * len(b)),
    label_iou: lambda a, b: len(a & b) / len(a | b),
    label_overlap: lambda a, b: len(a & b) / min(len(a), len(b)),
}
each_grade = pytest.mark.parametrize("grade", FORMULAS, ids=lambda grade: grade.__name__)


def rows_of(items, classes=6, seed=0):
    """Draws sets of labels as multi-hot rows; the first is empty."""
    rows = np.random.default_rng(seed).random((items, classes)) < 0.5
    rows[0] = False
    return rows


@each_grade
@each_kind
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_grades_are_those_of_sets(grade, array, kind, dtype):
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
@each_kind
def test_grades_of_ids_are_one_or_zero(grade, array, kind):
    ids, others = array([0, 1, UNLABELLED, 2]), array([1, 0, UNLABELLED, 0])
    similarity = grade(ids, others)
    assert similarity.dtype == jnp.float32
    np.testing.assert_array_equal(similarity, shares_label(ids, others))


def test_grades_by_hand():
    """The sets {0, 1, 2} and {2, 3}, {1}, {0, 1, 2, 3}."""
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
