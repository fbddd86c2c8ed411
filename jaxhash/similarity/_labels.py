"""Similarity of class ids and of multi-hot rows."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.ops.arguments import UNLABELLED, IntLike, as_index, as_int, as_labels
from jaxhash.ops.meshes import on_any_mesh, sharded_like_first


def has_label(
    labels: Shaped[ArrayLike, " n *classes"],
) -> Bool[Array, " n"] | Bool[np.ndarray, " n"]:
    """Returns which items have a label: an id other than -1, or a row that is not all zeros.

    Example:
        >>> has_label(np.array([0, -1])).tolist(), has_label(np.array([[0, 0], [0, 1]])).tolist()
        ([True, False], [False, True])
    """
    labels = as_labels("labels", labels)
    return labels != UNLABELLED if labels.ndim == 1 else labels.any(axis=1)


@on_any_mesh(out_specs=sharded_like_first)
def shares_label(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> Bool[Array, "n m"] | Bool[np.ndarray, "n m"]:
    """Returns which pairs are similar: those with a class in common.

    Args:
        labels: class ids [n] or multi-hot rows [n, classes].
        others: the same kind, with m rows.

    Returns:
        True where row i of ``labels`` and row j of ``others`` share at least one class, in the same
        kind of array (JAX or NumPy) as the labels.

    Example:
        >>> shares_label(np.array([0, 1]), np.array([1, 2, -1])).tolist()
        [[False, False, False], [True, False, False]]
    """
    labels, others = _check_same_kind(labels, others)
    if labels.ndim == 1:
        return (labels[:, None] == others[None, :]) & (labels[:, None] != UNLABELLED)
    return (labels.astype(np.float32) @ others.astype(np.float32).T) > 0


def multi_hot(
    labels: Shaped[ArrayLike, " n *classes"], classes: IntLike
) -> Float[Array, "n classes"]:
    """Converts labels of either kind to rows of 0 and 1; a row without a label is all zeros.

    A traced id out of range cannot be refused; its row is NaN.

    Raises:
        TypeError: if labels are not numbers, or ids not integers.
        ValueError: if multi-hot rows have another number of classes, or an id is out of range.

    Example:
        >>> multi_hot(np.array([1, -1]), 3).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    classes = as_int("classes", classes, minimum=1)
    labels = jnp.asarray(as_labels("labels", labels, classes))
    if labels.ndim == 2:
        return labels.astype(jnp.float32)
    rows = (labels[:, None] == jnp.arange(classes)[None, :]).astype(jnp.float32)
    known = (labels >= UNLABELLED) & (labels < classes)  # others are traced
    return jnp.where(known[:, None], rows, jnp.nan)


