"""Verification: each kind of damage is a line that names the file, and a sound index has none."""

import os
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_samples import linear_hasher, make_files

from jaxhash.retrieval.index import Index
from jaxhash.retrieval.index.manifest import write_manifest
from jaxhash.training.digests import file_digest
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import read_json, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_files(folder).remove([1])
    return folder


@pytest.fixture
def index(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    return Index.open(tmp_path / "copy" / "index")


def test_a_sound_index_has_no_problems(index):
    assert index.verify(files=True) == []
    index.compact()
    assert index.verify(files=True) == []


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [flip, cut, link, pipe, os.unlink])
@pytest.mark.parametrize("kind", ["codes-000001", "items-000001", "floats-000000", "removed-"])
def test_a_damaged_file(index, kind, damage):
    [path] = index.folder.glob(f"{kind}*")
    damage(path)
    [problem] = Index.open(index.folder).verify()
    assert problem.startswith(str(path))
    if damage is not flip:  # what reads the file names it too
        reads = {
            "codes-000001": lambda: list(index.blocks()),
            "items-000001": lambda: index.items([4]),
            "floats-000000": lambda: index.vectors([0]),
            "removed-": lambda: list(Index.open(index.folder).blocks()),
        }
        with pytest.raises(UserError, match=path.name):
            reads[kind]()


def replace_file(index, number, kind, write):
    """Writes another file of a shard, and its digest into the manifest."""
    manifest = index.manifest
    shard = manifest.shards[number]
    path = index.folder / shard.name(kind)
    write(path)
    files = shard.files | {path.name: tuple(file_digest(path))}
    shards = list(manifest.shards)
    shards[number] = type(shard)(**vars(shard) | {"files": files})
    write_manifest(index.folder, type(manifest)(**vars(manifest) | {"shards": tuple(shards)}))
    return Index.open(index.folder)


def with_column(name, values):
    def write(path):
        table = pq.read_table(path)
        place = table.schema.get_field_index(name)
        field = table.schema.field(name)
        pq.write_table(table.set_column(place, field, pa.array(values, field.type)), path)

    return write


@pytest.mark.parametrize(
    ("kind", "write", "said"),
    [
        ("codes", lambda path: np.save(path, np.full((3, 2), 255, np.uint8)), "last 4 bits"),
        ("codes", lambda path: np.save(path, np.zeros((2, 2), np.uint8)), r"\(2, 2\)"),
        ("codes", lambda path: np.save(path, np.zeros((3, 2), np.int8)), "int8"),
        ("codes", lambda path: path.write_text("text"), "codes-000001.npy is damaged"),
        ("floats", lambda path: np.save(path, np.full((3, 12), np.nan, np.float32)), "finite"),
        ("items", with_column("id", [3, 5, 4, None]), "ascend"),
        ("items", with_column("id", [3, 4, 9, None]), "ascend"),
        ("items", with_column("id", [3, 4, None, 5]), "no id"),
        ("items", with_column("status", ["ok", "bad", "ok", "bad"]), "status"),
        ("items", lambda path: pq.write_table(pq.read_table(path).slice(1), path), "3 rows, not 4"),
        ("items", lambda path: pq.write_table(pq.read_table(path).select(["id"]), path), "columns"),
        ("items", lambda path: path.write_text("text"), "items-000001.parquet is damaged"),
    ],
)
def test_a_file_that_does_not_fit_though_its_digest_does(index, kind, write, said):
    [problem] = replace_file(index, 1, kind, write).verify()
    assert re.search(said, problem)


def test_removed_ids_that_were_never_there(index):
    removed = index.manifest.removed
    path = index.folder / removed.name
    np.save(path, np.array([70]))
    removed = type(removed)(removed.number, 1, {path.name: tuple(file_digest(path))})
    write_manifest(
        index.folder, type(index.manifest)(**vars(index.manifest) | {"removed": removed})
    )
    [problem] = Index.open(index.folder).verify()
    assert problem.endswith("no item of id 70")


def test_another_hash_function(index):
    shutil.rmtree(index.folder / "hasher")
    linear_hasher(seed=1).save(index.folder / "hasher")
    problems = index.verify()
    assert any("another hash function" in problem for problem in problems)
    with pytest.raises(UserError, match="another hash function"):
        index.hasher()


def test_another_check_code(index):
    path = index.folder / "index.json"
    write_json(path, read_json(path, "") | {"check_code": "0000"})
    assert any("check code" in problem for problem in Index.open(index.folder).verify())


def test_files_of_the_items(index):
    root = index.root
    (root / "0" / "0.png").unlink()
    os.utime(root / "0" / "2.png", ns=(1, 1))  # another time, the same content
    size = (root / "1" / "0.png").stat().st_size
    (root / "1" / "0.png").write_text("x" * size)
    (root / "1" / "1.png").write_text("longer" * size)
    (root / "0" / "1.png").unlink()  # it was removed from the index
    (root / "x.npy").write_text("another array")
    problems = index.verify(files=True)
    assert problems.pop(0).startswith("x.npy: ")
    assert [problem.split(" ")[0] for problem in problems] == ["0/0.png", "1/0.png", "1/1.png"]
    assert index.verify() == []
    shutil.rmtree(root)
    with pytest.raises(UserError, match="which is not there"):
        index.verify(files=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version 2.*update jaxhash"),
        ({"format": "other"}, "is not the index.json of an index"),
        ({"next_id": 3}, "do not fit together"),
        ({"bits": "12"}, "of other types"),
        ({"bit_order": "little"}, "counted"),
        ({"counts": {}}, "do not fit together"),
        ({"shards": None}, "of other types"),
        ({"shards": [{}]}, "damaged .no 'number'"),
        ({"root": 3}, "of other types"),
        ({"keep": {"a": "b", "c": "d"}}, "more than one"),
        ({"removed": {"number": 3, "rows": -1, "files": {}}}, "below 0"),
    ],
)
def test_a_manifest_that_was_changed(index, change, said):
    path = index.folder / "index.json"
    write_json(path, read_json(path, "") | change)
    with pytest.raises(UserError, match=said) as error:
        Index.open(index.folder)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("content", ["", "[]", '{"format": "jaxhash-index"', "\x00"])
def test_a_damaged_manifest(index, content):
    (index.folder / "index.json").write_text(content)
    with pytest.raises(UserError, match="index.json is damaged"):
        Index.open(index.folder)


def test_folders_that_are_no_index(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="jaxhash encode"):
            Index.open(folder)
    (tmp_path / "index.json").symlink_to("elsewhere")
    with pytest.raises(UserError, match="symbolic link"):
        Index.open(tmp_path)
