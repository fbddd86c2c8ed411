"""From labels to pairwise similarity: the one place that knows what labels mean."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

#: The class id of a row that has no label; it is similar to nothing, itself included.
UNLABELLED = -1


def has_label(
    labels: Shaped[np.ndarray, " n *classes"],
) -> Bool[np.ndarray, " n"]:
    """Which items have a label: an id other than -1, or a row that is not all zeros.

    Example:
        >>> has_label(np.array([0, -1])).tolist(), has_label(np.array([[0, 0], [0, 1]])).tolist()
        ([True, False], [False, True])
    """
    return labels != UNLABELLED if labels.ndim == 1 else (labels != 0).any(axis=1)


def share_a_label(
    labels: Shaped[Array, " n *classes"] | Shaped[np.ndarray, " n *classes"],
    others: Shaped[Array, " m *classes"] | Shaped[np.ndarray, " m *classes"],
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
        ValueError: if one is ids and the other multi-hot, or neither.

    Example:
        >>> share_a_label(np.array([0, 1]), np.array([1, 2, -1])).tolist()
        [[False, False, False], [True, False, False]]
    """
    if labels.ndim != others.ndim or labels.ndim not in (1, 2):
        raise ValueError(
            "labels must be class ids [n] or multi-hot rows [n, classes], the same on both sides; "
            f"got shapes {labels.shape} and {others.shape}"
        )
    if labels.ndim == 1:
        return (labels[:, None] == others[None, :]) & (labels[:, None] != UNLABELLED)
    return (labels.astype(np.float32) @ others.astype(np.float32).T) > 0


def multi_hot(
    labels: Shaped[Array, " n *classes"] | Shaped[np.ndarray, " n *classes"], classes: int
) -> Float[Array, "n classes"]:
    """Labels of either kind as rows of 0 and 1; a row without a label is all zeros.

    Raises:
        ValueError: if multi-hot rows have another number of classes.

    Example:
        >>> multi_hot(np.array([1, -1]), 3).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if labels.ndim == 1:
        return (jnp.asarray(labels)[:, None] == jnp.arange(classes)[None, :]).astype(jnp.float32)
    if labels.shape[1:] != (classes,):
        raise ValueError(f"multi-hot labels must have {classes} columns, got shape {labels.shape}")
    return (jnp.asarray(labels) != 0).astype(jnp.float32)


def label_cosine(
    labels: Shaped[Array, " n *classes"] | Shaped[np.ndarray, " n *classes"],
    others: Shaped[Array, " m *classes"] | Shaped[np.ndarray, " m *classes"],
) -> Float[Array, "n m"]:
    r"""Graded similarity of pairs: the cosine of their multi-hot rows, in [0, 1].

    It is the number of shared labels over the geometric mean of the numbers of labels, and exactly
    1 for equal sets of labels. Of class ids it is 1 or 0, as `share_a_label` has it.

    Raises:
        ValueError: if one is ids and the other multi-hot, or neither.

    Example:
        >>> label_cosine(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 1, 1], [1, 0, 0, 0]])).tolist()
        [[1.0, 0.5]]
    """
    shared = share_a_label(labels, others)
    if labels.ndim == 1:
        return jnp.asarray(shared, jnp.float32)
    labels, others = ((jnp.asarray(rows) != 0).astype(jnp.float32) for rows in (labels, others))
    count, product = labels.sum(axis=1)[:, None] * others.sum(axis=1)[None, :], labels @ others.T
    return product / jnp.sqrt(jnp.maximum(count, 1.0))
