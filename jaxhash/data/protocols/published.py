"""Protocols of the literature: how a named data set is cut into training, queries and database.

Papers report numbers under the same data set's name that differ by up to 15 points because they cut
it differently. Each protocol here is a function of its own, whose docstring says what papers report
with it. Its name, the size of its database and its seed make the name of the split, such as
``cifar10-i@54000-seed0``.

A protocol takes the labels of all items, pooled: class ids [items] or multi-hot rows [items,
classes]. Some are defined on the parts that the data set comes in; these take ``part``, 0 for the
items of the training part and 1 for those of the test part. Its counts are arguments, whose defaults
are published; with others the split is named after them. All raise `UserError` where the data have too
few items, or are not what the protocol is defined on.
"""

import numpy as np

from jaxhash.data.protocols.general import per_class
from jaxhash.data.protocols.sampling import (
    Labels,
    Part,
    expect_classes,
    labelled_items,
    named,
    of_each_class,
    sample,
    search_train_by_test,
    two_parts,
    with_train_in_database,
)
from jaxhash.data.splits import FewItems, Split
from jaxhash.utils.errors import UserError


def cifar10_i(
    labels: Labels,
    part: Part = None,
    seed: int = 0,
    *,
    classes: int = 10,
    queries: int = 100,
    train: int = 500,
) -> Split:
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
    expect_classes("cifar10-i", labels, classes)
    split = _sample_classes("cifar10-i", labels, queries, train, seed)
    return named("cifar10-i", split, seed, (queries, 100), (train, 500))


def cifar10_i_prime(
    labels: Labels,
    part: Part = None,
    seed: int = 0,
    *,
    classes: int = 10,
    queries: int = 100,
    train: int = 500,
) -> Split:
    """CIFAR-10 (I'): the queries and training images of `cifar10_i`; all but queries are searched.

    Of 60,000 images 59,000 are the database, the 5,000 training images among them, so that a method
    is rewarded for what it has learnt by heart. Papers report mAP over the whole database.

    Example:
        >>> split = cifar10_i_prime(np.repeat(np.arange(10), 6000))
        >>> len(split.database), split.overlaps()["train"]["database"]
        (59000, 5000)
    """
    expect_classes("cifar10-i-prime", labels, classes)
    split = with_train_in_database(_sample_classes("cifar10-i-prime", labels, queries, train, seed))
    return named("cifar10-i-prime", split, seed, (queries, 100), (train, 500))


def cifar10_ii(
    labels: Labels,
    part: Part = None,
    seed: int = 0,
    *,
    classes: int = 10,
    queries: int = 10_000,
    train: int = 50_000,
) -> Split:
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
    expect_classes("cifar10-ii", labels, classes)
    split = search_train_by_test("cifar10-ii", part, queries=queries, train=train)
    return named("cifar10-ii", split, None, (queries, 10_000), (train, 50_000))


def cifar100(
    labels: Labels,
    part: Part = None,
    seed: int = 0,
    *,
    classes: int = 100,
    queries: int = 10_000,
    train: int = 50_000,
) -> Split:
    """CIFAR-100: the 10,000 test images are queries; the other 50,000 train and are searched.

    Semantic hashing with a class hierarchy reports mAHP@2500 and mAP over the whole database. All
    of the database has been learnt. The seed changes nothing.

    Example:
        >>> part = np.repeat([0, 1], [50000, 10000])
        >>> cifar100(np.arange(60000) % 100, part).name
        'cifar100@50000'
    """
    expect_classes("cifar100", labels, classes)
    split = search_train_by_test("cifar100", part, queries=queries, train=train)
    return named("cifar100", split, None, (queries, 10_000), (train, 50_000))


