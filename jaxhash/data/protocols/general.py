"""Protocols for any data: a count per class, unseen classes, random items, or the data's own parts."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from jaxhash.data.protocols.sampling import Labels, Part, named, of_each_class, sample
from jaxhash.data.splits import FewItems, Split
from jaxhash.utils.errors import UserError

#: Parts that queries are taken from, the first of them that the data have.
QUERY_PARTS = ("query", "test", "validation")


def per_class(
    labels: Int[np.ndarray, " items *classes"], *, queries: int, train: int, seed: int = 0
) -> Split:
    """A fixed number of queries and training items of each class; the rest is the database.

    Each class is permuted by the seed: its first ``queries`` items are queries, the next ``train``
    are for training. 100 and 500 on the pooled 60,000 images is the usual CIFAR-10 protocol.

    Items of several classes count for one. The queries of all classes are drawn first, then the
    training items, class by class from the items of that class that are still there.

    Args:
        labels: class ids, or multi-hot rows; items without a label are in the database.
        queries: queries of each class.
        train: training items of each class.
        seed: seed of the permutations.

    Raises:
        UserError: if a class has too few items, or none is left for the database.

    Example:
        >>> split = per_class(np.repeat([0, 1], 5), queries=1, train=2)
        >>> [len(items) for items in (split.train, split.query, split.database)]
        [4, 2, 4]
    """
    draw = _of_each_class if labels.ndim == 1 else _of_each_label
    parts = draw(labels, queries, train, np.random.default_rng(seed))
    return Split(
        name=f"per-class-{queries}-{train}-rest-seed{seed}",
        **{name: np.sort(np.concatenate(chosen)) for name, chosen in parts.items()},
    )


def zero_shot(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """Unseen classes: training on 75 % of the classes, queries and database from the others.

    The seed draws the classes. Where the parts are known, the training part of the seen classes
    trains, the training part of the unseen ones is the database, and their test part the queries.
    Otherwise a tenth of each unseen class are queries, at least one item.

    It asks whether codes carry over to classes that nobody trained on. On the other protocols the
    output of a classifier, written as a code, beats most hashing methods. Numbers are mAP over the
    whole database. Which classes are unseen matters much: report several seeds.

    Example:
        >>> split = zero_shot(np.repeat(np.arange(4), 20))
        >>> split.name, len(split.train), len(split.query), len(split.database)
        ('zero-shot@18-seed0', 60, 2, 18)

    Reference:
        Sablayrolles, Douze, Usunier, Jégou, "How should we evaluate supervised hashing?", 2017.
    """
    if labels.ndim != 1:
        raise UserError("--protocol zero-shot needs class ids: items of several classes are mixed")
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(labels[labels >= 0]))
    seen, unseen = np.split(classes, [len(classes) * 3 // 4])
    if not len(seen):
        raise UserError(
            f"--protocol zero-shot needs 2 classes or more, these data have {len(classes)}"
        )
    train = np.flatnonzero(np.isin(labels, seen))
    held_out = np.isin(labels, unseen)
    if part is None:
        queries = []
        for label in unseen:
            items = np.flatnonzero(labels == label)
            queries.append(rng.permutation(items)[: max(1, len(items) // 10)])
        query = np.sort(np.concatenate(queries))
        database = np.setdiff1d(np.flatnonzero(held_out), query)
    else:
        train = train[part[train] == 0]
        query = np.flatnonzero(held_out & (part == 1))
        database = np.flatnonzero(held_out & (part == 0))
    split = Split("zero-shot", train, query, database)
    empty = [name for name in ("train", "query", "database") if name not in split.parts]
    if empty:
        raise UserError(f"--protocol zero-shot: the data are too few, there is no {empty[0]} item")
    return named("zero-shot", split, seed)


def random_items(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """Whatever the classes: a tenth of the items are queries, half train, the rest is the database.

    For items that have no classes, such as images with captions, whose meanings are compared by
    embeddings. No paper reports numbers with it.

    Example:
        >>> split = random_items(np.arange(100))
        >>> split.name, len(split.train), len(split.query), len(split.database)
        ('random-items@40-seed0', 50, 10, 40)
    """
    count = len(labels)
    split = sample("random-items", np.arange(count), max(count // 10, 1), count // 2, seed)
    return named("random-items", split, seed)


def own_parts(
    labels: Labels,
    parts: Mapping[str, Int[np.ndarray, " n"]],
    seed: int = 0,
    *,
    queries: int | None = None,
    train: int | None = None,
) -> Split:
    """The parts that data come in: queries from test or query, training from train.

    The database is the part of that name, or the training part where there is none, as in
    `cifar10_ii` and `cifar100`. A part validation chooses the model; of data without test and query
    part its items are the queries.

    Args:
        labels: class ids, or multi-hot rows, of all items.
        parts: the items of each part, by name.
        seed: seed of a draw.
        queries: queries drawn of each class of their part; all of it if not given.
        train: training items, likewise; the database is the whole part all the same.

    Raises:
        UserError: if there is no part train, or none to take queries from, or a class has too few.

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
            "--protocol parts needs a part train, and one of query, test and validation; the parts of "
            f"these data are: {known}"
        )
    source = query_part(parts)
    query, learnt = parts[source], parts["train"]
    rng = np.random.default_rng(seed)
    if queries is not None:
        query = of_each_class(labels, query, queries, rng, f"items in the part {source}", "queries")
    if train is not None:
        learnt = of_each_class(labels, learnt, train, rng, "items in the part train", "train")
    held_out = parts.get("validation", query[:0]) if source != "validation" else query[:0]
    split = Split("parts", learnt, query, parts.get("database", parts["train"]), held_out)
    drawn = None if queries is None and train is None else seed
    return named("parts", split, drawn, (queries, None), (train, None))


