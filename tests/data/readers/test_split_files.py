"""Split files: what they hold, and those that are refused."""

import numpy as np
import pytest

from jaxhash.data.readers.split_files import read_split
from jaxhash.utils.errors import UserError

ARRAYS = {"train": np.arange(3), "query": np.array([5]), "database": np.array([7, 6])}


@pytest.fixture
def split_file(tmp_path):
    """A function that writes a split file with these changes; None leaves an array out."""

    def write(**changes):
        arrays = {name: array for name, array in (ARRAYS | changes).items() if array is not None}
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_split_file(split_file, dtype):
    split = read_split(split_file(train=np.arange(3, dtype=dtype)), items=8)
    assert split.name == "mine" and len(split.validation) == 0
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(getattr(split, name), array)
        assert getattr(split, name).dtype == np.int64


def test_split_file_with_validation_and_a_leak(split_file):
    split = read_split(split_file(validation=np.array([4, 5])))
    np.testing.assert_array_equal(split.validation, [4, 5])
    assert split.leaks == ["query and validation share 1 item"]


WRONG_FILES = {
    "missing": (dict(query=None), "no array 'query'; the file holds ['database', 'train']"),
    "unknown": (dict(valid=np.arange(2)), "unknown array 'valid'; expected train, validation, "),
    "rows": (dict(query=np.eye(2, dtype=int)), "query must hold item numbers, got shape (2, 2)"),
    "mask": (dict(train=np.ones(8, bool)), "train must hold item numbers, got shape (8,) of bool"),
    "fractions": (dict(train=np.ones(3)), "got shape (3,) of float64"),
    "negative": (dict(query=np.array([3, -1])), "query must be from 0 and below 8, got -1"),
    "too large": (dict(database=np.array([7, 8])), "database must be from 0 and below 8, got 8"),
    "empty": (dict(train=np.arange(0)), "train is empty"),
    "pickled": (dict(train=np.array([{}])), "array 'train' is not readable"),
}


@pytest.mark.parametrize(("arrays", "said"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_wrong_split_file(split_file, arrays, said):
    path = split_file(**arrays)
    with pytest.raises(UserError) as caught:
        read_split(path, items=8)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)


def test_negative_number_where_the_items_are_not_known(split_file):
    with pytest.raises(UserError, match="query must be from 0, got -1"):
        read_split(split_file(query=np.array([-1])))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"], ids=range(3))
def test_split_file_that_is_none(tmp_path, content):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(UserError, match="not a readable"):
        read_split(tmp_path / "mine.npz")
    with pytest.raises(UserError, match="there is no such split file"):
        read_split(tmp_path / "other.npz")


def test_split_file_that_is_one_array(tmp_path):
    with open(tmp_path / "mine.npz", "wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(UserError, match="not a readable"):
        read_split(tmp_path / "mine.npz")
