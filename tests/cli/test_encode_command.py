"""``jaxhash encode``: what it prints, what it refuses, and what is left when it is ended."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from jaxhash.data.input_form import InputForm
from jaxhash.models import Encoder, backbone_factory, preprocessing_of
from jaxhash.retrieval.hasher import Hasher
from jaxhash.retrieval.index import Index

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
COMMAND = [sys.executable, "-m", "jaxhash"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Archives of three hash functions: ``images``, ``others`` by another seed, and ``vectors``."""
    folder = tmp_path_factory.mktemp("archives")
    vectors = InputForm("vectors", (4,), "float32", -1.0, 1.0, 1.0, scale=1.0)
    images = InputForm("images", (8, 8, 3), "uint8", 0.0, 255.0, 99.0, image_size=8)
    for seed, (name, form) in enumerate(
        [("images", images), ("others", images), ("vectors", vectors)]
    ):
        model = Encoder(backbone_factory("cnn" if form is images else "linear"), bits=8)
        if form is images:
            form = dataclasses.replace(form, preprocessing=preprocessing_of(model))
        example = np.zeros((1, *form.shape), form.dtype)
        variables = jax.device_get(model.init(jax.random.key(seed), example))
        Hasher(model, variables, form).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder: photographs of two classes, and arrays."""
    monkeypatch.chdir(tmp_path)
    for number, pixels in enumerate(IMAGES):
        place = tmp_path / "photos" / ("cat", "big dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.png")
    np.save("images.npy", IMAGES)
    np.save("vectors.npy", np.eye(4, dtype=np.float32))
    np.save("long.npy", np.eye(5, dtype=np.float32))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    return tmp_path


def test_a_folder_is_encoded_once(archives, output):
    command = ("encode", f"{archives / 'images'}", "photos", "--output", "index")
    said = output(*command)
    assert "labels" in said and "6 encoded" in said and "index holds 6 items of 8 bits" in said
    index = Index.open("index")
    assert len(index.find(label="big dog")) == 3
    assert "6 there already" in output(*command)
    assert "1 encoded" not in output(*command)


def test_broken_files_are_listed_in_one_line_each(archives, output, folder):
    for name in ("new\nline.png", "b.png"):
        (folder / "photos" / "cat" / name).write_bytes(b"no image")
    said = output("encode", f"{archives / 'images'}", "photos", "--output", "index")
    lines = [line for line in said.splitlines() if line.startswith("cannot be read")]
    assert len(lines) == 2 and "new\\nline.png" in lines[1]
    assert "2 cannot be read" in said and "index holds 6 items" in said


def test_arrays_and_files_lie_in_one_index(archives, output):
    command = ("encode", f"{archives / 'images'}", "photos", "--output", "index")
    output(*command, "--root", ".")
    said = output("encode", "index", "images.npy", "--output", "index")
    assert "6 encoded" in said
    paths = [item.path for item in Index.open("index").items(range(12))]
    assert paths[0] == "photos/big dog/1.png" and paths[-1] == "images.npy#5"


def test_floats_are_kept_and_stay_so(archives, output):
    command = ("encode", f"{archives / 'vectors'}", "vectors.npy", "--output", "index")
    output(*command, "--keep-floats", "float16")
    assert "4 there already" in output(*command)
    name, vectors = Index.open("index").vectors([0, 1])
    assert name == "floats" and vectors.dtype == np.float16


def test_thumbnails_are_kept_of_images_unless_it_is_said_otherwise(archives, output, refusal):
    command = ("encode", f"{archives / 'images'}", "photos/cat", "images.npy", "--root", ".")
    for name, options, side in [
        ("default", (), 96),
        ("small", ("--thumbnails", "32"), 32),
        ("none", ("--thumbnails", "0"), None),
    ]:
        output(*command, "--output", name, *options)
        again = ("encode", name, "photos/big dog", "--output", name)
        output(*again)  # as the index is
        index = Index.open(name)
        assert index.thumbnail_side == side
        assert [each is None for each in index.thumbnails(range(12))] == [side is None] * 12
        assert ("  thumbnails  " in output("index", name)) == (side is not None)
        line = refusal(*again, "--thumbnails", "48")
        assert f"--thumbnails {side or 'none'}, and here it is 48" in line
    output("encode", f"{archives / 'vectors'}", "vectors.npy", "--output", "index")
    assert Index.open("index").thumbnail_side is None


def test_it_is_served_when_it_is_done(archives, output, monkeypatch):
    served = []

    def serve(folder, console, **options):
        served.append((len(Index.open(folder)), options))

    from jaxhash.cli import serve as module

    monkeypatch.setattr(module, "serve", serve)
    command = ("encode", f"{archives / 'images'}", "photos", "--output", "index")
    output(*command)
    assert served == []
    output(*command, "--serve", "--port", "0")
    assert served == [(6, {"port": 0})]


def test_a_port_in_use_is_told_before_anything_is_encoded(archives, refusal):
    command = ("encode", f"{archives / 'images'}", "photos", "--output", "index", "--serve")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port} is in use" in refusal(*command, "--port", f"{port}")
    assert "--port must be" in refusal(*command, "--port", "70000")
    assert not os.path.exists("index")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("images", "missing: --output"),
        ("images --output index", "name what to encode"),
        ("images nothing --output index", "nothing: there is no such input"),
        ("images texts --output index", "texts: the folder holds no image"),
        ("images photos --output index --batch-size 0", "--batch-size must be at least 1"),
        ("images photos --output index --keep-floats int8", "--keep-floats"),
        ("images photos --output texts", "texts is not empty"),
        ("images texts/a.txt --output texts", "lies in --output"),
        ("images photos --output index --root texts", "outside the root"),
        ("images photos --output index --labels texts/b.txt", "texts/b.txt"),
        ("images vectors.npy --output index", "vectors.npy"),
        ("vectors photos --output index", "photos"),
        ("vectors long.npy --output index", "long.npy"),
        ("vectors images.npy --output index", "images.npy"),
        ("nothing photos --output index", "nothing"),
        ("images photos --output index --thumbnails 2000", "--thumbnails must be from 16 to 1,024"),
        ("images photos --output index --thumbnails -96", "--thumbnails must be from 16 to 1,024"),
        ("vectors vectors.npy --output index --thumbnails 96", "--thumbnails are of images"),
        ("images photos --output index --port 8000", "--port needs --serve"),
        (
            "images photos --output index --keep-floats float16 --keep-features float16",
            "--keep-floats or --keep-features",
        ),
    ],
)
def test_what_cannot_be_encoded_is_refused(archives, refusal, command, said):
    run, *rest = command.split()
    run = f"{archives / run}" if run != "nothing" else run
    assert said in refusal("encode", run, *rest)


def test_an_index_of_another_hash_function_or_root_is_refused(archives, output, refusal):
    output("encode", f"{archives / 'images'}", "photos/cat", "--output", "index")
    assert "another hash function" in refusal(
        "encode", f"{archives / 'others'}", "photos", "--output", "index"
    )
    line = refusal("encode", f"{archives / 'images'}", "photos/big dog", "--output", "index")
    assert "photos/big dog" in line and "photos/cat" in line
    assert "--root" in refusal(
        *("encode", f"{archives / 'images'}", "photos", "--output", "index", "--root", ".")
    )


# Processes that are ended


@pytest.fixture
def many(folder):
    """An array of 5 shards of images."""
    np.save("many.npy", np.random.default_rng(1).integers(0, 256, (70_000, 8, 8, 3), np.uint8))


def start(archives, output, *before, run="images"):
    command = [*before, *COMMAND, "encode", f"{archives / run}", "many.npy"]
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.Popen(
        [*command, "--output", output], env=env, stderr=subprocess.PIPE, text=True
    )


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def wait_for(name, process):
    while process.poll() is None and not os.path.exists(name):
        time.sleep(0.001)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(archives, folder, many):
    assert start(archives, "whole").wait() == 0
    killed = 0
    for name in (
        "index.json",
        "codes-000000.npy.partial",
        "codes-000001.npy",
        "thumbnails-000001.arrow.partial",
        "items-000002.parquet",
    ):
        process = start(archives, "parts")
        wait_for(f"parts/{name}", process)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 2
    assert start(archives, "parts").wait() == 0
    assert contents(folder / "parts") == contents(folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_ends_it_in_a_line(archives, folder, many, number, status):
    process = start(archives, "index")
    wait_for("index/codes-000001.npy", process)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == status
    assert said.count("\n") == 1 and "the same command goes on" in said
    assert 0 < len(Index.open("index")) < 70_000


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_told_in_a_line(archives, folder):
    """The limit lies between the weights and the table of a shard of items."""
    np.save("many.npy", np.random.default_rng(1).normal(size=(70_000, 4)).astype(np.float32))
    limited = ("sh", "-c", 'ulimit -f 500; exec "$@"', "sh")
    process = start(archives, "index", *limited, run="vectors")
    _, said = process.communicate()
    assert process.returncode == 2 and said.count("\n") == 1
    assert "the same command goes on" in said
    assert len(Index.open("index")) == 0
    assert start(archives, "index", run="vectors").wait() == 0
    assert len(Index.open("index")) == 70_000
