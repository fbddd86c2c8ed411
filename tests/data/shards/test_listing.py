"""Which files are shards, of which format and part."""

import pytest

from jaxhash.data.shards.listing import find_shards
from jaxhash.utils.errors import UserError


@pytest.fixture
def shards(tmp_path):
    """A function that makes files and finds the shards among them."""

    def find(*files, path="."):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        return find_shards("shards:set", tmp_path / path)

    return find


@pytest.mark.parametrize(
    "files, parts",
    [
        (["a.tar", "b.tar"], [None, None]),
        (["train-0.tar", "test-0.tar", "train-1.tar"], ["train", "train", "test"]),
        (["train/0.tar", "val/0.tar"], ["train", "validation"]),
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], ["train", "test"]),
        (["mnist-train.array_record-00000-of-00001", "mnist-test.array_record-00000-of-00001"], ["train", "test"]),
        (["imagenet-val-0000.tar", "imagenet-train-0000.tar"], ["train", "validation"]),
        (["trains.tar", "0001.tar"], [None, None]),
    ],
)  # fmt: skip
def test_parts_by_names(shards, files, parts):
    found = shards(*files)
    assert found.parts == parts and sorted(found.names) == sorted(files)


@pytest.mark.parametrize(
    "file, kind",
    [
        ("a.TAR", "tar"),
        ("a.pq", "parquet"),
        ("a.tfrecords", "tfrecord"),
        ("a.tfrecord-00000-of-00001", "tfrecord"),
        ("a.arrayrecord", "array_record"),
    ],
)
def test_formats_by_suffixes(shards, file, kind):
    assert shards(file).format == kind
    assert shards(path=file).names == [file]


def test_what_is_passed_over_is_said(shards):
    found = shards("a.tar", "README.md", ".hidden.tar", ".cache/b.tar", "list.txt")
    assert found.names == ["a.tar"]
    assert found.notes == ["passed over beside the shards: 1 x .md, 1 x .txt"]


@pytest.mark.parametrize(
    "files, expected",
    [
        ([], "holds no shards; shards are"),
        (["a.tar.gz", "b.png"], "holds no shards; it holds 1 x .gz, 1 x .png"),
        (["a.tar", "b.parquet"], "several formats (1 x .parquet, 1 x .tar)"),
        (["train-0.tar", "more.tar"], "and more.tar is not"),
        ([f"train-0000{n}-of-00004.tar" for n in (0, 2)], "train-00001-of-00004 and 1 more is missing"),
        (["a.tfrecord-00001-of-00003", "a.tfrecord-00003-of-00003"], "a.tfrecord-00002-of-00003 is missing"),
    ],
)  # fmt: skip
def test_what_is_refused(shards, files, expected):
    with pytest.raises(UserError) as caught:
        shards(*files)
    assert expected in str(caught.value)


def test_a_folder_that_is_not_there(shards):
    with pytest.raises(UserError, match="there is no .*missing"):
        shards(path="missing")
