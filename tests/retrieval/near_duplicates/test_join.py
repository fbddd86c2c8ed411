"""The join within a radius against all distances, and against faiss."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_oracle import all_distances, packed_codes

from jaxhash.retrieval.near_duplicates import join
from jaxhash.retrieval.near_duplicates.join import distinct_codes, join_within
from jaxhash.utils.errors import UserError


def near_codes(n, bits, seed):
    """Codes near a few centers, at distances of 0 to 12 bits from them."""
    rng = np.random.default_rng(seed)
    codes = packed_codes(n, bits, seed, distinct=max(n // 6, 1))
    flips = rng.random((n, bits)) < rng.integers(13, size=(n, 1)) / bits
    return codes ^ np.packbits(flips, axis=1)


def all_pairs(codes, radius, others=None):
    distances = all_distances(codes, codes if others is None else others)
    near = distances <= radius
    rows = np.nonzero(np.triu(near, 1) if others is None else near)
    return list(zip(*map(np.ndarray.tolist, rows), distances[rows].tolist(), strict=True))


def joined(*arguments, **options):
    """All pairs in order; a pair that comes twice stays twice."""
    found = list(join_within(*arguments, **options))
    for pairs in found:
        assert [array.dtype for array in pairs] == [np.int64, np.int64, np.int32]
        assert len(pairs.first)
    triples = [zip(*map(np.ndarray.tolist, pairs), strict=True) for pairs in found]
    return sorted(triple for each in triples for triple in each)


@pytest.fixture(params=["tables", "scan", "chosen"])
def method(request, monkeypatch):
    """Both ways to join, whichever would be chosen."""
    if request.param == "scan":
        monkeypatch.setattr(join, "choose_tables", lambda *_: None)
    if request.param == "tables":
        monkeypatch.setattr("jaxhash.retrieval.near_duplicates.tables._SCAN_COST", 1e9)
    return request.param


@pytest.mark.parametrize("bits", [8, 12, 64, 100, 256])
@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 8])
def test_all_pairs_are_found_once(method, bits, radius, monkeypatch):
    monkeypatch.setattr(join, "_PAIRS", 7)  # several blocks
    monkeypatch.setattr(join, "_SCAN_QUERIES", 32)
    monkeypatch.setattr(join, "_SCAN_ROWS", 50)
    codes, others = near_codes(150, bits, 0), near_codes(130, bits, 0)[::-1]
    expected = all_pairs(codes, radius)
    assert joined(codes, radius) == expected
    assert len(expected) > 5 or radius == 0
    assert joined(codes, radius, others=others) == all_pairs(codes, radius, others)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_codes_and_radius(data):
    bits = data.draw(st.integers(1, 140))
    codes = near_codes(data.draw(st.integers(0, 60)), bits, data.draw(st.integers(0, 99)))
    others = near_codes(data.draw(st.integers(0, 60)), bits, data.draw(st.integers(0, 99)))
    radius = data.draw(st.integers(0, bits + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxhash.retrieval.near_duplicates.tables._SCAN_COST", 1e9)
        assert joined(codes, radius) == all_pairs(codes, radius)
        assert joined(codes, radius, others=others) == all_pairs(codes, radius, others)


def test_keys_whose_hashes_are_equal_lose_no_pair_and_add_none(method, monkeypatch):
    """Without the multiplier many codes of different bits have the same hash."""
    monkeypatch.setattr("jaxhash.retrieval.near_duplicates.tables._MULTIPLIER", np.uint64(1))
    codes = near_codes(150, 64, 3)
    assert joined(codes, 3) == all_pairs(codes, 3)


@pytest.mark.parametrize("radius", [1, 3])
def test_many_codes_as_by_faiss(radius):
    """A peer: 20,000 codes, by tables that were chosen by their cost, and by MultiHash."""
    codes = distinct_codes(near_codes(20_000, 64, 1)).codes
    multi_hash = faiss.IndexBinaryMultiHash(64, 4, 16)
    multi_hash.add(codes)
    limits, distances, rows = multi_hash.range_search(codes, radius + 1)
    first = np.repeat(np.arange(len(codes)), np.diff(limits).astype(np.int64))
    expected = sorted(
        (a, b, d)
        for a, b, d in zip(first.tolist(), rows.tolist(), distances.tolist(), strict=True)
        if a < b
    )
    assert len(expected) > 100
    assert joined(codes, radius) == expected


def test_the_order_is_the_same_each_time():
    codes = near_codes(3000, 64, 2)
    runs = [[array.tobytes() for pairs in join_within(codes, 3) for array in pairs] for _ in "ab"]
    assert runs[0] == runs[1] and runs[0]


def test_more_pairs_than_allowed_are_refused(method):
    codes = np.zeros((50, 8), np.uint8)
    assert len(joined(codes, 3, max_pairs=1225)) == 1225
    with pytest.raises(UserError, match="`radius=3`.*1,224"):
        joined(codes, 3, max_pairs=1224)


def test_no_code_and_one():
    codes = packed_codes(4, 16, 0)
    assert joined(codes[:0], 3) == joined(codes[:1], 3) == []
    assert joined(codes, 16, others=codes[:0]) == joined(codes[:0], 16, others=codes) == []


def test_what_is_no_code_or_radius(unchecked):
    codes = packed_codes(4, 16, 0)
    with pytest.raises(UserError, match="`radius`"):
        join_within(codes, -1)
    with pytest.raises(ValueError, match="others must"):
        join_within(codes, 1, others=codes[:, :1])
    with pytest.raises(ValueError, match="int8"):
        join_within(codes.astype(np.int8), 1)


class Blocks:
    """What has codes in blocks."""

    def __init__(self, ids, codes):
        self._ids, self._codes = ids, codes

    def blocks(self):
        yield self._ids[:7], self._codes[:7]
        yield self._ids[7:], self._codes[7:]


@pytest.mark.parametrize("bits", [8, 64, 100])
@pytest.mark.parametrize("distinct", [1, 5, None])
def test_equal_codes_are_grouped(bits, distinct):
    codes = packed_codes(60, bits, 0, distinct=distinct)
    groups = {}
    for row, code in enumerate(codes):
        groups.setdefault(code.tobytes(), []).append(row)
    found = distinct_codes(codes)
    assert [code.tobytes() for code in found.codes] == list(groups)
    assert [found.rows_of(code).tolist() for code in range(len(groups))] == list(groups.values())
    assert found.starts[-1] == len(found.rows) == 60
    ids = np.arange(60) * 3 + 2
    by_id = distinct_codes(Blocks(ids, codes))
    np.testing.assert_array_equal(by_id.rows, ids[found.rows])
    np.testing.assert_array_equal(by_id.codes, found.codes)


def test_no_items_to_group():
    found = distinct_codes(np.empty((0, 8), np.uint8))
    assert found.codes.shape == (0, 8) and found.starts.tolist() == [0] and not len(found.rows)
