"""Protocols for any data: counts per class, unseen classes, and the data's own parts."""

import numpy as np
import pytest
from label_arrays import SETS, class_ids, parts, sizes

from jaxhash.data.protocols import PROTOCOLS, make_split, per_class
from jaxhash.utils.errors import UserError

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [20, 30, 15]))


def split(seed=0):
    return per_class(LABELS, queries=4, train=6, seed=seed)


# Counts per class


def test_per_class_counts():
    counts = {name: np.bincount(LABELS[getattr(split(), name)]).tolist() for name in SETS}
    assert counts == {"train": [6, 6, 6], "query": [4, 4, 4], "database": [10, 20, 5]}


def test_per_class_puts_each_item_in_one_set():
    items = np.concatenate([getattr(split(), name) for name in SETS])
    np.testing.assert_array_equal(np.sort(items), np.arange(len(LABELS)))


def test_per_class_is_fixed_by_the_seed():
    assert split(seed=1).sha256 == split(seed=1).sha256
    assert len({split(seed).sha256 for seed in range(5)}) == 5


def test_per_class_gives_each_item_the_same_chance():
    labels = np.zeros(10, int)
    chosen = [per_class(labels, queries=1, train=1, seed=seed) for seed in range(2000)]
    for name in ("query", "train"):
        counts = np.bincount(np.concatenate([getattr(one, name) for one in chosen]), minlength=10)
        assert (abs(counts - 200) < 5 * np.sqrt(2000 * 0.1 * 0.9)).all()


def test_per_class_is_the_same_for_ever():
    """Follows NumPy's permutation; a change here makes results incomparable with earlier ones."""
    golden = per_class(np.arange(12) % 2, queries=1, train=2, seed=0)
    assert golden.name == "per-class-1-2-rest-seed0"
    assert golden.sha256 == "6ab66a69611f08a8844347b440aa9dd6ac5d10f79dab0e9b926343e92acc8f57"


@pytest.mark.parametrize(("queries", "train"), [(5, 10), (16, 1), (1, 14)])
def test_per_class_needs_items_of_each_class(queries, train):
    """Class 2 has 15 items, and one must be left for the database."""
    said = f"class 2 has 15 items, too few for {queries} queries, {train} training items"
    with pytest.raises(UserError, match=said) as caught:
        per_class(LABELS, queries=queries, train=train)
    assert "`queries_per_class`" in str(caught.value) and "\n" not in str(caught.value)
    per_class(LABELS, queries=1, train=13)


def multi_hot(items=400, classes=4):
    """Rows with any number of classes, none included."""
    return (np.random.default_rng(7).random((items, classes)) < 0.3).astype(np.int8)


def test_per_class_of_several_classes():
    labels = multi_hot()
    one = per_class(labels, queries=5, train=20, seed=3)
    assert [len(getattr(one, name)) for name in SETS] == [80, 20, 300]
    np.testing.assert_array_equal(
        np.sort(np.concatenate([one.train, one.query, one.database])), np.arange(400)
    )
    for items, least in ((one.query, 5), (one.train, 20)):
        assert (labels[items].sum(axis=0) >= least).all()
    assert len({per_class(labels, queries=5, train=20, seed=seed).sha256 for seed in range(5)}) == 5


def test_per_class_of_several_classes_draws_for_the_rarer_label_from_what_is_left():
    """Label 1 has items 0 to 3 alone; label 0, drawn first, takes from all ten."""
    labels = np.zeros((10, 2), np.int8)
    labels[:, 0], labels[:4, 1] = 1, 1
    for seed in range(50):
        try:
            one = per_class(labels, queries=2, train=1, seed=seed)
        except UserError as error:
            assert "class 1 has" in str(error) and "items left, too few for 2 queries" in str(error)
            continue
        assert len(one.query) == 4 and len(one.train) == 2
        assert labels[one.query, 1].sum() >= 2
        assert labels[np.concatenate([one.query, one.train]), 1].sum() >= 3


def test_per_class_of_several_classes_is_the_same_for_ever():
    golden = per_class(multi_hot(40, 2), queries=2, train=3, seed=0)
    assert golden.name == "per-class-2-3-rest-seed0"
    assert golden.sha256.startswith("ff4b1d670b6c68a4")


def test_per_class_of_several_classes_leaves_a_database():
    with pytest.raises(UserError, match="leave no item for the database"):
        per_class(np.eye(2, dtype=int).repeat(3, axis=0), queries=1, train=2)


def test_items_without_a_label_are_in_the_database():
    labels = np.array([0, 0, 0, 1, 1, 1, -1, -1])
    split = make_split("per-class", labels, queries=1, train=1, seed=0)
    assert sizes(split) == [2, 2, 4] and set(split.database) > {6, 7}


# Unfilled classes


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


# The parts of the data


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
        UserError, match="`protocol=parts` needs a part train, and one of query, test"
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
