"""An index: what is added is read again by id, label and path, as one state, by one writer at a time."""

import errno
import glob
import itertools
import json
import os
import pathlib
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_samples import (
    Item,
    MadeHasher,
    codes_of,
    digests_of,
    everything,
    fill,
    killed_after,
    make_index,
)

from jaxhash.retrieval.index import Index, IndexItem, Source
from jaxhash.retrieval.index import items as items_module
from jaxhash.utils.errors import UserError

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "search.md"
NAMES = ["a b.jpg", "quo\"te's.png", "new\nline.png", "写真/ゆき.jpg", "x/y/z.bmp", "#1?.gif"]


@pytest.fixture
def index(tmp_path):
    return make_index(tmp_path / "index")


@pytest.fixture
def filled(index):
    return fill(index)


# Reading what was added


def test_items_and_codes_come_back(index):
    items = [Item(path, label=label) for path, label in zip(NAMES, "aabb" + "c.", strict=True)]
    items[-1] = Item(NAMES[-1], None, None, None)
    ids = index.add(codes_of(6), items, digests_of(6))
    assert ids.tolist() == list(range(6)) and len(index) == 6
    for opened in (index, Index.open(index.folder)):
        [(there, codes)] = opened.blocks()
        assert there.tolist() == ids.tolist()
        np.testing.assert_array_equal(codes, codes_of(6))
        assert opened.items([5, 2, 2]) == [
            IndexItem(row, *items[row][:3], f"{row:032x}", items[row].label, "ok")
            for row in (5, 2, 2)
        ]


def test_a_few_rows_of_many_row_groups(index):
    count = 20_000
    index.add(codes_of(count), [Item(f"{row}.png") for row in range(count)], digests_of(count))
    rows = np.random.default_rng(1).integers(0, count, 50)
    assert [item.path for item in index.items(rows)] == [f"{row}.png" for row in rows]
    assert index.find(path="12345.png").tolist() == [12345]


def test_find(filled):
    assert filled.find(label="a").tolist() == [0, 2, 5]
    assert filled.find(label=["b", "c"]).tolist() == [1, 3, 4]
    assert filled.find(label="a", path=["0/2.png", "1/0.png"]).tolist() == [2]
    assert filled.find(label="none").tolist() == [] == filled.find(path="bad.png").tolist()


def test_broken_inputs_have_a_reason_and_no_id(filled):
    [broken] = filled.broken()
    assert (broken.id, broken.path, broken.status) == (None, "bad.png", "it is empty")
    assert len(filled) == 9 and filled.manifest.counts["broken"] == 1


def test_tables_pair_up_with_blocks(filled):
    filled.remove([1, 6])
    for (ids, _), table in zip(filled.blocks(), filled.tables(), strict=True):
        assert table["id"].to_pylist() == ids.tolist()
        assert [item.path for item in filled.items(ids)] == table["path"].to_pylist()


@pytest.mark.parametrize("ids", [[9], [-1], [0, 100], [4]])
def test_an_id_that_is_not_there(filled, ids):
    filled.remove([4])
    for read in (filled.items, filled.remove):
        with pytest.raises(UserError, match=f"no item of id {ids[-1]}$"):
            read(ids)


def test_numpy_and_pyarrow_alone_read_it(filled, monkeypatch):
    """By the five lines of the guide."""
    [lines] = re.findall(r"## Index\n.*?```python\n(.*?)```", GUIDE.read_text(), flags=re.S)
    filled.remove([2, 7])
    monkeypatch.chdir(filled.folder.parent)
    names = {"json": json, "glob": glob.glob, "np": np, "pq": pq, "pa": pa}
    exec(lines, names)
    codes, items, live = names["codes"], names["items"], names["live"]
    assert len(codes) == len(items) == len(live) == 9
    found = zip(items["id"].to_pylist(), items["path"].to_pylist(), codes, live, strict=True)
    assert [(id, path, code.tobytes()) for id, path, code, is_live in found if is_live] == [
        (item.id, item.path, code) for item, code in everything(filled)
    ]


# Removing


