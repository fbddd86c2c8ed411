"""Features in a .npy of any size: read by rows, checked as they are read, sampled where large."""

import pickle
from itertools import islice

import jax
import numpy as np
import pytest

from jaxhash.data.augment import Augment
from jaxhash.data.checks.training_data import examine, open_split
from jaxhash.data.config import DataConfig
from jaxhash.data.load import load_source
from jaxhash.data.pipeline import training_batches
from jaxhash.data.readers import vectors
from jaxhash.data.tree_form import measure_rows
from jaxhash.objectives import ClassSimilarity
from jaxhash.utils.errors import UserError

VECTORS = np.random.default_rng(0).normal(size=(60, 4)) * 10
LABELS = np.arange(60) % 3
SPLIT = (np.arange(60) % 6 == 0).astype(np.int8)


@pytest.fixture
def npy_file(tmp_path):
    """A function that writes vectors with their labels, and names the source that reads them."""

    def write(features=VECTORS, **arrays):
        np.save(tmp_path / "some.npy", features)
        np.savez(tmp_path / "some.labels.npz", **{"labels": LABELS, "split": SPLIT, **arrays})
        return "features:some.npy", tmp_path

    return write


def batches(source, **options):
    items = np.flatnonzero(source.part_ids == 0)
    made = training_batches(source, items, batch_size=16, seed=1, augment=Augment(), **options)
    return [jax.tree.leaves(batch) for batch in islice(made, 5)]


def findings(source, method="csq"):
    config = DataConfig(queries_per_class=2, train_per_class=4)
    split = open_split(config, source)
    form = measure_rows(source.inputs, split.train)
    return examine(config, method, source, split, form, ClassSimilarity(), None)


@pytest.mark.parametrize("dtype", ["float32", ">f4", "float16", "float64", "int8", "uint16"])
@pytest.mark.parametrize(
    "rows", [slice(3, 9), slice(None, None, 7), slice(0, 0), np.array([4, 5, 6, 1, 1, -1]), 7, -2]
)
def test_rows_are_those_of_the_array(npy_file, dtype, rows):
    """Of any dtype, and in a copy that another process would have."""
    features = np.abs(VECTORS).astype(dtype)
    inputs = pickle.loads(pickle.dumps(load_source(*npy_file(features)).inputs))
    assert inputs[rows].dtype == np.float32 and inputs.shape == (60, 4)
    np.testing.assert_array_equal(inputs[rows], features[rows].astype(np.float32))


def test_a_row_out_of_range_is_an_error(npy_file):
    inputs = load_source(*npy_file()).inputs
    for row in (60, np.array([0, -61])):
        with pytest.raises(IndexError):
            inputs[row]


def test_the_arrays_beside_it_are_those_of_a_feature_file(npy_file, tmp_path):
    beside = {
        "labels": LABELS,
        "split": SPLIT,
        "scale": np.array([1, 2, 3, 0.5]),
        "class_names": np.array(["cat", "dog", "elk"]),
        "item_names": np.array([f"{n}.jpg" for n in range(60)]),
    }
    source = load_source(*npy_file(**beside))
    np.savez(tmp_path / "some.npz", features=VECTORS, **beside)
    other = load_source("features:some.npz", tmp_path)
    np.testing.assert_array_equal(source.inputs[:], other.inputs[:])
    np.testing.assert_array_equal(source.labels, other.labels)
    np.testing.assert_array_equal(source.part_ids, other.part_ids)
    assert source.class_names == other.class_names and source.parts == other.parts
    assert source.name_of(3) == "3.jpg"
    for mine, its in zip(batches(source), batches(other), strict=True):
        for leaf, expected in zip(mine, its, strict=True):
            np.testing.assert_array_equal(leaf, expected)
    assert (
        findings(source)[:2] == findings(other)[:2]
    )  # the same equal inputs, and digest of the data


def test_labels_alone_are_a_npy(npy_file, tmp_path):
    np.save(tmp_path / "more.npy", VECTORS)
    np.save(tmp_path / "more.labels.npy", LABELS)
    source = load_source("features:more.npy", tmp_path)
    np.testing.assert_array_equal(source.labels, LABELS)


