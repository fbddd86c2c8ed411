"""Items of several modalities: which are kept, and what is refused in one line."""

import numpy as np
import pytest

from jaxhash.data.load import load_source
from jaxhash.utils.errors import UserError

LABELS = np.array([0, 1, 0, 1, 0])
TITLE = np.array([[1, 0], [0, 0], [2, 3], [0, 1], [4, 4]], np.float32)  # item 1 has none
BODY = np.array([[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4], [0, 0, 0]], np.float32)  # nor item 4
SPLIT = np.array([0, 0, 0, 1, 1])


def write(folder, name, features, **others):
    arrays = {"labels": LABELS, "split": SPLIT} | others
    np.savez(folder / f"{name}.npz", features=features, **arrays)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "title", TITLE, item_names=np.array(list("abcde")))
    write(tmp_path, "body", BODY)
    return tmp_path


BOTH = "modalities:title=features:title.npz,body=features:body.npz"


def test_items_that_have_all_modalities(folder):
    source = load_source(BOTH, folder)
    assert (source.name, len(source.inputs)) == (BOTH, 3)
    np.testing.assert_array_equal(source.labels, [0, 0, 1])
    np.testing.assert_array_equal(source.is_test, [0, 0, 1])
    rows = source.inputs[np.array([2, 0])]
    np.testing.assert_array_equal(rows["title"], TITLE[[3, 0]])
    np.testing.assert_array_equal(rows["body"], BODY[[3, 0]])
    np.testing.assert_array_equal(source.inputs[1]["body"], BODY[2])
    assert [source.name_of(item) for item in range(3)] == ["a", "c", "d"]
    assert "1 items have no title and are left out" in source.notes


def test_counts_stay_sparse_and_keep_their_words(folder):
    np.savez(
        folder / "words.npz",
        indptr=np.array([0, 1, 2, 3, 4, 4]),
        indices=np.array([0, 1, 1, 0]),
        counts=np.array([1, 2, 3, 4]),
        vocabulary=np.array(["oil", "tin"]),
        labels=LABELS,
        split=SPLIT,
    )
    source = load_source("modalities:a=counts:words.npz,b=features:body.npz", folder)
    np.testing.assert_array_equal(source.inputs[2:]["a"], [[0, 3], [4, 0]])
    assert source.inputs.parts["a"].vocabulary == ("oil", "tin")
    assert not any("without words" in note for note in source.notes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("modalities:title=features:title.npz", "at least two"),
        ("modalities:title", "expected"),
        ("modalities:a b=features:title.npz,c=features:body.npz", "a b"),
        (BOTH.replace("body=", "title="), "twice"),
        (BOTH.replace("body.npz", "short.npz"), "5 items and body 4"),
        (BOTH.replace("body.npz", "other.npz"), "different labels"),
        (BOTH.replace("body.npz", "whole.npz"), "different parts"),
        (BOTH.replace("body.npz", "zero.npz"), "no item has all"),
        (BOTH.replace("body.npz", "missing.npz"), "missing.npz"),
    ],
)
def test_what_does_not_fit_is_refused(folder, name, words):
    write(folder, "short", BODY[:4], labels=LABELS[:4], split=SPLIT[:4])
    write(folder, "other", BODY, labels=LABELS[::-1] * 1 + np.array([0, 0, 1, 0, 0]))
    np.savez(folder / "whole.npz", features=BODY, labels=LABELS)
    write(folder, "zero", np.zeros((5, 2), np.float32))
    with pytest.raises(UserError, match=words):
        load_source(name, folder)
