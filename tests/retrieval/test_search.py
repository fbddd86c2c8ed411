"""Search over packed codes by faiss against a sort of all distances."""

import threading

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_oracle import all_distances, nearest, packed_codes, within

from jaxhash.retrieval.search import (
    count_at_distance,
    range_search_codes,
    search_blocks,
    search_codes,
)
from jaxhash.utils.errors import UserError

BITS = [8, 12, 64, 100, 256]


def assert_equal(found, expected):
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("k", [1, 7, 300])
@pytest.mark.parametrize("distinct", [None, 9])
def test_nearest_are_ranked_by_distance_then_by_row(bits, k, distinct):
    """70 queries are three slices; 300 neighbors are the whole database."""
    queries, codes = packed_codes(70, bits, 0), packed_codes(300, bits, 1, distinct=distinct)
    found = search_codes(queries, codes, k)
    assert_equal(found, nearest(queries, codes, k))
    assert [array.dtype for array in found] == [np.int32, np.int64]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_blocks_give_what_the_whole_gives(data):
    codes = packed_codes(
        data.draw(st.integers(1, 90)), 12, data.draw(st.integers(0, 99)), distinct=8
    )
    ids = np.cumsum(
        data.draw(st.lists(st.integers(1, 3), min_size=len(codes), max_size=len(codes)))
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(codes)), max_size=5)))
    k = data.draw(st.integers(1, len(codes)))
    queries = packed_codes(5, 12, 7)
    blocks = zip(np.split(ids, cuts), np.split(codes, cuts), strict=True)
    distances, rows = nearest(queries, codes, k)
    assert_equal(search_blocks(queries, blocks, k), (distances, ids[rows]))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("radius", [0, 1, 3, 400])
def test_within_a_radius(bits, radius, monkeypatch):
    """The radius itself counts, in one block of rows or in several."""
    queries, codes = packed_codes(40, bits, 0), packed_codes(150, bits, 1)
    queries[:20] = codes[::-1][:20]
    for rows in (2**16, 32):
        monkeypatch.setattr("jaxhash.retrieval.search._ROWS_PER_RANGE", rows)
        found = range_search_codes(queries, codes, radius)
        assert len(found) == 40
        for query, each in zip(queries, found, strict=True):
            assert_equal(each, within(query, codes, radius))
            assert [array.dtype for array in each] == [np.int32, np.int64]


@pytest.mark.parametrize("weighted", [False, True])
def test_items_at_a_distance_are_counted(weighted, monkeypatch):
    monkeypatch.setattr("jaxhash.retrieval.search._ROWS_PER_RANGE", 32)
    queries, codes = packed_codes(40, 12, 0), packed_codes(150, 12, 1)
    weights = np.arange(150) if weighted else None
    distances = nearest(queries, codes, 5)[0][:, -1]
    at = all_distances(queries, codes) == distances[:, None]
    expected = (at * (weights if weighted else 1)).sum(axis=1)
    np.testing.assert_array_equal(count_at_distance(queries, codes, distances, weights), expected)


def test_codes_may_be_mapped_and_queries_strided(tmp_path):
    codes = packed_codes(100, 64, 0)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    queries = packed_codes(10, 128, 1)[:, ::2]
    assert_equal(search_codes(queries, mapped, 3), nearest(queries, codes, 3))


def test_no_query_and_no_row():
    codes = packed_codes(4, 8, 0)
    distances, rows = search_codes(codes[:0], codes, 3)
    assert distances.shape == rows.shape == (0, 3)
    assert range_search_codes(codes[:0], codes, 3) == []
    [(distances, rows)] = range_search_codes(codes[:1], codes[:0], 3)
    assert distances.shape == rows.shape == (0,)
    assert count_at_distance(codes[:1], codes[:0], np.array([3])).tolist() == [0]


def test_threads_of_other_users_of_faiss_stay_as_they_are():
    """faiss is on one thread during a search, and neither here nor in another thread afterwards."""
    seen, before = [], faiss.omp_get_max_threads()
    codes = packed_codes(4, 8, 0)

    def look(*arguments):
        seen.append(faiss.omp_get_max_threads())
        return nearest(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss, "knn_hamming", look)
        search_codes(codes, codes, 1)
    other = threading.Thread(target=lambda: seen.append(faiss.omp_get_max_threads()))
    other.start()
    other.join()
    assert seen == [1, before] and faiss.omp_get_max_threads() == before


def test_k_and_radius_that_are_out_of_range():
    codes = packed_codes(4, 8, 0)
    for k, said in ((0, "`k` must be"), (5, "`k=5` is above")):
        with pytest.raises(UserError, match=said):
            search_codes(codes, codes, k)
        with pytest.raises(UserError, match=said):
            search_blocks(codes, [(np.arange(4), codes)], k)
    with pytest.raises(UserError, match="`radius`"):
        range_search_codes(codes, codes, -1)


@pytest.mark.parametrize(
    ("queries", "said"),
    [(np.zeros((2, 8), np.int8), "int8"), (np.zeros(8, np.uint8), r"\(8,\)"), (3, "3 bytes")],
)
def test_what_is_no_packed_code(unchecked, queries, said):
    """faiss takes int8 and codes of another length for what they are not, or dies."""
    queries = np.zeros((2, queries), np.uint8) if isinstance(queries, int) else queries
    for search in (search_codes, range_search_codes):
        with pytest.raises(ValueError, match=said):
            search(queries, np.zeros((5, 8), np.uint8), 1)
