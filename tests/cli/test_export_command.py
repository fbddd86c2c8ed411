"""``jaxhash export``: the path decides what is exported, and what does not fit is refused in a line."""

import json

import numpy as np
import pytest
from index_samples import everything, fill, linear_hasher

import jaxhash
from jaxhash.retrieval.index import Index


@pytest.fixture
def archive(tmp_path):
    linear_hasher().save(tmp_path / "archive")
    return tmp_path / "archive"


@pytest.fixture
def index(tmp_path):
    index = fill(Index.create(tmp_path / "my index", linear_hasher(), root=tmp_path))
    index.remove([1, 8])
    return index


def test_the_codes_of_an_index(index, tmp_path, output):
    path = tmp_path / "codes.npy"
    printed = output("export", str(index.folder), "--to", "npy", "--output", str(path))
    assert all(name in printed for name in ("codes.npy", "codes.ids.npy", "codes.npy.json"))
    expected = everything(index)
    assert [bytes(code) for code in np.load(path)] == [code for _, code in expected]
    ids = np.load(tmp_path / "codes.ids.npy").tolist()
    assert ids == [item.id for item, _ in expected] == [0, 2, 3, 4, 5, 6, 7]
    about = json.loads((tmp_path / "codes.npy.json").read_text())
    assert (about["count"], about["digest"]) == (7, index.digest)


def test_the_items_of_an_index(index, tmp_path, output):
    output("export", str(index.folder), "--to", "hex", "--output", str(tmp_path / "codes.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "codes.jsonl").read_text().splitlines()]
    assert [tuple(row.values()) for row in rows] == [
        (item.id, code.hex(), item.path, item.label) for item, code in everything(index)
    ]


@pytest.mark.parametrize("to", ["safetensors", "hf"])
def test_the_hash_function_of_an_archive_or_an_index(archive, index, tmp_path, output, to):
    for source in (archive, index.folder):
        path = tmp_path / f"{source.name} out"
        output("export", str(source), "--to", to, "--output", str(path))
        assert jaxhash.load(path).digest == index.digest
        assert (path / "README.md").exists() == (to == "hf")


@pytest.mark.usefixtures("plotless")
def test_a_run_with_its_results(tmp_path, output):
    run, hub = str(tmp_path / "run"), tmp_path / "hub"
    output("train", "--epochs", "1", "--bits", "8", "--run-dir", run, "--baselines", "none")
    output("export", run, "--to", "hf", "--output", str(hub))
    results = json.loads((tmp_path / "run/results.json").read_text())
    card = (hub / "README.md").read_text()
    assert results["split_sha256"] in card and f"value: {results['map']}" in card
    hasher = jaxhash.load(hub)
    assert hasher.digest == jaxhash.load(run).digest and hasher.bits == 8


@pytest.mark.parametrize(
    ("source", "to", "words"),
    [
        ("archive", "npy", ("--to npy", "safetensors", "onnx", "hf")),
        ("index", "foo", ("foo", "npy", "safetensors")),
        ("nowhere", "npy", ("nowhere", "no such folder")),
        ("nowhere", "jax", ("nowhere", "no such folder")),
        ("empty", "jax", ("empty",)),
        ("empty", "faiss", ("--to faiss", "empty")),
    ],
)
def test_what_does_not_fit_is_refused(archive, index, tmp_path, refusal, source, to, words):
    (tmp_path / "empty").mkdir()
    path = index.folder if source == "index" else tmp_path / source
    line = refusal("export", str(path), "--to", to, "--output", str(tmp_path / "out"))
    assert all(word in line for word in words)


@pytest.mark.parametrize("to", ["npy", "safetensors", "jax", "hf"])
def test_what_is_there_is_kept(index, tmp_path, refusal, to):
    (tmp_path / "out").write_text("mine")
    line = refusal("export", str(index.folder), "--to", to, "--output", str(tmp_path / "out"))
    assert "--output" in line and "exists" in line


def test_a_folder_that_is_not_there_is_named(index, tmp_path, refusal):
    path = str(tmp_path / "nowhere/codes.npy")
    assert "nowhere" in refusal("export", str(index.folder), "--to", "npy", "--output", path)
