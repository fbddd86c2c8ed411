"""Protocols for any data: counts per class, unseen classes, random items, or the data's own parts."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from jaxhash.data.protocols.sampling import (
    IsTest,
    Labels,
    items_by_class,
    name_split,
    sample_items,
    sample_per_class,
)
from jaxhash.data.splits import Split, TooFewItemsError
from jaxhash.utils.errors import UserError

#: Parts that queries may be taken from, in order of preference.
QUERY_PARTS = ("query", "test", "validation")

#: End of the message if classes have too few items for `per_class`.
_LOWER_COUNTS = "; lower `queries_per_class` or `train_per_class`"


def per_class(labels: Labels, *, queries: int, train: int, seed: int = 0) -> Split:
    """Draws a fixed number of queries and of training items per class; the rest is the database.

    The seed permutes each class: its first ``queries`` items are queries, and the next ``train`` are for
    training. 100 and 500 on the pooled 60,000 images is the usual CIFAR-10 protocol.

    An item of several classes is drawn once. The queries of all classes are drawn first, then the
    training items, class by class from the remaining items of that class.

    Args:
        labels: class ids, or multi-hot rows; items without a label are in the database.
        queries: number of queries per class.
        train: number of training items per class.
        seed: seed of the permutations.

    Raises:
        TooFewItemsError: if a class has too few items, or none is left for the database.

    Example:
        >>> split = per_class(np.repeat([0, 1], 5), queries=1, train=2)
        >>> [len(items) for items in (split.train, split.query, split.database)]
        [4, 2, 4]
    """
    draw = _draw_by_class if labels.ndim == 1 else _draw_by_label
    parts = draw(labels, queries, train, np.random.default_rng(seed))
    return Split(
        name=f"per-class-{queries}-{train}-rest-seed{seed}",
        **{name: np.sort(np.concatenate(chosen)) for name, chosen in parts.items()},
    )


def zero_shot(labels: Labels, is_test: IsTest = None, seed: int = 0) -> Split:
    """Trains on 75 % of the classes; queries and database are of the other, unseen classes.

    The seed draws the classes. If the parts are known, the training part of the seen classes is for
    training, the training part of the unseen classes is the database, and their test part is the
    queries. Otherwise a tenth of each unseen class, but at least one item, is the queries.

    The protocol tests whether codes generalize to unseen classes. On the other protocols the output of a
    classifier, written as a code, beats most hashing methods. Papers report mAP over the whole database.
    The result depends strongly on which classes are unseen, so report several seeds.

    Example:
        >>> split = zero_shot(np.repeat(np.arange(4), 20))
        >>> split.name, len(split.train), len(split.query), len(split.database)
        ('zero-shot@18-seed0', 60, 2, 18)

    Reference:
        Sablayrolles, Douze, Usunier, Jégou, "How should we evaluate supervised hashing?", 2017.
    """
    if labels.ndim != 1:
        raise UserError("`protocol=zero-shot` needs class ids: items of several classes are mixed")
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(labels[labels >= 0]))
    seen, unseen = np.split(classes, [len(classes) * 3 // 4])
    if not len(seen):
        raise UserError(
            f"`protocol=zero-shot` needs 2 classes or more, these data have {len(classes)}"
        )
    train = np.flatnonzero(np.isin(labels, seen))
    is_unseen = np.isin(labels, unseen)
    if is_test is None:
        queries, of_class = [], dict(zip(*items_by_class(labels), strict=True))
        for label in unseen:
            items = of_class[label]
            queries.append(rng.permutation(items)[: max(1, len(items) // 10)])
        query = np.sort(np.concatenate(queries))
        database = np.setdiff1d(np.flatnonzero(is_unseen), query)
    else:
        train = train[is_test[train] == 0]
        query = np.flatnonzero(is_unseen & (is_test == 1))
        database = np.flatnonzero(is_unseen & (is_test == 0))
    split = Split("zero-shot", train, query, database)
    empty = [name for name in ("train", "query", "database") if name not in split.parts]
    if empty:
        raise UserError(f"`protocol=zero-shot`: the data are too few, there is no {empty[0]} item")
    return name_split("zero-shot", split, seed)


def random_items(labels: Labels, is_test: IsTest = None, seed: int = 0) -> Split:
    """Draws a tenth of the items as queries and half for training; the rest is the database.

    It ignores classes and parts, for items that have no classes, such as images with captions that are
    compared by embeddings. No paper reports numbers with it.

    Example:
        >>> split = random_items(np.arange(100))
        >>> split.name, len(split.train), len(split.query), len(split.database)
        ('random-items@40-seed0', 50, 10, 40)
    """
    count = len(labels)
    split = sample_items("random-items", np.arange(count), max(count // 10, 1), count // 2, seed)
    return name_split("random-items", split, seed)


def own_parts(
    labels: Labels,
    parts: Mapping[str, Int[np.ndarray, " n"]],
    seed: int = 0,
    *,
    queries: int | None = None,
    train: int | None = None,
) -> Split:
    """Uses the parts that the data come in: queries from test or query, training items from train.

    The database is the part of that name, or else the training part, as in
    `jaxhash.data.protocols.cifar10_ii` and `jaxhash.data.protocols.cifar100`. The part validation selects
    the model; if there is neither a test nor a query part, its items are the queries.

    Args:
        labels: class ids, or multi-hot rows, of all items.
        parts: the items of each part, by name.
        seed: seed of a draw.
        queries: number of queries drawn per class of their part; the whole part by default.
        train: number of training items drawn per class, likewise; the database is not affected.

    Raises:
        UserError: if there is no part train, or none to take queries from, or a class has too few items.

    Example:
        >>> parts = {"train": np.arange(6), "test": np.arange(6, 9)}
        >>> own_parts(np.arange(9) % 3, parts).name
        'parts@6'
        >>> own_parts(np.arange(9) % 3, parts, train=1).name
        'parts-all-1@6-seed0'
    """
    if not has_own_parts(parts):
        known = ", ".join(parts) or "none"
        raise UserError(
            "`protocol=parts` needs a part train, and one of query, test and validation; the parts of "
            f"these data are: {known}"
        )
    source = query_part(parts)
    query, train_items = parts[source], parts["train"]
    rng = np.random.default_rng(seed)
    if queries is not None:
        what, advice = f"items in the part {source}", "; lower `queries_per_class`"
        query = sample_per_class(labels, query, queries, rng, what, advice)
    if train is not None:
        what, advice = "items in the part train", "; lower `train_per_class`"
        train_items = sample_per_class(labels, train_items, train, rng, what, advice)
    held_out = parts.get("validation", query[:0]) if source != "validation" else query[:0]
    split = Split("parts", train_items, query, parts.get("database", parts["train"]), held_out)
    seed_of_draw = None if queries is None and train is None else seed
    return name_split("parts", split, seed_of_draw, (queries, None), (train, None))


def has_own_parts(parts: Mapping[str, Int[np.ndarray, " n"]]) -> bool:
    """Returns whether the data come in parts that `own_parts` accepts."""
    return "train" in parts and any(name in parts for name in QUERY_PARTS)


def query_part(parts: Mapping[str, Int[np.ndarray, " n"]]) -> str:
    """Returns the part that queries are taken from."""
    return next(name for name in QUERY_PARTS if name in parts)


def _draw_by_class(
    labels: Int[np.ndarray, " items"], queries: int, train: int, rng: np.random.Generator
) -> dict[str, list[Int[np.ndarray, " n"]]]:
    """Permutes each class and cuts it in three; items without a class are in the database."""
    classes, of_class = items_by_class(labels)
    sizes = np.array([len(items) for items in of_class])
    label, size = classes[sizes.argmin()], sizes.min()
    if size <= queries + train:
        problem = f"has {size} items, too few for {queries} queries, {train} training items and a database"
        raise TooFewItemsError(int(label), problem, _LOWER_COUNTS)
    parts = {"query": [], "train": [], "database": [np.flatnonzero(labels < 0)]}
    for items in map(rng.permutation, of_class):
        parts["query"].append(items[:queries])
        parts["train"].append(items[queries : queries + train])
        parts["database"].append(items[queries + train :])
    return parts


def _draw_by_label(
    labels: Int[np.ndarray, "items classes"], queries: int, train: int, rng: np.random.Generator
) -> dict[str, list[Int[np.ndarray, " n"]]]:
    """Draws from the items of each label in turn, each item once."""
    free = np.ones(len(labels), bool)
    parts = {"query": [], "train": []}
    for name, count in zip(parts, (queries, train), strict=True):
        for label in range(labels.shape[1]):
            items = np.flatnonzero(free & (labels[:, label] != 0))
            if len(items) < count:
                problem = (
                    f"has {len(items)} items left, too few for {queries} queries and {train} training "
                    "items of each class"
                )
                raise TooFewItemsError(label, problem, _LOWER_COUNTS)
            chosen = rng.permutation(items)[:count]
            free[chosen] = False
            parts[name].append(chosen)
    if not free.any():
        problem = (
            f"{queries} queries and {train} training items of each class leave no item for the "
            "database"
        )
        raise TooFewItemsError(None, problem, _LOWER_COUNTS)
    return parts | {"database": [np.flatnonzero(free)]}
