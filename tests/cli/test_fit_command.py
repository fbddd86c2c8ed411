"""``jaxhash fit``: an index of what a hash function is fitted to, which goes on where it was killed."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import jaxhash
from jaxhash.cli.main import main
from jaxhash.retrieval import Index, fit

VECTORS = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)


@pytest.fixture
def failing(capsys):
    """Returns a function from words of the command to its one line of error."""

    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            main(["fit", *map(str, words)])
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.count("\n") == 1 and said.startswith("jaxhash: ")
        return said

    return run


@pytest.fixture
def vectors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", VECTORS)
    return tmp_path


def test_a_method_by_labels_needs_them(vectors, failing, capsys):
    words = ["--method", "cca-itq", "--bits", "8", "--output"]
    said = failing("v.npy", *words, "index")
    assert "cca-itq takes labels, and v.npy has none" in said and not (vectors / "index").exists()
    labels = np.arange(300) % 3
    np.savez("v.npz", features=VECTORS, labels=labels)
    main(["fit", "v.npz", *words, "index"])
    expected = fit(VECTORS, "cca-itq", 8, labels=labels).encode(VECTORS)
    np.testing.assert_array_equal(codes("index"), expected)


def codes(folder):
    return np.concatenate([codes for _, codes in Index.open(folder).blocks()])


def test_vectors_become_an_index_by_their_own_hash_function(vectors, capsys):
    words = [
        "fit",
        "v.npy",
        "--method",
        "itq",
        "--bits",
        "20",
        "--output",
        "index",
        "--keep-features",
        "float32",
    ]
    main(words)
    assert "itq, 20 bits, fitted to 300 of 300 vectors in" in capsys.readouterr().out
    np.testing.assert_array_equal(codes("index"), fit(VECTORS, bits=20).encode(VECTORS))
    index = Index.open("index")
    assert [item.path for item in index.items([0, 299])] == ["v.npy#0", "v.npy#299"]
    np.testing.assert_array_equal(index.vectors([5])[1], VECTORS[5:6])
    assert jaxhash.load("index").digest == index.digest
    assert jaxhash.load("index").made_by["fit"]["inputs"] == ["v.npy"]
    before = {path: path.read_bytes() for path in vectors.rglob("index*/**/*") if path.is_file()}
    main(words)
    assert "300 there already" in capsys.readouterr().out
    after = {path: path.read_bytes() for path in vectors.rglob("index*/**/*") if path.is_file()}
    assert after == before


def test_an_index_of_another_hash_function_is_left_alone(vectors, failing):
    words = ["v.npy", "--method", "random", "--output", "index", "--bits", 8]
    main(["fit", *map(str, words)])
    assert "--seed is 0 there and 1 here" in failing(*words, "--seed", 1)
    assert "--bits is 8 there and 9 here" in failing(*words[:-1], 9)
    np.save("w.npy", VECTORS)
    assert "--inputs is" in failing("w.npy", *words[1:])
    config = json.loads((vectors / "index" / "hasher" / "config.json").read_text())
    (vectors / "index" / "hasher" / "config.json").write_text(json.dumps(config | {"made_by": {}}))
    assert "was not fitted here" in failing(*words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("v.npy --method lsh --bits 8", "--method: expected one of itq, pca-rotation, random"),
        ("v.npy --method itq --bits 0", "--bits must be at least 1, got 0"),
        ("v.npy --method pca-sign --bits 13", "--bits must be at most 12"),
        ("v.npy --method itq --bits 8 --model resnet18", "v.npy holds vectors; --model and"),
        ("v.npy --method itq --bits 8 --image-size 9", "are for images by a --model"),
        ("digits --method itq --bits 8", "digits holds images: name a backbone"),
        ("no.npy --method itq --bits 8", "no.npy: there is no such input"),
        ("--method itq --bits 8", "name what to encode"),
        ("v.npy --method itq --bits 8 --batch-size 0", "--batch-size must be at least 1"),
    ],
)
def test_mistakes_are_told_in_a_line_and_leave_nothing(vectors, failing, words, said):
    assert said in failing(*words.split(), "--output", "index")
    assert not (vectors / "index").exists()


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_same_bytes(vectors):
    rows = np.random.default_rng(1).normal(size=(400_000, 32)).astype(np.float32)
    np.save("v.npy", rows)
    command = [sys.executable, "-m", "jaxhash", "fit", "v.npy", "--method", "itq", "--bits", "64"]
    kills = 0
    for part in ("fitting", "encoding"):
        process = subprocess.Popen([*command, "--output", "index"], start_new_session=True)
        wanted = vectors / "index" / ("index.json" if part == "fitting" else "codes-000001.npy")
        while process.poll() is None and not wanted.exists():
            time.sleep(0.01)
        kills += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert kills
    for folder in ("index", "whole"):
        subprocess.run([*command, "--output", folder], check=True)
    files = ("codes-000000.npy", "codes-000006.npy", "hasher/model.safetensors")
    for name in files:
        assert (vectors / "index" / name).read_bytes() == (vectors / "whole" / name).read_bytes()
    assert len(Index.open("index")) == 400_000


def test_photographs_are_indexed_without_labels(shared_data, tmp_path, capsys):
    weights = shared_data / "weights" / "resnet20-12fca82f.th"
    for number, path in enumerate(sorted((shared_data / "images").glob("*.jpg"))[:12]):
        (tmp_path / f"{number}.jpg").symlink_to(path)
    words = f"fit {tmp_path} --model cifar-resnet20 --weights {weights} --image-size 32"
    main(
        [*words.split(), "--method", "itq", "--bits", "16", "--output", str(tmp_path.parent / "i")]
    )
    assert "16 bits, fitted to 12 of 12 images" in capsys.readouterr().out
    hasher = jaxhash.load(tmp_path.parent / "i")
    assert hasher.made_by["fit"]["weights"] == weights.name
    again = hasher.encode(hasher.preprocess([tmp_path / "0.jpg"]))
    np.testing.assert_array_equal(again, codes(tmp_path.parent / "i")[:1])
