"""Names of protocols, and the splits that they make."""

import numpy as np
import pytest
from label_arrays import class_ids, parts

from jaxhash.data.protocols import (
    COUNTS,
    PROTOCOLS,
    check_protocol,
    describe_parts,
    make_split,
    per_class,
)
from jaxhash.utils.errors import UserError


@pytest.mark.parametrize("name", ["auto", "parts", "per-class", *PROTOCOLS, "mine.npz"])
def test_names_that_are_known(name):
    check_protocol(name)


@pytest.mark.parametrize("name", ["", "coco ", "mine.npy", "mine.npz.gz", "mine.tgz"])
def test_names_that_are_not_known(name):
    with pytest.raises(UserError, match=f"`protocol={name!r}` is unknown"):
        check_protocol(name)


def test_name_near_a_known_one():
    with pytest.raises(UserError) as caught:
        check_protocol("cifar10-1")
    line = str(caught.value)
    assert line.startswith("`protocol='cifar10-1'` is unknown; did you mean cifar10-i? there are ")
    assert all(name in line for name in ("per-class", *PROTOCOLS, "FILE.npz"))


def test_make_split_passes_on_what_it_is_given(tmp_path):
    options = dict(queries=2, train=3, seed=5)
    labels = class_ids(10, 700)
    made = make_split("per-class", labels, **options)
    assert made.sha256 == per_class(labels, queries=2, train=3, seed=5).sha256
    assert make_split("cifar10-i", labels, seed=5).name == "cifar10-i@1000-seed5"
    assert make_split("cifar10-i", labels, **options).name == "cifar10-i-2-3@6950-seed5"
    cut = parts(50_000, 10_000)
    assert make_split("cifar10-ii", class_ids(10, 6_000), cut, seed=5).name == "cifar10-ii@50000"
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
                UserError, match=f"`{count}_per_class` is not for `protocol={name}`,"
            ):
                check_protocol(name, **{count: 3})


def items(**sizes):
    """Parts by name, one after the other."""
    ends = np.cumsum(list(sizes.values()))
    return dict(zip(sizes, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))


def test_what_becomes_of_parts_is_told():
    own = items(train=6, validation=4, test=3, query=2)
    [said] = describe_parts("auto", own)
    assert "queries from query" in said and "database from train" in said
    assert "validation from validation" in said and "not used: test" in said
    for name in ("per-class", "cifar10-i", "random-items", "mine.npz"):
        [said] = describe_parts(name, own)
        assert name in said and "train, validation, test, query" in said
    for name in ("cifar10-ii", "cifar100", "imagenet100", "zero-shot"):
        assert describe_parts(name, own) == []
    assert (
        describe_parts("per-class", {}) == [] and len(describe_parts("auto", items(train=3))) == 1
    )


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
    with pytest.raises(UserError, match=r"^`protocol=cifar10-i`: class cat \(0\) has 600 items"):
        make_split("cifar10-i", labels, seed=0, class_names=["cat"])
