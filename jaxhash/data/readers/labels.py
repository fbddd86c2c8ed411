"""Reads labels as files hold them: those of features, of codes and of lists."""

from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.metrics import check_labels
from jaxhash.utils.errors import UserError

#: Class ids must be below this, or below the number of items if that is larger. A larger id is taken
#: for a mistake, such as an id of the image.
MAX_CLASSES = 10**6


def read_labels(
    labels: Shaped[np.ndarray, "..."], where: Any, name: str = ""
) -> Int[np.ndarray, " n *classes"]:
    """Returns class ids [items] as int32 (int64 if they need it), or rows of 0 and 1 as int8.

    One column is refused: of 0 and 1 it could be two classes, or one class that an item has or has not.

    Args:
        labels: class ids of any dtype (-1: no label), or 0/1 rows of two classes or more.
        where: the file, for messages.
        name: prefix of "labels" in messages, such as ``"query "``.

    Raises:
        UserError: if they are neither: no numbers, not finite, not whole, ids that their dtype cannot
            tell apart, one column, or an empty array.

    Example:
        >>> read_labels(np.array([2.0, -1.0]), "some.npz")
        array([ 2, -1], dtype=int32)
    """
    if labels.size == 0:
        raise UserError(f"{where}: the set is empty, {name}labels have shape {labels.shape}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise UserError(
            f"{where}: {name}labels have one column, shape {labels.shape}; expected class ids "
            "[items], which may be labels[:, 0], or 0/1 rows [items, 2 or more classes]"
        )
    try:
        read = check_labels(name, labels, labels.shape[0] if labels.ndim else 0)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
    if read.ndim == 2:
        return read.astype(np.int8)
    return read.astype(np.int32) if read.max() <= np.iinfo(np.int32).max else read


def check_class_ids(labels: Int[np.ndarray, " n *classes"], items: int, where: Any) -> None:
    """Raises a `UserError` if a class id is too large for a data set of that number of items."""
    limit = max(MAX_CLASSES, items)
    if labels.ndim == 1 and labels.max() >= limit:
        raise UserError(f"{where}: class ids must be below {limit:,}, got {labels.max()}")


def check_class_names(labels: Int[np.ndarray, " n"], classes: int, where: Any) -> None:
    """Raises a `UserError` if a class id has no name, given the number of class names."""
    outside = np.flatnonzero((labels < -1) | (labels >= classes))
    if len(outside):
        item = outside[0]
        raise UserError(
            f"{where}: item {item:,} has label {labels[item]}, and there are names for 0 to "
            f"{classes - 1}"
        )
