"""What "similar" means, for both kinds of labels and both kinds of arrays."""

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxhash.similarity import UNLABELLED, share_a_label

each_kind = pytest.mark.parametrize(
    ("array", "kind"), [(np.array, np.ndarray), (jnp.array, jnp.ndarray)], ids=["numpy", "jax"]
)


@each_kind
def test_ids_are_similar_where_equal_and_labelled(array, kind):
    similar = share_a_label(array([0, 1, UNLABELLED]), array([1, 0, UNLABELLED, 0]))
    assert isinstance(similar, kind) and similar.dtype == bool
    np.testing.assert_array_equal(similar, [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])


@each_kind
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.float32])
def test_multi_hot_rows_are_similar_where_they_share_a_class(array, kind, dtype):
    labels = array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=dtype)
    others = array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=dtype)
    similar = share_a_label(labels, others)
    assert isinstance(similar, kind) and similar.dtype == bool
    np.testing.assert_array_equal(similar, [[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])


def test_many_shared_classes_do_not_overflow():
    labels = np.ones((1, 300), np.uint8)  # 256 shared classes would be 0 in this dtype
    assert share_a_label(labels[:, :256], labels[:, :256]).all()
    assert share_a_label(labels, labels).all()


def test_ids_are_their_one_hot_rows():
    ids, others = np.random.default_rng(0).integers(5, size=(2, 9))
    one_hot = np.eye(5, dtype=np.int32)
    np.testing.assert_array_equal(
        share_a_label(ids, others), share_a_label(one_hot[ids], one_hot[others])
    )


@pytest.mark.parametrize(("one", "other"), [((4,), (4, 3)), ((4, 3), (4,)), ((2, 3, 1),) * 2])
def test_labels_of_two_kinds_or_of_neither_are_an_error(monkeypatch, one, other):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="labels must be class ids"):
        share_a_label(np.zeros(one, int), np.zeros(other, int))
