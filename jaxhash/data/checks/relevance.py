"""What labels make of a search and of a training before there is a model: what is relevant, and to how many."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.similarity import has_label
from jaxhash.utils.errors import UserError


def tell_relevance(
    query: Shaped[np.ndarray, " queries *classes"], database: Shaped[np.ndarray, " items *classes"]
) -> tuple[list[str], list[str]]:
    """What makes a search by these labels say nothing, and what makes it say less, a sentence each.

    Args:
        query: class ids, or rows of 0 and 1, of the queries.
        database: the same of what is searched.

    Example:
        >>> tell_relevance(np.array([0, 1]), np.array([1, 2]))
        ([], ['queries with nothing relevant in the database: 1 of 2'])
    """
    if query.ndim == 1:
        alone = len(np.unique(np.concatenate([query, database]))) == 1 and query[0] >= 0
        found = np.isin(query, database[has_label(database)])
    else:
        alone = ((query != 0).all(axis=0) & (database != 0).all(axis=0)).any()
        found = ((query != 0) & (database != 0).any(axis=0)).any(axis=1)
    if alone:
        return ["all queries and all of the database are of one class: any codes have mAP 1"], []
    if not found.any():
        return ["no query has anything relevant in the database: mAP is 0 whatever the codes"], []
    missing = int((~found).sum())
    sentence = f"queries with nothing relevant in the database: {missing:,} of {len(query):,}"
    return [], [sentence] * (missing > 0)


def refuse_unlearnable(
    labels: Int[np.ndarray, " train *classes"],
    class_names: Sequence[str],
    method: str,
    *,
    own_classes: bool = False,
) -> None:
    """Raise where the labels of the training items tell a method that learns from them nothing.

    Args:
        labels: class ids or multi-hot rows of the training items.
        class_names: a name for each class.
        method: the method's name.
        own_classes: whether each item may be of a class of its own.

    Raises:
        UserError: if no item has a label, all are of one class, or each is of its own.

    Example:
        >>> refuse_unlearnable(np.array([0, 1, 1]), ["cat", "dog"], "hashnet")
    """
    held = labels[has_label(labels)]
    other = "; methods that see no labels are in the table of --objective help"
    if not len(held):
        raise UserError(
            f"--objective {method} learns from labels, and no training item has any{other}"
        )
    if labels.ndim == 1:
        classes = np.unique(held)
        if len(held) > 1 and len(classes) == len(held) and not own_classes:
            raise UserError(
                f"--objective {method} learns from classes, and each training item is of a class of its "
                f"own{other}"
            )
        common = classes[:1] if len(classes) == 1 else classes[:0]
    else:
        common = np.flatnonzero((held != 0).all(axis=0))
    if len(common):
        raise UserError(
            f"--objective {method} learns to tell classes apart, and all training items are of class "
            f"{class_names[common[0]]}{other}"
        )
