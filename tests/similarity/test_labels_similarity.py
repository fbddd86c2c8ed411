"""What "similar" means, for both kinds of labels and both kinds of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.similarity import (
    UNLABELLED,
    embedding_distance,
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
def test_labels_of_two_kinds_or_of_neither_are_an_error(unchecked, one, other):
    with pytest.raises(ValueError, match="labels must be class ids"):
        shares_label(np.zeros(one, int), np.zeros(other, int))


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
        (ValueError, "labels must be below 3, got 5", np.array([5]), 3),
        (ValueError, "labels must be -1 or more, got -2", np.array([-2]), 3),
        (ValueError, "labels must have 3 columns", np.array([[0, 1]]), 3),
        (ValueError, "labels must be 0 or 1, got 2", np.array([[0, 2]]), 2),
        (TypeError, "classes must be an integer", np.array([0]), 2.0),
    ],
)
def test_labels_that_are_no_classes_are_refused(unchecked, error, words, labels, classes):
    with pytest.raises(error, match=words):
        multi_hot(labels, classes)


def test_traced_ids_beyond_the_classes_are_nan():
    rows = jax.jit(multi_hot, static_argnums=1)(jnp.array([0, -1, 2, -2]), 2)
    np.testing.assert_array_equal(rows, [[1, 0], [0, 0], [np.nan] * 2, [np.nan] * 2])


@pytest.mark.parametrize("exponent", range(-30, 31, 5))
def test_distance_of_embeddings_does_not_depend_on_their_scale(exponent):
    """A row is at distance 0 of itself, 1/2 of one at a right angle, 1 of its opposite."""
    rows = 10.0**exponent * np.array([[3, 4], [-4, 3], [-3, -4]], np.float32)
    expected = [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]
    np.testing.assert_allclose(embedding_distance(rows.astype(np.float32)), expected, atol=1e-6)


def test_ids_beside_those_of_jax_are_not_cut_short():
    """2^32 would be 0 in int32."""
    large, zero = np.array([2**32]), np.array([0])
    assert not shares_label(large, zero).any()
    for sides in ((large, jnp.asarray(zero)), (jnp.asarray(zero), large)):
        with pytest.raises(ValueError, match="must be below 2147483648"):
            shares_label(*sides)
