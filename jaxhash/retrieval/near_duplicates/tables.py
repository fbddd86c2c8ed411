"""Keys by which all pairs of codes within a radius are found without comparing every pair.

The bits are dealt into m parts. Two codes that differ in at most r bits differ in at most r parts, so
they agree in at least m - r. A table is a choice of m - r parts, and its key the bits of these: among the
codes of equal key lie all pairs that agree there, so the tables of all choices find every pair (Manku et
al., "Detecting near-duplicates for web crawling", WWW 2007). Few parts are few tables with short keys, of
which many codes have the same; which number is best depends on how often the codes agree, and is estimated
by a sample of them.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8, UInt64

#: Most codes that estimates are made from.
SAMPLE = 2**13

#: Most tables; more are not considered.
_MAX_TABLES = 1024

#: Tables that the agreement of codes is estimated by.
_MEASURED_TABLES = 12

#: Cost of a code in each table, and of a pair of codes that is compared, in nanoseconds. Ratios count.
_CODE_COST = 60.0
_PAIR_COST = 12.0

#: Cost of a pair that a scan compares, for 8 bytes.
_SCAN_COST = 0.5

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Tables(NamedTuple):
    """The parts of codes, and the choices of parts that are the keys of tables.

    Attributes:
        parts: for each part, a mask of its bits.
        choices: for each table, its parts, ascending.
    """

    parts: UInt64[np.ndarray, "parts words"]
    choices: Sequence[tuple[int, ...]]

    def keys(
        self, choice: tuple[int, ...], words: UInt64[np.ndarray, "words n"]
    ) -> UInt64[np.ndarray, " n"]:
        """Returns a hash of the key of each code in a table; its upper bits are the best."""
        mask = np.bitwise_or.reduce(self.parts[list(choice)], axis=0)
        keys = np.zeros(words.shape[1], np.uint64)
        for bits, word in zip(mask, words, strict=True):
            if bits:
                keys ^= word & bits
                keys *= _MULTIPLIER
                keys ^= keys >> np.uint64(32)
        keys *= _MULTIPLIER
        return keys

    def owns(
        self, choice: tuple[int, ...], differing: UInt64[np.ndarray, "words p"]
    ) -> Bool[np.ndarray, " p"]:
        """Returns whether a table is the first of those in which the two codes of a pair agree.

        Args:
            choice: the table.
            differing: the bits in which the two codes differ.
        """
        owned = np.ones(differing.shape[1], bool)
        for part in range(choice[-1] + 1):
            agrees = ~(differing & self.parts[part][:, None]).any(axis=0)
            owned &= agrees == (part in choice)
        return owned


def to_words(codes: UInt8[np.ndarray, "n bytes"]) -> UInt64[np.ndarray, "words n"]:
    """Returns packed codes as words of 64 bits, the last one filled with 0, a row for each word."""
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return np.ascontiguousarray(padded.view(np.uint64).T)


def choose_tables(
    codes: UInt8[np.ndarray, "n bytes"], others: UInt8[np.ndarray, "m bytes"] | None, radius: int
) -> Tables | None:
    """Returns the tables by which a join is estimated to cost least; None if a scan is cheaper.

    Args:
        codes: packed codes.
        others: the codes that they are joined with; None for themselves.
        radius: greatest distance of a pair.
    """
    rows = len(codes) + (0 if others is None else len(others))
    pairs = len(codes) * ((len(codes) - 1) / 2 if others is None else len(others))
    sample = take_sample(codes if others is None else np.concatenate([codes, others]))
    bits = np.unpackbits(sample, axis=1)
    # Bits that are often equal say little: each part gets as many of those as the others.
    share = bits.mean(axis=0)
    varied = np.flatnonzero((share > 0) & (share < 1))
    order = varied[np.argsort(np.abs(share[varied] - 0.5), kind="stable")]
    words = to_words(sample)
    best, best_cost = None, pairs * _SCAN_COST * len(words)
    for count in range(radius + 1, len(order) + 1):
        number = math.comb(count, radius)
        if number > _MAX_TABLES or number * rows * _CODE_COST > best_cost:
            break
        parts = np.zeros((count, codes.shape[1] * 8), np.uint8)
        for place, bit in enumerate(order):
            parts[place % count, bit] = 1
        choices = list(itertools.combinations(range(count), count - radius))
        tables = Tables(to_words(np.packbits(parts, axis=1)).T, choices)
        cost = number * (rows * _CODE_COST + pairs * _agreement(tables, words) * _PAIR_COST)
        if cost < best_cost:
            best, best_cost = tables, cost
    return best


def take_sample(codes: UInt8[np.ndarray, "n bytes"]) -> UInt8[np.ndarray, "s bytes"]:
    """Returns codes evenly spaced among all, at most `SAMPLE`."""
    rows = np.linspace(0, len(codes), min(len(codes), SAMPLE), endpoint=False).astype(np.int64)
    return codes[rows]


def _agreement(tables: Tables, words: UInt64[np.ndarray, "words n"]) -> float:
    """Returns the share of pairs with equal keys in a table, the mean of some of the tables."""
    step = -(-len(tables.choices) // _MEASURED_TABLES)
    equal = []
    for choice in tables.choices[::step]:
        _, counts = np.unique(tables.keys(choice, words), return_counts=True)
        equal.append(int((counts * (counts - 1)).sum()))
    return sum(equal) / len(equal) / max(words.shape[1] * (words.shape[1] - 1), 1)
