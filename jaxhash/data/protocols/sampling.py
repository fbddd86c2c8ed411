"""Functions that protocols share: checks of the data, random draws of items, and names of splits."""

import dataclasses

import numpy as np
from jaxtyping import Int

from jaxhash.data.splits import Split, TooFewItemsError
from jaxhash.utils.errors import UserError

#: Class ids, or multi-hot rows, of all items.
Labels = Int[np.ndarray, " items *classes"]

#: Per item, 0 for the training part of its data set and 1 for the test part; None if unknown.
IsTest = Int[np.ndarray, " items"] | None


def name_split(
    protocol: str, split: Split, seed: int | None, *counts: tuple[int | None, int | None]
) -> Split:
    """Names a split after its protocol, the size of its database and its seed.

    Args:
        protocol: name of the protocol.
        split: the split.
        seed: seed of the draw; None if nothing was drawn.
        counts: pairs of the count that was asked for and the protocol's own; None means all items. The
            name holds the former if any pair differs.
    """
    differs = any(asked != own for asked, own in counts)
    numbers = "".join(f"-{'all' if asked is None else asked}" for asked, _ in counts) * differs
    suffix = "" if seed is None else f"-seed{seed}"
    return dataclasses.replace(split, name=f"{protocol}{numbers}@{len(split.database)}{suffix}")


def with_train_in_database(split: Split) -> Split:
    """Adds the training items to the database."""
    database = np.sort(np.concatenate([split.train, split.database]))
    return dataclasses.replace(split, database=database)


def check_num_classes(protocol: str, labels: Labels, *allowed: int) -> None:
    """Raises a `UserError` unless the number of classes is one that the protocol allows."""
    classes = len(np.unique(labels[labels >= 0])) if labels.ndim == 1 else labels.shape[1]
    if classes not in allowed:
        expected = " or ".join(map(str, allowed))
        raise UserError(
            f"`protocol={protocol}` has {expected} classes; these data have {classes} "
            "(`protocol=per-class` and parts take any number)"
        )


def labeled_items(protocol: str, labels: Labels, classes: int) -> Int[np.ndarray, " n"]:
    """Returns the items with a label.

    Raises:
        UserError: unless labels are multi-hot rows with the protocol's number of classes.
    """
    if labels.ndim != 2:
        raise UserError(f"`protocol={protocol}` needs multi-hot labels; these data have class ids")
    check_num_classes(protocol, labels, classes)
    return np.flatnonzero(labels.any(axis=1))


def sample_items(
    protocol: str, items: Int[np.ndarray, " items"], queries: int, train: int, seed: int
) -> Split:
    """Draws queries and training items; the rest of the items is the database."""
    if len(items) <= queries + train:
        raise UserError(
            f"`protocol={protocol}` needs {queries:,} queries, {train:,} training items and a "
            f"database; these data have {len(items):,} items"
        )
    order = np.random.default_rng(seed).permutation(items)
    query, train, database = map(np.sort, np.split(order, [queries, queries + train]))
    return Split(protocol, train, query, database)


def items_by_class(
    labels: Int[np.ndarray, " items"],
) -> tuple[Int[np.ndarray, " classes"], list[Int[np.ndarray, " n"]]]:
    """Returns the classes that occur among class ids, and the items of each, in order.

    Example:
        >>> classes, items = items_by_class(np.array([3, -1, 0, 3]))
        >>> classes.tolist(), [rows.tolist() for rows in items]
        ([0, 3], [[2], [0, 3]])
    """
    order = np.argsort(labels, kind="stable")
    order = order[np.count_nonzero(labels < 0) :]
    classes, first = np.unique(labels[order], return_index=True)
    return classes, np.split(order, first[1:]) if len(classes) else []


def sample_per_class(
    labels: Labels,
    items: Int[np.ndarray, " n"],
    count: int,
    rng: np.random.Generator,
    what: str = "items",
    advice: str = "",
) -> Int[np.ndarray, " chosen"]:
    """Draws a number of items of each class that occurs among some items, each item once.

    Args:
        labels: labels of all items of the data set.
        items: the items to draw from, sorted.
        count: number of items per class.
        rng: source of randomness.
        what: what the items are called in the message.
        advice: end of the message.

    Raises:
        TooFewItemsError: if a class has fewer items left.
    """
    free, chosen = np.ones(len(items), bool), []
    held = labels[items]
    if held.ndim == 1:
        classes, of_class = items_by_class(held)
    else:
        classes = np.flatnonzero(held.any(axis=0))
        of_class = (np.flatnonzero(held[:, label]) for label in classes)
    for label, rows in zip(classes, of_class, strict=True):
        candidates = items[rows[free[rows]]]
        if len(candidates) < count:
            problem = f"has {len(candidates)} {what}, too few for {count} of each class"
            raise TooFewItemsError(int(label), problem, advice)
        drawn = rng.permutation(candidates)[:count]
        free[np.searchsorted(items, drawn)] = False
        chosen.append(drawn)
    return np.sort(np.concatenate(chosen)) if chosen else items[:0]


def items_of_test_and_train(
    protocol: str, is_test: IsTest
) -> tuple[Int[np.ndarray, " test"], Int[np.ndarray, " train"]]:
    """Returns the items of the test part and of the training part; raises if these are unknown."""
    if is_test is None:
        raise UserError(
            f"`protocol={protocol}` is defined on the training and test part of its data set, and "
            "these data do not say which item is of which; a folder says it by subfolders train and "
            "test, a feature file in an array split"
        )
    return np.flatnonzero(is_test == 1), np.flatnonzero(is_test == 0)


def search_train_with_test(protocol: str, is_test: IsTest, *, queries: int, train: int) -> Split:
    """Returns the split whose queries are the test part, and whose database is the training part."""
    query, database = items_of_test_and_train(protocol, is_test)
    if (len(query), len(database)) != (queries, train):
        raise UserError(
            f"`protocol={protocol}` has {queries:,} test and {train:,} training items; these data "
            f"have {len(query):,} and {len(database):,} (`protocol=parts` takes any number)"
        )
    return Split(protocol, database, query, database)
