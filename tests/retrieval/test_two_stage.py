"""Two-stage search against a loop over queries, and as an option of the search of an index."""

import numpy as np
import pytest
from index_samples import fill, make_index

from jaxhash.retrieval.search import search_codes
from jaxhash.retrieval.two_stage import NO_CLASS, classed_codes
from jaxhash.utils.errors import UserError

RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 256, (60, 2), np.uint8)
QUERIES = RNG.integers(0, 256, (9, 2), np.uint8)
CLASSES = RNG.permutation(np.repeat([0, 1, 3, 7, NO_CLASS], [20, 3, 17, 14, 6]))
IDS = 3 * np.arange(60) + 5


def distances(code, codes):
    return np.unpackbits(code ^ codes, axis=1).sum(axis=1)


def by_loop(k, near):
    """Takes the nearest classes by the majority of their bits, and more until there are k items."""
    known = [0, 1, 3, 7]
    bits = [np.unpackbits(CODES[c == CLASSES], axis=1).mean(axis=0) >= 0.5 for c in known]
    anchors = np.packbits(np.array(bits), axis=1)
    for query in QUERIES:
        chosen = [NO_CLASS]
        for place, number in enumerate(np.argsort(distances(query, anchors), kind="stable")):
            if place < near or np.isin(CLASSES, chosen).sum() < k:
                chosen.append(known[number])
        rows = np.flatnonzero(np.isin(CLASSES, chosen))
        found = distances(query, CODES[rows])
        order = np.lexsort((rows, found))[:k]
        yield found[order], IDS[rows[order]], len(rows)


@pytest.mark.parametrize("near", [1, 2, 4])
@pytest.mark.parametrize("k", [1, 5, 30, 60])
def test_it_is_the_loop(k, near):
    database = classed_codes(CODES, CLASSES, IDS)
    found = database.search(QUERIES, k, near_classes=near)
    expected = list(by_loop(k, near))
    for query, (far, ids, _) in enumerate(expected):
        np.testing.assert_array_equal(found.distances[query], far)
        np.testing.assert_array_equal(found.rows[query], ids)
    compared = np.mean([rows for *_, rows in expected])
    assert database.share_searched(QUERIES, k, near) == pytest.approx(compared / 60)


def test_all_classes_are_the_exact_search():
    found = classed_codes(CODES, CLASSES).search(QUERIES, 10, near_classes=4)
    for array, other in zip(found, search_codes(QUERIES, CODES, 10), strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("near", [0, 5])
def test_a_number_of_classes_that_there_are_not_is_refused(near):
    with pytest.raises(UserError, match="`near_classes` must be from 1 to .* 4, got"):
        classed_codes(CODES, CLASSES).search(QUERIES, 1, near_classes=near)


def test_items_without_any_label_are_refused():
    with pytest.raises(UserError, match="`near_classes` needs items with a label"):
        classed_codes(CODES, np.full(60, NO_CLASS))


def test_an_index_searches_the_nearest_labels(tmp_path):
    """Removed items are gone, and a changed index is read again."""
    index = fill(make_index(tmp_path / "index"))
    ids, codes = map(np.concatenate, zip(*index.blocks(), strict=True))
    labels = [item.label for item in index.items(ids)]
    everything = len(set(labels))
    queries = codes[:3]
    exact = index.search(queries, 4)
    for array, other in zip(index.search(queries, 4, near_classes=everything), exact, strict=True):
        np.testing.assert_array_equal(array, other)
    near = index.search(queries, 1, near_classes=1)
    assert (near.distances >= exact.distances[:, :1]).all()
    index.remove([int(exact.ids[0, 0])])
    again = index.search(queries, 1, near_classes=everything - (labels.count(labels[0]) == 1))
    assert again.ids[0, 0] != exact.ids[0, 0]


def test_an_index_refuses_both_conditions(tmp_path):
    index = fill(make_index(tmp_path / "index"))
    queries = np.zeros((1, 2), np.uint8)
    with pytest.raises(UserError, match="`near_classes` and `where`"):
        index.search(queries, 1, near_classes=1, where={"label": "a"})
