"""TFDS sets: pooled parts, in memory or decoded on access, and those that are refused."""

import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from jaxhash.data.load import load_source
from jaxhash.data.sources import MEMORY_LIMIT


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Nine images in three parts, each filled with its label and its number."""

    VERSION = tfds.core.Version("1.0.0")
    PARTS = {"test": range(8, 9), "train": range(5), "validation": range(5, 8)}

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(2, 1, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {part: self._generate_examples(numbers) for part, numbers in self.PARTS.items()}

    def _generate_examples(self, numbers):
        for number in numbers:
            png = io.BytesIO()
            PIL.Image.new("RGB", (1, 2), (number, number % 2, 255)).save(png, "png")
            png.seek(0)
            yield number, {"image": png, "label": number % 2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a TFDS set that was prepared as array_record; this needs no TensorFlow."""
    folder = tmp_path_factory.mktemp("tfds")
    Tiny(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(params=["in memory", "lazily"])
def memory(request, monkeypatch):
    """A TFDS set, decoded at once or image by image."""
    if request.param == "lazily":
        monkeypatch.setattr("jaxhash.data.readers.tfds.MEMORY_LIMIT", 0)
    return request.param


def test_tfds_pools_the_parts(tiny, memory):
    source = load_source("tfds:tiny", tiny)
    assert isinstance(source.inputs, np.ndarray) == (memory == "in memory")
    assert len(source.inputs) == len(source.labels) == 9
    images = source.inputs[np.arange(9)]
    assert (images.shape, images.dtype) == ((9, 2, 1, 3), np.uint8)
    numbers = images[:, 0, 0, 0].tolist()
    assert sorted(numbers[:5]) + sorted(numbers[5:8]) + numbers[8:] == list(range(9))
    np.testing.assert_array_equal(images[:, 0, 0, 1], source.labels)
    assert source.labels.dtype == np.int32
    assert source.class_names == ("cat", "dog")
    assert source.parts == ("train", "validation", "test")
    np.testing.assert_array_equal(source.part_ids, [0] * 5 + [1] * 3 + [2])
    np.testing.assert_array_equal(source.is_test, [0] * 8 + [1])
    names = [f"train/{i}" for i in range(5)] + [f"validation/{i}" for i in range(3)] + ["test/0"]
    assert list(source.item_names) == names and source.name_of(np.int64(6)) == "validation/1"


def test_tfds_reads_any_rows(tiny, memory):
    inputs = load_source("tfds:tiny", tiny).inputs
    for rows in (np.array([8, 0, 3, 4, 6, 7, 0]), slice(2), 3, np.int64(8)):
        np.testing.assert_array_equal(inputs[rows], inputs[np.arange(9)][rows])


def test_labels_of_a_large_tfds_set_are_read_once(tiny, monkeypatch, tmp_path, capsys):
    """From an index of its files; all else needs no record."""
    shutil.copytree(tiny, tmp_path / "copy", ignore=shutil.ignore_patterns(".jaxhash-index"))
    monkeypatch.setattr("jaxhash.data.readers.tfds.MEMORY_LIMIT", 0)
    first = load_source("tfds:tiny", tmp_path / "copy")
    assert "tfds:tiny: 9 records are indexed in " in capsys.readouterr().err
    monkeypatch.setattr("jaxhash.data.shards.index.scan_shard", None)
    again = load_source("tfds:tiny", tmp_path / "copy")
    np.testing.assert_array_equal(again.labels, first.labels)
    np.testing.assert_array_equal(again.labels, again.inputs[:][:, 0, 0, 1])
    assert again.notes == first.notes and not capsys.readouterr().err


def test_tfds_data_that_were_cut_off(tiny, tmp_path, error_line):
    for path in filter(Path.is_file, (tiny / "tiny" / "1.0.0").iterdir()):
        content = path.read_bytes()
        target = tmp_path / path.relative_to(tiny)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content[:50] if ".array_record" in path.name else content)
    assert error_line("tfds:tiny", tmp_path).startswith("`dataset=tfds:tiny` could not be read: ")


@pytest.mark.parametrize("limit", [MEMORY_LIMIT, 0])
def test_tfds_subset_of_cifar10(shared_data, monkeypatch, limit, tmp_path):
    """Rows of both parts, in memory and lazily, equal the records that TFDS reads."""
    monkeypatch.setattr("jaxhash.data.readers.tfds.index_folder", lambda _: tmp_path / "index")
    monkeypatch.setattr("jaxhash.data.readers.tfds.MEMORY_LIMIT", limit)
    source = load_source("tfds:cifar10_subset", shared_data / "tfds")
    assert len(source.inputs) == 15_000
    np.testing.assert_array_equal(np.bincount(source.labels), [1_500] * 10)
    assert source.class_names[:2] == ("airplane", "automobile")
    assert_rows_equal_records(source, shared_data, [0, 1, 4_999, 5_000, 14_999])


@pytest.mark.slow
def test_tfds_fashion_mnist(shared_data):
    source = load_source("tfds:fashion_mnist", shared_data / "tfds")
    assert source.inputs.shape == (70_000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(source.labels), [7_000] * 10)
    assert source.class_names[0] == "T-shirt/top"
    np.testing.assert_array_equal(source.is_test, np.repeat([0, 1], [60_000, 10_000]))
    assert_rows_equal_records(source, shared_data, [0, 1, 59_999, 60_000, 69_999])


def assert_rows_equal_records(source, shared_data, rows):
    parts = tfds.data_source(source.name.removeprefix("tfds:"), data_dir=shared_data / "tfds")
    train, test = parts["train"], parts["test"]
    for row, image in zip(rows, source.inputs[np.array(rows)], strict=True):
        record = train[row] if row < len(train) else test[row - len(train)]
        np.testing.assert_array_equal(image, record["image"])
        assert source.labels[row] == record["label"]


def test_tfds_is_read_without_tensorflow(tiny, tmp_path):
    """A stand-in for TensorFlow ends the process that imports it."""
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    program = """
from pathlib import Path
from jaxhash.data.load import load_source
from jaxhash.data.readers import tfds
for tfds.MEMORY_LIMIT in 2**30, 0:
    print(len(load_source("tfds:tiny", Path.cwd()).inputs))
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tiny, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "9\n9\n"), done.stderr


def test_tfds_set_that_is_not_prepared(tmp_path, monkeypatch, error_line):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *package: None if name == "tensorflow" else find_spec(name, *package),
    )
    line = error_line("tfds:mnist", tmp_path)
    assert line.startswith(f"`dataset=tfds:mnist` is not prepared in {tmp_path / 'mnist'}")
    assert "`data_dir`" in line and 'pip install "jaxhash[prepare]"' in line


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonsense", "nonsense not found"),
        ("not a name", "not a name"),
        ("mnist:9.9.9", "9.9.9"),
        ("mnist/blue", "blue"),
        ("imdb_reviews", "it has no 'image', only ['label', 'text']"),
        ("celeb_a", "it has no 'label', only ['attributes',"),
        ("imagenette", "its images have no common size, (None, None, 3)"),
    ],
)
def test_tfds_set_that_does_not_fit(tmp_path, name, said, error_line):
    line = error_line(f"tfds:{name}", tmp_path)
    assert line.startswith(f"`dataset=tfds:{name}`: ") and said in line
