"""The JSON API: what it answers, against a search by NumPy; and that it changes nothing on disk."""

import hashlib
import io
import json
import os
import shutil
from urllib.parse import quote

import numpy as np
import pytest
from index_samples import Item, linear_hasher
from PIL import Image
from search_oracle import nearest
from served_samples import LABELS, NAMES, make_hasher, make_images, make_served
from starlette.testclient import TestClient

from jaxhash.retrieval.index import Index
from jaxhash.serve import ranking
from jaxhash.serve.app import make_app

URL = "http://127.0.0.1"


def files(folder):
    """Content, size and time of all that is in a folder, the folder itself included."""
    return {
        str(path.relative_to(folder)): (
            path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_size,
            path.stat().st_mtime_ns,
        )
        for path in (folder, *folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """75 images, three labels, and their index in ``index``, which has never been searched."""
    folder = tmp_path_factory.mktemp("made")
    make_images(folder / "images")
    make_served(folder / "index", folder / "images", "images")
    return folder


@pytest.fixture(scope="module")
def client(made):
    before = files(made)
    with TestClient(make_app(made / "index"), base_url=URL) as client:
        yield client
    assert files(made) == before


@pytest.fixture(scope="module")
def index(made):
    return Index.open(made / "index", read_only=True)


@pytest.fixture
def vectors(tmp_path):
    """A client of an index of 60 vectors of 5 dimensions, without files and labels."""
    hasher = make_hasher("vectors")
    rows = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    index = Index.create(tmp_path / "index", hasher, root=None)
    index.add(hasher.encode(rows), [Item(f"v.npy#{row}", 20, 0) for row in range(60)], [""] * 60)
    with TestClient(make_app(index.folder), base_url=URL) as client:
        client.rows, client.index = rows, index
        yield client


def ranked(index, code, ids=None):
    """Ids and distances of all items by brute force, among some of them."""
    all_ids, codes = (np.concatenate(each) for each in zip(*index.blocks(), strict=True))
    if ids is not None:
        all_ids, codes = ids, index.codes(ids)
    distances, rows = nearest(np.asarray(code)[None], codes, len(codes))
    return all_ids[rows[0]].tolist(), distances[0].tolist()


def found(answer):
    return [each["id"] for each in answer["results"]], [e["distance"] for e in answer["results"]]


def test_health_tells_what_is_served(client, index):
    health = client.get("/health").json()
    assert isinstance(health.pop("ready"), bool) and health.pop("version")
    assert health == {
        "status": "ok",
        "name": "index",
        "items": 75,
        "bits": 16,
        "digest": index.digest,
        "takes": "images",
        "root": True,
    }


def test_labels_are_counted_and_hostile_names_stay_as_they_are(client):
    assert client.get("/labels").json() == [
        {"label": label, "items": 25} for label in sorted(LABELS)
    ]
    items = client.get("/items?limit=1000").json()["items"]
    assert {item["path"].rpartition("/")[2] for item in items} >= set(NAMES)


def test_items_are_in_order_of_id_page_by_page(client, index):
    pages = [client.get(f"/items?offset={start}&limit=30").json() for start in (0, 30, 60, 90)]
    assert [len(page["items"]) for page in pages] == [30, 30, 15, 0]
    assert [page["total"] for page in pages] == [75] * 4
    items = [item for page in pages for item in page["items"]]
    assert [item["id"] for item in items] == list(range(75))
    codes = [code.tobytes().hex() for code in index.codes(range(75))]
    assert [item["code"] for item in items] == codes
    assert all(item["has_image"] for item in items)
    assert items[7] == client.get("/items/7").json()
    assert len(client.get("/items").json()["items"]) == 60


@pytest.mark.parametrize("label", LABELS)
def test_items_of_a_label(client, index, label):
    ids = index.find(label=label).tolist()
    page = client.get("/items", params={"label": label, "offset": 3, "limit": 5}).json()
    assert [item["id"] for item in page["items"]] == ids[3:8]
    assert (page["total"], page["offset"]) == (25, 3)
    assert {item["label"] for item in page["items"]} == {label}


@pytest.mark.parametrize("label", [None, LABELS[0]])
def test_a_search_ranks_as_brute_force_page_by_page(client, index, label):
    ids = None if label is None else index.find(label=label)
    expected = ranked(index, index.codes([4])[0], ids)
    params = {} if label is None else {"label": label}
    first = client.get("/search", params={"id": 4, "limit": 10, **params}).json()
    assert (first["total"], first["items_in_all"], first["label"]) == (len(expected[0]),) * 2 + (
        label,
    )
    assert first["ties"] is None and first["code"] == index.codes([4])[0].tobytes().hex()
    pages = [first] + [
        client.get(
            "/search", params={"code": first["code"], "offset": at, "limit": 10, **params}
        ).json()
        for at in range(10, 90, 10)
    ]
    together = [sum(parts, []) for parts in zip(*map(found, pages), strict=True)]
    assert together == list(expected)
    item = {k: v for k, v in first["results"][0].items() if k != "distance"}
    assert item == client.get(f"/items/{item['id']}").json()


def test_an_image_is_searched_by_its_code(client, index):
    id = 31
    path = index.root / index.items([id])[0].path
    for kind in ("image/png", "image/jpeg", "application/octet-stream", "IMAGE/PNG; x=y"):
        answer = client.post(
            "/search?limit=75", content=path.read_bytes(), headers={"Content-Type": kind}
        )
        assert found(answer.json()) == ranked(index, index.codes([id])[0])
        assert answer.json()["code"] == index.codes([id])[0].tobytes().hex()
    answer = client.post(
        "/search",
        params={"label": LABELS[1]},
        content=path.read_bytes(),
        headers={"Content-Type": "image/png"},
    )
    assert found(answer.json()) == ranked(index, index.codes([id])[0], index.find(label=LABELS[1]))


def test_vectors_are_searched_without_images(vectors):
    index = vectors.index
    assert vectors.get("/health").json()["takes"] == "vectors"
    assert vectors.get("/labels").json() == []
    answer = vectors.post("/search?limit=60", json={"vector": vectors.rows[9].tolist()}).json()
    assert found(answer) == ranked(index, index.codes([9])[0])
    assert not any(result["has_image"] for result in answer["results"])
    assert vectors.get("/items/9/thumbnail").status_code == 404
    assert vectors.post("/search", json={"vector": [1, 0, 2, 3, 4]}).status_code == 200


def test_a_ranking_ends_with_what_is_tied(tmp_path, monkeypatch):
    """Six items of two codes, of which a ranking takes four."""
    monkeypatch.setattr(ranking, "MAX_RANKED", 4)
    index = Index.create(tmp_path / "index", make_hasher("vectors"), root=None)
    codes = np.array([[0, 0], [0, 1], [0, 1], [0, 0], [0, 1], [0, 1]], np.uint8)
    index.add(codes, [Item(f"v#{row}", 4, 0, "ab"[row % 2]) for row in range(6)], [""] * 6)
    with TestClient(make_app(index.folder), base_url=URL) as client:
        answer = client.get("/search?code=0000").json()
        assert (answer["total"], answer["items_in_all"]) == (4, 6)
        assert found(answer) == ([0, 3, 1, 2], [0, 0, 1, 1])
        assert answer["ties"] == {"distance": 1, "shown": 2, "total": 4}
        assert client.get("/search?code=0000&label=a").json()["ties"] is None


def test_a_page_is_not_searched_again(made, monkeypatch):
    searched = []
    search = Index.search
    monkeypatch.setattr(Index, "search", lambda *a, **k: searched.append(1) or search(*a, **k))
    with TestClient(make_app(made / "index"), base_url=URL) as client:
        code = client.get("/search?id=3").json()["code"]
        for offset in (0, 20, 70):
            assert client.get(f"/search?code={code}&offset={offset}").status_code == 200
        assert len(searched) == 1
        client.get("/search", params={"code": code, "label": LABELS[0]})
        assert len(searched) == 2


def test_images_of_items(client, made, index):
    path = made / "images" / index.items([5])[0].path
    for name, side in (("thumbnail", 96), ("image", 1024)):
        answer = client.get(f"/items/5/{name}")
        assert answer.headers["content-type"] == "image/jpeg"
        image = Image.open(io.BytesIO(answer.content))
        assert image.format == "JPEG" and max(image.size) <= side
        tag = answer.headers["etag"]
        same = client.get(f"/items/5/{name}", headers={"If-None-Match": tag})
        assert (same.status_code, same.content) == (304, b"")
        assert client.get(f"/items/6/{name}", headers={"If-None-Match": tag}).status_code == 200
    assert image.size == Image.open(path).size  # nothing is enlarged
    shown, there = (np.asarray(each.convert("RGB"), float) for each in (image, Image.open(path)))
    assert np.abs(shown - there).mean() < 8


def test_an_image_that_has_gone_and_one_that_is_a_pipe(made, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    index = Index.open(folder / "index", read_only=True)
    gone, pipe = (folder / "images" / item.path for item in index.items([1, 2]))
    gone.unlink()
    pipe.unlink()
    os.mkfifo(pipe)
    with TestClient(make_app(folder / "index"), base_url=URL) as client:
        for id in (1, 2):
            keeps = index.thumbnail_side is not None
            assert client.get(f"/items/{id}").json()["has_image"] == keeps
            for name in ("thumbnail", "image"):
                assert client.get(f"/items/{id}/{name}").status_code == (200 if keeps else 404)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/items/99", 404, "id"),
        ("/items/99/thumbnail", 404, "id"),
        ("/items/-1", 404, "whole number"),
        ("/items/1_0", 404, "whole number"),
        ("/items/%D9%A1", 404, "whole number"),
        ("/items/..%2f..%2fetc%2fpasswd", 404, ""),
        ("/items/" + "9" * 6000, 404, "whole number"),
        ("/items/9223372036854775807", 404, "id"),
        ("/items/1/other", 404, ""),
        ("/search", 400, "id"),
        ("/search?id=1&code=0000", 400, "either"),
        ("/search?id=../../etc/passwd", 400, "whole number"),
        ("/search?id=99", 404, "id"),
        ("/search?id=" + "9" * 6000, 400, "whole number"),
        ("/search?id=1&id=2", 400, "twice"),
        ("/search?code=00", 400, "4 hexadecimal digits"),
        ("/search?code=zzzz", 400, "4 hexadecimal digits"),
        ("/search?code=00 0", 400, "4 hexadecimal digits"),
        ("/search?id=1&offset=-1", 400, "offset"),
        ("/search?id=1&offset=1e3", 400, "offset"),
        ("/search?id=1&offset=" + "9" * 6000, 400, "offset"),
        ("/search?id=1&limit=0", 400, "limit"),
        ("/search?id=1&limit=1000000000", 400, "limit"),
        ("/search?id=1&limit=", 400, "limit"),
        ("/search?id=1&k=3", 400, "unknown parameter 'k'"),
        ("/search?id=1&label=none", 404, "label"),
        ("/search?id=1&label=", 404, "label"),
        ("/search?id=1&label=" + quote("a\"'\n\x00<b>"), 404, "label"),
        ("/search?id=1&label=%FF", 404, "label"),
        ("/items?label=none", 404, "label"),
        ("/items?x=", 400, "'x'"),
        ("/health?x=1", 400, "allowed: none"),
        ("/nothing", 404, ""),
    ],
)
def test_mistakes_of_a_request(client, path, status, said):
    answer = client.get(path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    line = answer.json()["error"]
    assert said in line and "\n" not in line and len(line) < 300


def test_pages_beyond_the_end_are_empty(client):
    assert client.get("/items?offset=9223372036854775807").json()["items"] == []
    assert client.get("/search?id=1&offset=75").json()["results"] == []


def test_an_index_without_items(tmp_path):
    index = Index.create(tmp_path / "index", make_hasher("vectors"), root=None)
    with TestClient(make_app(index.folder), base_url=URL) as client:
        assert client.get("/items").json() == {"total": 0, "offset": 0, "items": []}
        answer = client.post("/search", json={"vector": [0.5] * 5}).json()
        assert (answer["total"], answer["items_in_all"], answer["results"]) == (0, 0, [])
        assert answer["ties"] is None


def test_codes_whose_last_byte_is_not_full(tmp_path):
    """12 bits: the last four of the second byte must be 0."""
    index = Index.create(tmp_path / "index", linear_hasher(), root=None)
    index.add(np.array([[255, 240]], np.uint8), [Item("v#0", 4, 0)], [""])
    with TestClient(make_app(index.folder), base_url=URL) as client:
        assert client.get("/search?code=fff0").json()["results"][0]["distance"] == 0
        assert client.get("/search?code=ffff").status_code == 400


def test_errors_of_the_server_tell_nothing_of_it(made, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(Index, "count_labels", fail)
    app = make_app(made / "index")
    with TestClient(app, base_url=URL, raise_server_exceptions=False) as client:
        answer = client.get("/labels")
        assert answer.status_code == 500 and "secret" not in answer.text
        assert list(json.loads(answer.text)) == ["error"]
        assert "content-security-policy" in answer.headers
        assert client.get("/items").status_code == 200


def test_methods_that_are_not_there(client):
    for method, path in (("DELETE", "/items/1"), ("PUT", "/search"), ("OPTIONS", "/search")):
        assert client.request(method, path).status_code == 405
    assert client.head("/items/1").status_code == 200
