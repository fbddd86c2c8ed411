"""The index of shards: made once, shard by shard; what has not changed is not scanned again."""

import json
import os

import numpy as np
import pytest
from shard_writers import png, write_shard

from jaxhash.cli.main import main
from jaxhash.data.load import load_source
from jaxhash.data.readers import shards as reader
from jaxhash.data.shards import index as index_module
from jaxhash.data.shards.index import index_folder, make_index
from jaxhash.data.shards.listing import find_shards

VECTORS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
WORDS = np.array(["elk", "cat", "dog", "ant"])[np.arange(20) % 4]


def write(folder, number, *, words=WORDS):
    rows = slice(5 * number, 5 * number + 5)
    path = folder / f"part-{number}.tar"
    write_shard("tar", path, list(VECTORS[rows]), [str(word) for word in words[rows]])


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        write(tmp_path, number)
    return tmp_path


@pytest.fixture
def scanned(monkeypatch):
    """The names of the shards that are scanned, in turn."""
    names, scan = [], index_module.scan_shard

    def scan_and_note(root, name, kind):
        names.append(name)
        return scan(root, name, kind)

    monkeypatch.setattr(index_module, "scan_shard", scan_and_note)
    return names


def index(folder):
    return make_index(find_shards("shards:set", folder), index_folder(folder))


def check(folder, words=WORDS):
    source = load_source("shards:.", folder)
    np.testing.assert_array_equal(source.inputs[:], VECTORS[: len(source.labels)])
    assert [source.class_names[label] for label in source.labels] == words[
        : len(source.labels)
    ].tolist()
    return source


def test_an_index_that_was_interrupted_goes_on(folder, scanned, monkeypatch):
    scan = index_module.scan_shard

    def killed(root, name, kind):
        if name == "part-2.tar":
            raise KeyboardInterrupt
        return scan(root, name, kind)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(index_module, "scan_shard", killed)
        index(folder)
    assert (
        scanned == ["part-0.tar", "part-1.tar"]
        and not (index_folder(folder) / "index.json").exists()
    )
    check(folder)
    assert scanned == [f"part-{number}.tar" for number in range(4)]
    assert sorted(path.name[:7] for path in index_folder(folder).iterdir()) == [
        "columns",
        "index.j",
    ]


def test_of_a_set_that_changed_the_rest_is_not_scanned_again(folder, scanned):
    """Labels stay those of the names, also where a name is new or gone."""
    (folder / "part-3.tar").unlink()
    check(folder)
    write(folder, 3)
    words = WORDS.copy()
    words[5:10] = "bee"
    write(folder, 1, words=words)
    os.utime(folder / "part-2.tar")
    scanned.clear()
    assert check(folder, words).class_names == ("ant", "bee", "cat", "dog", "elk")
    assert scanned == ["part-1.tar", "part-2.tar", "part-3.tar"]
    scanned.clear()
    check(folder, words)
    assert not scanned
    (folder / "part-3.tar").unlink()
    check(folder, words)
    assert not scanned


def test_another_place_of_the_same_files_needs_no_scan(folder, scanned, tmp_path_factory):
    check(folder)
    scanned.clear()
    moved = tmp_path_factory.mktemp("moved") / "set"
    folder.rename(moved)
    check(moved)
    assert not scanned


def test_a_large_set_without_an_index_says_which_command_makes_it(folder, monkeypatch, error_line):
    monkeypatch.setattr(reader, "MAX_INDEXED_AT_ONCE", 100)
    line = error_line("shards:.", folder)
    assert "jaxhash data index shards:." in line and "4 shards" in line
    main(["data", "index", "shards:.", "--data-dir", str(folder)])
    check(folder)


def test_the_command_says_what_it_has_indexed(folder, capsys):
    main(["data", "index", f"shards:{folder}"])
    assert "20 vectors in 4 shards" in capsys.readouterr().out
    (folder / "photos" / "cat").mkdir(parents=True)
    (folder / "photos" / "cat" / "a.png").write_bytes(png(np.zeros((5, 4, 3), np.uint8)))
    main(["data", "index", "folder:photos", "--data-dir", str(folder), "--image-size", "4"])
    assert "1 images" in capsys.readouterr().out
    assert (folder / "photos" / ".jaxhash-index" / "images-4.json").is_file()


@pytest.mark.parametrize(
    "words, expected",
    [
        (["tfds:mnist"], "--dataset tfds:mnist: shards:DIR and folder:DIR"),
        (["shards:"], "--dataset shards:: shards:DIR"),
        (["shards:no/such"], "there is no no/such"),
        (["shards:.", "--image-size", "4"], "--image-size is for folders"),
        (["folder:.", "--image-size", "4", "--crop", "2"], "--crop must be"),
    ],
)
def test_what_the_command_refuses(words, expected, capsys):
    with pytest.raises(SystemExit):
        main(["data", "index", *words])
    assert expected in capsys.readouterr().err


def test_a_damaged_index_is_named(folder, error_line):
    check(folder)
    place = index_folder(folder)
    whole = (place / "index.json").read_text()
    (place / "index.json").write_text(whole[:100])
    assert str(place) in error_line("shards:.", folder)
    content = json.loads(whole)
    (place / "index.json").write_text(json.dumps(content | {"columns": "none"}))
    assert "damaged" in error_line("shards:.", folder)


def test_where_nothing_can_be_written_the_index_is_in_the_cache(
    folder, monkeypatch, tmp_path_factory
):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(index_module.os, "access", lambda path, mode: False)
    check(folder)
    assert not (folder / ".jaxhash-index").exists() and list(
        cache.glob("jaxhash/index-*/index.json")
    )


def test_a_single_shard_has_an_index_of_its_own(folder, scanned):
    source = load_source("shards:part-1.tar", folder)
    np.testing.assert_array_equal(source.inputs[:], VECTORS[5:10])
    check(folder)
    np.testing.assert_array_equal(load_source("shards:part-1.tar", folder).inputs[:], VECTORS[5:10])
    assert len(scanned) == 5


def test_several_processes_scan_as_one(folder, monkeypatch):
    one = index(folder)
    monkeypatch.setattr(index_module, "PARALLEL_BYTES", 0)
    for path in folder.glob("*.tar"):
        os.utime(path)
    several = index(folder)
    assert several.fingerprint == one.fingerprint
    check(folder)
