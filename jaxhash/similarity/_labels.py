"""Class ids and multi-hot rows: who has a label, and how alike two sets of labels are."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.ops.arguments import UNLABELLED, Whole, as_index, as_labels, whole_number
from jaxhash.ops.meshes import like_rows, on_any_mesh


def has_label(
    labels: Shaped[ArrayLike, " n *classes"],
) -> Bool[Array, " n"] | Bool[np.ndarray, " n"]:
    """Which items have a label: an id other than -1, or a row that is not all zeros.

    Example:
        >>> has_label(np.array([0, -1])).tolist(), has_label(np.array([[0, 0], [0, 1]])).tolist()
        ([True, False], [False, True])
    """
    labels = as_labels("labels", labels)
    return labels != UNLABELLED if labels.ndim == 1 else labels.any(axis=1)


@on_any_mesh(returns=like_rows)
def share_a_label(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> Bool[Array, "n m"] | Bool[np.ndarray, "n m"]:
    """Which pairs are similar: those with a class in common.

    Args:
        labels: class ids with shape [n], or 0/1 rows (multi-hot) with shape [n, classes]. An id of
            -1 and a row of zeros mean "no label".
        others: the same kind, with shape [m] or [m, classes].

    Returns:
        True where row i of ``labels`` and row j of ``others`` share at least one class; of the same
        kind of array (JAX or NumPy) as the labels.

    Raises:
        TypeError: if labels are no numbers, or ids no integers.
        ValueError: if one is ids and the other multi-hot, or neither; if multi-hot rows are not 0
            and 1, or ids below -1.

    Example:
        >>> share_a_label(np.array([0, 1]), np.array([1, 2, -1])).tolist()
        [[False, False, False], [True, False, False]]
    """
    labels, others = _of_one_kind(labels, others)
    if labels.ndim == 1:
        return (labels[:, None] == others[None, :]) & (labels[:, None] != UNLABELLED)
    return (labels.astype(np.float32) @ others.astype(np.float32).T) > 0


def multi_hot(
    labels: Shaped[ArrayLike, " n *classes"], classes: Whole
) -> Float[Array, "n classes"]:
    """Labels of either kind as rows of 0 and 1; a row without a label is all zeros.

    Where ids are traced, one out of range cannot be refused: its row is NaN.

    Raises:
        TypeError: if labels are no numbers, or ids no integers.
        ValueError: if multi-hot rows have another number of classes, or an id is not one of them.

    Example:
        >>> multi_hot(np.array([1, -1]), 3).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    classes = whole_number("classes", classes, least=1)
    labels = jnp.asarray(as_labels("labels", labels, classes))
    if labels.ndim == 2:
        return labels.astype(jnp.float32)
    rows = (labels[:, None] == jnp.arange(classes)[None, :]).astype(jnp.float32)
    known = (labels >= UNLABELLED) & (labels < classes)  # others are traced
    return jnp.where(known[:, None], rows, jnp.nan)


