"""Feature files: what they hold, and those that are refused."""

import io

import numpy as np
import pytest

from jaxhash.data.load import load_source
from jaxhash.data.readers import features

VECTORS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
BYTES = np.random.default_rng(1).integers(-128, 128, (6, 4)).astype(np.int8)
LABELS = np.array([0, 2, 1, 1, 0, 2])


@pytest.fixture
def feature_file(tmp_path):
    """A function that writes the arrays to a file and names the source that reads it."""

    def write(**changes):
        arrays = {"features": VECTORS, "labels": LABELS, **changes}
        kept = {key: array for key, array in arrays.items() if array is not None}
        np.savez(tmp_path / "some.npz", **kept)
        return "features:some.npz", tmp_path

    return write


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16])
def test_features_are_those_of_the_file_whatever_else_is_in_it(feature_file, dtype):
    """As float32, and unscaled: an item is the same input in any file."""
    features = (VECTORS * 10).clip(0 if dtype == np.uint16 else -100).astype(dtype)
    inputs = load_source(*feature_file(features=features)).inputs
    assert inputs[:].dtype == np.float32 and inputs.shape == (6, 4)
    np.testing.assert_array_equal(inputs[:], features.astype(np.float32))
    alone = load_source(*feature_file(features=features[:2], labels=LABELS[:2])).inputs
    for rows in (0, np.int64(1), slice(1, 2), np.array([1, 0, 1])):
        np.testing.assert_array_equal(alone[rows], features[rows].astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_integer_features_have_a_scale_for_each_dimension(feature_file, dtype):
    scale = np.array([0.1, 1, 2, 30], dtype)
    inputs = load_source(*feature_file(features=BYTES, scale=scale)).inputs
    np.testing.assert_array_equal(inputs[:], BYTES * scale.astype(np.float32))


def test_opening_a_feature_file_does_not_copy_it(feature_file, monkeypatch):
    """The array that the file's reader gives is kept, and read by pieces."""
    given = np.zeros((300, 4), np.int8)
    arrays = {"features": given, "labels": np.arange(300)}
    monkeypatch.setattr(features, "read_npz", lambda *_, **__: arrays)
    monkeypatch.setattr("jaxhash.data.rows.BLOCK_BYTES", 64)
    assert load_source(*feature_file()).inputs._features is given


@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_first_item_with_a_value_that_is_not_finite_is_named(
    feature_file, monkeypatch, size, error_line
):
    monkeypatch.setattr("jaxhash.data.rows.BLOCK_BYTES", 16 * size)
    vectors = VECTORS.astype(np.float64)
    vectors[4, 1], vectors[5] = 1e300, np.nan  # the first overflows float32
    names = np.array(list("abcdef"))
    assert "first of item 4" in error_line(*feature_file(features=vectors))
    assert "first of e" in error_line(*feature_file(features=vectors, item_names=names))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_feature_labels(feature_file, dtype):
    labels = load_source(*feature_file(labels=LABELS.astype(dtype))).labels
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_feature_labels_of_several_classes(feature_file, dtype):
    rows = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype)
    source = load_source(*feature_file(labels=rows, class_names=np.array(["cat", "dog", "elk"])))
    assert source.labels.dtype == np.int8 and source.class_names == ("cat", "dog", "elk")
    np.testing.assert_array_equal(source.labels, rows)
    assert load_source(*feature_file(labels=rows)).class_names == ("0", "1", "2")


def test_part_of_each_vector(feature_file):
    assert load_source(*feature_file()).is_test is None
    part = np.array([1, 0, 0, 1, 0, 0], np.uint8)
    np.testing.assert_array_equal(load_source(*feature_file(split=part)).is_test, part)


def test_names_of_parts_and_items_of_a_file(feature_file):
    named = np.array(["query", "train", "database"])
    names = np.array([f"cat/{number}.png" for number in range(6)])
    source = load_source(*feature_file(split=np.arange(6) % 3, split_names=named, item_names=names))
    assert source.parts == ("query", "train", "database")
    np.testing.assert_array_equal(source.part_ids, np.arange(6) % 3)
    np.testing.assert_array_equal(source.is_test, [1, 0, 0] * 2)
    assert source.name_of(3) == "cat/3.png"


def test_class_names_are_the_files_or_numbers(feature_file):
    def class_names(names, labels=LABELS):
        return load_source(*feature_file(class_names=names, labels=labels)).class_names

    assert class_names(np.array(["cat", "dog", "elk"])) == ("cat", "dog", "elk")
    assert class_names(None) == ("0", "1", "2")
    assert class_names(None, labels=LABELS * 2) == ("0", "1", "2", "3", "4")  # ids with gaps


