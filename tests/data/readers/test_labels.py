"""The one reader of labels: what it takes as ids, as rows, and what it refuses, in any file."""

import numpy as np
import pytest

from jaxhash.data.load import load_source
from jaxhash.data.readers.labels import check_class_ids, read_labels
from jaxhash.utils.errors import UserError

IDS = [0, 2, -1, 1]
ROWS = [[0, 1], [1, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "f2", "f4", "f8", ">i4"])
def test_class_ids_of_any_dtype(dtype):
    read = read_labels(np.array(IDS, dtype), "f")
    assert read.dtype == np.int32 and read.tolist() == IDS


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f8"])
def test_rows_of_any_dtype(dtype):
    read = read_labels(np.array(ROWS, dtype), "f")
    assert read.dtype == np.int8 and read.tolist() == ROWS


def test_ids_that_need_more_than_32_bits_keep_them():
    read = read_labels(np.array([2**40, 2**40 + 1], np.uint64), "f")
    assert read.tolist() == [2**40, 2**40 + 1]


REFUSED = {
    "column of 0 and 1": (np.array([[0], [1]]), r"one column, shape \(2, 1\); .*labels\[:, 0\]"),
    "column of ids": (np.array([[0], [7]]), "one column"),
    "column of floats": (np.array([[0.0], [1.0]]), "one column"),
    "no columns": (np.zeros((3, 0)), "the set is empty"),
    "no items": (np.zeros(0, int), "the set is empty"),
    "a number": (np.array(3), "got shape ()"),
    "cube": (np.zeros((2, 2, 2)), r"got shape \(2, 2, 2\)"),
    "truth values": (np.array([True, False]), "must be integer class ids"),
    "NaN": (np.array([0, np.nan]), "must be integer class ids"),
    "NaN in a row": (np.array([[0, np.nan]]), "must be 0 or 1, got nan"),
    "halves": (np.array([0, 0.5]), "must be integer class ids"),
    "-2": (np.array([0, -2]), "got -2"),
    "uint64": (np.array([0, 2**63], np.uint64), "below 2^63"),
    "names": (np.array(["cat", "dog"]), "must be numbers, got <U3"),
    "objects": (np.array([0, None], object), "must be numbers, got object"),
    "complex": (np.array([1j]), "must be numbers, got complex128"),
    "counts in a row": (np.array([[0, 2]]), "must be 0 or 1, got 2"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("labels", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_labels(labels, said):
    with pytest.raises(UserError, match=said.replace("()", r"\(\)").replace("^", r"\^")) as caught:
        read_labels(labels, "some.npz", "query ")
    line = str(caught.value)
    assert line.startswith("some.npz: ") and "\n" not in line


def test_ids_that_are_no_classes_are_those_above_a_million_and_the_number_of_items():
    check_class_ids(np.array([10**6 - 1]), 1, "f")
    check_class_ids(np.array([10**6]), 10**6 + 1, "f")
    with pytest.raises(UserError, match="f: class ids must be below 1,000,000, got 1000000"):
        check_class_ids(np.array([10**6]), 10, "f")


COLUMN = np.arange(12)[:, None] % 2


@pytest.mark.parametrize("command", ["features", "codes", "npy", "pair"])
def test_a_column_is_refused_in_every_file(tmp_path, monkeypatch, refusal, command):
    """The same line of files of features, of both sides, of one side, and of labels alone."""
    monkeypatch.chdir(tmp_path)
    codes = np.random.default_rng(0).normal(size=(12, 8))
    np.savez("f.npz", features=codes, labels=COLUMN)
    sides = {"query_codes": codes, "database_codes": codes}
    np.savez("c.npz", **sides, query_labels=COLUMN, database_labels=COLUMN)
    np.savez("one.npz", codes=codes, labels=COLUMN)
    np.save("q.npy", codes)
    np.save("l.npy", COLUMN)
    commands = {
        "features": "data check --dataset features:f.npz",
        "codes": "evaluate c.npz",
        "npy": "evaluate q.npy --labels l.npy --database q.npy --database-labels l.npy",
        "pair": "evaluate one.npz --database one.npz",
    }
    line = refusal(*commands[command].split())
    assert "labels have one column, shape (12, 1)" in line


def test_a_set_of_more_than_a_million_items_without_classes(tmp_path):
    """As documented: each item is of a class of its own."""
    items = 10**6 + 1
    np.savez(tmp_path / "own.npz", features=np.zeros((items, 1), np.int8), labels=np.arange(items))
    source = load_source("features:own.npz", tmp_path)
    assert source.labels[-1] == 10**6 and len(source.class_names) == items
