"""Classes that take each other's places, beside a loop over queries and neighbors in fractions."""

from fractions import Fraction

import numpy as np
import pytest

from jaxhash import metrics
from jaxhash.retrieval import confusion
from jaxhash.retrieval.confusion import class_confusion

CLASSES = 5


def items_of(rng, count, kind, bits):
    """Codes that repeat, and labels with some items that have none."""
    codes = rng.integers(0, 2, (count, bits)) * 2 - 1
    codes[: count // 2] = codes[rng.integers(0, 6, count // 2)]
    if kind == "ids":
        labels = rng.integers(-1, CLASSES - 1, count)  # the last class has no item
    else:
        labels = (rng.random((count, CLASSES)) < 0.3).astype(np.int8)
        labels[:, -1] = 0
    return codes.astype(np.int8), labels


def class_sets(labels):
    if labels.ndim == 2:
        return [set(np.flatnonzero(row).tolist()) for row in labels]
    return [{int(label)} - {-1} for label in labels]


def counts_of(query, query_sets, database, database_sets):
    """Counts by distance, as `jaxhash.metrics.distance_counts` has them."""
    total, relevant = np.zeros((2, len(query), query.shape[1] + 1), int)
    for row, (code, own) in enumerate(zip(query, query_sets, strict=True)):
        for other, labels in zip(database, database_sets, strict=True):
            distance = (code != other).sum()
            total[row, distance] += 1
            relevant[row, distance] += bool(own & labels)
    return metrics.DistanceCounts(total, relevant)


def brute_force(query, query_sets, database, database_sets, k):
    """Sums fractions of neighbors over the orders of ties, by distances and sets of classes."""
    queries, neighbors, right = np.zeros((3, CLASSES), object)
    wrong = np.zeros((CLASSES, CLASSES), object)
    for code, own in zip(query, query_sets, strict=True):
        distances = (code != database).sum(axis=1)
        relevant = [bool(own & other) for other in database_sets]
        wanted = min(k, sum(relevant))
        if not wanted:
            continue
        last = np.sort(distances)[wanted - 1]
        before, there = int((distances < last).sum()), int((distances == last).sum())
        for each in own:
            queries[each] += 1
        for distance, is_right, other in zip(distances, relevant, database_sets, strict=True):
            if distance > last:
                continue
            weight = Fraction(1) if distance < last else Fraction(wanted - before, there)
            for each in own:
                neighbors[each] += weight
                right[each] += weight * is_right
                for another in other if not is_right else ():
                    wrong[each, another] += weight
    return queries, neighbors, right, wrong


@pytest.mark.parametrize("kind", ["ids", "sets"])
@pytest.mark.parametrize(("bits", "k"), [(3, 10), (12, 100), (12, 7)])
@pytest.mark.parametrize("pairs", [1, 10**6])
def test_counts_are_those_of_a_brute_force(kind, bits, k, pairs, monkeypatch):
    monkeypatch.setattr(confusion, "_PAIRS", pairs)
    rng = np.random.default_rng(bits + k)
    (query, query_labels), (database, labels) = (items_of(rng, n, kind, bits) for n in (40, 150))
    counts = counts_of(query, class_sets(query_labels), database, class_sets(labels))
    packed = [np.packbits(each > 0, axis=1) for each in (query, database)]
    found = class_confusion(
        packed[0], query_labels, packed[1], labels, counts, classes=CLASSES, k=k
    )
    queries, neighbors, right, wrong = brute_force(
        query, class_sets(query_labels), database, class_sets(labels), k
    )
    assert found.queries.tolist() == queries.tolist()
    for computed, exact in (
        (found.neighbors, neighbors),
        (found.right, right),
        (found.wrong.toarray(), wrong),
    ):
        np.testing.assert_allclose(computed, exact.astype(float), rtol=1e-12, atol=1e-12)
    assert (found.wrong.toarray() > 0).tolist() == (wrong > 0).tolist()
    order = sorted(zip(*np.nonzero(wrong), strict=True), key=lambda pair: (-wrong[pair], pair))
    numbers = [float(wrong[pair]) for pair in order]
    assert [number for *_, number in found.pairs()] == pytest.approx(numbers)
    if not any(number % 1 for number in numbers):  # sums of fractions may differ in the last digit
        assert [pair[:2] for pair in found.pairs()] == order
    if kind == "ids":  # each wrong neighbor has one class, or none
        unlabeled = found.neighbors - found.right - found.wrong.toarray().sum(axis=1)
        assert (unlabeled > -1e-9).all()


def test_whole_numbers_where_no_tie_is_cut():
    """Distances 0, 1, 2, 3 of one query, three relevant items: the first three are its neighbors."""
    database = np.array([[0b000], [0b001], [0b011], [0b111]], np.uint8) << 5
    labels = np.array([0, 1, 0, 0])
    counts = metrics.distance_counts(database[:1], labels[:1], database, labels, bits=3)
    found = class_confusion(database[:1], labels[:1], database, labels, counts, classes=2)
    assert found.neighbors.tolist() == [3, 0] and found.right.tolist() == [2, 0]
    assert found.wrong.toarray().tolist() == [[0, 1], [0, 0]]
    assert found.shares()[0] == pytest.approx(2 / 3) and np.isnan(found.shares()[1])
