"""Protocols of the literature: their counts, who may be in the database, what they refuse."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxhash.data.load import load_source
from jaxhash.data.protocols import (
    COUNTS,
    PROTOCOLS,
    check_protocol,
    cifar10_ii,
    make_split,
    per_class,
    tell_parts,
)
from jaxhash.data.readers.split_files import read_split
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.utils.errors import UserError

SETS = ("train", "query", "database")


def class_ids(classes, of_each):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(classes), of_each))


def multi_hot(items, classes, unlabelled=0):
    """Rows of one to three labels, each label as frequent as another; some rows of none."""
    rows = np.zeros((items, classes), np.int8)
    labels = np.random.default_rng(1).integers(0, classes, (items, 3))
    np.put_along_axis(rows, labels, 1, axis=1)
    rows[np.random.default_rng(2).permutation(items)[:unlabelled]] = 0
    return rows


def parts(train, test):
    """Test items first, so that no protocol can rely on where they stand."""
    return np.repeat(np.array([1, 0], np.int8), [test, train])


def sizes(split):
    return [len(getattr(split, name)) for name in SETS]


CIFAR10 = class_ids(10, 6_000)
CIFAR100 = class_ids(100, 600)
CIFAR_PARTS = parts(50_000, 10_000)
IMAGENET = np.concatenate([np.repeat(np.arange(100), 50), class_ids(100, 1_285)])
IMAGENET_PARTS = parts(128_500, 5_000)
NUS_21 = multi_hot(196_834, 21, unlabelled=1_000)
NUS_81 = multi_hot(173_792, 81, unlabelled=100)
COCO = multi_hot(123_287, 80, unlabelled=1_069)
MIRFLICKR = multi_hot(25_000, 38, unlabelled=419)

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


@pytest.mark.parametrize("part", [None, parts(350, 150)], ids=["pooled", "parts"])
def test_zero_shot_classes(part):
    labels = class_ids(9, 50)
    labels = np.concatenate([labels, np.full(50, 9)])
    seen = []
    for seed in range(20):
        split = PROTOCOLS["zero-shot"](labels, part, seed)
        train, query, database = (set(labels[getattr(split, name)].tolist()) for name in SETS)
        assert len(train) == 7 and query == database - (query ^ database) and not train & query
        assert train | database == set(range(10)) and not train & database
        if part is not None:
            assert (part[split.query] == 1).all()
            assert (part[np.concatenate([split.train, split.database])] == 0).all()
        else:
            assert sizes(split) == [350, 15, 135]
        seen.append(tuple(sorted(train)))
    assert len(set(seen)) > 10


def test_zero_shot_has_a_query_of_each_unseen_class():
    split = PROTOCOLS["zero-shot"](np.repeat(np.arange(8), 3))
    assert sizes(split) == [18, 2, 4]


# Data that a protocol is not made for


REFUSALS = {
    "classes": ("cifar10-i", CIFAR100, None, "cifar10-i has 10 classes; these data have 100"),
    "classes, prime": ("cifar10-i-prime", CIFAR100, None, "-prime has 10 classes"),
    "classes, multi-hot": ("coco", NUS_81, None, "coco has 80 classes; these data have 81"),
    "either of two": ("mirflickr", COCO, None, "mirflickr has 38 or 24 classes"),
    "too few": (
        *("cifar10-i", np.append(class_ids(10, 600), np.arange(9)), None),
        "--protocol cifar10-i: class 9 has 600 items, too few for 100 queries, 500 training items",
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
    "ids": ("coco", CIFAR100, None, "coco needs multi-hot labels"),
    "few of a label": (
        *("nus-wide-21", NUS_21[:4_000], None),
        "items left, too few for 100 queries and 500 training items of each class",
    ),
    "few labelled": (
        *("coco", COCO[:15_000], None),
        "coco needs 5,000 queries, 10,000 training items and a database; these data have 14,",
    ),
    "few items": ("mirflickr", MIRFLICKR[:5_000], None, "these data have 5,000 items"),
    "multi-hot": ("zero-shot", COCO, None, "zero-shot needs class ids"),
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
    assert line.startswith(f"--protocol {name}") and said in line
    assert "\n" not in line and "-per-class" not in line


# Names


@pytest.mark.parametrize("name", ["auto", "parts", "per-class", *PROTOCOLS, "mine.npz"])
def test_names_that_are_known(name):
    check_protocol(name)


@pytest.mark.parametrize("name", ["", "coco ", "mine.npy", "mine.npz.gz", "mine.tgz"])
def test_names_that_are_not_known(name):
    with pytest.raises(UserError, match=f"--protocol {name!r} is unknown"):
        check_protocol(name)


def test_name_near_a_known_one():
    with pytest.raises(UserError) as caught:
        check_protocol("cifar10-1")
    line = str(caught.value)
    assert line.startswith("--protocol 'cifar10-1' is unknown; did you mean cifar10-i? there are ")
    assert all(name in line for name in ("per-class", *PROTOCOLS, "FILE.npz"))


def test_make_split_passes_on_what_it_is_given(tmp_path):
    options = dict(queries=2, train=3, seed=5)
    labels = class_ids(10, 700)
    made = make_split("per-class", labels, **options)
    assert made.sha256 == per_class(labels, queries=2, train=3, seed=5).sha256
    assert make_split("cifar10-i", labels, seed=5).name == "cifar10-i@1000-seed5"
    assert make_split("cifar10-i", labels, **options).name == "cifar10-i-2-3@6950-seed5"
    cut = parts(50_000, 10_000)
    assert make_split("cifar10-ii", CIFAR10, cut, seed=5).name == "cifar10-ii@50000"
    np.savez(tmp_path / "mine.npz", train=[0], query=[1], database=[2])
    assert make_split("mine.npz", labels, seed=5, folder=tmp_path).name == "mine"
    with pytest.raises(UserError, match="below 2, got 2"):
        make_split("mine.npz", labels[:2], seed=5, folder=tmp_path)
    (tmp_path / "mine.npz").rename(tmp_path / "MINE.NPZ")
    assert make_split("MINE.NPZ", labels, seed=5, folder=tmp_path).name == "MINE"


@pytest.mark.parametrize("name", [*PROTOCOLS, "mine.npz"])
def test_counts_of_each_class_are_taken_or_refused(name):
    for count in ("queries", "train"):
        if count in COUNTS.get(name, ()):
            check_protocol(name, **{count: 3})
        else:
            with pytest.raises(
                UserError, match=f"--{count}-per-class is not for --protocol {name},"
            ):
                check_protocol(name, **{count: 3})


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


# Parts of one's own


def items(**sizes):
    """Parts by name, one after the other."""
    ends = np.cumsum(list(sizes.values()))
    return dict(zip(sizes, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))


OWN = {
    "test": (items(train=6, test=4), dict(train="train", query="test", database="train")),
    "validation is the test part": (
        items(train=6, validation=4),
        dict(train="train", query="validation", database="train"),
    ),
    "validation beside a test part": (
        items(train=6, validation=4, test=2),
        dict(train="train", query="test", database="train", validation="validation"),
    ),
    "all of them": (
        items(train=6, validation=4, test=3, query=2, database=5),
        dict(train="train", query="query", database="database", validation="validation"),
    ),
    "query and database": (
        items(train=6, query=2, database=5),
        dict(train="train", query="query", database="database"),
    ),
}


@pytest.mark.parametrize(("own", "roles"), OWN.values(), ids=OWN)
@pytest.mark.parametrize("protocol", ["auto", "parts"])
def test_parts_of_the_data_are_taken_as_they_are(own, roles, protocol):
    labels = np.zeros(40, int)
    split = make_split(protocol, labels, parts=own, seed=3)
    assert split.name == f"parts@{len(split.database)}"
    assert set(split.parts) == set(roles)
    for name, part in roles.items():
        np.testing.assert_array_equal(split.parts[name], own[part])


@pytest.mark.parametrize("own", [{}, items(train=9), items(test=9), items(query=4, database=9)])
def test_data_without_parts_to_train_and_to_search_with(own):
    labels = np.arange(13) % 2
    split = make_split("auto", labels, parts=own, queries=1, train=2, seed=0)
    assert split.name == "per-class-1-2-rest-seed0"
    with pytest.raises(
        UserError, match="--protocol parts needs a part train, and one of query, test"
    ):
        make_split("parts", labels, parts=own, seed=0)


@pytest.mark.parametrize("kind", ["ids", "rows"])
def test_counts_of_each_class_are_drawn_within_the_parts(kind):
    """The database stays whole; items without a label are not drawn."""
    ids = np.arange(60) % 3
    ids[[0, 50]] = -1
    labels = ids if kind == "ids" else (ids[:, None] == np.arange(3)).astype(np.int8)
    own = items(train=40, test=20)
    split = make_split("auto", labels, parts=own, queries=2, train=4, seed=1)
    assert split.name == "parts-2-4@40-seed1" and sizes(split) == [12, 6, 40]
    assert set(split.query) <= set(own["test"]) and set(split.train) <= set(own["train"])
    np.testing.assert_array_equal(np.bincount(ids[split.train]), [4, 4, 4])
    np.testing.assert_array_equal(np.bincount(ids[split.query]), [2, 2, 2])
    assert split.sha256 != make_split("auto", labels, parts=own, queries=2, train=4, seed=2).sha256
    with pytest.raises(
        UserError, match=r"class elk \(0\) has \d items in the part test, too few for 9"
    ):
        make_split("parts", labels, parts=own, queries=9, seed=0, class_names=["elk", "dog"])


def test_what_becomes_of_parts_is_told():
    own = items(train=6, validation=4, test=3, query=2)
    [said] = tell_parts("auto", own)
    assert "queries from query" in said and "database from train" in said
    assert "validation from validation" in said and "not used: test" in said
    for name in ("per-class", "cifar10-i", "random-items", "mine.npz"):
        [said] = tell_parts(name, own)
        assert name in said and "train, validation, test, query" in said
    for name in ("cifar10-ii", "cifar100", "imagenet100", "zero-shot"):
        assert tell_parts(name, own) == []
    assert tell_parts("per-class", {}) == [] and len(tell_parts("auto", items(train=3))) == 1


def test_class_with_few_items_is_named():
    labels, names = np.array([0, 1, 1, 1]), ["cat", "dog"]
    with pytest.raises(UserError, match=r"^class cat \(0\) has 1 items, too few for 1 queries"):
        make_split("per-class", labels, queries=1, train=1, seed=0, class_names=names)
    with pytest.raises(UserError, match="^class 0 has 1 items"):
        make_split("per-class", labels, queries=1, train=1, seed=0, class_names=["0", "1"])
    rows = np.eye(2, dtype=np.int8)[labels]
    with pytest.raises(UserError, match=r"^class cat \(0\) has 0 items left"):
        make_split("per-class", rows, queries=1, train=1, seed=0, class_names=names)
    labels = np.arange(6_000) % 10
    with pytest.raises(UserError, match=r"^--protocol cifar10-i: class cat \(0\) has 600 items"):
        make_split("cifar10-i", labels, seed=0, class_names=["cat"])


def test_items_without_a_label_are_in_the_database():
    labels = np.array([0, 0, 0, 1, 1, 1, -1, -1])
    split = make_split("per-class", labels, queries=1, train=1, seed=0)
    assert sizes(split) == [2, 2, 4] and set(split.database) > {6, 7}


# Files


ARRAYS = {"train": np.arange(3), "query": np.array([5]), "database": np.array([7, 6])}


@pytest.fixture
def split_file(tmp_path):
    """A function that writes a split file with these changes; None leaves an array out."""

    def write(**changes):
        arrays = {name: array for name, array in (ARRAYS | changes).items() if array is not None}
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_split_file(split_file, dtype):
    split = read_split(split_file(train=np.arange(3, dtype=dtype)), items=8)
    assert split.name == "mine" and len(split.validation) == 0
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(getattr(split, name), array)
        assert getattr(split, name).dtype == np.int64


def test_split_file_with_validation_and_a_leak(split_file):
    split = read_split(split_file(validation=np.array([4, 5])))
    np.testing.assert_array_equal(split.validation, [4, 5])
    assert split.leaks == ["query and validation share 1 item"]


WRONG_FILES = {
    "missing": (dict(query=None), "no array 'query'; the file holds ['database', 'train']"),
    "unknown": (dict(valid=np.arange(2)), "unknown array 'valid'; expected train, validation, "),
    "rows": (dict(query=np.eye(2, dtype=int)), "query must hold item numbers, got shape (2, 2)"),
    "mask": (dict(train=np.ones(8, bool)), "train must hold item numbers, got shape (8,) of bool"),
    "fractions": (dict(train=np.ones(3)), "got shape (3,) of float64"),
    "negative": (dict(query=np.array([3, -1])), "query must be from 0 and below 8, got -1"),
    "too large": (dict(database=np.array([7, 8])), "database must be from 0 and below 8, got 8"),
    "empty": (dict(train=np.arange(0)), "train is empty"),
    "pickled": (dict(train=np.array([{}])), "array 'train' is not readable"),
}


@pytest.mark.parametrize(("arrays", "said"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_wrong_split_file(split_file, arrays, said):
    path = split_file(**arrays)
    with pytest.raises(UserError) as caught:
        read_split(path, items=8)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)


def test_negative_number_where_the_items_are_not_known(split_file):
    with pytest.raises(UserError, match="query must be from 0, got -1"):
        read_split(split_file(query=np.array([-1])))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"], ids=range(3))
def test_split_file_that_is_none(tmp_path, content):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(UserError, match="not a readable"):
        read_split(tmp_path / "mine.npz")
    with pytest.raises(UserError, match="there is no such split file"):
        read_split(tmp_path / "other.npz")


def test_split_file_that_is_one_array(tmp_path):
    with open(tmp_path / "mine.npz", "wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(UserError, match="not a readable"):
        read_split(tmp_path / "mine.npz")


# Real data


def test_cifar10_features(shared_data):
    """The split of the published results, by its digest; and that of the original parts."""
    source = load_source("features:cifar10_mobilenetv2.npz", shared_data / "features")
    assert PROTOCOLS["cifar10-i"](source.labels).sha256.startswith("23930c04a42c")
    split = PROTOCOLS["cifar10-ii"](source.labels, source.part)
    assert sizes(split) == [50_000, 10_000, 50_000]
    assert (np.bincount(source.labels[split.query]) == 1_000).all()


def test_cifar100_features(shared_data):
    source = load_source("features:cifar100_mobilenetv2.npz", shared_data / "features")
    assert sizes(PROTOCOLS["cifar100"](source.labels, source.part)) == [50_000, 10_000, 50_000]
    assert sizes(PROTOCOLS["zero-shot"](source.labels, source.part)) == [37_500, 2_500, 12_500]


# What a run makes of it


@pytest.fixture
def config(tmp_path):
    """Of vectors of several classes, split by a file in which item 39 is a query too."""
    labels = multi_hot(120, 4, unlabelled=5)
    features = np.random.default_rng(0).normal(size=(120, 8))
    np.savez(tmp_path / "some.npz", features=features, labels=labels)
    np.savez(tmp_path / "mine.npz", train=range(40), query=range(39, 60), database=range(60, 120))
    data = dict(dataset="features:some.npz", data_dir=tmp_path, protocol="mine.npz")
    return Config(**data, allow_leak=True, model="mlp", bits=8, epochs=2, batch_size=16)


def test_run_refuses_a_leak_unless_it_is_allowed(config):
    experiment = Experiment.open(config)
    assert (
        experiment.split.leaks == ["query and train share 1 item"]
        and experiment.steps_per_epoch == 3
    )
    with pytest.raises(UserError, match="query and train share 1 item; --allow-leak takes it"):
        Experiment.open(dataclasses.replace(config, allow_leak=False))
    with np.load(config.data_dir / "some.npz") as arrays:
        named = dict(arrays) | {"item_names": np.array([f"{number}.png" for number in range(120)])}
    np.savez(config.data_dir / "some.npz", **named)
    with pytest.raises(UserError, match=r"query and train share 1 item \(39.png\); --allow-leak"):
        Experiment.open(dataclasses.replace(config, allow_leak=False))


def test_run_takes_validation_items_from_the_training_items(config):
    one = Experiment.open(dataclasses.replace(config, validation=0.25)).split
    assert sizes(one) == [30, 21, 60] and len(one.validation) == 10
    np.testing.assert_array_equal(np.union1d(one.train, one.validation), np.arange(40))
    other = Experiment.open(dataclasses.replace(config, validation=0.25, split_seed=1)).split
    assert one.sha256 != other.sha256
    with pytest.raises(UserError, match="query and (train|validation) share 1 item"):
        Experiment.open(dataclasses.replace(config, validation=0.25, allow_leak=False))


def test_run_uses_the_parts_of_its_data(config, tmp_path):
    labels, part = np.arange(200) % 10, np.repeat([0, 1], [150, 50])
    np.savez(tmp_path / "some.npz", features=np.eye(200), labels=labels, split=part)
    with pytest.raises(UserError, match="these data have 50 and 150"):
        Experiment.open(dataclasses.replace(config, protocol="cifar10-ii"))
    split = Experiment.open(dataclasses.replace(config, protocol="zero-shot", split_seed=2)).split
    assert split.name == "zero-shot@45-seed2" and sizes(split) == [105, 15, 45]


def test_step_on_items_of_several_classes(config):
    """The bank of HashNet holds rows of labels, those of the batch after the step."""
    config = dataclasses.replace(config, quantizer="none")
    experiment = Experiment.open(config)
    batch = next(experiment.batches())
    state, metrics = jax.jit(experiment.step_function())(experiment.initial_state(), batch)
    assert np.isfinite(metrics["loss"]) and metrics["loss"] > 0
    banks = [leaf for leaf in jax.tree.leaves(state.objective_state) if leaf.shape == (40, 4)]
    np.testing.assert_array_equal(banks[0][batch.index], batch.labels)
    np.testing.assert_array_equal(batch.labels, experiment.source.labels[batch.index])
