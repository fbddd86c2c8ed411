"""List files: both kinds of lines, the line that is wrong, and the split that three of them make."""

import numpy as np
import pytest

from jaxhash.data.readers.lists import read_list, read_split_lists
from jaxhash.utils.errors import UserError

TRAIN = "a.jpg 1 0 0\nb.jpg 0 1 1\n"
QUERY = "q.jpg 0 0 1\n"
DATABASE = "z.jpg 0 0 0\nc.jpg 1 1 0\nd.jpg 0 1 0\n"


@pytest.fixture
def write(tmp_path):
    """A function that writes a file of this content, text or bytes, and returns its path."""

    def write(name, content):
        content = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.fixture
def folder(write, tmp_path):
    """A function that writes the three lists of a split, and returns their folder."""

    def lists(train=TRAIN, query=QUERY, database=DATABASE, query_name="test.txt"):
        write("train.txt", train)
        write(query_name, query)
        write("database.txt", database)
        return tmp_path

    return lists


# One list


def test_labels_of_each_class(write):
    found = read_list(write("list.txt", TRAIN))
    assert found.paths == ("a.jpg", "b.jpg")
    assert found.labels.dtype == np.int8
    np.testing.assert_array_equal(found.labels, [[1, 0, 0], [0, 1, 1]])


def test_class_ids(write):
    found = read_list(write("list.txt", "a.jpg 3\nb.jpg 0\nc.jpg 12\n"))
    assert found.paths == ("a.jpg", "b.jpg", "c.jpg")
    np.testing.assert_array_equal(found.labels, [3, 0, 12])


@pytest.mark.parametrize(
    "content",
    [
        TRAIN.rstrip(),
        TRAIN + "\n\n  \n",
        TRAIN.replace("\n", "\r\n"),
        TRAIN.replace(" ", "\t"),
        TRAIN.replace(" ", "   ").replace("\n", " \n"),
        b"\xef\xbb\xbf" + TRAIN.encode(),
    ],
    ids=["no end", "empty lines", "CRLF", "tabs", "blanks", "BOM"],
)
def test_lines_as_they_are_written_anywhere(write, content):
    found, usual = read_list(write("list.txt", content)), read_list(write("usual.txt", TRAIN))
    assert found.paths == usual.paths
    np.testing.assert_array_equal(found.labels, usual.labels)


def test_path_in_any_script(write):
    assert read_list(write("list.txt", "猫/é.jpg 0\n")).paths == ("猫/é.jpg",)


WRONG_LINES = {
    "no label": (TRAIN + "c.jpg\n", "line 3: expected a path and its labels, got 'c.jpg'"),
    "empty line": ("a.jpg 1 0\n\nb.jpg 0 1\n", "line 2: expected a path and its labels, got ''"),
    "first line empty": ("\na.jpg 1 0\n", "line 1: expected a path and its labels, got ''"),
    "fewer labels": (TRAIN + "c.jpg 1 0\n", "line 3: 2 labels, but line 1 has 3"),
    "more labels": ("a.jpg 1\nb.jpg 1 0\n", "line 2: 2 labels, but line 1 has 1"),
    "two": ("a.jpg 1 0\nb.jpg 2 0\n", "line 2: expected 0 or 1 for each class, got '2'"),
    "minus one": ("a.jpg 1 -1\n", "line 1: expected 0 or 1 for each class, got '-1'"),
    "fraction": ("a.jpg 1 0.0\n", "line 1: expected 0 or 1 for each class, got '0.0'"),
    "path with a blank": ("my cat.jpg 1 0\n", "expected 0 or 1 for each class, got 'cat.jpg'"),
    "name of a class": ("a.jpg 3\nb.jpg cat\n", "line 2: expected a class id from 0, got 'cat'"),
    "negative id": ("a.jpg -2\n", "line 1: expected a class id from 0, got '-2'"),
    "other digits": ("a.jpg ３\n", "line 1: expected a class id from 0, got '３'"),
    "long number": (f"a.jpg {'9' * 5000}\n", "line 1: class ids must be below 10^18, got 999"),
    "not UTF-8": (b"a.jpg 1 0\n\xff.jpg 1 0\n", "line 2: not UTF-8"),
    "UTF-16": ("a.jpg 1\n".encode("utf-16"), "line 1: not UTF-8"),
}


@pytest.mark.parametrize(("content", "said"), WRONG_LINES.values(), ids=WRONG_LINES)
def test_wrong_line(write, content, said):
    path = write("list.txt", content)
    with pytest.raises(UserError) as caught:
        read_list(path)
    line = str(caught.value)
    assert line.startswith(f"{path}, line ") and said in line
    assert "\n" not in line and len(line) < 300


@pytest.mark.parametrize("content", ["", "\n", " \r\n\n", b"\xef\xbb\xbf"])
def test_empty_list(write, content):
    with pytest.raises(UserError, match="list.txt: the list is empty"):
        read_list(write("list.txt", content))


def test_missing_list(tmp_path):
    with pytest.raises(UserError, match="none.txt: there is no such list file"):
        read_list(tmp_path / "none.txt")


# Three lists