def imagenet100(
    labels: Labels,
    part: Part = None,
    seed: int = 0,
    *,
    classes: int = 100,
    queries: int = 5_000,
    train: int = 130,
) -> Split:
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
    expect_classes("imagenet100", labels, classes)
    query, database = two_parts("imagenet100", part)
    if len(query) != queries:
        raise UserError(
            f"--protocol imagenet100 has the {queries:,} validation images as queries; these data have "
            f"{len(query):,} test items"
        )
    try:
        chosen = of_each_class(labels, database, train, np.random.default_rng(seed), "items")
    except FewItems as error:
        raise FewItems(error.label, error.said, "--protocol imagenet100: ") from None
    split = Split("imagenet100", chosen, query, database)
    return named("imagenet100", split, seed, (queries, 5_000), (train, 130))


def nus_wide_21(
    labels: Labels,
    part: Part = None,
    seed: int = 0,
    *,
    classes: int = 21,
    queries: int = 100,
    train: int = 500,
) -> Split:
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
    labelled = labelled_items("nus-wide-21", labels, classes)
    found = _sample_classes("nus-wide-21", labels[labelled], queries, train, seed)
    chosen = {name: labelled[items] for name, items in found.parts.items()}
    split = with_train_in_database(Split("nus-wide-21", **chosen))
    return named("nus-wide-21", split, seed, (queries, 100), (train, 500))


def nus_wide_81(
    labels: Labels,
    part: Part = None,
    seed: int = 0,
    *,
    classes: int = 81,
    queries: int = 5_000,
    train: int = 10_000,
) -> Split:
    """NUS-WIDE, all 81 labels: 5,000 queries, and 10,000 images of the database for training.

    Images without a label are left out. The database is the rest, with the training images in it:
    168,692 of 173,692 in the lists of HashNet. Papers report mAP@5000.

    Numbers with 21 and with 81 labels stand under the same name "NUS-WIDE".

    Example:
        >>> split = nus_wide_81(np.ones((16000, 81), np.int8))
        >>> split.name, len(split.train), len(split.query)
        ('nus-wide-81@11000-seed0', 10000, 5000)
    """
    split = sample(
        "nus-wide-81", labelled_items("nus-wide-81", labels, classes), queries, train, seed
    )
    split = with_train_in_database(split)
    return named("nus-wide-81", split, seed, (queries, 5_000), (train, 10_000))


def coco(
    labels: Labels,
    part: Part = None,
    seed: int = 0,
    *,
    classes: int = 80,
    queries: int = 5_000,
    train: int = 10_000,
) -> Split:
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
    split = sample("coco", labelled_items("coco", labels, classes), queries, train, seed)
    split = with_train_in_database(split)
    return named("coco", split, seed, (queries, 5_000), (train, 10_000))


def mirflickr(
    labels: Labels,
    part: Part = None,
    seed: int = 0,
    *,
    classes: tuple[int, ...] = (38, 24),
    queries: int = 1_000,
    train: int = 4_000,
) -> Split:
    """MIRFlickr-25k: 1,000 queries and 4,000 for training; the rest, 20,000, is the database.

    Training images are not in the database. Papers report mAP over the whole database. Images
    without a label stay (419 of 25,000 have none of 38): they are relevant to nothing.

    Two sets of labels are in use, of 38 and of 24; both are taken, and numbers do not compare.

    Example:
        >>> split = mirflickr(np.ones((6000, 38), np.int8))
        >>> split.name, len(split.train), len(split.query)
        ('mirflickr@1000-seed0', 4000, 1000)
    """
    expect_classes("mirflickr", labels, *classes)
    split = sample("mirflickr", np.arange(len(labels)), queries, train, seed)
    return named("mirflickr", split, seed, (queries, 1_000), (train, 4_000))


def _sample_classes(protocol: str, labels: Labels, queries: int, train: int, seed: int) -> Split:
    """`per_class`, whose mistakes are those of the data and not of its flags."""
    try:
        return per_class(labels, queries=queries, train=train, seed=seed)
    except FewItems as error:
        said = error.said.split("; lower --")[0]
        raise FewItems(error.label, said, f"--protocol {protocol}: ") from None
    except UserError as error:
        reason = str(error).split("; lower --")[0]
        raise UserError(f"--protocol {protocol}: {reason}") from None
