"""Metrics of a database in pieces are those of the whole database, to the last bit."""

import pickle

import numpy as np
import pytest

from jaxhash.metrics import (
    CONVENTIONS,
    Accumulator,
    Convention,
    ItemLists,
    distance_counts,
    evaluate_retrieval,
)
from jaxhash.metrics._values import ValueStatistics

RANDOM = np.random.default_rng(0)
QUERIES, ITEMS, BITS = 7, 60, 12
VALUES = RANDOM.normal(size=(QUERIES + ITEMS, BITS)).astype(np.float32)
CODES = {
    "real-valued": VALUES,
    "-1/+1": np.where(VALUES >= 0, 1, -1).astype(np.int8),
    "0/1": (VALUES >= 0).astype(np.int8),
    "bool": VALUES >= 0,
    "packed": np.packbits(VALUES >= 0, axis=1),
}
IDS = RANDOM.integers(-1, 3, QUERIES + ITEMS)
ROWS = RANDOM.integers(0, 2, (QUERIES + ITEMS, 4))
ROWS[QUERIES:30] = [1, 0, 0, 0]  # pieces of different highest gains


def pieces():
    borders = [0, 1, 9, 40, ITEMS]
    return [slice(QUERIES + a, QUERIES + b) for a, b in zip(borders, borders[1:], strict=False)]


def fill(accumulator, codes, labels, parts):
    for part in parts:
        accumulator.update(codes[part], labels[part])
    return accumulator


def assert_equal(found, expected):
    assert found.to_json() == expected.to_json()
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.weights, expected.weights)


@pytest.mark.parametrize("form", CODES)
@pytest.mark.parametrize("labels", [IDS, ROWS], ids=["ids", "rows"])
def test_pieces_are_the_whole(form, labels):
    codes, bits = CODES[form], BITS if form == "packed" else None
    sides = codes[:QUERIES], labels[:QUERIES], codes[QUERIES:], labels[QUERIES:]
    expected = evaluate_retrieval(*sides, k=10, radius=3, bits=bits)
    first, second = (Accumulator(*sides[:2], bits=bits) for _ in range(2))
    fill(first, codes, labels, pieces()[2:])
    fill(second, codes, labels, pieces()[:2])
    assert_equal(
        fill(Accumulator(*sides[:2], bits=bits), codes, labels, pieces()).compute(k=10, radius=3),
        expected,
    )
    first.merge(pickle.loads(pickle.dumps(second)))
    assert_equal(first.compute(k=10, radius=3), expected)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_pieces_are_the_whole_in_each_convention(convention):
    codes = CODES["-1/+1"]
    sides = codes[:QUERIES], ROWS[:QUERIES], codes[QUERIES:], ROWS[QUERIES:]
    found = fill(Accumulator(*sides[:2], convention=convention), codes, ROWS, pieces())
    total = Accumulator(*sides[:2], convention=convention)
    total.merge(found.counts)  # what other processes send
    total.merge(Accumulator(*sides[:2], convention=convention))  # a process without a piece
    assert_equal(total.compute(), evaluate_retrieval(*sides, convention=convention))


def test_pieces_are_the_whole_by_degrees():
    """Pieces whose highest gains differ; nDCG and ACG see every gain."""
    codes, graded = CODES["packed"], Convention("graded", relevance="graded")
    sides = codes[:QUERIES], ROWS[:QUERIES], codes[QUERIES:], ROWS[QUERIES:]
    found = fill(Accumulator(*sides[:2], convention=graded, bits=BITS), codes, ROWS, pieces())
    assert_equal(found.compute(k=9), evaluate_retrieval(*sides, k=9, convention=graded, bits=BITS))


@pytest.mark.parametrize("labels", [IDS, None], ids=["ids", "lists alone"])
def test_lists_are_taken_piece_by_piece(labels):
    draw = RANDOM.random((QUERIES, ITEMS))
    relevant, excluded = (
        ItemLists.from_pairs(np.argwhere(marks), queries=QUERIES)
        for marks in (draw < 0.2, draw > 0.8)
    )
    codes = CODES["packed"]
    of_sides = (None, None) if labels is None else (labels[:QUERIES], labels[QUERIES:])
    lists = {"excluded": excluded} | ({"relevance": relevant} if labels is None else {})
    expected = distance_counts(
        codes[:QUERIES], of_sides[0], codes[QUERIES:], of_sides[1], bits=BITS, **lists
    )
    accumulator = Accumulator(codes[:QUERIES], of_sides[0], bits=BITS)
    for part in pieces():
        rows = slice(part.start - QUERIES, part.stop - QUERIES)
        own = {name: each.of_rows(rows.start, rows.stop) for name, each in lists.items()}
        own_labels = None if labels is None else labels[part]
        accumulator.update(codes[part], own_labels, **own)
    np.testing.assert_array_equal(accumulator.counts.total, expected.total)
    np.testing.assert_array_equal(accumulator.counts.relevant, expected.relevant)


def test_every_code_is_read_once_for_its_format(monkeypatch):
    read, of = [], ValueStatistics.of
    monkeypatch.setattr(ValueStatistics, "of", lambda codes: read.append(len(codes)) or of(codes))
    fill(Accumulator(VALUES[:QUERIES], IDS[:QUERIES]), VALUES, IDS, pieces())
    assert read == [QUERIES, *(part.stop - part.start for part in pieces())]


def test_codes_that_are_read_in_another_way_are_refused():
    """With a query of ones alone, each piece by itself could be either."""
    ones, ids = np.ones((1, 4), np.int8), np.zeros(1, int)
    accumulator = Accumulator(ones, ids)
    accumulator.update(np.array([[0, 1, 1, 0]], np.int8), ids)
    with pytest.raises(ValueError, match="-1/.1 in this piece, and 0/1"):
        accumulator.update(np.array([[-1, 1, 1, -1]], np.int8), ids)
    other = Accumulator(ones, ids)
    other.update(np.array([[-1, 1, 1, -1]], np.int8), ids)
    with pytest.raises(ValueError, match="0/1 here, and -1/.1"):
        accumulator.merge(other)
    assert accumulator.counts.total.sum() == 1  # what was counted before stays


def test_what_does_not_belong_together_is_refused():
    codes, ids = CODES["0/1"], IDS
    one = fill(Accumulator(codes[:3], ids[:3]), codes, ids, pieces()[:1])
    for other, name in (
        (Accumulator(codes[1:4], ids[:3]), "queries"),
        (Accumulator(codes[:3], 1 + ids[:3]), "labels"),
        (Accumulator(codes[:3], ids[:3], convention="deephash-pytorch"), "conventions"),
        (Accumulator(codes[:3], ids[:3], zero="error"), "forms"),
    ):
        with pytest.raises(ValueError, match=f"the {name} of"):
            one.merge(other)
    with pytest.raises(ValueError, match="counts must have shape"):
        Accumulator(codes[:2], ids[:2]).merge(one.counts)
    with pytest.raises(ValueError, match="no piece"):
        Accumulator(codes[:3], ids[:3]).compute()
