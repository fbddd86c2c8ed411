"""Published protocols: how papers split a data set into training items, queries and database.

Results on the same data set differ by up to 15 points between papers because of the split. Each protocol
is a function, whose docstring states what papers report with it. The name of a split consists of the
protocol, the size of the database and the seed, such as ``cifar10-i@54000-seed0``.

A protocol takes the labels of all items, pooled: class ids [items] or multi-hot rows [items, classes].
Those that are defined on the parts of a data set use ``is_test``, 0 for the items of the training part
and 1 for those of the test part; the others ignore it. The counts have the published values as defaults;
other values become part of the name of the split. All raise `UserError` if the data have too few items,
or are not those that the protocol is defined on.
"""

import numpy as np

from jaxhash.data.protocols.general import per_class
from jaxhash.data.protocols.sampling import (
    IsTest,
    Labels,
    check_num_classes,
    items_of_test_and_train,
    labeled_items,
    name_split,
    sample_items,
    sample_per_class,
    search_train_with_test,
    with_train_in_database,
)
from jaxhash.data.splits import Split, TooFewItemsError
from jaxhash.utils.errors import UserError


def cifar10_i(
    labels: Labels,
    is_test: IsTest = None,
    seed: int = 0,
    *,
    classes: int = 10,
    queries: int = 100,
    train: int = 500,
) -> Split:
    """Splits CIFAR-10 (I): 100 queries and 500 training items per class; the rest is the database.

    The database holds 54,000 of 60,000 images. Training images are not in it. Supervised methods
    report mAP over the whole database, unsupervised ones often mAP@1000.

    Many papers say only "100 queries and 500 training images per class", which fits
    `cifar10_i_prime` too. Most code bases draw their own images, from both parts pooled.

    Example:
        >>> split = cifar10_i(np.repeat(np.arange(10), 6000))
        >>> split.name, len(split.train), len(split.query), len(split.database)
        ('cifar10-i@54000-seed0', 5000, 1000, 54000)
    """
    check_num_classes("cifar10-i", labels, classes)
    split = _per_class("cifar10-i", labels, queries, train, seed)
    return name_split("cifar10-i", split, seed, (queries, 100), (train, 500))


def cifar10_i_prime(
    labels: Labels,
    is_test: IsTest = None,
    seed: int = 0,
    *,
    classes: int = 10,
    queries: int = 100,
    train: int = 500,
) -> Split:
    """Splits CIFAR-10 (I'): as `cifar10_i`, but the database holds all images except the queries.

    The database holds 59,000 of 60,000 images, with the 5,000 training images, so memorization
    improves the result. Papers report mAP over the whole database.

    Example:
        >>> split = cifar10_i_prime(np.repeat(np.arange(10), 6000))
        >>> len(split.database), split.overlaps()["train"]["database"]
        (59000, 5000)
    """
    check_num_classes("cifar10-i-prime", labels, classes)
    split = with_train_in_database(_per_class("cifar10-i-prime", labels, queries, train, seed))
    return name_split("cifar10-i-prime", split, seed, (queries, 100), (train, 500))


def cifar10_ii(
    labels: Labels,
    is_test: IsTest = None,
    seed: int = 0,
    *,
    classes: int = 10,
    queries: int = 10_000,
    train: int = 50_000,
) -> Split:
    """Splits CIFAR-10 (II): 10,000 test images are queries; the other 50,000 are training and database.

    Papers report mAP over the whole database. The model is trained on all of it, so results are near
    the accuracy of a classifier, up to 15 points above those of `cifar10_i`. The seed has no effect.
    (Some code bases draw 1,000 queries per class from the pooled parts.)

    Example:
        >>> is_test = np.repeat([0, 1], [50000, 10000])
        >>> split = cifar10_ii(np.arange(60000) % 10, is_test)
        >>> split.name, len(split.query)
        ('cifar10-ii@50000', 10000)
    """
    check_num_classes("cifar10-ii", labels, classes)
    split = search_train_with_test("cifar10-ii", is_test, queries=queries, train=train)
    return name_split("cifar10-ii", split, None, (queries, 10_000), (train, 50_000))


def cifar100(
    labels: Labels,
    is_test: IsTest = None,
    seed: int = 0,
    *,
    classes: int = 100,
    queries: int = 10_000,
    train: int = 50_000,
) -> Split:
    """Splits CIFAR-100: 10,000 test images are queries; the other 50,000 are training and database.

    Papers on semantic hashing with a class hierarchy report mAHP@2500 and mAP over the whole
    database. The model is trained on all of it. The seed has no effect.

    Example:
        >>> is_test = np.repeat([0, 1], [50000, 10000])
        >>> cifar100(np.arange(60000) % 100, is_test).name
        'cifar100@50000'
    """
    check_num_classes("cifar100", labels, classes)
    split = search_train_with_test("cifar100", is_test, queries=queries, train=train)
    return name_split("cifar100", split, None, (queries, 10_000), (train, 50_000))


