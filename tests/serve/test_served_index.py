"""An index that another process changes while it is served."""

import json

import numpy as np
import pytest
from index_samples import codes_of, fill, linear_hasher
from starlette.testclient import TestClient

from jaxhash.retrieval.index import Index, MissingItem
from jaxhash.serve.app import make_app
from jaxhash.serve.served_index import ServedIndex
from jaxhash.utils.errors import UserError

URL = "http://127.0.0.1"


@pytest.fixture
def writer(tmp_path):
    """An index of three shards, opened to write; ids 0 to 8, labels aba, bca and dots."""
    return fill(Index.create(tmp_path / "index", linear_hasher(), root=None))


@pytest.fixture
def served(writer):
    return ServedIndex(writer.folder)


def pages(view, label, size):
    starts = range(0, view.count(label) + size, size)
    return np.concatenate([view.page(label, start, size) for start in starts]).tolist()


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize("compacts", [False, True])
def test_pages_pass_over_what_is_removed(writer, served, size, compacts):
    assert pages(served.view, None, size) == list(range(9))
    writer.remove([0, 3, 4, 8])
    if compacts:
        writer.compact()
    assert pages(served.view, None, size) == [1, 2, 5, 6, 7]
    assert pages(served.view, "a", size) == writer.find(label="a").tolist()
    assert served.view.labels() == writer.count_labels()


def test_labels_are_in_order_of_number_then_name(served):
    assert list(served.view.labels().items()) == [(".", 3), ("a", 3), ("b", 2), ("c", 1)]


def test_a_state_is_looked_at_again_only_if_it_has_changed(writer, served):
    view = served.view
    assert served.view is view
    writer.remove([2])
    assert served.view is not view and served.view.number == view.number + 1
    assert len(view.index) == 9 and len(served.view.index) == 8


def test_a_ranking_is_of_the_state_that_is_there(writer, served):
    [code] = writer.codes([4])
    assert served.view.ranking(code, None).ids[0] == 4
    writer.remove([4])
    assert 4 not in served.view.ranking(code, None).ids
    writer.add(code[None], [type("I", (), dict(path="n", size=1, mtime_ns=0, label="a"))], [""])
    assert served.view.ranking(code, None).ids[0] == 9
    assert served.view.ranking(code, "a").ids[0] == 9


def test_what_fails_as_items_go_meanwhile_is_read_again(writer, served):
    calls = []

    def read(view):
        calls.append(view.number)
        if len(calls) == 1:
            writer.remove([0])
            writer.compact()
        return view.index.items(view.page(None, 0, 2))[0].id

    assert served.read(read) == 1
    with pytest.raises(MissingItem):
        served.read(lambda view: view.index.items([0]))


def test_a_manifest_that_is_damaged_is_told_until_it_is_mended(tmp_path):
    index = fill(Index.create(tmp_path / "index", linear_hasher(), root=None))
    path = index.folder / "index.json"
    whole = path.read_bytes()
    with TestClient(make_app(index.folder), base_url=URL) as client:
        assert client.get("/items/3").status_code == 200
        path.write_bytes(whole[:-20])
        for _ in range(2):
            answer = client.get("/items/3")
            assert answer.status_code == 503 and "index.json" in answer.json()["error"]
        path.write_bytes(whole)
        assert client.get("/items/3").status_code == 200
        path.unlink()
        assert client.get("/items/3").status_code == 503
        assert client.get("/").status_code == 200


def test_another_index_in_its_place_brings_its_hash_function(tmp_path):
    """The folder is replaced by one whose hash function takes vectors of another size."""
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    hashers = [linear_hasher(seed) for seed in (0, 1)]
    for name, hasher in zip(("index", "other"), hashers, strict=True):
        fill(Index.create(tmp_path / name, hasher, root=None))
    with TestClient(make_app(tmp_path / "index"), base_url=URL) as client:
        for hasher in hashers:
            answer = client.post("/search", json={"vector": rows[0].tolist()}).json()
            assert answer["code"] == hasher.encode(rows[:1])[0].tobytes().hex()
            if hasher is hashers[0]:
                (tmp_path / "index").rename(tmp_path / "before")
                (tmp_path / "other").rename(tmp_path / "index")


def test_nothing_is_written_by_an_index_opened_read_only(writer):
    index = Index.open(writer.folder, read_only=True)
    before = sorted(path.name for path in writer.folder.iterdir())
    found = index.search(codes_of(2), 3)
    index.count_ties(codes_of(2), found)
    assert index.range_search(codes_of(1), 3)
    assert sorted(path.name for path in writer.folder.iterdir()) == before
    for change in (
        lambda: index.add(codes_of(0), [], []),
        lambda: index.remove([0]),
        index.compact,
        lambda: index.set_root(writer.folder),
    ):
        with pytest.raises(UserError, match="read_only"):
            change()
    expected = writer.search(codes_of(2), 3)  # writes faiss.index
    again = Index.open(writer.folder, read_only=True).search(codes_of(2), 3)
    for one, other, reference in zip(found[:2], again[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(one, reference)
        np.testing.assert_array_equal(other, reference)


def test_a_folder_that_is_no_index(tmp_path):
    with pytest.raises(UserError):
        make_app(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(UserError):
        make_app(tmp_path)