@on_any_mesh(out_specs=sharded_like_first)
def shared_labels(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> Float[Array, "n m"]:
    """Counts the labels that each pair shares; for class ids 1 or 0, like `shares_label`.

    Args:
        labels: class ids [n] or multi-hot rows [n, classes].
        others: the same kind, with m rows.

    Example:
        >>> shared_labels(np.array([[1, 1, 0]]), np.array([[1, 1, 1], [0, 1, 0]])).tolist()
        [[2.0, 1.0]]
    """
    return _label_counts(labels, others)[0]


@on_any_mesh(out_specs=sharded_like_first)
def label_cosine(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> Float[Array, "n m"]:
    r"""Computes the cosine similarity of the multi-hot rows of pairs, in [0, 1].

    .. math:: s_{ij} = |A_i \cap B_j| / \sqrt{|A_i| \, |B_j|}

    The similarity is exactly 1 for equal sets of labels, and 0 where a set is empty. For class ids it
    is 1 or 0, like `shares_label`.

    Args:
        labels: class ids [n] or multi-hot rows [n, classes].
        others: the same kind, with m rows.

    Example:
        >>> label_cosine(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 1, 1], [1, 0, 0, 0]])).tolist()
        [[1.0, 0.5]]
    """
    shared, counts, other_counts = _label_counts(labels, others)
    return jnp.sqrt(_ratio(shared, counts) * _ratio(shared, other_counts))


@on_any_mesh(out_specs=sharded_like_first)
def label_iou(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> Float[Array, "n m"]:
    r"""Computes the intersection over union of the labels of pairs, in [0, 1].

    .. math:: s_{ij} = |A_i \cap B_j| / |A_i \cup B_j|

    The similarity is exactly 1 for equal sets of labels and for no others, and 0 where a set is
    empty. For class ids it is 1 or 0, like `shares_label`.

    Args:
        labels: class ids [n] or multi-hot rows [n, classes].
        others: the same kind, with m rows.

    Example:
        >>> label_iou(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 1, 1], [1, 0, 0, 0]])).tolist()
        [[1.0, 0.25]]

    Reference:
        The Jaccard index.
    """
    shared, counts, other_counts = _label_counts(labels, others)
    return _ratio(shared, counts + other_counts - shared)


@on_any_mesh(out_specs=sharded_like_first)
def label_overlap(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> Float[Array, "n m"]:
    r"""Computes the number of shared labels over the smaller number of labels of pairs, in [0, 1].

    .. math:: s_{ij} = |A_i \cap B_j| / \min(|A_i|, |B_j|)

    The similarity is exactly 1 where one set of labels contains the other, and 0 where a set is
    empty. For class ids it is 1 or 0, like `shares_label`.

    Args:
        labels: class ids [n] or multi-hot rows [n, classes].
        others: the same kind, with m rows.

    Example:
        >>> label_overlap(np.array([[1, 1, 0]]), np.array([[1, 0, 0], [1, 0, 1]])).tolist()
        [[1.0, 0.5]]

    Reference:
        The overlap coefficient of Szymkiewicz and Simpson.
    """
    shared, counts, other_counts = _label_counts(labels, others)
    return _ratio(shared, jnp.minimum(counts, other_counts))


def _label_counts(
    labels: Shaped[ArrayLike, " n *classes"],
    others: Shaped[ArrayLike, " m *classes"],
) -> tuple[Float[Array, "n m"], Float[Array, "n 1"], Float[Array, "1 m"]]:
    """Counts the labels that each pair shares, and the labels of each row of both sides (1 for an id)."""
    labels, others = _check_same_kind(labels, others)
    if labels.ndim == 1:
        shared = jnp.asarray(shares_label(labels, others), jnp.float32)
        return shared, jnp.ones((len(labels), 1)), jnp.ones((1, len(others)))
    rows, columns = (jnp.asarray(side).astype(jnp.float32) for side in (labels, others))
    return rows @ columns.T, rows.sum(axis=1)[:, None], columns.sum(axis=1)[None, :]


def _ratio(part: Float[Array, "n m"], whole: Float[Array, "..."]) -> Float[Array, "n m"]:
    """Divides numbers of labels: 0 where there is none, exactly 1 for equal ones on every device."""
    whole = jnp.maximum(whole, 1.0)
    return jnp.where(part == whole, 1.0, part / whole)


def _check_same_kind(
    labels: Shaped[ArrayLike, " n *classes"], others: Shaped[ArrayLike, " m *classes"]
) -> tuple[Shaped[ArrayLike, " n *classes"], Shaped[ArrayLike, " m *classes"]]:
    """Checks both sides, which must both be class ids, or both multi-hot with as many classes."""
    kinds = {(np.ndim(side), *np.shape(side)[1:]) for side in (labels, others)}
    if len(kinds) > 1:
        raise ValueError(
            "labels must be class ids [n] or multi-hot rows [n, classes], the same on both sides; "
            f"got shapes {np.shape(labels)} and {np.shape(others)}"
        )
    labels, others = as_labels("labels", labels), as_labels("others", others)
    if labels.ndim == 1 and isinstance(labels, jax.Array) != isinstance(others, jax.Array):
        limit = jnp.iinfo(jnp.asarray(0).dtype).max + 1  # JAX would truncate larger ids of NumPy
        for name, ids in (("labels", labels), ("others", others)):
            as_index(name, ids, limit, minimum=UNLABELLED)
    return labels, others
