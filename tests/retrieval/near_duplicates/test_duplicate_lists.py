"""Lists of near duplicates, read back by parsers of their forms."""

import csv
import errno
import json

import numpy as np
import pyarrow as pa
import pytest

from jaxhash.retrieval.near_duplicates.columns import ItemNames
from jaxhash.retrieval.near_duplicates.groups import Groups
from jaxhash.retrieval.near_duplicates.lists import iterate_members, write_list

PATHS = ["a,b.png", 'q"uote.png', "new\nline.png", "写真.png", "=1+1.png", "7"]
NAMES = ItemNames(
    np.arange(6) * 3, pa.chunked_array([PATHS]), np.array([0, 1, -1, 0, 0, 1]), ["cat", "写"]
)
GROUPS = Groups(
    np.array([9, 0]), np.array([0, 1, 4]), np.array([3, 15, 6, 12]), np.array([2, 0, 1, 1])
)
EXPECTED = [
    ("1", "keep", "9", "写真.png", "0", "cat"),
    ("1", "duplicate", "3", 'q"uote.png', "2", "写"),
    ("2", "keep", "0", "a,b.png", "0", "cat"),
    ("2", "duplicate", "15", "7", "0", "写"),
    ("2", "duplicate", "6", "new\nline.png", "1", ""),
    ("2", "duplicate", "12", "=1+1.png", "1", "cat"),
]


@pytest.fixture(params=[1, 2, 100])
def members(request, monkeypatch):
    """In blocks of some items, which may split a group."""
    monkeypatch.setattr("jaxhash.retrieval.near_duplicates.lists._ITEMS", request.param)
    return iterate_members(GROUPS, NAMES)


def test_csv(members, tmp_path):
    write_list(tmp_path / "list.CSV", members)
    with (tmp_path / "list.CSV").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["group", "role", "id", "path", "distance", "label"]
    assert [tuple(row) for row in rows] == EXPECTED


def test_json(members, tmp_path):
    write_list(tmp_path / "list.json", members)
    found = json.loads((tmp_path / "list.json").read_text("utf-8"))
    assert [set(group) for group in found] == [{"kept", "duplicates"}] * 2
    items = [
        (number, item)
        for number, group in enumerate(found, 1)
        for item in (group["kept"], *group["duplicates"])
    ]
    assert [
        (f"{number}", *map(str, (item["id"], item["path"], item["distance"], item["label"] or "")))
        for number, item in items
    ] == [(number, *rest) for number, _, *rest in EXPECTED]
    assert found[1]["duplicates"][1]["label"] is None


def test_ids(members, tmp_path):
    write_list(tmp_path / "list.txt", members)
    assert (tmp_path / "list.txt").read_text() == "3\n15\n6\n12\n"


def test_no_groups(tmp_path):
    empty = np.empty(0, np.int64)
    groups = Groups(empty, np.zeros(1, np.int64), empty, empty.astype(np.int32))
    for name, content in {"a.json": "[]\n", "a.csv": None, "a.txt": ""}.items():
        write_list(tmp_path / name, iterate_members(groups, NAMES))
        assert content is None or (tmp_path / name).read_text() == content


def test_kept_items_of_another_index(tmp_path):
    others = ItemNames(
        np.array([0, 9]), pa.chunked_array([["x", "y"]]), np.array([-1, 1]), ["cat", "写"]
    )
    found = list(iterate_members(GROUPS, NAMES, others))
    assert [member.path for member in found if member.role == "keep"] == ["y", "x"]
    assert [tuple(map(str, member))[:4] for member in found if member.role == "duplicate"] == [
        each[:4] for each in EXPECTED if each[1] == "duplicate"
    ]


@pytest.mark.parametrize("suffix", [".json", ".csv", ".txt"])
def test_a_full_disk_leaves_what_was_there(tmp_path, suffix):
    path = tmp_path / f"list{suffix}"
    path.write_text("before")

    def members():
        yield from iterate_members(GROUPS, NAMES)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        write_list(path, members())
    assert caught.value.filename == str(path)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
