"""Published protocols: their counts, what the database holds, and the data that they refuse."""

import functools

import numpy as np
import pytest
from label_arrays import class_ids, multi_hot, parts, sizes

from jaxhash.data.load import load_source
from jaxhash.data.protocols import PROTOCOLS, cifar10_ii, per_class
from jaxhash.utils.errors import UserError

CIFAR10 = class_ids(10, 6_000)
CIFAR100 = class_ids(100, 600)
CIFAR_PARTS = parts(50_000, 10_000)
IMAGENET = np.concatenate([np.repeat(np.arange(100), 50), class_ids(100, 1_285)])
IMAGENET_PARTS = parts(128_500, 5_000)
NUS_21 = multi_hot(196_834, 21, unlabeled=1_000)
NUS_81 = multi_hot(173_792, 81, unlabeled=100)
COCO = multi_hot(123_287, 80, unlabeled=1_069)
MIRFLICKR = multi_hot(25_000, 38, unlabeled=419)

#: The name of the split, and the training items, queries, database, training items in the database.
LITERATURE = {
    "cifar10-i": (CIFAR10, None, "cifar10-i@54000-seed0", (5_000, 1_000, 54_000), 0),
    "cifar10-i-prime": (
        CIFAR10,
        None,
        "cifar10-i-prime@59000-seed0",
        (5_000, 1_000, 59_000),
        5_000,
    ),
    "cifar10-ii": (CIFAR10, CIFAR_PARTS, "cifar10-ii@50000", (50_000, 10_000, 50_000), 50_000),
    "cifar100": (CIFAR100, CIFAR_PARTS, "cifar100@50000", (50_000, 10_000, 50_000), 50_000),
    "imagenet100": (
        *(IMAGENET, IMAGENET_PARTS, "imagenet100@128500-seed0"),
        *((13_000, 5_000, 128_500), 13_000),
    ),
    "nus-wide-21": (NUS_21, None, "nus-wide-21@193734-seed0", (10_500, 2_100, 193_734), 10_500),
    "nus-wide-81": (NUS_81, None, "nus-wide-81@168692-seed0", (10_000, 5_000, 168_692), 10_000),
    "coco": (COCO, None, "coco@117218-seed0", (10_000, 5_000, 117_218), 10_000),
    "mirflickr": (MIRFLICKR, None, "mirflickr@20000-seed0", (4_000, 1_000, 20_000), 0),
    "zero-shot": (
        *(CIFAR100, CIFAR_PARTS, "zero-shot@12500-seed0"),
        *((37_500, 2_500, 12_500), 0),
    ),
    "random-items": (
        *(np.arange(8_093), None, "random-items@3238-seed0"),
        *((4_046, 809, 3_238), 0),
    ),
}


@functools.cache
def literature(name, seed=0):
    labels, part, *_ = LITERATURE[name]
    return PROTOCOLS[name](labels, part, seed)


def test_every_protocol_is_tested_by_its_numbers():
    assert set(LITERATURE) == set(PROTOCOLS)


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "zero-shot"])
def test_numbers_of_the_literature(name):
    *_, title, counts, in_database = LITERATURE[name]
    split = literature(name)
    assert (split.name, tuple(sizes(split))) == (title, counts)
    assert split.overlaps()["train"]["database"] == in_database
    assert split.leaks == []


def test_numbers_of_zero_shot():
    """Parts are drawn without regard to classes here, so the numbers are near the ones named."""
    split = literature("zero-shot")
    assert np.allclose(sizes(split), LITERATURE["zero-shot"][3], rtol=0.05)
    assert split.leaks == [] and split.overlaps()["train"]["database"] == 0


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocol_is_fixed_by_the_seed(name):
    assert literature.__wrapped__(name, 0).sha256 == literature(name, 0).sha256
    drawn = name not in ("cifar10-ii", "cifar100")
    assert (literature(name, 0).sha256 != literature(name, 1).sha256) == drawn
    assert literature(name, 1).name.endswith("-seed1") == drawn


@pytest.mark.parametrize("name", ["nus-wide-21", "nus-wide-81", "coco"])
def test_items_without_a_label_are_left_out(name):
    labels, split = LITERATURE[name][0], literature(name)
    used = np.union1d(split.query, split.database)
    np.testing.assert_array_equal(used, np.flatnonzero(labels.any(axis=1)))


def test_mirflickr_keeps_items_without_a_label_and_takes_24_labels():
    split = literature("mirflickr")
    everything = np.sort(np.concatenate([split.train, split.query, split.database]))
    np.testing.assert_array_equal(everything, np.arange(25_000))
    assert sizes(PROTOCOLS["mirflickr"](multi_hot(6_000, 24))) == [4_000, 1_000, 1_000]


def test_cifar10_i_is_the_default_split():
    same = per_class(CIFAR10, queries=100, train=500, seed=3)
    assert literature("cifar10-i", 3).sha256 == same.sha256
    prime = literature("cifar10-i-prime", 3)
    np.testing.assert_array_equal(prime.query, same.query)
    np.testing.assert_array_equal(prime.train, same.train)
    np.testing.assert_array_equal(prime.database, np.setdiff1d(np.arange(60_000), same.query))