def has_own_parts(parts: Mapping[str, Int[np.ndarray, " n"]]) -> bool:
    """Whether data come in parts that `own_parts` takes."""
    return "train" in parts and any(name in parts for name in QUERY_PARTS)


def query_part(parts: Mapping[str, Int[np.ndarray, " n"]]) -> str:
    """The part that queries are taken from."""
    return next(name for name in QUERY_PARTS if name in parts)


def _of_each_class(
    labels: Int[np.ndarray, " items"], queries: int, train: int, rng: np.random.Generator
) -> dict[str, list[Int[np.ndarray, " n"]]]:
    """Permute each class and cut it in three; items without a class are in the database."""
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    label, size = classes[sizes.argmin()], sizes.min()
    if size <= queries + train:
        raise FewItems(
            label,
            f"has {size} items, too few for {queries} queries, {train} training items and a database; "
            "lower --queries-per-class or --train-per-class",
        )
    parts = {"query": [], "train": [], "database": [np.flatnonzero(labels < 0)]}
    for label in classes:
        items = rng.permutation(np.flatnonzero(labels == label))
        for name, chosen in zip(parts, np.split(items, [queries, queries + train]), strict=True):
            parts[name].append(chosen)
    return parts


def _of_each_label(
    labels: Int[np.ndarray, "items classes"], queries: int, train: int, rng: np.random.Generator
) -> dict[str, list[Int[np.ndarray, " n"]]]:
    """Draw from each label in turn, each item once."""
    free = np.ones(len(labels), bool)
    parts = {"query": [], "train": []}
    for name, count in zip(parts, (queries, train), strict=True):
        for label in range(labels.shape[1]):
            items = np.flatnonzero(free & (labels[:, label] != 0))
            if len(items) < count:
                raise FewItems(
                    label,
                    f"has {len(items)} items left, too few for {queries} queries and {train} training "
                    "items of each class; lower --queries-per-class or --train-per-class",
                )
            chosen = rng.permutation(items)[:count]
            free[chosen] = False
            parts[name].append(chosen)
    if not free.any():
        raise UserError(
            f"{queries} queries and {train} training items of each class leave no item for the "
            "database; lower --queries-per-class or --train-per-class"
        )
    return parts | {"database": [np.flatnonzero(free)]}
