"""Splits: distinguished by their digests, checked for leaks, and with validation items."""

import dataclasses
import hashlib

import numpy as np
import pytest

from jaxhash.data.protocols import per_class
from jaxhash.data.splits import Split, check_leaks, with_validation
from jaxhash.utils.errors import UserError

SETS = ("train", "query", "database")
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [20, 30, 15]))


def split(seed=0):
    return per_class(LABELS, queries=4, train=6, seed=seed)


def small_split(train=(0, 1), query=(2,), database=(3, 4, 5), validation=()):
    return Split("small", *(np.array(part, int) for part in (train, query, database, validation)))


def multi_hot(items=400, classes=4):
    """Rows with any number of classes, none included."""
    return (np.random.default_rng(7).random((items, classes)) < 0.3).astype(np.int8)


# Leaks


@pytest.mark.parametrize(
    ("first", "second", "leaks"),
    [
        ("query", "train", True),
        ("query", "validation", True),
        ("query", "database", True),
        ("validation", "train", True),
        ("train", "database", False),
        ("validation", "database", False),
    ],
)
def test_parts_that_share_items(first, second, leaks):
    apart = {"train": (0, 1), "query": (10, 11), "database": (20, 21), "validation": (30, 31)}
    assert small_split(**apart).leaks == []
    one = small_split(**(apart | {second: (*apart[second], *apart[first])}))
    shared = [f"{first} and {second} share 2 items"]
    assert one.leaks == (shared if leaks else [])
    assert one.overlaps()[first][second] == one.overlaps()[second][first] == 2
    assert sum(sum(row.values()) for row in one.overlaps().values()) == 2 + 2 + 2 + 4 + 2 + 2


def test_overlaps_leave_out_the_part_that_is_empty():
    assert small_split().overlaps() == {
        "train": {"train": 2, "query": 0, "database": 0},
        "query": {"train": 0, "query": 1, "database": 0},
        "database": {"train": 0, "query": 0, "database": 3},
    }


@pytest.mark.parametrize("name", [*SETS, "validation"])
def test_items_that_a_part_repeats(name):
    """9 comes three times and is one item."""
    one = small_split(**{name: (9, 8, 9, 7, 8, 9)})
    assert one.repeated()[name] == 2
    assert one.leaks == [f"{name} holds 2 items more than once"]
    assert one.overlaps()[name][name] == 3


def test_one_shared_item_is_one_item():
    leaking = small_split(query=(2,), database=(2, 3))
    assert leaking.leaks == ["query and database share 1 item"]
    assert leaking.named_leaks("a/{}.png".format) == [f"{leaking.leaks[0]} (a/2.png)"]
    many = small_split(query=(5, 5, 6, 6, 7, 7, 8, 8), database=(1,))
    assert many.named_leaks("{}".format) == [
        "query holds 4 items more than once (5, 6, 7 and 1 more)"
    ]


def test_leaks_are_refused_or_allowed():
    check_leaks(small_split())
    leaking = small_split(query=(0, 4), database=(3, 4))
    check_leaks(leaking, allow=True)
    with pytest.raises(UserError) as caught:
        check_leaks(leaking)
    assert str(caught.value) == (
        "split small leaks: query and train share 1 item; query and database share 1 item; "
        "`allow_leak` takes it as it is"
    )


# Validation


def with_tenth(one, labels=LABELS, fraction=0.1, seed=0):
    return with_validation(one, labels, fraction=fraction, seed=seed)


def test_validation_is_taken_from_the_training_items():
    before = per_class(LABELS, queries=2, train=12, seed=0)
    after = with_tenth(before, fraction=0.25)
    assert after.name == f"{before.name}-validation0.25-seed0"
    np.testing.assert_array_equal(np.bincount(LABELS[after.validation]), [3, 3, 3])
    together = np.concatenate([after.train, after.validation])
    np.testing.assert_array_equal(np.sort(together), before.train)
    np.testing.assert_array_equal(after.query, before.query)
    np.testing.assert_array_equal(after.database, before.database)
    assert after.leaks == []


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.37, 0.5, 0.9])
def test_validation_has_the_share_of_each_class(fraction):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(6), [1, 3, 20, 30, 41, 100]))
    one = small_split(train=np.arange(195), query=(195,), database=(196,))
    for seed in range(20):
        held_out = with_tenth(one, np.append(labels, [0, 0]), fraction, seed).validation
        assert len(held_out) == round(fraction * 195)
        exact = fraction * np.bincount(labels)
        assert (abs(np.bincount(labels[held_out], minlength=6) - exact) <= 1.05).all()


@pytest.mark.parametrize("labels", [LABELS, multi_hot(65)], ids=["ids", "multi-hot"])
def test_validation_gives_each_item_the_same_chance(labels):
    one = small_split(train=np.arange(60), query=(60,), database=(61,))
    draws = [with_tenth(one, labels, 0.2, seed).validation for seed in range(1000)]
    counts = np.bincount(np.concatenate(draws), minlength=60)
    assert counts.sum() == 12_000
    assert (abs(counts - 200) < 5 * np.sqrt(1000 * 0.2 * 0.8)).all()


def test_validation_is_the_same_for_ever():
    one = per_class(LABELS, queries=2, train=12, seed=0)
    assert with_tenth(one).sha256.startswith("61cbeebf0ba7edb1")


def test_validation_is_not_drawn_by_the_numbers_that_drew_the_split():
    """The items of one class, cut by the same seed: their first places in both orders differ."""
    labels = np.zeros(100, int)
    firsts = 0
    for seed in range(40):
        one = per_class(labels, queries=1, train=98, seed=seed)
        order = np.random.default_rng(seed).permutation(98)
        chosen = with_tenth(one, labels, 0.1, seed).validation
        firsts += len(np.intersect1d(one.train[order[:10]], chosen))
    assert firsts < 80  # 40 by chance, 400 by the same numbers


@pytest.mark.parametrize(("fraction", "taken"), [(0.01, 0), (0.99, 18)])
def test_validation_must_take_one_item_and_leave_one(fraction, taken):
    said = f"`validation={fraction}` takes {taken} of 18 training items: it must take one and leave"
    with pytest.raises(UserError, match=said):
        with_tenth(split(), fraction=fraction)


def test_validation_is_taken_once():
    with pytest.raises(UserError, match="has 2 validation items already"):
        with_tenth(with_tenth(split()))


# The digest


def test_digest_depends_on_the_sets_their_order_and_their_bounds():
    splits = [
        small_split(),
        small_split(train=(1, 0)),
        small_split(train=(2,), query=(0, 1)),
        small_split(train=(0,), query=(1, 2)),
        small_split(database=(3, 4)),
        small_split(database=(3, 4, 6)),
        small_split(validation=(7,)),
        small_split(validation=(8,)),
        small_split(validation=(7, 8)),
    ]
    assert len({one.sha256 for one in splits}) == len(splits)


def test_digest_does_not_depend_on_name_and_dtype():
    one = small_split()
    narrow = {name: getattr(one, name).astype(np.int32) for name in SETS}
    assert dataclasses.replace(one, name="other", **narrow).sha256 == one.sha256


def test_digest_without_validation_is_that_of_earlier_versions():
    """Computes the digest of the lengths and items of training, queries and database, as little-endian 64-bit numbers."""
    content = np.array([2, 0, 1, 1, 2, 3, 3, 4, 5], "<i8").tobytes()
    assert small_split().sha256 == hashlib.sha256(content).hexdigest()
