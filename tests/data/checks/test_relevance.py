"""Relevance in a search and in a training, by brute force."""

import numpy as np
import pytest

from jaxhash.data.checks.relevance import check_learnable, check_relevance
from jaxhash.data.splits import Split
from jaxhash.similarity import shares_label
from jaxhash.utils.errors import UserError

SPLIT = Split("some", np.arange(2), np.arange(2, 8), np.arange(8, 20))


def ids(*labels):
    return np.array([0, 1, *labels])


def rows(labels, classes=4):
    return (labels[:, None] == np.arange(classes)).astype(np.int8)


SEARCHES = {
    "two classes": ids(*[0, 1] * 9),
    "one class": ids(*[3] * 18),
    "one class and items without": ids(*[3] * 6, *[3] * 11, -1),
    "no label": ids(*[-1] * 18),
    "no label to search for": ids(*[-1] * 6, *[0, 1] * 6),
    "no class in common": ids(*[2] * 6, *[0, 1] * 6),
    "some in common": ids(2, 2, 0, 0, 1, -1, *[0, 1] * 6),
}


@pytest.mark.parametrize("kind", ["ids", "rows"])
@pytest.mark.parametrize("labels", SEARCHES.values(), ids=SEARCHES)
def test_what_is_relevant(labels, kind):
    labels = labels if kind == "ids" else rows(labels)
    relevant = shares_label(labels[SPLIT.query], labels[SPLIT.database])
    useless, less = check_relevance(labels[SPLIT.query], labels[SPLIT.database])
    assert [sentence.endswith("any codes have mAP 1") for sentence in useless] == (
        [True] if relevant.all() else [] if relevant.any() else [False]
    )
    missing = int((~relevant.any(axis=1)).sum())
    partly = f"queries with nothing relevant in the database: {missing} of 6"
    assert less == ([partly] if 0 < missing < 6 else [])


LEARNT = {
    "one class": (np.array([1, 1, 1]), "all training items are of class dog"),
    "one class, some without": (np.array([1, -1, 1]), "all training items are of class dog"),
    "one item": (np.array([1]), "all training items are of class dog"),
    "their own": (np.array([0, 1, 2]), "each training item is of a class of its own"),
    "none": (np.array([-1, -1]), "no training item has any"),
    "two": (np.array([0, 1, 1]), None),
    "two and none": (np.array([0, 1, 1, -1]), None),
}


@pytest.mark.parametrize("kind", ["ids", "rows"])
@pytest.mark.parametrize(("labels", "said"), LEARNT.values(), ids=LEARNT)
def test_labels_that_teach_nothing(labels, said, kind):
    own = said is not None and "its own" in said
    names = ["cat", "dog", "elk", "fox"]
    if kind == "rows":
        labels, said = rows(labels), None if own else said
    if said is None:
        check_learnable(labels, names, "csq")
        return
    with pytest.raises(UserError, match=f"`objective=csq` .*{said}"):
        check_learnable(labels, names, "csq")
    if own:  # whose similarity is known by other means
        check_learnable(labels, names, "shrewd", own_classes=True)


def test_a_class_that_all_items_of_several_have():
    with pytest.raises(UserError, match="all training items are of class elk"):
        check_learnable(np.array([[1, 0, 1], [0, 1, 1]]), ["cat", "dog", "elk"], "csq")
