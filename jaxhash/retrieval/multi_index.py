"""Counts what multi-index hashing visits, which no machine changes.

The bits of a code are cut into substrings, and each has a table from its values to items. An item that differs
from the query in at most r bits differs in at most r // m of them in one of m substrings, so a search
within r looks up every value within that radius of the query's, in each table. Its cost is the number of entries
found there: few where bits are balanced and independent, since items spread over the buckets then.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, UInt8, UInt64

from jaxhash.ops.arguments import IntLike, as_int
from jaxhash.retrieval.near_duplicates.tables import to_words

#: Pairs of a query and an item that are compared at once.
_PAIRS = 2**21


class Visits(NamedTuple):
    """What searches within each Hamming radius, from 0, look at.

    Attributes:
        buckets: number of buckets that are looked up, the same for all queries.
        entries: number of items found there; an item counts for each table in which it is found.
        candidates: number of distinct items found, whose distances are computed.
    """

    buckets: Int64[np.ndarray, " radii"]
    entries: Int64[np.ndarray, "queries radii"]
    candidates: Int64[np.ndarray, "queries radii"]


def count_visits(
    queries: UInt8[np.ndarray, "queries bytes"],
    codes: UInt8[np.ndarray, "n bytes"],
    *,
    bits: IntLike,
    substrings: IntLike,
    radius: IntLike,
) -> Visits:
    r"""Counts the buckets, entries and candidates of multi-index hashing within each Hamming radius.

    For r = m q + a with 0 <= a < m, the first a + 1 of m substrings are searched within q, and the
    others within q - 1, as the pigeonhole principle allows. So substring j, counted from 0, finds an item at distance
    d_j there from radius m d_j + j on:

    .. math:: \mathrm{entries}(r) = \sum_{j} \#\{i : m \, d_j(i) + j \le r\}, \quad
        \mathrm{candidates}(r) = \#\{i : \min_j \, (m \, d_j(i) + j) \le r\}.

    With one substring these are the items within r. Work is linear in pairs of a query and an item.

    Args:
        queries: packed codes of the queries.
        codes: packed codes of the database.
        bits: length of a code.
        substrings: number of substrings; the first ones get one bit more where bits are left over.
        radius: largest radius.

    Raises:
        ValueError: if there is no substring, or more than bits.

    Example:
        >>> codes = np.array([[0b0000_0000], [0b0000_0001], [0b1111_0001]], np.uint8)
        >>> found = count_visits(codes[:1], codes, bits=8, substrings=2, radius=2)
        >>> found.buckets.tolist(), found.entries.tolist(), found.candidates.tolist()
        ([1, 2, 6], [[2, 3, 3]], [[2, 2, 2]])

    Reference:
        Norouzi, Punjani, Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012, and
        "Fast exact search in Hamming space with multi-index hashing", TPAMI 2014.
    """
    radii = as_int("radius", radius, minimum=0) + 1
    sides = [cut_substrings(side, bits=bits, substrings=substrings) for side in (queries, codes)]
    sizes = [len(part) for part in np.array_split(np.arange(int(bits)), int(substrings))]
    queried, stored = ([to_words(part) for part in side] for side in sides)
    entries = np.zeros((len(queries), radii), np.int64)
    candidates = np.zeros_like(entries)
    step = max(1, _PAIRS // max(1, len(codes)))
    for at in range(0, len(queries), step):
        rows = slice(at, at + step)
        nearest = None
        for number, (query, items) in enumerate(zip(queried, stored, strict=True)):
            first = _distances(query[:, rows], items) * len(sizes) + number
            entries[rows] += _count_up_to(first, radii)
            nearest = first if nearest is None else np.minimum(nearest, first)
        candidates[rows] = _count_up_to(nearest, radii)
    buckets = np.zeros(radii, np.int64)
    for number, size in enumerate(sizes):
        for distance, at in enumerate(range(number, radii, len(sizes))):
            buckets[at] += math.comb(size, distance)
    return Visits(np.cumsum(buckets), entries, candidates)


def cut_substrings(
    codes: UInt8[np.ndarray, "n bytes"], *, bits: IntLike, substrings: IntLike
) -> list[UInt8[np.ndarray, "n _"]]:
    """Returns the packed substrings of codes, consecutive bits each.

    Args:
        codes: packed codes.
        bits: length of a code.
        substrings: number of substrings, as in `count_visits`.

    Raises:
        ValueError: if there is no substring, or more than bits.

    Example:
        >>> [part.tolist() for part in cut_substrings(np.array([[0b1100_0001]], np.uint8), bits=8, substrings=2)]
        [[[192]], [[16]]]
    """
    bits, substrings = as_int("bits", bits, minimum=1), as_int("substrings", substrings, minimum=1)
    if substrings > bits:
        raise ValueError(f"substrings must be at most bits, {bits}, got {substrings}")
    columns = np.unpackbits(codes, axis=1, count=bits)
    return [np.packbits(part, axis=1) for part in np.array_split(columns, substrings, axis=1)]


def effective_buckets(
    codes: UInt8[np.ndarray, "n bytes"], *, bits: IntLike, substrings: IntLike
) -> Float[np.ndarray, " substrings"]:
    r"""Computes the number of equally full buckets that would cost as much, of each substring.

    With the share p_v of the items at value v it is 1 / sum_v p_v^2; a query of the same distribution finds
    n sum_v p_v^2 items in its own bucket. Balanced independent bits have 2^length of them.

    Args:
        codes: packed codes of the database.
        bits: length of a code.
        substrings: number of substrings, as in `count_visits`.

    Example:
        >>> codes = np.array([[0b0000_0000], [0b0000_0001], [0b0000_0011], [0b0000_0010]], np.uint8)
        >>> effective_buckets(codes, bits=8, substrings=2)
        array([1., 4.])
    """
    shares = (
        np.unique(to_words(part), axis=1, return_counts=True)[1] / len(codes)
        for part in cut_substrings(codes, bits=bits, substrings=substrings)
    )
    return np.array([1.0 / np.square(share).sum() for share in shares])


def _distances(
    query: UInt64[np.ndarray, "words q"], items: UInt64[np.ndarray, "words n"]
) -> Int64[np.ndarray, "q n"]:
    """Returns the Hamming distance of each query to each item."""
    found = np.zeros((query.shape[1], items.shape[1]), np.int64)
    for ours, theirs in zip(query, items, strict=True):
        found += np.bitwise_count(ours[:, None] ^ theirs)
    return found


def _count_up_to(first: Int64[np.ndarray, "q n"], radii: int) -> Int64[np.ndarray, "q radii"]:
    """Counts, of each row, the values up to each radius."""
    rows = np.arange(len(first))[:, None] * (radii + 1)
    places = np.minimum(first, radii) + rows
    counts = np.bincount(places.ravel(), minlength=len(first) * (radii + 1))
    return np.cumsum(counts.reshape(len(first), radii + 1)[:, :radii], axis=1)