WRONG_FILES = {
    "no labels": (dict(labels=None), "no array 'labels'; the file holds ['features']"),
    "no features": (dict(features=None), "no array 'features'; the file holds ['labels']"),
    "one dimension": (dict(features=VECTORS[:, 0]), "got shape (6,) of float32"),
    "fewer labels": (dict(labels=LABELS[:5]), "got shapes (6, 4) and (5,)"),
    "text": (dict(features=VECTORS.astype(str)), "of numbers, got shape (6, 4) of <U"),
    "complex": (dict(features=VECTORS + 1j), "complex64"),
    "names of another kind": (dict(class_names=np.arange(3)), "class_names must be strings"),
    "one name": (dict(class_names=np.array("cat")), "class_names must be strings"),
    "scale of text": (dict(scale=np.array(list("abcd"))), "scale must be finite numbers"),
    "scale that is not finite": (dict(scale=np.full(4, np.inf)), "scale must be finite numbers"),
    "no labels at all": (dict(labels=np.full(6, -1)), "no item has a label"),
    "fewer label rows": (dict(labels=np.eye(5, dtype=int)), "got shapes (6, 4) and (5, 5)"),
    "label cubes": (dict(labels=np.ones((6, 2, 2), int)), "got shape (6, 2, 2)"),
    "column of ids": (dict(labels=LABELS[:, None]), "labels have one column"),
    "broken label rows": (dict(labels=np.eye(6) / 2), "labels [items, classes] must be 0 or 1"),
    "no classes": (dict(labels=np.ones((6, 0), int)), "the set is empty"),
    "part of fewer": (dict(split=np.zeros(5, int)), "split must be 0 (train) or 1 (test) for each"),
    "part of no name": (
        dict(split=np.arange(6) % 2, split_names=np.array(["train", "elsewhere"])),
        "split_names must be some of train, validation, test, query, database",
    ),
    "fewer item names": (dict(item_names=np.array(["a"])), "item_names must be a string for each"),
    "numbers for item names": (dict(item_names=np.arange(6)), "item_names must be a string"),
    "part 2": (dict(split=np.arange(6) % 3), "for each of the 6 items"),
    "broken labels": (dict(labels=LABELS / 4), "labels must be integer class ids"),
    "negative label": (dict(labels=LABELS - 2), "or -1 for none, got -2"),
    "image ids": (dict(labels=LABELS + 2**40), "class ids must be below 1,000,000, got 1099511627"),
    "not finite": (
        dict(features=np.where(VECTORS > 1, np.nan, VECTORS)),
        "values that are not finite",
    ),
    "no items": (dict(features=VECTORS[:0], labels=LABELS[:0]), "the set is empty"),
    "pickled": (dict(features=VECTORS.astype(object)), "array 'features' is not readable"),
    "label without name": (
        dict(class_names=np.array(["cat", "dog"])),
        "item 1 has label 2, and there are names for 0 to 1",
    ),
    "column without name": (
        dict(labels=np.ones((6, 3), int), class_names=np.array(["cat", "dog"])),
        "labels have 3 columns, and class_names 2 names",
    ),
    "empty class": (dict(class_names=np.array(list("abcd"))), "class d (3) has no item"),
    "empty classes": (
        dict(labels=LABELS * 2, class_names=np.array(list("abcdef"))),
        "class b (1) has no item, and 2 more classes",
    ),
    "empty column": (
        dict(labels=np.eye(6, 2, dtype=int) * [1, 0], class_names=np.array(["cat", "dog"])),
        "class dog (1) has no item",
    ),
    "long scale": (dict(scale=np.ones(5, np.float32)), "scale"),
}


@pytest.mark.parametrize(("arrays", "said"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_wrong_feature_file(feature_file, tmp_path, arrays, said, error_line):
    line = error_line(*feature_file(**arrays))
    assert line.startswith(f"{tmp_path / 'some.npz'}: ") and said in line


def test_missing_feature_file(tmp_path, error_line):
    line = error_line("features:some.npz", tmp_path)
    assert line.startswith(f"{tmp_path / 'some.npz'}: there is no such feature file; `data_dir`")


def npy_bytes():
    file = io.BytesIO()
    np.save(file, VECTORS)
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"some text", b"PK\x03\x04 cut off", npy_bytes()], ids=range(4)
)
def test_file_that_is_no_npz(tmp_path, content, error_line):
    (tmp_path / "some.npz").write_bytes(content)
    line = error_line("features:some.npz", tmp_path)
    assert line.startswith(f"{tmp_path / 'some.npz'}: not a readable .npz file")


def test_cifar10_features(shared_data):
    source = load_source("features:cifar10_mobilenetv2.npz", shared_data / "features")
    assert source.inputs.shape == (60_000, 512)
    np.testing.assert_array_equal(np.bincount(source.labels), [6_000] * 10)
    np.testing.assert_array_equal(np.bincount(source.is_test), [50_000, 10_000])
    with np.load(shared_data / "features" / "cifar10_mobilenetv2.npz") as file:
        expected = file["features"][70:75] * file["scale"]
    np.testing.assert_allclose(source.inputs[70:75], expected)


# TensorFlow datasets
