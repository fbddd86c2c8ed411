"""``jaxhash search``: tables, JSON, a page, and one line for each mistake."""

import base64
import json
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from search_oracle import all_distances

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs import open_inputs
from jaxhash.models import Encoder, backbone_factory, preprocessing_of
from jaxhash.retrieval.hasher import Hasher
from jaxhash.retrieval.index import Index

NAMES = [
    "a b.png",
    "quo\"te's.png",
    "new\nline.png",
    "写真.png",
    "<img onerror=x>.png",
    "`k=3`.png",
]


def pixel_hasher():
    """A hash function of images of 4 x 4 pixels: 12 bits of random hyperplanes."""
    model = Encoder(backbone_factory("linear"), 12)
    variables = model.init(jax.random.key(0), np.zeros((1, 4, 4, 3), np.uint8))
    preprocessing = preprocessing_of(model)
    form = InputForm(
        "images", (4, 4, 3), "uint8", 0.0, 255.0, 100.0, preprocessing=dict(preprocessing)
    )
    return Hasher(model, jax.device_get(variables), form)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Twelve images in the folders ``cat`` and ``写``, and their index with floats."""
    folder = tmp_path_factory.mktemp("made")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), np.uint8)
    for row, image in enumerate(pixels):
        path = folder / "photos" / ("cat" if row < 6 else "写") / NAMES[row % 6]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    hasher = pixel_hasher()
    root, [inputs] = open_inputs([folder / "photos"], hasher.form)
    index = Index.create(folder / "index", hasher, root=root, keep={"floats": "float32"})
    block = inputs.read(slice(0, 12), hasher.form)
    floats = hasher.encode_floats(block.inputs)
    index.add(
        hasher.encode(block.inputs), inputs.items(slice(0, 12)), block.digests, vectors=floats
    )
    (folder / "bad.png").write_bytes(b"no image")
    np.save(folder / "vectors.npy", np.zeros((2, 5), np.float32))
    np.save(folder / "images.npy", pixels[:3])
    return folder


@pytest.fixture
def index(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Index.open("index")


def brute_force(index, ids):
    [(all_ids, codes)] = index.blocks()
    distances = all_distances(index.codes(ids), codes)
    return all_ids[np.argsort(distances, axis=1, kind="stable")], np.sort(distances, axis=1)


def sources(path):
    return re.findall(r'src="data:image/jpeg;base64,([^"]+)"', path.read_text("utf-8"))


def test_a_page_shows_thumbnails_and_reads_no_files(made, tmp_path, monkeypatch, output):
    """Of an index of files that are gone since; a query is an item, or rows of an array."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    output("encode", "index", "photos", "images.npy", "--root", ".", "--output", "stored")
    shutil.rmtree("photos")
    index = Index.open("stored")
    output("search", "stored", "id:3", "images.npy", "--k", "15", "--html", "page.html")
    found = sources(tmp_path / "page.html")
    stored = [base64.b64encode(each).decode() for each in index.thumbnails(range(15))]
    assert len(found) == 4 * 16
    assert found[0] == stored[3] and found[16] == stored[12]
    assert all(sorted(found[at + 1 : at + 16]) == sorted(stored) for at in range(0, 64, 16))


def test_json_is_a_list_per_query_with_every_name_as_it_is(index, output):
    found = json.loads(output("search", "index", "photos", "--k", "12", "--json"))
    ids, distances = brute_force(index, range(12))
    assert [[hit["id"] for hit in hits] for hits in found] == ids.tolist()
    assert [[hit["distance"] for hit in hits] for hits in found] == distances.tolist()
    for hits in found:
        assert {tuple(hit) for hit in hits} == {("path", "id", "distance", "label")}
        paths = {f"{label}/{name}" for label in ("cat", "写") for name in NAMES}
        assert {hit["path"] for hit in hits} == paths
        assert all(hit["label"] == hit["path"].split("/")[0] for hit in hits)


def test_queries_are_items_arrays_and_files_in_the_order_of_their_names(index, output):
    words = ("id:7", "images.npy", "photos/写/写真.png", "id:0")
    found = json.loads(output("search", "index", *words, "--k", "12", "--json"))
    first_three = json.loads(
        output(
            "search", "index", *(f"photos/cat/{name}" for name in NAMES[:3]), "--k", "12", "--json"
        )
    )
    [own] = index.find(path="写/写真.png")
    ids, _ = brute_force(index, [7, int(own), 0])
    assert [[hit["id"] for hit in hits] for hits in (found[0], *found[4:])] == ids.tolist()
    assert found[1:4] == first_three


