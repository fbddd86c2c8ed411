"""Compaction: what was removed is gone from the files, the rest is what it was."""

import numpy as np
import pytest
from index_samples import Item, codes_of, digests_of, everything, fill, make_index

from jaxhash.retrieval.index import Index
from jaxhash.retrieval.index import compact as compact_module
from jaxhash.utils.errors import UserError


@pytest.fixture
def filled(tmp_path):
    return fill(make_index(tmp_path / "index", keep={"features": "float32"}))


def on_disk(index):
    return sorted(path.name for path in index.folder.iterdir() if path.name[-4:] != "lock")


@pytest.mark.parametrize("merged_rows", [1, 6, 100])
def test_items_codes_and_vectors_stay(filled, monkeypatch, merged_rows):
    monkeypatch.setattr(compact_module, "MERGED_ROWS", merged_rows)
    filled.remove([0, 4, 8])
    before, vectors = everything(filled), filled.vectors([1, 5, 7])[1].tolist()
    broken, labels = filled.broken(), filled.count_labels()
    filled.compact()
    for index in (filled, Index.open(filled.folder)):
        assert everything(index) == before
        assert index.vectors([1, 5, 7])[1].tolist() == vectors == [[2, 3], [14, 15], [22, 23]]
        assert (index.broken(), index.count_labels()) == (broken, labels)
        assert index.manifest.counts == {"items": 6, "removed": 0, "broken": 1}
        assert len(index.manifest.shards) == {1: 3, 6: 1, 100: 1}[merged_rows]
    assert sum(np.load(path).shape[0] for path in filled.folder.glob("codes-*")) == 6
    assert set(on_disk(filled)) == {*filled.manifest.files, "index.json", "hasher"}
    new = filled.add(codes_of(1), [Item("n")], digests_of(1), vectors=np.zeros((1, 2)))
    assert new.tolist() == [9]


def test_ids_are_those_of_the_items_after_gaps(filled):
    filled.remove([1, 3, 6])
    filled.compact()
    filled.remove([2])
    assert [item.path for item in filled.items([8, 0, 4])] == ["2/2.png", "0/0.png", "1/1.png"]
    assert filled.find(label="a").tolist() == [0, 5]
    for id in (1, 2, 3, 6):
        with pytest.raises(UserError, match=f"no item of id {id}$"):
            filled.items([id])
    filled.compact()
    assert [ids.tolist() for ids, _ in filled.blocks()] == [[0, 4, 5, 7, 8]]


def test_nothing_to_do_changes_nothing(filled):
    filled.compact()
    before, files = filled.manifest, on_disk(filled)
    filled.compact()
    assert (filled.manifest, on_disk(filled)) == (before, files)


def test_all_items_removed(filled):
    filled.remove(range(9))
    assert list(filled.blocks()) == [] and filled.find(label="a").tolist() == []
    filled.compact()
    assert len(filled) == 0 and list(filled.blocks()) == [] and len(filled.broken()) == 1
    assert filled.add(codes_of(1), [Item("n")], ["d"], vectors=np.zeros((1, 2))).tolist() == [9]


def test_a_broken_input_that_was_read_since_is_forgotten(filled):
    filled.compact()
    filled.add(codes_of(1), [Item("bad.png", 5)], ["d"], vectors=np.zeros((1, 2)))
    assert len(filled.broken()) == 1
    filled.compact()
    assert filled.broken() == [] and filled.find(path="bad.png").tolist() == [9]


@pytest.mark.parametrize("read", ["items", "blocks", "find", "tables", "vectors"])
def test_a_reader_beside_a_writer_that_compacts(filled, read):
    reader = Index.open(filled.folder)
    started = reader.blocks()
    first = next(started)[0].tolist()
    filled.remove([1, 3, 8])
    filled.compact()
    assert first == [0, 1, 2]  # what was begun goes on with the state it began with
    assert [ids.tolist() for ids, _ in started] == [[3, 4, 5], [6, 7, 8]]
    if read == "items":
        assert reader.items([7])[0].path == "2/1.png"
    elif read == "blocks":
        assert [ids.tolist() for ids, _ in reader.blocks()] == [[0, 2, 4, 5, 6, 7]]
    elif read == "find":
        assert reader.find(label="b").tolist() == []
    elif read == "tables":
        assert next(reader.tables(["id"]))["id"].to_pylist() == [0, 2, 4, 5, 6, 7]
    else:
        assert reader.vectors([7])[1].tolist() == [[22, 23]]
    assert len(reader) == 6