def test_batches_go_on_where_they_were(npy_file):
    source = load_source(*npy_file())
    for mine, its in zip(batches(source)[2:], batches(source, start=2)[:3], strict=True):
        for leaf, expected in zip(mine, its, strict=True):
            np.testing.assert_array_equal(leaf, expected)


def test_a_value_that_is_not_finite_is_named_when_it_is_read(npy_file):
    features = VECTORS.copy()
    features[41, 2], features[50] = np.nan, 1e300  # the latter overflows float32
    names = np.array([f"photo {n}" for n in range(60)])
    inputs = load_source(*npy_file(features, item_names=names)).inputs
    np.testing.assert_array_equal(inputs[:41], features[:41].astype(np.float32))
    for rows, item in ((np.array([3, 41, 50]), 41), (slice(45, 60), 50), (41, 41)):
        with pytest.raises(UserError, match=f"some.npy: item {item} .photo {item}. holds a value"):
            inputs[rows]


def test_of_a_large_file_a_sample_is_read(npy_file, monkeypatch):
    monkeypatch.setattr(vectors, "READ_THROUGH_BYTES", 100)
    monkeypatch.setattr(vectors, "FINGERPRINT_ROWS", 3)
    monkeypatch.setattr("jaxhash.data.input_form.VECTOR_SAMPLE", 8)
    read = []
    of_rows = vectors.NpyRows.__getitem__
    monkeypatch.setattr(
        vectors.NpyRows,
        "__getitem__",
        lambda self, rows: read.append(np.size(np.arange(60)[rows])) or of_rows(self, rows),
    )
    found = findings(load_source(*npy_file()))
    assert sum(read) < 80 and not found.equal_inputs
    read.clear()
    measure_rows(load_source(*npy_file()).inputs, np.arange(50))
    assert sum(read) < 20  # 8 of them, beside single rows
    assert sum("equal inputs are" in note for note in found.notes) == 1


@pytest.mark.parametrize("row, changes", [(0, True), (59, True), (7, False)])
def test_a_changed_sample_of_a_large_file_is_other_data(npy_file, monkeypatch, row, changes):
    monkeypatch.setattr(vectors, "READ_THROUGH_BYTES", 100)
    monkeypatch.setattr(vectors, "FINGERPRINT_ROWS", 2)
    before = findings(load_source(*npy_file())).data_sha256
    other = VECTORS.copy()
    other[row] += 1
    assert (findings(load_source(*npy_file(other))).data_sha256 != before) == changes


def test_what_cannot_be_read_is_refused(npy_file, tmp_path, error_line):
    name, folder = npy_file(np.asfortranarray(VECTORS))
    assert "column by column" in error_line(name, folder)
    np.save(tmp_path / "bare.npy", VECTORS)
    line = error_line("features:bare.npy", tmp_path)
    assert "bare.labels.npz" in line and "bare.labels.npy" in line and "neither" in line
    np.save(tmp_path / "some.labels.npy", LABELS)
    assert "both" in error_line(name, folder)
    (tmp_path / "some.labels.npz").unlink()
    with open(tmp_path / "some.npy", "r+b") as file:
        file.truncate(1000)
    assert "some.npy" in (line := error_line(name, folder)) and "bytes" in line


def test_a_file_that_is_cut_while_it_is_open_is_named(npy_file, tmp_path):
    inputs = load_source(*npy_file()).inputs
    with open(tmp_path / "some.npy", "r+b") as file:
        file.truncate(1000)
    np.testing.assert_array_equal(inputs[:5], VECTORS[:5].astype(np.float32))
    with pytest.raises(UserError, match=r"some\.npy: it ends before byte 1,760"):
        inputs[50]


def test_many_files_are_not_all_held_open(tmp_path, monkeypatch):
    from jaxhash.data.readers import file_ranges

    monkeypatch.setattr(file_ranges, "_MAX_OPEN", 2)
    files = file_ranges.FileRanges()
    for number in range(5):
        (tmp_path / str(number)).write_bytes(bytes([number] * 4))
    for number in (0, 1, 2, 3, 4, 0, 4):
        assert files.read(tmp_path / str(number), 1, 2) == bytes([number] * 2)
        assert len(files._open) <= 2
    with pytest.raises(UserError, match="9: No such file"):
        files.read(tmp_path / "9", 0, 1)
