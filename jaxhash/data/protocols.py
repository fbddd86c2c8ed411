"""Protocols of the literature: how a named data set is cut into training, queries and database.

Papers report numbers under the same data set's name that differ by up to 15 points because they cut
it differently. Each protocol here is a function of its own, whose docstring says what papers report
with it. Its name, the size of its database and its seed make the name of the split, such as
``cifar10-i@54000-seed0``.

A protocol takes the labels of all items, pooled: class ids [items] or multi-hot rows [items,
classes]. Some are defined on the parts that the data set comes in; these take ``part``, 0 for the
items of the training part and 1 for those of the test part. All raise `UserError` where the data
have too few items, or are not what the protocol is defined on.
"""

import dataclasses
import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jaxhash.data.arrays import read_npz
from jaxhash.data.splits import PARTS, Split, per_class
from jaxhash.errors import UserError

#: Class ids, or multi-hot rows, of all items.
Labels = Int[np.ndarray, " items *classes"]

#: Of each item 0 for the training part of its data set, 1 for the test part; None: not known.
Part = Int[np.ndarray, " items"] | None

#: The default: `jaxhash.data.splits.per_class` with sizes of one's own.
PER_CLASS = "per-class"


def cifar10_i(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """CIFAR-10 (I): of each class 100 queries and 500 for training; the rest is the database.

    Of 60,000 images 54,000 are the database. Training images are not in it. Supervised methods
    report mAP over the whole database, unsupervised ones often mAP@1000.

    Many papers say only "100 queries and 500 training images per class", which is
    `cifar10_i_prime` too. The images are drawn anew by most code bases, from both parts pooled.

    Example:
        >>> split = cifar10_i(np.repeat(np.arange(10), 6000))
        >>> split.name, len(split.train), len(split.query), len(split.database)
        ('cifar10-i@54000-seed0', 5000, 1000, 54000)
    """
    _expect_classes("cifar10-i", labels, 10)
    return _named("cifar10-i", _sample_classes("cifar10-i", labels, 100, 500, seed), seed)


def cifar10_i_prime(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """CIFAR-10 (I'): the queries and training images of `cifar10_i`; all but queries are searched.

    Of 60,000 images 59,000 are the database, the 5,000 training images among them, so that a method
    is rewarded for what it has learnt by heart. Papers report mAP over the whole database.

    Example:
        >>> split = cifar10_i_prime(np.repeat(np.arange(10), 6000))
        >>> len(split.database), split.overlaps()["train"]["database"]
        (59000, 5000)
    """
    _expect_classes("cifar10-i-prime", labels, 10)
    split = _sample_classes("cifar10-i-prime", labels, 100, 500, seed)
    return _named("cifar10-i-prime", _with_train_in_database(split), seed)


def cifar10_ii(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """CIFAR-10 (II): the 10,000 test images are queries; the other 50,000 train and are searched.

    Papers report mAP over the whole database. All of it has been learnt, so the numbers are near the
    accuracy of a classifier, up to 15 points above those of `cifar10_i`. The seed changes nothing.
    (Some code bases draw 1,000 queries of each class from the parts pooled.)

    Example:
        >>> part = np.repeat([0, 1], [50000, 10000])
        >>> split = cifar10_ii(np.arange(60000) % 10, part)
        >>> split.name, len(split.query)
        ('cifar10-ii@50000', 10000)
    """
    _expect_classes("cifar10-ii", labels, 10)
    return _test_against_train("cifar10-ii", part, queries=10_000, train=50_000)


def cifar100(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """CIFAR-100: the 10,000 test images are queries; the other 50,000 train and are searched.

    Semantic hashing with a class hierarchy reports mAHP@2500 and mAP over the whole database. All
    of the database has been learnt. The seed changes nothing.

    Example:
        >>> part = np.repeat([0, 1], [50000, 10000])
        >>> cifar100(np.arange(60000) % 100, part).name
        'cifar100@50000'
    """
    _expect_classes("cifar100", labels, 100)
    return _test_against_train("cifar100", part, queries=10_000, train=50_000)


def imagenet100(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """ImageNet-100: 5,000 validation images are queries; of each class 130 database images train.

    Of 100 classes of ImageNet the 50 validation images are queries and all training images, 128,503
    in the lists of HashNet, the database; 13,000 of these train. Papers report mAP@1000.

    HashNet's paper says 100 training images a class, its lists hold 130. The 100 classes are those
    of its lists; another 100 make another data set.

    Example:
        >>> labels, part = np.arange(20000) % 100, np.repeat([0, 1], [15000, 5000])
        >>> split = imagenet100(labels, part)
        >>> split.name, len(split.train), len(split.query)
        ('imagenet100@15000-seed0', 13000, 5000)
    """
    _expect_classes("imagenet100", labels, 100)
    query, database = _parts("imagenet100", part)
    if len(query) != 5_000:
        raise UserError(
            "--protocol imagenet100 has the 5,000 validation images as queries; these data have "
            f"{len(query):,} test items"
        )
    rng = np.random.default_rng(seed)
    train = []
    for label in np.unique(labels):
        items = database[labels[database] == label]
        if len(items) < 130:
            raise UserError(
                f"--protocol imagenet100 trains on 130 items of each class; class {label} has "
                f"{len(items)}"
            )
        train.append(rng.permutation(items)[:130])
    train = np.sort(np.concatenate(train))
    return _named("imagenet100", Split("imagenet100", train, query, database), seed)


def nus_wide_21(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """NUS-WIDE, 21 labels: of each label 100 queries and 500 for training, drawn from the database.

    Images with none of the 21 most frequent labels are left out. Of the 195,834 that remain, 2,100
    are queries and 193,734 the database, with the 10,500 training images in it, as the papers have
    it ("from which we randomly sample 500 images per class"). Papers report mAP@5000.

    Labels take turns, and an image counts for the label that drew it. Part of the images' addresses
    no longer exist, so copies of the set differ: "NUS-WIDE-m" has 223,496 images.

    Example:
        >>> split = nus_wide_21(np.tile(np.eye(21, dtype=np.int8), (700, 1)))
        >>> split.name, len(split.train), len(split.query)
        ('nus-wide-21@12600-seed0', 10500, 2100)
    """
    return _named("nus-wide-21", _sample_labelled("nus-wide-21", labels, 21, seed, each=True), seed)


def nus_wide_81(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """NUS-WIDE, all 81 labels: 5,000 queries, and 10,000 images of the database for training.

    Images without a label are left out. The database is the rest, with the training images in it:
    168,692 of 173,692 in the lists of HashNet. Papers report mAP@5000.

    Numbers with 21 and with 81 labels stand under the same name "NUS-WIDE".

    Example:
        >>> split = nus_wide_81(np.ones((16000, 81), np.int8))
        >>> split.name, len(split.train), len(split.query)
        ('nus-wide-81@11000-seed0', 10000, 5000)
    """
    return _named("nus-wide-81", _sample_labelled("nus-wide-81", labels, 81, seed), seed)


def coco(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """MS-COCO: 5,000 queries, and 10,000 images of the database for training.

    Both parts of COCO 2014 are pooled and images without one of the 80 labels left out. Of the
    122,218 that remain, 117,218 are the database, with the training images in it. Papers report
    mAP@5000; a few take the training images out (112,218).

    In the lists that HashNet published all 5,000 queries are in the database, and each finds itself.

    Example:
        >>> split = coco(np.ones((16000, 80), np.int8))
        >>> split.name, len(split.train), len(split.query)
        ('coco@11000-seed0', 10000, 5000)
    """
    return _named("coco", _sample_labelled("coco", labels, 80, seed), seed)


def mirflickr(labels: Labels, part: Part = None, seed: int = 0) -> Split:
    """MIRFlickr-25k: 1,000 queries and 4,000 for training; the rest, 20,000, is the database.

    Training images are not in the database. Papers report mAP over the whole database. Images
    without a label stay (419 of 25,000 have none of 38): they are relevant to nothing.

    Two sets of labels are in use, of 38 and of 24; both are taken, and numbers do not compare.

    Example:
        >>> split = mirflickr(np.ones((6000, 38), np.int8))
        >>> split.name, len(split.train), len(split.query)
        ('mirflickr@1000-seed0', 4000, 1000)
    """
    _expect_classes("mirflickr", labels, 38, 24)
    items = np.arange(len(labels))
    return _named("mirflickr", _sample("mirflickr", items, 1_000, 4_000, seed), seed)


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
    return _named("zero-shot", split, seed)


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
    split = _sample("random-items", np.arange(count), max(count // 10, 1), count // 2, seed)
    return _named("random-items", split, seed)


#: All protocols with sizes of their own by name.
PROTOCOLS: dict[str, Callable[[Labels, Part, int], Split]] = {
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


def check_protocol(name: str) -> None:
    """Raise a `UserError` unless it is ``per-class``, one of `PROTOCOLS`, or names a .npz file."""
    known = (PER_CLASS, *PROTOCOLS)
    if name in known or name.lower().endswith(".npz"):
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"--protocol {name!r} is unknown; {hint}there are {', '.join(known)}, FILE.npz")


def make_split(
    protocol: str,
    labels: Labels,
    part: Part = None,
    *,
    queries: int,
    train: int,
    seed: int,
    folder: Path | None = None,
) -> Split:
    """The split that a name means.

    Args:
        protocol: ``per-class``, one of `PROTOCOLS`, or a file for `read_split`.
        labels: class ids, or multi-hot rows, of all items.
        part: the parts of the data set, where they are known.
        queries: queries of each class, of ``per-class`` alone.
        train: training items of each class, of ``per-class`` alone.
        seed: seed of the draw.
        folder: where the file lies.

    Raises:
        UserError: if the name is unknown, or the data do not allow the protocol.

    Example:
        >>> make_split("per-class", np.repeat([0, 1], 5), queries=1, train=2, seed=0).name
        'per-class-1-2-rest-seed0'
    """
    check_protocol(protocol)
    if protocol == PER_CLASS:
        return per_class(labels, queries=queries, train=train, seed=seed)
    if protocol in PROTOCOLS:
        return PROTOCOLS[protocol](labels, part, seed)
    return read_split((folder or Path()) / protocol, items=len(labels))


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


def _named(name: str, split: Split, seed: int | None) -> Split:
    """The split with the name of its protocol, its database's size and its seed."""
    drawn = "" if seed is None else f"-seed{seed}"
    return dataclasses.replace(split, name=f"{name}@{len(split.database)}{drawn}")


def _with_train_in_database(split: Split) -> Split:
    database = np.sort(np.concatenate([split.train, split.database]))
    return dataclasses.replace(split, database=database)


def _expect_classes(protocol: str, labels: Labels, *allowed: int) -> None:
    """Raise unless the data have as many classes as the protocol's."""
    classes = len(np.unique(labels)) if labels.ndim == 1 else labels.shape[1]
    if classes not in allowed:
        expected = " or ".join(map(str, allowed))
        raise UserError(f"--protocol {protocol} has {expected} classes; these data have {classes}")


def _sample_classes(protocol: str, labels: Labels, queries: int, train: int, seed: int) -> Split:
    """`per_class`, whose mistakes are those of the data and not of its flags."""
    try:
        return per_class(labels, queries=queries, train=train, seed=seed)
    except UserError as error:
        reason = str(error).split("; lower --")[0]
        raise UserError(f"--protocol {protocol}: {reason}") from None


def _sample_labelled(
    protocol: str, labels: Labels, classes: int, seed: int, *, each: bool = False
) -> Split:
    """Queries, and training items from the rest, of the items of several classes with a label.

    Of ``each`` label 100 and 500; otherwise 5,000 and 10,000 of all.
    """
    if labels.ndim != 2:
        raise UserError(f"--protocol {protocol} needs multi-hot labels; these data have class ids")
    _expect_classes(protocol, labels, classes)
    labelled = np.flatnonzero(labels.any(axis=1))
    if each:
        found = _sample_classes(protocol, labels[labelled], 100, 500, seed)
        chosen = {name: labelled[items] for name, items in found.parts.items()}
        split = Split(protocol, **chosen)
    else:
        split = _sample(protocol, labelled, 5_000, 10_000, seed)
    return _with_train_in_database(split)


def _sample(
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


def _parts(protocol: str, part: Part) -> tuple[Int[np.ndarray, " test"], Int[np.ndarray, " train"]]:
    """The items of the test part and of the training part."""
    if part is None:
        raise UserError(
            f"--protocol {protocol} is defined on the training and test part of its data set, and "
            "these data do not say which item is of which; a feature file says it in an array split"
        )
    return np.flatnonzero(part == 1), np.flatnonzero(part == 0)


def _test_against_train(protocol: str, part: Part, *, queries: int, train: int) -> Split:
    """The test part searches the training part."""
    query, database = _parts(protocol, part)
    if (len(query), len(database)) != (queries, train):
        raise UserError(
            f"--protocol {protocol} has {queries:,} test and {train:,} training items; these data "
            f"have {len(query):,} and {len(database):,}"
        )
    return _named(protocol, Split(protocol, database, query, database), None)
