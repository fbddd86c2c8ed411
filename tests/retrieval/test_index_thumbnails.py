"""Thumbnails of an index: kept of each item, through removal, compaction and kills; damage is told."""

import io
import itertools
import os
import shutil

import numpy as np
import pyarrow as pa
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
    thumbnails_of,
)
from PIL import Image

from jaxhash.retrieval.index import Index
from jaxhash.retrieval.index import compact as compact_module
from jaxhash.retrieval.index import thumbnails as thumbnails_module
from jaxhash.retrieval.index.manifest import write_manifest
from jaxhash.training.digests import file_digest
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import read_json, write_json

EXPECTED = [each for seed in range(3) for each in thumbnails_of(3, seed)]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index of items 0 to 8, with two thumbnails to a batch."""
    monkeypatch.setattr(thumbnails_module, "_BATCH_ROWS", 2)
    return fill(make_index(tmp_path / "index", thumbnails=96))


def pick(ids):
    return [EXPECTED[id] for id in ids]


def test_they_are_those_of_the_items(index):
    for opened in (index, Index.open(index.folder)):
        assert opened.thumbnail_side == 96
        assert opened.thumbnails([7, 0, 5, 0]) == pick([7, 0, 5, 0])
        assert opened.thumbnails([]) == []
    with Image.open(io.BytesIO(index.thumbnails([2])[0])) as image:
        assert (image.format, image.size) == ("JPEG", (9, 8))
    with pytest.raises(UserError, match="no item of id 9"):
        index.thumbnails([0, 9])


def test_pyarrow_alone_reads_them(index):
    tables = [pa.ipc.open_file(path).read_all() for path in sorted(index.folder.glob("*.arrow"))]
    assert [each for table in tables for each in table["jpeg"].to_pylist()] == EXPECTED


@pytest.mark.parametrize("merged_rows", [1, 6, 100])
def test_they_stay_through_removal_and_compaction(index, monkeypatch, merged_rows):
    monkeypatch.setattr(compact_module, "MERGED_ROWS", merged_rows)
    left = [1, 2, 3, 5, 7]
    index.remove([0, 4, 6, 8])
    reader = Index.open(index.folder)
    assert index.thumbnails(left) == pick(left)
    index.compact()
    for opened in (index, reader, Index.open(index.folder)):
        assert opened.thumbnails(left) == pick(left)
    assert len(list(index.folder.glob("*.arrow"))) == {1: 3, 6: 1, 100: 1}[merged_rows]
    index.remove(left)
    index.compact()
    assert not list(index.folder.glob("*.arrow")) and len(index.broken()) == 1
    index.add(codes_of(1), [Item("n")], digests_of(1), thumbnails=EXPECTED[:1])
    assert index.thumbnails([9]) == EXPECTED[:1]


def add(index):
    index.add(
        codes_of(3), [Item(f"n{n}") for n in range(3)], digests_of(3), thumbnails=EXPECTED[:3]
    )


@pytest.mark.parametrize("change", [add, Index.compact])
def test_a_writer_that_is_killed_leaves_the_state_before(index, tmp_path, monkeypatch, change):
    index.remove([1])
    before, copy = everything(index), tmp_path / "copy"
    shutil.copytree(index.folder, copy)
    for count in itertools.count():
        shutil.rmtree(index.folder)
        shutil.copytree(copy, index.folder)
        opened = Index.open(index.folder)
        if not killed_after(count, monkeypatch, lambda opened=opened: change(opened)):
            break
        assert everything(Index.open(index.folder)) == before
        change(Index.open(index.folder))
        again = Index.open(index.folder)
        assert again.thumbnails([0, 2, 8]) == pick([0, 2, 8])
        named = {*again.manifest.files, "index.json", "lock", "hasher"}
        assert {path.name for path in again.folder.iterdir()} == named
    assert count == 4


def test_an_index_of_an_earlier_version_has_none_and_takes_none(tmp_path):
    index = fill(make_index(tmp_path / "index"))
    path = index.folder / "index.json"
    content = read_json(path, "")
    assert content.pop("thumbnails") is None
    write_json(path, content)
    old = Index.open(index.folder)
    assert old.thumbnail_side is None and old.thumbnails([3, 8]) == [None, None]
    assert old.add(codes_of(1), [Item("n")], digests_of(1)).tolist() == [9]
    with pytest.raises(UserError, match="no item of id 10"):
        old.thumbnails([10])
    with pytest.raises(ValueError, match="keeps none"):
        add(old)
    old.compact()
    assert old.thumbnails([9]) == [None] and not list(old.folder.glob("thumbnails*"))


def test_what_does_not_pair_up(index, tmp_path):
    with pytest.raises(ValueError, match="1 codes and 0 `thumbnails`"):
        index.add(codes_of(1), [Item("n")], digests_of(1))
    with pytest.raises(UserError, match="`thumbnails` 96, and here it is none"):
        Index.create(index.folder, MadeHasher(), root=tmp_path, exist_ok=True)
    with pytest.raises(UserError, match="`thumbnails` 96, and here it is 64"):
        Index.create(index.folder, MadeHasher(), root=tmp_path, thumbnails=64, exist_ok=True)
    for side in (-1, 0, 15, 2000):
        with pytest.raises(UserError, match="`thumbnails` must be"):
            make_index(tmp_path / "other", thumbnails=side)
    assert not (tmp_path / "other").exists()


# Damage


def damage_of(index):
    """Returns what verification says of the files of the index, whose hash function is made up."""
    return [line for line in Index.open(index.folder).verify() if "hasher" not in line]


def test_a_sound_index_has_no_problem(index):
    assert damage_of(index) == []
    index.remove([3])
    index.compact()
    assert damage_of(index) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "unlink"])
def test_a_damaged_file(index, damage):
    path = index.folder / "thumbnails-000001.arrow"
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content.replace(b"\xff\xd8\xff", b"\xff\xd8\xfe", 1))
    elif damage == "cut":
        path.write_bytes(content[:-3])
    else:
        os.unlink(path)
    [line] = damage_of(index)
    assert line.startswith(str(path))
    if damage != "flip":
        with pytest.raises(UserError, match=path.name):
            index.thumbnails([3])


def replaced(index, write):
    """Writes another file of thumbnails of the second shard, and its digest into the manifest."""
    manifest = index.manifest
    shards = list(manifest.shards)
    path = index.folder / shards[1].name("thumbnails")
    write(path)
    files = shards[1].files | {path.name: tuple(file_digest(path))}
    shards[1] = type(shards[1])(**vars(shards[1]) | {"files": files})
    write_manifest(index.folder, type(manifest)(**vars(manifest) | {"shards": tuple(shards)}))
    return Index.open(index.folder)


def with_damaged_offset(path):
    content = bytearray(path.read_bytes())
    sizes = np.array([0, len(EXPECTED[3]), len(EXPECTED[3] + EXPECTED[4])], np.int64)
    place = content.index(sizes.tobytes())
    content[place + 14] = 0x7F  # a length of the order of 10^16 bytes
    path.write_bytes(content)


def with_another_column(path):
    table = pa.table({"png": pa.array(EXPECTED[:3], pa.large_binary())})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b"no arrow file"), "is damaged"),
        (with_damaged_offset, "is damaged"),
        (with_another_column, "other columns"),
        (lambda path: thumbnails_module.write_thumbnails(path, EXPECTED[:2]), "2 rows, not 3"),
    ],
)
def test_a_file_that_does_not_fit_though_its_digest_does(index, write, said):
    changed = replaced(index, write)
    [line] = damage_of(changed)
    assert "thumbnails-000001.arrow" in line and said in line
    with pytest.raises(UserError, match=said):
        changed.thumbnails([4])


def test_rows_that_are_no_jpeg_files(index):
    texts = [EXPECTED[0], b"", b"text"]
    changed = replaced(index, lambda path: thumbnails_module.write_thumbnails(path, texts))
    [line] = damage_of(changed)
    assert "2 rows that are no JPEG" in line


@pytest.mark.parametrize("value", ["96", True, [96]])
def test_a_manifest_with_another_side(index, value):
    path = index.folder / "index.json"
    write_json(path, read_json(path, "") | {"thumbnails": value})
    with pytest.raises(UserError, match="of other types"):
        Index.open(index.folder)


def test_a_manifest_that_promises_what_is_not_there(tmp_path):
    path = fill(make_index(tmp_path / "index")).folder / "index.json"
    write_json(path, read_json(path, "") | {"thumbnails": 96})
    with pytest.raises(UserError, match="a shard has no thumbnails"):
        Index.open(path.parent)