@on_any_mesh(returns=like_rows)
def label_cosine(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> Float[Array, "n m"]:
    r"""Graded similarity of pairs: the cosine of their multi-hot rows, in [0, 1].

    .. math:: s_{ij} = |A_i \cap B_j| / \sqrt{|A_i| \, |B_j|}

    is exactly 1 for equal sets of labels, and 0 where a set is empty. Of class ids it is 1 or 0, as
    `share_a_label` has it.

    Args:
        labels: class ids with shape [n], or 0/1 rows (multi-hot) with shape [n, classes].
        others: the same kind, with shape [m] or [m, classes].

    Raises:
        TypeError: if labels are no numbers, or ids no integers.
        ValueError: if one is ids and the other multi-hot, or neither; if multi-hot rows are not 0
            and 1, or ids below -1.

    Example:
        >>> label_cosine(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 1, 1], [1, 0, 0, 0]])).tolist()
        [[1.0, 0.5]]
    """
    shared, own, theirs = _counts(labels, others)
    return jnp.sqrt(_share(shared, own) * _share(shared, theirs))


@on_any_mesh(returns=like_rows)
def label_iou(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> Float[Array, "n m"]:
    r"""Graded similarity of pairs: intersection over union of their labels, in [0, 1].

    .. math:: s_{ij} = |A_i \cap B_j| / |A_i \cup B_j|

    is exactly 1 for equal sets of labels and for no others, and 0 where a set is empty. Of class
    ids it is 1 or 0, as `share_a_label` has it.

    Args:
        labels: class ids with shape [n], or 0/1 rows (multi-hot) with shape [n, classes].
        others: the same kind, with shape [m] or [m, classes].

    Raises:
        TypeError: if labels are no numbers, or ids no integers.
        ValueError: if one is ids and the other multi-hot, or neither; if multi-hot rows are not 0
            and 1, or ids below -1.

    Example:
        >>> label_iou(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 1, 1], [1, 0, 0, 0]])).tolist()
        [[1.0, 0.25]]

    Reference:
        The Jaccard index.
    """
    shared, own, theirs = _counts(labels, others)
    return _share(shared, own + theirs - shared)


@on_any_mesh(returns=like_rows)
def label_overlap(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> Float[Array, "n m"]:
    r"""Graded similarity of pairs: shared labels over the smaller number of labels, in [0, 1].

    .. math:: s_{ij} = |A_i \cap B_j| / \min(|A_i|, |B_j|)

    is exactly 1 where one set of labels holds the other, and 0 where a set is empty. Of class ids
    it is 1 or 0, as `share_a_label` has it.

    Args:
        labels: class ids with shape [n], or 0/1 rows (multi-hot) with shape [n, classes].
        others: the same kind, with shape [m] or [m, classes].

    Raises:
        TypeError: if labels are no numbers, or ids no integers.
        ValueError: if one is ids and the other multi-hot, or neither; if multi-hot rows are not 0
            and 1, or ids below -1.

    Example:
        >>> label_overlap(np.array([[1, 1, 0]]), np.array([[1, 0, 0], [1, 0, 1]])).tolist()
        [[1.0, 0.5]]

    Reference:
        The overlap coefficient of Szymkiewicz and Simpson.
    """
    shared, own, theirs = _counts(labels, others)
    return _share(shared, jnp.minimum(own, theirs))


def _counts(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> tuple[Float[Array, "n m"], Float[Array, "n 1"], Float[Array, "1 m"]]:
    """How many labels each pair shares, and how many each row of either side has, or 1 of an id."""
    labels, others = _of_one_kind(labels, others)
    if labels.ndim == 1:
        shared = jnp.asarray(share_a_label(labels, others), jnp.float32)
        return shared, jnp.ones((len(labels), 1)), jnp.ones((1, len(others)))
    rows, columns = (jnp.asarray(side).astype(jnp.float32) for side in (labels, others))
    return rows @ columns.T, rows.sum(axis=1)[:, None], columns.sum(axis=1)[None, :]


def _share(part: Float[Array, "n m"], whole: Float[Array, "..."]) -> Float[Array, "n m"]:
    """A part of a number of labels, 0 of none, and exactly 1 of all however a device divides."""
    whole = jnp.maximum(whole, 1.0)
    return jnp.where(part == whole, 1.0, part / whole)


def _of_one_kind(
    labels: Shaped[ArrayLike, " n *classes"], others: Shaped[ArrayLike, " m *classes"]
) -> tuple[Shaped[ArrayLike, " n *classes"], Shaped[ArrayLike, " m *classes"]]:
    """Both sides checked; they must both be class ids, or both multi-hot with as many classes."""
    kinds = {(np.ndim(side), *np.shape(side)[1:]) for side in (labels, others)}
    if len(kinds) > 1:
        raise ValueError(
            "labels must be class ids [n] or multi-hot rows [n, classes], the same on both sides; "
            f"got shapes {np.shape(labels)} and {np.shape(others)}"
        )
    labels, others = as_labels("labels", labels), as_labels("others", others)
    if labels.ndim == 1 and isinstance(labels, jax.Array) != isinstance(others, jax.Array):
        limit = jnp.iinfo(jnp.asarray(0).dtype).max + 1  # JAX would cut larger ids of NumPy short
        for name, ids in (("labels", labels), ("others", others)):
            as_index(name, ids, limit, least=UNLABELLED)
    return labels, others
