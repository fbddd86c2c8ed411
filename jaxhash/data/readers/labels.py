"""Labels as files hold them: one reader for those of features, of codes and of lists."""

from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.metrics import check_labels
from jaxhash.utils.errors import UserError

#: Class ids are below this, or below the number of items where there are more: a larger one is taken
#: for a mistake, such as an id of the image.
MOST_CLASSES = 10**6


def read_labels(
    labels: Shaped[np.ndarray, "..."], where: Any, name: str = ""
) -> Int[np.ndarray, " n *classes"]:
    """Class ids [items] as int32 or, where they need it, int64; or rows of 0 and 1 as int8.

    One column is neither: of 0 and 1 it could be two classes, or one that an item has or has not.

    Args:
        labels: class ids of any dtype (-1: no label), or 0/1 rows of two classes or more.
        where: the file, for the message.
        name: whose labels they are, likewise, such as ``"query "``.

    Raises:
        UserError: if they are none of these: no numbers, not finite, not whole, ids that their dtype
            cannot tell apart, one column, or nothing at all.

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
    """Raise a `UserError` if an id is larger than those of the classes of so many items can be."""
    most = max(MOST_CLASSES, items)
    if labels.ndim == 1 and labels.max() >= most:
        raise UserError(f"{where}: class ids must be below {most:,}, got {labels.max()}")


def check_names(labels: Int[np.ndarray, " n"], classes: int, where: Any) -> None:
    """Raise a `UserError` if a class id is that of none of so many classes with names."""
    outside = np.flatnonzero((labels < -1) | (labels >= classes))
    if len(outside):
        item = outside[0]
        raise UserError(
            f"{where}: item {item:,} has label {labels[item]}, and there are names for 0 to "
            f"{classes - 1}"
        )