def imagenet100(
    labels: Labels,
    is_test: IsTest = None,
    seed: int = 0,
    *,
    classes: int = 100,
    queries: int = 5_000,
    train: int = 130,
) -> Split:
    """Splits ImageNet-100: 5,000 validation images are queries; 130 database images per class train.

    The queries are the 50 validation images of each of 100 classes of ImageNet. The database is all
    of their training images, 128,503 in the lists of HashNet; 13,000 of these are training items.
    Papers report mAP@1000.

    HashNet's paper states 100 training images per class, its lists hold 130. The 100 classes are
    those of its lists; another 100 classes are another data set.

    Example:
        >>> labels, is_test = np.arange(20000) % 100, np.repeat([0, 1], [15000, 5000])
        >>> split = imagenet100(labels, is_test)
        >>> split.name, len(split.train), len(split.query)
        ('imagenet100@15000-seed0', 13000, 5000)
    """
    check_num_classes("imagenet100", labels, classes)
    query, database = items_of_test_and_train("imagenet100", is_test)
    if len(query) != queries:
        raise UserError(
            f"`protocol=imagenet100` has the {queries:,} validation images as queries; these data have "
            f"{len(query):,} test items"
        )
    try:
        chosen = sample_per_class(labels, database, train, np.random.default_rng(seed))
    except TooFewItemsError as error:
        raise error.of_protocol("imagenet100") from None
    split = Split("imagenet100", chosen, query, database)
    return name_split("imagenet100", split, seed, (queries, 5_000), (train, 130))


def nus_wide_21(
    labels: Labels,
    is_test: IsTest = None,
    seed: int = 0,
    *,
    classes: int = 21,
    queries: int = 100,
    train: int = 500,
) -> Split:
    """Splits NUS-WIDE with 21 labels: 100 queries and 500 training items per label.

    Images with none of the 21 most frequent labels are left out. Of the remaining 195,834 images,
    2,100 are queries and 193,734 are the database, which holds the 10,500 training images, as in the
    papers ("from which we randomly sample 500 images per class"). Papers report mAP@5000.

    Images are drawn label by label, and an image counts for the label that drew it. Some of the
    images' addresses no longer exist, so copies of the set differ: "NUS-WIDE-m" has 223,496 images.

    Example:
        >>> split = nus_wide_21(np.tile(np.eye(21, dtype=np.int8), (700, 1)))
        >>> split.name, len(split.train), len(split.query)
        ('nus-wide-21@12600-seed0', 10500, 2100)
    """
    labeled = labeled_items("nus-wide-21", labels, classes)
    found = _per_class("nus-wide-21", labels[labeled], queries, train, seed)
    chosen = {name: labeled[items] for name, items in found.parts.items()}
    split = with_train_in_database(Split("nus-wide-21", **chosen))
    return name_split("nus-wide-21", split, seed, (queries, 100), (train, 500))


def nus_wide_81(
    labels: Labels,
    is_test: IsTest = None,
    seed: int = 0,
    *,
    classes: int = 81,
    queries: int = 5_000,
    train: int = 10_000,
) -> Split:
    """Splits NUS-WIDE with all 81 labels: 5,000 queries; 10,000 images of the database train.

    Images without a label are left out. The database is the rest, with the training images:
    168,692 of 173,692 in the lists of HashNet. Papers report mAP@5000.

    Papers report results with 21 and with 81 labels under the same name "NUS-WIDE".

    Example:
        >>> split = nus_wide_81(np.ones((16000, 81), np.int8))
        >>> split.name, len(split.train), len(split.query)
        ('nus-wide-81@11000-seed0', 10000, 5000)
    """
    split = sample_items(
        "nus-wide-81", labeled_items("nus-wide-81", labels, classes), queries, train, seed
    )
    split = with_train_in_database(split)
    return name_split("nus-wide-81", split, seed, (queries, 5_000), (train, 10_000))


def coco(
    labels: Labels,
    is_test: IsTest = None,
    seed: int = 0,
    *,
    classes: int = 80,
    queries: int = 5_000,
    train: int = 10_000,
) -> Split:
    """Splits MS-COCO: 5,000 queries, and 10,000 images of the database for training.

    Both parts of COCO 2014 are pooled, and images with none of the 80 labels are left out. Of the
    remaining 122,218 images, 117,218 are the database, with the training images. Papers report
    mAP@5000; a few remove the training images from the database (112,218).

    In the lists that HashNet published, all 5,000 queries are in the database, so each finds itself.

    Example:
        >>> split = coco(np.ones((16000, 80), np.int8))
        >>> split.name, len(split.train), len(split.query)
        ('coco@11000-seed0', 10000, 5000)
    """
    split = sample_items("coco", labeled_items("coco", labels, classes), queries, train, seed)
    split = with_train_in_database(split)
    return name_split("coco", split, seed, (queries, 5_000), (train, 10_000))


def mirflickr(
    labels: Labels,
    is_test: IsTest = None,
    seed: int = 0,
    *,
    classes: tuple[int, ...] = (38, 24),
    queries: int = 1_000,
    train: int = 4_000,
) -> Split:
    """Splits MIRFlickr-25k: 1,000 queries, 4,000 training images, and the other 20,000 as database.

    Training images are not in the database. Papers report mAP over the whole database. Images
    without a label are kept (419 of 25,000 have none of 38), but relevant to no query.

    Two label sets are in use, with 38 and 24 labels; both are accepted, but results with one are not
    comparable to results with the other.

    Example:
        >>> split = mirflickr(np.ones((6000, 38), np.int8))
        >>> split.name, len(split.train), len(split.query)
        ('mirflickr@1000-seed0', 4000, 1000)
    """
    check_num_classes("mirflickr", labels, *classes)
    split = sample_items("mirflickr", np.arange(len(labels)), queries, train, seed)
    return name_split("mirflickr", split, seed, (queries, 1_000), (train, 4_000))


def _per_class(protocol: str, labels: Labels, queries: int, train: int, seed: int) -> Split:
    """Does what `per_class` does; errors name the protocol, and advise no other counts."""
    try:
        return per_class(labels, queries=queries, train=train, seed=seed)
    except TooFewItemsError as error:
        raise error.of_protocol(protocol) from None
