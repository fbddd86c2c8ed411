"""Checks labels: whether queries have relevant items, and whether a method can learn from them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.rows import row_blocks
from jaxhash.similarity import has_label
from jaxhash.utils.errors import UserError


def check_relevance(
    query: Shaped[np.ndarray, " queries *classes"], database: Shaped[np.ndarray, " items *classes"]
) -> tuple[list[str], list[str]]:
    """Returns sentences on labels that make retrieval metrics meaningless or less meaningful.

    Args:
        query: class ids, or rows of 0 and 1, of the queries.
        database: those of the database.

    Returns:
        Warnings, if all queries have the same value of a metric for any codes; and notes, if some
        queries have no relevant item.

    Example:
        >>> check_relevance(np.array([0, 1]), np.array([1, 2]))
        ([], ['queries with nothing relevant in the database: 1 of 2'])
    """
    if query.ndim == 1:
        is_one_class = query[0] >= 0 and all((part == query[0]).all() for part in (query, database))
        has_relevant = np.isin(query, _distinct(database)) & has_label(query)
    else:
        is_one_class = ((query != 0).all(axis=0) & (database != 0).all(axis=0)).any()
        has_relevant = ((query != 0) & (database != 0).any(axis=0)).any(axis=1)
    if is_one_class:
        return ["all queries and all of the database are of one class: any codes have mAP 1"], []
    if not has_relevant.any():
        return ["no query has anything relevant in the database: mAP is 0 whatever the codes"], []
    missing = int((~has_relevant).sum())
    sentence = f"queries with nothing relevant in the database: {missing:,} of {len(query):,}"
    return [], [sentence] * (missing > 0)


def check_learnable(
    labels: Int[np.ndarray, " train *classes"],
    class_names: Sequence[str],
    method: str,
    *,
    own_classes: bool = False,
) -> None:
    """Raises if a supervised method cannot learn from the labels of the training items.

    Args:
        labels: class ids or multi-hot rows of the training items.
        class_names: one name per class.
        method: name of the method.
        own_classes: whether each item may be of a class of its own.

    Raises:
        UserError: if no item has a label, all are of one class, or each is of a class of its own.

    Example:
        >>> check_learnable(np.array([0, 1, 1]), ["cat", "dog"], "hashnet")
    """
    is_held = has_label(labels)
    held = labels if is_held.all() else labels[is_held]
    other = "; methods that see no labels are in the table of `objective=help`"
    if not len(held):
        raise UserError(
            f"`objective={method}` learns from labels, and no training item has any{other}"
        )
    if labels.ndim == 1:
        classes = _distinct(held)
        if len(held) > 1 and len(classes) == len(held) and not own_classes:
            raise UserError(
                f"`objective={method}` learns from classes, and each training item is of a class of its "
                f"own{other}"
            )
        common = classes[:1] if len(classes) == 1 else classes[:0]
    else:
        common = np.flatnonzero((held != 0).all(axis=0))
    if len(common):
        raise UserError(
            f"`objective={method}` learns to tell classes apart, and all training items are of class "
            f"{class_names[common[0]]}{other}"
        )


def _distinct(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " classes"]:
    """Returns the distinct class ids from -1, sorted; in linear time where ids are not far apart."""
    largest = int(labels.max(initial=0))
    if largest > 2 * len(labels):
        return np.unique(labels)
    is_there = np.zeros(largest + 2, bool)
    for rows in row_blocks(len(labels), labels.itemsize):
        is_there[labels[rows] + 1] = True
    return np.flatnonzero(is_there) - 1
