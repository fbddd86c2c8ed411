"""What is sent to be searched by: bombs, broken images and other content, within limits."""

import io
import struct
import threading
import zipfile
import zlib

import numpy as np
import pytest
from index_samples import Item, linear_hasher
from PIL import Image
from served_samples import make_hasher
from starlette.testclient import TestClient

from jaxhash.retrieval.index import Index
from jaxhash.serve import encoder, uploads
from jaxhash.serve.app import make_app

URL = "http://127.0.0.1"
MAX_BYTES, MAX_PIXELS = 50_000, 40_000


def noise(side, mode="RGB", format="JPEG", **options):
    """The bytes of an image of random pixels."""
    shape = (side, side, len(Image.new(mode, (1, 1)).getbands()))
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(), mode).save(file, format, **options)
    return file.getvalue()


def png(width, height, rows, depth=8):
    """A PNG made by hand: gray, of ``rows`` compressed rows of zeros."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    data = zlib.compress(bytes((1 + width * depth // 8) * rows), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("image.jpg", noise(20))
    return file.getvalue()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    index = Index.create(
        tmp_path_factory.mktemp("made") / "index", make_hasher("images"), root=None
    )
    index.add(np.array([[255, 240]], np.uint8), [Item("v#0", 4, 0)], [""])
    app = make_app(index.folder, max_upload_bytes=MAX_BYTES, max_pixels=MAX_PIXELS)
    with TestClient(app, base_url=URL) as client:
        yield client


def send(client, content, kind="image/jpeg", **headers):
    answer = client.post("/search", content=content, headers={"Content-Type": kind, **headers})
    if answer.status_code != 200:
        assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]
        assert client.get("/health").status_code == 200
    return answer


def in_chunks(content, size=4096):
    """Content without its length: httpx sends it in chunks."""
    return (content[start : start + size] for start in range(0, len(content), size))


@pytest.mark.parametrize(
    "content",
    [
        noise(50),
        noise(50, "L", "PNG"),
        noise(50, "RGBA", "PNG"),
        noise(50, format="WEBP"),
        noise(50, format="BMP"),
        noise(50, "L", "GIF"),
        png(100, 100, 100),
        noise(50) + b"more",
    ],
    ids=range(8),
)
def test_images_are_taken_by_their_content(client, content):
    assert send(client, content, "image/x-other").json()["total"] == 1
    assert send(client, in_chunks(content), "application/octet-stream").status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"<!DOCTYPE html><script>alert(1)</script>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        archive(),
        noise(50)[:600],
        noise(50)[:40],
        noise(50, format="PNG")[:-200],
        b"\xff\xd8\xff\xe0" + bytes(3000),
        bytes(1000),
    ],
    ids=range(10),
)
def test_what_is_no_image_is_refused(client, content):
    assert send(client, content).status_code == 400


def test_an_empty_body_is_refused(client):
    assert send(client, b"").status_code == 400
    assert send(client, in_chunks(b"")).status_code == 400


@pytest.mark.parametrize(
    "content",
    [
        png(50_000, 50_000, 10),  # small, and 2.5 billion pixels
        png(2**31 - 1, 1, 0),
        png(201, 200, 200),
        noise(201, quality=1),
        noise(120, "RGBA", "PNG", compress_level=9)[:MAX_BYTES],  # pixels that count as four
        png(120, 120, 120, depth=16),
    ],
    ids=range(6),
)
def test_bombs_are_refused_before_they_are_decoded(client, monkeypatch, content):
    def decode(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(uploads, "prepare_image", decode)
    assert len(content) <= MAX_BYTES
    assert send(client, content).status_code == 413


def test_too_many_bytes_are_refused(client, monkeypatch):
    exact = noise(50) + bytes(MAX_BYTES - len(noise(50)))
    for content in (exact, in_chunks(exact)):
        assert send(client, content).status_code == 200
    monkeypatch.setattr(uploads, "prepare_upload", None)  # not called
    for content in (exact + b"x", in_chunks(exact + b"x"), in_chunks(bytes(10**7))):
        assert send(client, content).status_code == 413


@pytest.mark.parametrize("length", ["100000000", "9" * 30, "-1", "1e3", ""])
def test_a_declared_length_is_believed_before_anything_is_read(client, length):
    assert send(client, b"", **{"Content-Length": length}).status_code == 413


@pytest.mark.parametrize(
    "kind",
    [
        "text/html",
        "text/plain",
        "application/zip",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json",
        "imagejpeg",
        "",
    ],
)
def test_other_content_types_are_refused(client, kind):
    assert send(client, noise(50), kind).status_code == 415


def test_an_image_of_another_form_is_refused(tmp_path):
    """A hash function of images of one size takes no other."""
    hasher = make_hasher("images")
    fixed = type(hasher)(
        hasher.model,
        hasher.variables,
        hasher.form.__class__(
            "images", (4, 4, 3), "uint8", 0.0, 255.0, 100.0, preprocessing=hasher.form.preprocessing
        ),
    )
    index = Index.create(tmp_path / "index", fixed, root=None)
    with TestClient(make_app(index.folder), base_url=URL) as client:
        assert send(client, noise(4)).status_code == 200
        assert "4 x 4" in send(client, noise(5)).json()["error"]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("made") / "index", linear_hasher(), root=None)
    index.add(np.array([[255, 240]], np.uint8), [Item("v#0", 4, 0)], [""])
    with TestClient(make_app(index.folder), base_url=URL) as client:
        yield client


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ('{"vector": [1, 2.5, -3e-2, 0]}', 200),
        ('{"vector": [1, 2, 3]}', 400),
        ('{"vector": [1, 2, 3, 4, 5]}', 400),
        ('{"vector": [1, 2, 3, NaN]}', 400),
        ('{"vector": [1, 2, 3, Infinity]}', 400),
        ('{"vector": [1, 2, 3, 1e39]}', 400),  # infinite in float32
        ('{"vector": [1, 2, 3, 1' + "0" * 400 + "]}", 400),
        ('{"vector": [1, 2, 3, "4"]}', 400),
        ('{"vector": [1, 2, 3, true]}', 400),
        ('{"vector": [1, 2, 3, null]}', 400),
        ('{"vector": [[1, 2, 3, 4]]}', 400),
        ('{"vector": 1}', 400),
        ('{"vector": [1, 2, 3, 4], "k": 3}', 400),
        ("[1, 2, 3, 4]", 400),
        ("[" * 1000, 400),
        ("{", 400),
        ("\xff", 400),
        ('{"vector": [1, 2, 3, 4]}' + " " * 2000, 413),
        ("", 400),
    ],
    ids=range(19),
)
def test_vectors(vectors, content, status):
    assert send(vectors, content.encode("latin1"), "application/json").status_code == status


def test_images_for_an_index_of_vectors(vectors):
    assert send(vectors, noise(50)).status_code == 415


def test_the_hash_function_is_waited_for_and_a_long_wait_is_told(tmp_path, monkeypatch):
    index = Index.create(tmp_path / "index", linear_hasher(), root=None)
    go_on, load = threading.Event(), encoder._load
    monkeypatch.setattr(encoder, "_load", lambda index: go_on.wait(30) and load(index))
    with TestClient(make_app(index.folder), base_url=URL) as client:
        assert client.get("/").status_code == 200
        assert client.get("/health").json()["ready"] is False
        monkeypatch.setattr(encoder, "WAIT_SECONDS", 0.05)
        answer = client.post("/search", json={"vector": [1, 2, 3, 4]})
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        monkeypatch.setattr(encoder, "WAIT_SECONDS", 30)
        threading.Timer(0.2, go_on.set).start()
        assert client.post("/search", json={"vector": [1, 2, 3, 4]}).status_code == 200
        assert client.get("/health").json()["ready"] is True


def test_a_hash_function_that_cannot_be_loaded(tmp_path):
    """Items are shown, and searched by; an upload says why it is not."""
    index = Index.create(tmp_path / "index", linear_hasher(), root=None)
    index.add(np.array([[255, 240]], np.uint8), [Item("v#0", 4, 0)], [""])
    weights = index.folder / "hasher" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with TestClient(make_app(index.folder), base_url=URL) as client:
        assert client.get("/search?id=0").json()["total"] == 1
        answer = client.post("/search", json={"vector": [1, 2, 3, 4]})
        assert answer.status_code == 503 and "model.safetensors" in answer.json()["error"]
        assert client.get("/health").json()["ready"] is False
