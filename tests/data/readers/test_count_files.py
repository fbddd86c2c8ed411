"""Files of word counts: what they hold, and those that are refused."""

import numpy as np
import pytest
import scipy.sparse

from jaxhash.data.load import load_source

COUNTS = np.array([[2, 0, 1, 0], [0, 0, 0, 0], [0, 3, 0, 0], [1, 1, 0, 7], [0, 0, 0, 1]])
WORDS = np.array(["of", "hash", "code", "bit"])


def csr(counts, prefix=""):
    matrix = scipy.sparse.csr_matrix(counts)
    return {
        f"{prefix}indptr": matrix.indptr,
        f"{prefix}indices": matrix.indices.astype(np.uint16),
        f"{prefix}counts": matrix.data.astype(np.uint8),
    }


@pytest.fixture
def count_file(tmp_path):
    """A function that writes a file of counts and names the source that reads it."""

    def write(field="", **changes):
        arrays = {
            **csr(COUNTS),
            "vocabulary": WORDS,
            "labels": np.array([0, 1, 0, 1, 1]),
            **changes,
        }
        kept = {key: array for key, array in arrays.items() if array is not None}
        np.savez_compressed(tmp_path / "some.npz", **kept)
        return "counts:some.npz" + field, tmp_path

    return write


def test_rows_are_dense_counts_by_any_index(count_file):
    inputs = load_source(*count_file()).inputs
    assert inputs.shape == (5, 4) and len(inputs) == 5 and inputs[:].dtype == np.float32
    for rows in (0, np.int64(3), slice(1, 4), np.array([3, 0, 3]), np.array([], np.int64)):
        np.testing.assert_array_equal(inputs[rows], COUNTS[rows])


def test_documents_without_words_are_named(count_file):
    (note,) = load_source(*count_file()).notes
    assert "item 1" in note and "item 2" not in note
    assert load_source(*count_file(**csr(COUNTS + 1))).notes == ()


def test_a_field_is_read_by_its_name_and_all_of_them_without_one(count_file):
    title, body = COUNTS, COUNTS[::-1]
    none = dict.fromkeys(("indptr", "indices", "counts"))
    fields = csr(title, "title_") | csr(body, "body_")
    for name, expected in ((":title", title), (":body", body), ("", title + body)):
        source = load_source(*count_file(name, **none, **fields))
        np.testing.assert_array_equal(source.inputs[:], expected)
    assert any("title and body" in note for note in source.notes)


def test_repeated_entries_add_up_and_zeros_are_no_words(count_file):
    """A word that is stored twice in a row is one word of the document; a stored 0 is none."""
    arrays = {
        "indptr": np.array([0, 2, 3]),
        "indices": np.array([1, 1, 2]),
        "counts": np.array([2, 1, 0]),
        "labels": np.array([0, 1]),
    }
    inputs = load_source(*count_file(**arrays)).inputs
    np.testing.assert_array_equal(inputs[:], [[0, 3, 0, 0], [0, 0, 0, 0]])
    assert inputs.empty.tolist() == [1]
    assert inputs.weights(np.arange(2)).frequencies == (0, 1, 0, 0)


def test_labels_parts_and_names_are_those_of_a_feature_file(count_file):
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0]], bool)
    source = load_source(
        *count_file(
            labels=labels,
            class_names=np.array(["earn", "acq"]),
            split=np.array([0, 0, 0, 1, 1]),
            item_names=np.array(["a", "b", "c", "d", "e"]),
        )
    )
    np.testing.assert_array_equal(source.labels, labels)
    assert source.class_names == ("earn", "acq") and source.name_of(1) == "b"
    assert source.is_test.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"indptr": None}, "indptr"),
        ({"counts": None}, "counts"),
        ({"vocabulary": None}, "vocabulary"),
        ({"labels": None}, "labels"),
        ({"labels": np.arange(4)}, "5 documents"),
        ({"indptr": np.array([0, 2, 2, 3, 6, 9])}, "indptr"),
        ({"indptr": np.array([0, 2, 1, 3, 6, 7])}, "indptr"),
        ({"indptr": np.array([1, 2, 2, 3, 6, 7])}, "indptr"),
        ({"indptr": np.array([[0, 7]])}, "indptr"),
        ({"indices": np.array([0, 2, 1, 0, 1, 4, 3])}, "indices"),
        ({"indices": np.array([0, 2, 1, 0, 1, -1, 3])}, "indices"),
        ({"indices": np.ones(7)}, "indices"),
        ({"counts": np.array([1, 1, 1, 1, 1, 1, -1])}, "counts"),
        ({"counts": np.array([1, 1, 1, 1, 1, 1, np.nan])}, "counts"),
        ({"counts": np.array([1, 1, 1, 1, 1, 1])}, "counts"),
        ({"vocabulary": np.arange(4)}, "vocabulary"),
        ({"vocabulary": np.array(["of", "of", "code", "bit"])}, "twice"),
        ({"vocabulary": WORDS[:2]}, "vocabulary"),
        (csr(COUNTS[:2], "title_") | {"indptr": None} | csr(COUNTS, "body_"), "title 2"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(count_file, error_line, changes, words):
    line = error_line(*count_file(**changes))
    assert "some.npz" in line and words in line


def test_a_field_or_a_file_that_is_not_there_is_refused(count_file, error_line):
    name, folder = count_file(":title")
    assert "title" in error_line(name, folder)
    assert "none.npz" in error_line("counts:none.npz", folder)


@pytest.mark.parametrize("name", ["newsgroups20", "reuters21578"])
def test_the_shared_documents_are_read(shared_data, name):
    source = load_source(f"counts:text/{name}.npz", shared_data)
    documents, words = {"newsgroups20": (19997, 7164), "reuters21578": (9896, 10000)}[name]
    assert source.inputs.shape == (documents, words) and len(source.class_names) == 20
    assert len(source.inputs.empty) == {"newsgroups20": 4, "reuters21578": 57}[name]
