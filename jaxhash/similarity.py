"""From labels to pairwise similarity: the one place that knows what labels mean."""

import numpy as np
from jaxtyping import Array, Bool, Shaped

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