def test_a_condition_a_radius_and_vectors(index, output):
    def search(*words):
        return json.loads(output("search", "index", "id:0", *words, "--json"))[0]

    ids, distances = (each[0].tolist() for each in brute_force(index, [0]))
    labels = {item.id: item.label for item in index.items(range(12))}
    of_label = [id for id in ids if labels[id] == "写"]
    assert [hit["id"] for hit in search("--where", "label=写", "--k", "6")] == of_label
    within = [id for id, distance in zip(ids, distances, strict=True) if distance <= 6]
    assert 1 < len(within) < 12
    assert [hit["id"] for hit in search("--radius", "6")] == within
    assert [hit["id"] for hit in search("--radius", "6", "--k", "2")] == within[:2]
    scores = [hit["score"] for hit in search("--rescore", "--k", "12")]
    assert scores == sorted(scores, reverse=True) and scores[0] == pytest.approx(1)


def test_the_table_tells_names_and_ties(index, output):
    text = output("search", "index", "photos/cat/new\nline.png", "--k", "12")
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0] == r"new\nline.png"
    assert any(line.endswith(r"cat/new\nline.png") for line in lines)
    assert any("`k=3`.png" in line for line in lines)
    assert not any(" items at distance " in line for line in lines)
    _, distances = brute_force(index, range(12))
    tied = np.argwhere(distances[:, 1:] == distances[:, :-1])
    query, rank = tied[0]
    text = output("search", "index", f"id:{query}", "--k", str(rank + 1))
    distance = distances[query, rank]
    total, shown = (
        (distances[query] == distance).sum(),
        (distances[query, : rank + 1] == distance).sum(),
    )
    assert f"{shown} of the {total} items at distance {distance}" in text


def test_files_hold_the_results(index, output, tmp_path):
    words = ("search", "index", "id:2", "photos/cat/a b.png", "--k", "4")
    expected = json.loads(output(*words, "--json"))
    output(*words, "--output", "found.json", "--html", "found.html")
    assert json.loads((tmp_path / "found.json").read_text()) == expected
    page = (tmp_path / "found.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 10  # two queries of four items
    assert "<img onerror" not in page


def test_no_query_within_a_radius(index, output):
    output("index", "index", "--remove", "./cat/a b.png")
    assert json.loads(
        output("search", "index", "photos/cat", "--radius", "0", "--json", "--k", "1")
    )
    text = output("search", "index", "images.npy", "--radius", "0")
    assert "nothing within the radius" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name a query"),
        (("bad.png",), "bad.png: cannot be read: not an image"),
        (("id:0", "gone.png"), "gone.png"),
        (("vectors.npy",), "vectors.npy: the hash function takes"),
        (("id:12",), "no item of id 12"),
        (("id:x",), "id:x"),
        (("id:0", "--k", "13"), "--k 13 is above the number of items, 12"),
        (("id:0", "--k", "7", "--where", "label=cat"), "--k 7 is above"),
        (("id:0", "--where", "cat"), "--where must be label=NAME"),
        (("id:0", "--radius", "-1"), "--radius"),
        (("id:0", "--radius", "12", "--k", "0"), "--k must be at least 1"),
        (("id:0", "--rescore", "--radius", "1"), "--rescore"),
        (("id:0", "--rescore-multiplier", "3"), "--rescore-multiplier needs --rescore"),
        (("id:0", "--html", "page.txt"), "--html page.txt must end in .html"),
        (("id:0", "--output", "found.txt"), "--output found.txt must end in .json"),
    ],
)
def test_mistakes(index, refusal, words, said):
    index.search(index.codes([0]), 1)  # writes faiss.index
    assert said in refusal("search", "index", *words)


def test_folders_that_are_no_index(index, refusal):
    for folder, said in (("photos", "photos"), ("gone", "gone: there is no such folder")):
        assert said in refusal("search", folder, "id:0")


def test_an_index_without_vectors(made, tmp_path, refusal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hasher = pixel_hasher()
    Index.create("bare", hasher, root=None)
    assert "keep-floats float16" in refusal("search", "bare", "id:0", "--rescore")