@pytest.mark.parametrize("query_name", ["test.txt", "query.txt", "Test.TXT"])
def test_split_of_a_folder(folder, query_name):
    """Items are the paths in sorted order: a, b, c, d, q, z."""
    where = folder(query_name=query_name)
    listed = read_split_lists(where)
    assert listed.paths == ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "q.jpg", "z.jpg")
    np.testing.assert_array_equal(listed.split.train, [0, 1])
    np.testing.assert_array_equal(listed.split.query, [4])
    np.testing.assert_array_equal(listed.split.database, [5, 2, 3])
    np.testing.assert_array_equal(
        listed.labels, [[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    )
    assert listed.split.name == f"lists-{where.name}"
    assert listed.conflicts == () and listed.split.leaks == []


def test_split_of_three_files(folder, tmp_path):
    same = read_split_lists(folder())
    (tmp_path / "train.txt").rename(tmp_path / "learn.list")
    names = {"train": "learn.list", "query": "test.txt", "database": "database.txt"}
    listed = read_split_lists({part: tmp_path / name for part, name in names.items()})
    assert listed.split.sha256 == same.split.sha256 and listed.paths == same.paths


def test_lines_of_one_path_are_one_item(folder):
    """The path, written in one way or another."""
    listed = read_split_lists(folder(database=DATABASE + "./q.jpg 0 0 1\nx/../a.jpg 1 0 0\n"))
    assert len(listed.paths) == 6 and listed.conflicts == ()
    assert listed.split.leaks == ["query and database share 1 item"]
    assert listed.split.overlaps()["train"]["database"] == 1


def test_separators_of_windows_are_separators(folder):
    lists = folder(train="d/a.jpg 1 0 0\n", query="d\\a.jpg 1 0 0\n")
    assert read_split_lists(lists).split.leaks == ["query and train share 1 item"]


def test_line_that_is_there_twice(folder):
    listed = read_split_lists(folder(query=QUERY * 3))
    assert listed.split.leaks == ["query holds 1 item more than once"]


def test_path_with_different_labels(folder):
    """The first line is taken, of the training items before the queries before the database."""
    where = folder(query=QUERY + "a.jpg 0 1 0\n", database=DATABASE + "a.jpg 1 0 0\nq.jpg 1 1 1\n")
    listed = read_split_lists(where)
    assert listed.conflicts == (
        f"a.jpg has other labels in {where}/test.txt line 2 than in {where}/train.txt line 1",
        f"q.jpg has other labels in {where}/database.txt line 5 than in {where}/test.txt line 1",
    )
    labels = dict(zip(listed.paths, listed.labels.tolist(), strict=True))
    assert labels["a.jpg"] == [1, 0, 0] and labels["q.jpg"] == [0, 0, 1]


def test_class_ids_that_differ(folder):
    listed = read_split_lists(folder("a 1\nb 2\n", "q 1\n", "a 2\nz 0\n"))
    assert listed.labels.tolist() == [1, 2, 1, 0]
    assert len(listed.conflicts) == 1 and listed.conflicts[0].startswith("a has other labels in ")


def test_ids_without_a_class(folder):
    """-1 is no label; an id of an image is no class, and its line is named."""
    assert read_split_lists(folder("a 1\nb -1\n", "q 1\n", "z 0\n")).labels.tolist() == [
        1,
        -1,
        1,
        0,
    ]
    with pytest.raises(
        UserError, match="test.txt line 1: class ids must be below 1,000,000, got 1000"
    ):
        read_split_lists(folder("a 1\nb 2\n", "q 1000000\n", "z 0\n"))


def test_digest_tells_splits_of_the_same_images_apart(folder):
    digests = [
        read_split_lists(folder()).split.sha256,
        read_split_lists(folder(train=QUERY, query="a.jpg 1 0 0\n")).split.sha256,
        read_split_lists(folder(database="".join(DATABASE.splitlines(True)[::-1]))).split.sha256,
    ]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("z.jpg 1 0\n", "database.txt has 2 labels a line, but"),
        ("z.jpg 1\n", "database.txt has class ids, but"),
    ],
)
def test_lists_of_different_classes(folder, database, said):
    with pytest.raises(UserError) as caught:
        read_split_lists(folder(database=database))
    assert said in str(caught.value) and str(caught.value).endswith("train.txt has 3 labels a line")


def test_folder_that_lacks_a_list(folder, tmp_path):
    (folder() / "test.txt").unlink()
    with pytest.raises(UserError, match="has no test.txt or query.txt"):
        read_split_lists(tmp_path)
    folder(query_name="query.txt")
    (tmp_path / "test.txt").write_text(QUERY)
    with pytest.raises(UserError, match="has more than one of test.txt or query.txt"):
        read_split_lists(tmp_path)
    with pytest.raises(UserError, match="there is no such folder of lists"):
        read_split_lists(tmp_path / "nowhere")


def test_mirflickr_lists(shared_data):
    listed = read_split_lists(shared_data / "lists" / "mirflickr")
    assert [len(items) for items in listed.split.parts.values()] == [4_000, 1_000, 20_000]
    assert listed.labels.shape == (25_000, 38) and listed.conflicts == ()
    assert listed.split.leaks == [] and listed.split.overlaps()["train"]["database"] == 0
    assert (~listed.labels.any(axis=1)).sum() == 419
