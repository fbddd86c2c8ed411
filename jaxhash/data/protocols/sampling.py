"""What the protocols of the literature share: draws of items, and the checks before them."""

import dataclasses

import numpy as np
from jaxtyping import Int

from jaxhash.data.splits import FewItems, Split
from jaxhash.utils.errors import UserError

#: Class ids, or multi-hot rows, of all items.
Labels = Int[np.ndarray, " items *classes"]

#: Of each item 0 for the training part of its data set, 1 for the test part; None: not known.
Part = Int[np.ndarray, " items"] | None


def named(
    name: str, split: Split, seed: int | None, *counts: tuple[int | None, int | None]
) -> Split:
    """The split with the name of its protocol, its database's size and its seed.

    Args:
        name: of the protocol.
        split: what it has drawn.
        seed: by which; None where nothing is drawn.
        counts: pairs of a number that was asked for and the protocol's own. The name has them where
            one differs; None is all.
    """
    other = any(asked != own for asked, own in counts)
    words = "".join(f"-{'all' if asked is None else asked}" for asked, _ in counts) * other
    drawn = "" if seed is None else f"-seed{seed}"
    return dataclasses.replace(split, name=f"{name}{words}@{len(split.database)}{drawn}")


def with_train_in_database(split: Split) -> Split:
    """The split whose training items are searched too."""
    database = np.sort(np.concatenate([split.train, split.database]))
    return dataclasses.replace(split, database=database)


def expect_classes(protocol: str, labels: Labels, *allowed: int) -> None:
    """Raise unless the data have as many classes as the protocol's."""
    classes = len(np.unique(labels[labels >= 0])) if labels.ndim == 1 else labels.shape[1]
    if classes not in allowed:
        expected = " or ".join(map(str, allowed))
        raise UserError(
            f"--protocol {protocol} has {expected} classes; these data have {classes} (--protocol "
            "per-class and parts take any number)"
        )


def labelled_items(protocol: str, labels: Labels, classes: int) -> Int[np.ndarray, " n"]:
    """Of items of several classes, as many as the protocol's, those with a label."""
    if labels.ndim != 2:
        raise UserError(f"--protocol {protocol} needs multi-hot labels; these data have class ids")
    expect_classes(protocol, labels, classes)
    return np.flatnonzero(labels.any(axis=1))


def sample(
    protocol: str, items: Int[np.ndarray, " items"], queries: int, train: int, seed: int
) -> Split:
    """Queries and training items drawn from these; the rest is the database."""
    if len(items) <= queries + train:
        raise UserError(
            f"--protocol {protocol} needs {queries:,} queries, {train:,} training items and a "
            f"database; these data have {len(items):,} items"
        )
    order = np.random.default_rng(seed).permutation(items)
    query, train, database = map(np.sort, np.split(order, [queries, queries + train]))
    return Split(protocol, train, query, database)


def two_parts(
    protocol: str, part: Part
) -> tuple[Int[np.ndarray, " test"], Int[np.ndarray, " train"]]:
    """The items of the test part and of the training part."""
    if part is None:
        raise UserError(
            f"--protocol {protocol} is defined on the training and test part of its data set, and "
            "these data do not say which item is of which; a folder says it by subfolders train and "
            "test, a feature file in an array split"
        )
    return np.flatnonzero(part == 1), np.flatnonzero(part == 0)


def of_each_class(
    labels: Labels,
    items: Int[np.ndarray, " n"],
    count: int,
    rng: np.random.Generator,
    what: str,
    flag: str = "",
) -> Int[np.ndarray, " chosen"]:
    """So many of the items of each class that has some; of several classes an item counts for one.

    Raises:
        FewItems: if a class has fewer.
    """
    free, chosen = np.ones(len(items), bool), []
    held = labels[items]
    classes = np.unique(held[held >= 0]) if held.ndim == 1 else np.flatnonzero(held.any(axis=0))
    for label in classes:
        has = held == label if held.ndim == 1 else held[:, label] != 0
        own = items[has & free]
        if len(own) < count:
            raise FewItems(
                label,
                f"has {len(own)} {what}, too few for {count} of each class"
                + f"; lower --{flag}-per-class" * bool(flag),
            )
        drawn = rng.permutation(own)[:count]
        free[np.searchsorted(items, drawn)] = False
        chosen.append(drawn)
    return np.sort(np.concatenate(chosen)) if chosen else items[:0]


def search_train_by_test(protocol: str, part: Part, *, queries: int, train: int) -> Split:
    """The test part searches the training part."""
    query, database = two_parts(protocol, part)
    if (len(query), len(database)) != (queries, train):
        raise UserError(
            f"--protocol {protocol} has {queries:,} test and {train:,} training items; these data "
            f"have {len(query):,} and {len(database):,} (--protocol parts takes any number)"
        )
    return Split(protocol, database, query, database)