@pytest.mark.parametrize("name", ["cifar10-ii", "cifar100", "imagenet100"])
def test_test_part_searches_the_training_part(name):
    part, split = LITERATURE[name][1], literature(name)
    np.testing.assert_array_equal(split.query, np.flatnonzero(part == 1))
    np.testing.assert_array_equal(split.database, np.flatnonzero(part == 0))
    assert (part[split.train] == 0).all()


def test_imagenet100_trains_on_130_items_of_each_class():
    assert (np.bincount(IMAGENET[literature("imagenet100").train]) == 130).all()


def test_nus_wide_21_draws_from_each_label():
    split = literature("nus-wide-21")
    assert (NUS_21[split.query].sum(axis=0) >= 100).all()
    assert (NUS_21[split.train].sum(axis=0) >= 500).all()


@pytest.mark.parametrize("name", ["cifar10-i", "cifar10-i-prime", "nus-wide-21", "imagenet100"])
def test_split_by_other_counts_is_named_after_them(name):
    labels, part, title, counts, _ = LITERATURE[name]
    split = PROTOCOLS[name](labels, part, train=7)
    classes = counts[0] // {"imagenet100": 130}.get(name, 500)
    assert len(split.train) == 7 * classes and "-7@" in split.name
    assert split.name != PROTOCOLS[name](labels, part, train=8).name != title


def test_counts_and_classes_of_a_benchmark_are_arguments():
    split = cifar10_ii(np.arange(60) % 3, parts(40, 20), classes=3, queries=20, train=40)
    assert split.name == "cifar10-ii-20-40@40" and sizes(split) == [40, 20, 40]
    rows = multi_hot(90, 3)
    assert sizes(PROTOCOLS["coco"](rows, classes=3, queries=10, train=20))[:2] == [20, 10]


# Data that a protocol is not made for


REFUSALS = {
    "classes": ("cifar10-i", CIFAR100, None, "cifar10-i` has 10 classes; these data have 100"),
    "classes, prime": ("cifar10-i-prime", CIFAR100, None, "-prime` has 10 classes"),
    "classes, multi-hot": ("coco", NUS_81, None, "coco` has 80 classes; these data have 81"),
    "either of two": ("mirflickr", COCO, None, "mirflickr` has 38 or 24 classes"),
    "too few": (
        *("cifar10-i", np.append(class_ids(10, 600), np.arange(9)), None),
        "`protocol=cifar10-i`: class 9 has 600 items, too few for 100 queries, 500 training items",
    ),
    "no parts": ("cifar10-ii", CIFAR10, None, "these data do not say which item is of which"),
    "no parts, imagenet": ("imagenet100", IMAGENET, None, "these data do not say"),
    "other parts": (
        *("cifar10-ii", CIFAR10, parts(45_000, 15_000)),
        "10,000 test and 50,000 training items; these data have 15,000 and 45,000",
    ),
    "other queries": (
        *("imagenet100", IMAGENET, parts(129_500, 4_000)),
        "5,000 validation images as queries; these data have 4,000 test items",
    ),
    "few of a class": (
        *(
            "imagenet100",
            np.append(np.arange(5_000) % 100, class_ids(100, 129)),
            parts(12_900, 5_000),
        ),
        "class 0 has 129 items, too few for 130 of each class",
    ),
    "ids": ("coco", CIFAR100, None, "coco` needs multi-hot labels"),
    "few of a label": (
        *("nus-wide-21", NUS_21[:4_000], None),
        "items left, too few for 100 queries and 500 training items of each class",
    ),
    "few labelled": (
        *("coco", COCO[:15_000], None),
        "coco` needs 5,000 queries, 10,000 training items and a database; these data have 14,",
    ),
    "few items": ("mirflickr", MIRFLICKR[:5_000], None, "these data have 5,000 items"),
    "multi-hot": ("zero-shot", COCO, None, "zero-shot` needs class ids"),
    "one class": ("zero-shot", np.zeros(9, int), None, "needs 2 classes or more"),
    "no test items": ("zero-shot", CIFAR100, np.zeros(60_000, int), "there is no query item"),
    "two items": ("random-items", np.arange(2), None, "these data have 2 items"),
    "one item a class": ("zero-shot", np.arange(8), None, "there is no database item"),
}


@pytest.mark.parametrize(("name", "labels", "part", "said"), REFUSALS.values(), ids=REFUSALS)
def test_data_that_a_protocol_is_not_made_for(name, labels, part, said):
    with pytest.raises(UserError) as caught:
        PROTOCOLS[name](labels, part)
    line = str(caught.value)
    assert line.startswith(f"`protocol={name}`") and said in line
    assert "\n" not in line and "_per_class" not in line


# Real data


def test_cifar10_features(shared_data):
    """The split of the published results, by its digest; and that of the original parts."""
    source = load_source("features:cifar10_mobilenetv2.npz", shared_data / "features")
    assert PROTOCOLS["cifar10-i"](source.labels).sha256.startswith("23930c04a42c")
    split = PROTOCOLS["cifar10-ii"](source.labels, source.is_test)
    assert sizes(split) == [50_000, 10_000, 50_000]
    assert (np.bincount(source.labels[split.query]) == 1_000).all()


def test_cifar100_features(shared_data):
    source = load_source("features:cifar100_mobilenetv2.npz", shared_data / "features")
    assert sizes(PROTOCOLS["cifar100"](source.labels, source.is_test)) == [50_000, 10_000, 50_000]
    assert sizes(PROTOCOLS["zero-shot"](source.labels, source.is_test)) == [37_500, 2_500, 12_500]
