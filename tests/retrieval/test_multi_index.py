"""What multi-index hashing visits, beside a dictionary of buckets and faiss."""

import itertools
from collections import defaultdict

import faiss
import numpy as np
import pytest

from jaxhash.retrieval.multi_index import count_visits, cut_substrings, effective_buckets


@pytest.fixture
def sides():
    """Queries and items of 16 bits that crowd in some buckets."""
    rng = np.random.default_rng(0)
    bits = (rng.random((450, 16)) < rng.uniform(0.1, 0.9, 16)).astype(np.uint8)
    bits[:, 9] = bits[:, 3]
    packed = np.packbits(bits, axis=1)
    return packed[:12], packed[12:]


def look_up(query, items, substrings, radius):
    """Probes tables of bits as the paper's algorithm does; returns buckets, entries and candidates."""
    quotient, rest = divmod(radius, substrings)
    probed, entries, candidates = 0, 0, set()
    cuts = np.array_split(np.arange(16), substrings)
    for number, cut in enumerate(cuts):
        table = defaultdict(list)
        for row, item in enumerate(items):
            table[tuple(item[cut])].append(row)
        within = quotient if number <= rest else quotient - 1
        for flips in range(within + 1):
            for places in itertools.combinations(range(len(cut)), flips):
                value = query[cut].copy()
                value[list(places)] ^= 1
                probed += 1
                entries += len(table[tuple(value)])
                candidates.update(table[tuple(value)])
    return probed, entries, len(candidates)


@pytest.mark.parametrize("substrings", [1, 2, 3, 4])
def test_visits_are_those_of_tables(sides, substrings):
    queries, codes = sides
    found = count_visits(queries, codes, bits=16, substrings=substrings, radius=5)
    bits = [np.unpackbits(side, axis=1) for side in sides]
    for row, radius in itertools.product(range(3), range(6)):
        expected = look_up(bits[0][row], bits[1], substrings, radius)
        of = found.buckets[radius], found.entries[row, radius], found.candidates[row, radius]
        assert of == expected


def test_every_item_within_the_radius_is_a_candidate(sides):
    queries, codes = sides
    within = count_visits(queries, codes, bits=16, substrings=1, radius=6)
    found = count_visits(queries, codes, bits=16, substrings=3, radius=6)
    assert (within.candidates <= found.candidates).all()
    assert (found.candidates <= found.entries).all()
    np.testing.assert_array_equal(within.entries, within.candidates)


@pytest.mark.parametrize("flips", [0, 1, 2])
def test_faiss_compares_as_many(sides, flips):
    """faiss searches each of m substrings within t: radius m (t + 1) - 1 here."""
    queries, codes = sides
    index = faiss.IndexBinaryMultiHash(16, 2, 8)
    index.nflip = flips
    index.add(codes)
    faiss.cvar.indexBinaryHash_stats.reset()
    index.search(queries, 5)
    found = count_visits(queries, codes, bits=16, substrings=2, radius=2 * (flips + 1) - 1)
    assert found.candidates[:, -1].sum() == faiss.cvar.indexBinaryHash_stats.ndis


def test_a_query_of_the_database_finds_the_items_of_even_buckets(sides):
    """Over all items as queries, entries at radius 0 are n times the sum of squared shares."""
    _, codes = sides
    found = count_visits(codes, codes, bits=16, substrings=2, radius=1)
    expected = (len(codes) / effective_buckets(codes, bits=16, substrings=2)).sum()
    assert found.entries[:, 1].mean() == pytest.approx(expected)


def test_more_substrings_than_bits_are_refused(sides):
    with pytest.raises(ValueError, match="substrings"):
        cut_substrings(sides[0], bits=16, substrings=17)
