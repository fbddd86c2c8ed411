"""Protocols: the name of one, and the split that it means.

Of data that come in parts of their own, `own_parts` takes these as they are: the default where there
are some, as `jaxhash.data.splits.per_class` is where there are none. Those of named data sets are in
`jaxhash.data.literature`; two more are for any data, or a file says it all.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from jaxhash.data.arrays import read_npz
from jaxhash.data.draws import Labels, Part, named, of_each_class, sample
from jaxhash.data.literature import (
    cifar10_i,
    cifar10_i_prime,
    cifar10_ii,
    cifar100,
    coco,
    imagenet100,
    mirflickr,
    nus_wide_21,
    nus_wide_81,
)
from jaxhash.data.sources import Source
from jaxhash.data.splits import PARTS, FewItems, Split, per_class
from jaxhash.utils.errors import UserError

#: `jaxhash.data.splits.per_class` with sizes of one's own, and those that it has without.
PER_CLASS, QUERIES, TRAIN = "per-class", 100, 500

#: `own_parts`.
OWN_PARTS = "parts"

#: The default: `OWN_PARTS` of data that have some, else `PER_CLASS`.
AUTO = "auto"

#: Parts that queries are taken from, the first of them that the data have.
QUERY_PARTS = ("query", "test", "validation")


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


#: All protocols with sizes of their own by name.
PROTOCOLS: dict[str, Callable[..., Split]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        cifar10_i,
        cifar10_i_prime,
        cifar10_ii,
        cifar100,
        imagenet100,
        nus_wide_21,
        nus_wide_81,
        coco,
        mirflickr,
        zero_shot,
        random_items,
    )
}

#: Which of the counts of each class a protocol takes.
COUNTS: dict[str, tuple[str, ...]] = {
    AUTO: ("queries", "train"),
    PER_CLASS: ("queries", "train"),
    OWN_PARTS: ("queries", "train"),
    "cifar10-i": ("queries", "train"),
    "cifar10-i-prime": ("queries", "train"),
    "nus-wide-21": ("queries", "train"),
    "imagenet100": ("train",),
}

#: Protocols that look at the parts that data come in.
WITH_PARTS = (OWN_PARTS, "cifar10-ii", "cifar100", "imagenet100", "zero-shot")


def check_protocol(name: str, queries: int | None = None, train: int | None = None) -> None:
    """Raise a `UserError` unless a protocol has that name, and takes the counts that are given.

    It is ``auto``, ``per-class``, ``parts``, one of `PROTOCOLS`, or names a .npz file.
    """
    known = (AUTO, PER_CLASS, OWN_PARTS, *PROTOCOLS)
    if name not in known and not name.lower().endswith(".npz"):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"--protocol {name!r} is unknown; {hint}there are {', '.join(known)}, FILE.npz"
        )
    for count, given in (("queries", queries), ("train", train)):
        if given is not None and count not in COUNTS.get(name, ()):
            takers = ", ".join(taker for taker, counts in COUNTS.items() if count in counts)
            raise UserError(
                f"--{count}-per-class is not for --protocol {name}, which has numbers of its own; it "
                f"is for {takers}"
            )


def make_split(
    protocol: str,
    labels: Labels,
    part: Part = None,
    *,
    queries: int | None = None,
    train: int | None = None,
    seed: int,
    folder: Path | None = None,
    parts: Mapping[str, Int[np.ndarray, " n"]] | None = None,
    class_names: Sequence[str] = (),
) -> Split:
    """The split that a name means.

    Args:
        protocol: ``auto``, ``per-class``, ``parts``, one of `PROTOCOLS`, or a file for `read_split`.
        labels: class ids, or multi-hot rows, of all items.
        part: 0 or 1 for the training and the test part of the data set, where they are known.
        queries: queries of each class; the protocol's own number if not given.
        train: training items of each class, likewise.
        seed: seed of the draw.
        folder: where the file lies.
        parts: the items of each part that the data come in, by name.
        class_names: names of the classes, for messages.

    Raises:
        UserError: if the name is unknown, or the data do not allow the protocol.

    Example:
        >>> make_split("per-class", np.repeat([0, 1], 5), queries=1, train=2, seed=0).name
        'per-class-1-2-rest-seed0'
    """
    check_protocol(protocol, queries, train)
    protocol, parts = resolve(protocol, parts or {}), parts or {}
    given = {"queries": queries, "train": train}
    counts = {name: count for name, count in given.items() if count is not None}
    try:
        if protocol == PER_CLASS:
            return per_class(labels, **({"queries": QUERIES, "train": TRAIN} | counts), seed=seed)
        if protocol == OWN_PARTS:
            return own_parts(labels, parts, seed, **counts)
        if protocol in PROTOCOLS:
            return PROTOCOLS[protocol](labels, part, seed, **counts)
    except FewItems as error:
        raise error.named(class_names) from None
    return read_split((folder or Path()) / protocol, items=len(labels))


def resolve(protocol: str, parts: Mapping[str, Int[np.ndarray, " n"]]) -> str:
    """The protocol that a name means for data with these parts."""
    if protocol != AUTO:
        return protocol
    return OWN_PARTS if has_own_parts(parts) else PER_CLASS


def tell_parts(protocol: str, parts: Mapping[str, Int[np.ndarray, " n"]]) -> list[str]:
    """What a protocol makes of the parts that data come in, in words; nothing if there are none.

    Example:
        >>> tell_parts("coco", {"train": np.arange(2), "test": np.arange(2, 4)})[0]
        '--protocol coco pools the parts of the data (train, test); --protocol parts keeps them'
    """
    if not parts:
        return []
    protocol = resolve(protocol, parts)
    if protocol not in WITH_PARTS:
        keeps = "; --protocol parts keeps them" * has_own_parts(parts)
        return [f"--protocol {protocol} pools the parts of the data ({', '.join(parts)}){keeps}"]
    if protocol != OWN_PARTS:
        return []
    used = {"queries": query_part(parts), "training": "train"}
    used["database"] = "database" if "database" in parts else "train"
    if "validation" in parts and used["queries"] != "validation":
        used["validation"] = "validation"
    roles = ", ".join(f"{role} from {part}" for role, part in used.items())
    unused = [part for part in parts if part not in used.values()]
    left = f"; not used: {', '.join(unused)}" if unused else ""
    return [f"--protocol parts: {roles}{left}; per-class would pool them and draw anew"]


def read_split(path: Path, *, items: int | None = None) -> Split:
    """A split from a .npz file with the arrays ``train``, ``query``, ``database``.

    They hold item numbers from 0; an array ``validation`` is optional. The split is named after the
    file, and its digest tells it from others of that name.

    Args:
        path: the file.
        items: how many items there are, where that is known.

    Raises:
        UserError: if the file cannot be read, lacks an array or has another, or an array does not
            hold item numbers.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such split file")
    arrays = read_npz(path, "train", "query", "database", optional=None)
    unknown = sorted(set(arrays) - set(PARTS))
    if unknown:
        raise UserError(f"{path}: unknown array {unknown[0]!r}; expected {', '.join(PARTS)}")
    for name, numbers in arrays.items():
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise UserError(
                f"{path}: {name} must hold item numbers, got shape {numbers.shape} of "
                f"{numbers.dtype}"
            )
        if not len(numbers) and name != "validation":
            raise UserError(f"{path}: {name} is empty")
        wrong = numbers[(numbers < 0) | (numbers >= (np.inf if items is None else items))]
        if len(wrong):
            bound = "" if items is None else f" and below {items:,}"
            raise UserError(f"{path}: {name} must be from 0{bound}, got {wrong[0]}")
    return Split(path.stem, **{name: array.astype(np.int64) for name, array in arrays.items()})


@runtime_checkable
class SplitOptions(Protocol):
    """The options of a command that choose a split, as `make_split` has them."""

    protocol: str
    queries_per_class: int | None
    train_per_class: int | None
    split_seed: int
    data_dir: Path | None


def split_source(options: SplitOptions, source: Source) -> Split:
    """Make the split of a source that the options name, by `make_split`."""
    return make_split(
        options.protocol,
        source.labels,
        source.part,
        queries=options.queries_per_class,
        train=options.train_per_class,
        seed=options.split_seed,
        folder=options.data_dir,
        parts=source.items_of_parts,
        class_names=source.class_names,
    )
