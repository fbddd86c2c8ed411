"""Lists of relevant and of excluded items, against counts of a brute-force ranking."""

import numpy as np
import pytest

from jaxhash.metrics import ItemLists, distance_counts, ndcg, recall_at_k

RNG = np.random.default_rng(0)
QUERIES, ITEMS, BITS = 7, 40, 6
CODES = RNG.choice(np.array([-1, 1], np.int8), (QUERIES + ITEMS, BITS))
SIDES = CODES[:QUERIES], CODES[QUERIES:]


def draw(share, seed):
    pairs = np.argwhere(np.random.default_rng(seed).random((QUERIES, ITEMS)) < share)
    return ItemLists.from_pairs(np.random.default_rng(1).permutation(pairs), queries=QUERIES)


def brute(relevant, kept, levels=1):
    """Counts by loops over queries and items."""
    total = np.zeros((QUERIES, BITS + 1), int)
    of_level = np.zeros((QUERIES, BITS + 1, levels), int)
    for q in range(QUERIES):
        for i in range(ITEMS):
            if kept[q, i]:
                distance = int((SIDES[0][q] != SIDES[1][i]).sum())
                total[q, distance] += 1
                if relevant[q, i]:
                    of_level[q, distance, relevant[q, i] - 1] += 1
    return total, of_level


def marks(lists):
    found = np.zeros((QUERIES, ITEMS), bool)
    for q in range(QUERIES):
        found[q, lists.items[lists.indptr[q] : lists.indptr[q + 1]]] = True
    return found


@pytest.mark.parametrize("form", ["signs", "packed", "floats"])
def test_lists_in_place_of_labels(form):
    relevant = draw(0.2, seed=2)
    allowed = ~marks(relevant)
    excluded = ItemLists.from_pairs(
        np.argwhere(marks(draw(0.3, seed=3)) & allowed), queries=QUERIES
    )
    total, levels = brute(marks(relevant).astype(int), ~marks(excluded))
    options = {}
    sides = SIDES
    if form == "packed":
        sides, options = [np.packbits(side > 0, axis=1) for side in SIDES], {"bits": BITS}
    if form == "floats":
        sides = [side * RNG.uniform(0.1, 2, side.shape) for side in SIDES]
    counts = distance_counts(
        sides[0], None, sides[1], None, relevance=relevant, excluded=excluded, **options
    )
    np.testing.assert_array_equal(counts.total, total)
    np.testing.assert_array_equal(counts.relevant, levels[..., 0])


@pytest.mark.parametrize("relevance", ["shared", "graded", "equal", "ids"])
def test_excluded_items_beside_labels(relevance):
    excluded = draw(0.3, seed=4)
    if relevance == "ids":
        labels = RNG.integers(-1, 3, QUERIES + ITEMS)
        one, other = labels[:QUERIES, None], labels[None, QUERIES:]
        relevant, levels = ((one == other) & (one >= 0)).astype(int), 1
    else:
        labels = (RNG.random((QUERIES + ITEMS, 4)) < 0.4).astype(np.uint8)
        one, other = labels[:QUERIES], labels[QUERIES:]
        shared = one.astype(int) @ other.T
        same = (one[:, None] == other).all(axis=2) & one.any(axis=1)[:, None]
        relevant = {"shared": shared > 0, "graded": shared, "equal": same}[relevance].astype(int)
        levels = int(relevant.max())
    total, of_level = brute(relevant, ~marks(excluded), levels)
    counts = distance_counts(
        SIDES[0],
        labels[:QUERIES],
        SIDES[1],
        labels[QUERIES:],
        relevance="shared" if relevance == "ids" else relevance,
        excluded=excluded,
    )
    np.testing.assert_array_equal(counts.total, total)
    np.testing.assert_array_equal(counts.relevant, of_level.sum(axis=2))
    if relevance == "graded":
        np.testing.assert_array_equal(counts.gains[..., :levels], of_level)


def test_a_worked_ranking_without_what_was_seen():
    """Distances 0, 1, 1, 2; the nearest is excluded: one of the two at 1 is relevant."""
    query, items = np.array([[1, 1]]), np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    lists = {
        "relevance": ItemLists(np.array([0, 1]), np.array([1])),
        "excluded": ItemLists(np.array([0, 1]), np.array([0])),
    }
    counts = distance_counts(query, None, items, None, **lists)
    assert counts.total.tolist() == [[0, 2, 1]]
    assert recall_at_k(counts, 1).item() == 0.5
    assert ndcg(counts, 2).item() == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_order_of_the_database_does_not_matter():
    relevant, order = draw(0.2, seed=2), RNG.permutation(ITEMS)
    place = np.argsort(order)
    moved = np.stack([relevant.query_of_pair, place[relevant.items]], axis=1)
    moved = ItemLists.from_pairs(moved, queries=QUERIES)
    one = distance_counts(SIDES[0], None, SIDES[1], None, relevance=relevant)
    other = distance_counts(SIDES[0], None, SIDES[1][order], None, relevance=moved)
    np.testing.assert_array_equal(one.relevant, other.relevant)


def test_take_and_marks_are_those_of_the_queries():
    lists, queries = draw(0.3, seed=5), np.array([4, 0, 4])
    np.testing.assert_array_equal(lists.marks(queries, ITEMS), marks(lists)[queries])
    assert [lists.take(queries).of(row).tolist() for row in range(3)] == [
        lists.of(q).tolist() for q in queries
    ]


@pytest.mark.parametrize(
    ("name", "indptr", "items", "error"),
    [
        ("relevance", [0, 1], [0], ValueError),
        ("excluded", [0, *[1] * QUERIES], [ITEMS], ValueError),
        ("excluded", [0, *[2] * QUERIES], [3, 3], ValueError),
        ("excluded", [0, *[1] * QUERIES], [1, 2], ValueError),
        ("relevance", [0, *[1] * QUERIES], [0.0], TypeError),
    ],
)
def test_what_is_no_list_is_refused_by_name(unchecked, name, indptr, items, error):
    lists = ItemLists(np.array(indptr), np.array(items))
    labels = np.zeros(QUERIES + ITEMS, int)
    with pytest.raises(error, match=f"^{name} must"):
        distance_counts(SIDES[0], labels[:QUERIES], SIDES[1], labels[QUERIES:], **{name: lists})


def test_an_item_is_not_both_relevant_and_excluded():
    lists = draw(0.2, seed=2)
    with pytest.raises(ValueError, match="must not share an item"):
        distance_counts(SIDES[0], None, SIDES[1], None, relevance=lists, excluded=lists)