def test_removed_items_are_gone_and_their_ids_are_not_given_again(filled):
    before = everything(filled)
    assert filled.remove([1, 8, 1]) == 2 and filled.remove([3, 4, 5]) == 3
    assert everything(filled) == everything(Index.open(filled.folder))
    assert everything(filled) == [before[row] for row in (0, 2, 6, 7)]
    assert filled.find(label="a").tolist() == [0, 2]
    assert filled.add(codes_of(1), [Item("new.png")], ["d"]).tolist() == [9]
    assert sorted(path.name for path in filled.folder.glob("removed-*")) == ["removed-000004.npy"]


def test_items_that_are_replaced(filled):
    before = everything(filled)
    new = filled.add(codes_of(1), [Item("0/0.png", 99)], ["d"], replaces=[0])
    assert everything(filled)[:-1] == before[1:] and new.tolist() == [9]
    assert filled.find(path="0/0.png").tolist() == [9]
    with pytest.raises(UserError, match="no item of id 0"):
        filled.add(codes_of(1), [Item("x")], ["d"], replaces=[0])
    assert len(filled) == 9


# Vectors


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_kept_vectors(tmp_path, dtype):
    index = Index.create(tmp_path / "i", MadeHasher(), root=tmp_path, keep={"features": dtype})
    vectors = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    for start in (0, 3):
        rows = vectors[start : start + 3]
        index.add(codes_of(3), [Item(f"{start}{n}") for n in range(3)], digests_of(3), vectors=rows)
    name, found = Index.open(index.folder).vectors([5, 0, 4])
    assert name == "features" and found.dtype == dtype
    np.testing.assert_array_equal(found, vectors[[5, 0, 4]].astype(dtype))
    with pytest.raises(ValueError, match="vectors"):
        index.add(codes_of(1), [Item("a")], ["d"], vectors=vectors[:1, :4])
    with pytest.raises(UserError, match="not finite"):
        index.add(codes_of(1), [Item("a")], ["d"], vectors=np.full((1, 5), np.inf))
    assert len(index) == 6


def test_an_index_that_keeps_no_vectors(filled):
    with pytest.raises(UserError, match="keeps no vectors"):
        filled.vectors([0])


# Going on


def test_known_files(filled):
    items = [Item("0/0.png"), Item("bad.png", 0), Item("bad.png", 5), Item("1/1.png", 10, 5)]
    assert filled.known().status([*items, Item("9/9.png")]) == [
        *("same", "same", "changed", "changed"),
        "new",
    ]
    filled.remove([0])
    assert filled.known().status(items[:1]) == ["new"]


def test_known_rows(index):
    def add(start, stop):
        items = [Item(f"x.npy#{row}", None, None) for row in range(start, stop)]
        source = Source("x.npy", "f1", start, stop)
        index.add(codes_of(stop - start), items, digests_of(stop - start), source=source)

    add(0, 3), add(5, 7)
    known = Index.open(index.folder).known()
    assert known.rows_of("x.npy", "f1") == [range(0, 3), range(5, 7)]
    assert known.rows_of("y.npy", "f1") == []
    with pytest.raises(UserError, match="x.npy has changed"):
        known.rows_of("x.npy", "f2")
    add(3, 5)
    assert index.known().rows_of("x.npy", "f1") == [range(0, 7)]


# What does not fit


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (codes_of(1).astype(np.int8), "int8"),
        (codes_of(1)[0], "shape"),
        (np.zeros((1, 3), np.uint8), "2 bytes"),
        (np.full((1, 2), 255, np.uint8), "last 4 bits"),
    ],
)
def test_codes_of_another_kind(index, codes, said):
    with pytest.raises(UserError, match=said):
        index.add(codes, [Item("a")], ["d"])
    assert not list(index.folder.glob("codes*"))


def test_a_name_that_is_not_utf8_is_refused_and_is_told_as_broken(index):
    item = Item(os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(UserError, match=r"caf\\udce9.png"):
        index.add(codes_of(1), [item], ["d"])
    index.add(codes_of(0), [], [], broken=[(item, "its name is not UTF-8")])
    assert [broken.path for broken in index.broken()] == [r"caf\udce9.png"]


def test_another_hash_function(index):
    index.check_hasher("ab" * 32, 12, "run")
    for digest, bits in [("cd" * 32, 12), ("ab" * 32, 16)]:
        with pytest.raises(UserError, match="^run "):
            index.check_hasher(digest, bits, "run")


def test_create_again(index, tmp_path):
    assert len(Index.create(index.folder, MadeHasher(), root=tmp_path, exist_ok=True)) == 0
    with pytest.raises(UserError, match="an index already"):
        Index.create(index.folder, MadeHasher(), root=tmp_path)
    with pytest.raises(UserError, match="`root`"):
        Index.create(index.folder, MadeHasher(), root=tmp_path / "x", exist_ok=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(UserError, match="not empty"):
        Index.create(tmp_path / "mine", MadeHasher(), root=tmp_path)


# One state


def test_index_and_items_move_together(tmp_path):
    (tmp_path / "all" / "photos").mkdir(parents=True)
    index = Index.create(tmp_path / "all" / "index", MadeHasher(), root=tmp_path / "all" / "photos")
    assert index.manifest.root == "../photos"
    (tmp_path / "all").rename(tmp_path / "moved")
    index = Index.open(tmp_path / "moved" / "index")
    assert index.check_root() == (tmp_path / "moved" / "photos").resolve()
    (tmp_path / "moved" / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="`root=DIR`"):
        index.check_root()
    index.set_root(tmp_path / "elsewhere")
    assert Index.open(index.folder).check_root() == (tmp_path / "elsewhere").resolve()


def test_a_second_writer_is_refused(index):
    other = Index.open(index.folder)
    with index.writing(), pytest.raises(UserError, match="another process is writing"):
        other.add(codes_of(1), [Item("a")], ["d"])
    other.add(codes_of(1), [Item("a")], ["d"])
    assert index.add(codes_of(1), [Item("b")], ["d"]).tolist() == [1]  # it reads what other wrote


CHANGES = {
    "add": lambda index: index.add(codes_of(2), [Item("n"), Item("m")], digests_of(2)),
    "remove": lambda index: index.remove([0, 4]),
    "replace": lambda index: index.add(codes_of(1), [Item("n")], digests_of(1), replaces=[2, 8]),
    "compact": lambda index: index.compact(),
    "set_root": lambda index: index.set_root("/"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_writer_that_is_killed_leaves_the_state_before(filled, tmp_path, monkeypatch, name):
    filled.remove([7])
    before = everything(filled)
    copy = tmp_path / "copy"
    shutil.copytree(filled.folder, copy)
    CHANGES[name](filled)
    after = everything(filled)
    assert (after == before) == (name in ("compact", "set_root"))
    kills = 0
    for count in itertools.count():
        shutil.rmtree(filled.folder)
        shutil.copytree(copy, filled.folder)
        index = Index.open(filled.folder)
        if not killed_after(count, monkeypatch, lambda index=index: CHANGES[name](index)):
            break
        kills += 1
        assert everything(Index.open(index.folder)) == before
        with Index.open(index.folder).writing():  # the next writer clears the room first
            named = {*index.manifest.files, "index.json", "lock", "hasher"}
            assert {path.name for path in index.folder.iterdir()} == named
        again = Index.open(index.folder)
        CHANGES[name](again)
        assert everything(again) == after
        named = {*again.manifest.files, "index.json", "lock", "hasher"}
        assert {path.name for path in again.folder.iterdir()} == named
    assert kills == {"add": 3, "remove": 2, "replace": 4, "compact": 3, "set_root": 1}[name]


def test_a_full_disk_leaves_what_is_written(filled, monkeypatch):
    before, files = everything(filled), sorted(filled.folder.iterdir())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for broken, change in (("write_table", CHANGES["add"]), ("np.save", CHANGES["remove"])):
        target = {"write_table": items_module.pq, "np.save": np}[broken]
        with monkeypatch.context() as patch:
            patch.setattr(target, broken.rpartition(".")[2], full)
            with pytest.raises(OSError, match=r"No space left on device: .*-000003"):
                change(filled)
        assert sorted(filled.folder.iterdir()) == files
        assert everything(filled) == before == everything(Index.open(filled.folder))
