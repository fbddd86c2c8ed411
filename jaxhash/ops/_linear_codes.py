"""Binary linear codes with a large minimum distance: BCH codes, and codes grown by search.

A word is a Python integer or a row of 64-bit limbs, its bits those of the word. A basis is a list of
such integers, the generators of the code.
"""

from collections.abc import Iterator
from itertools import permutations

import numpy as np
from jaxtyping import Shaped, UInt8, UInt64

#: Primitive polynomials over GF(2) by degree, the coefficients as bits.
_PRIMITIVE = {
    **{2: 0x7, 3: 0xB, 4: 0x13, 5: 0x25, 6: 0x43, 7: 0x89, 8: 0x11D},
    **{9: 0x211, 10: 0x409, 11: 0x805, 12: 0x1053, 13: 0x201B, 14: 0x4443},
}

#: The most pairs of words compared in one step of a search.
_MAX_COMPARISONS = 1 << 25


def spread_basis(basis: list[int], distance: int, bits: int, rng: np.random.Generator) -> list[int]:
    """Returns a basis of the same code of which the first two words are at the minimum distance.

    The first words are then those of cosets of subcodes, by powers of 2. A bit is 1 as often as 0 in
    each coset whose subcode has a generator with a one at that bit.
    """
    words = span(basis, bits)
    nearest = int(np.flatnonzero(hamming_weights(words) == distance)[0])
    # The word is the sum of the generators at its ones; it may take the place of one of these.
    first = _to_integer(words[nearest])
    place = nearest.bit_length() - 1
    rest = [*basis[:place], *basis[place + 1 :]]
    for i, j in permutations(range(len(rest)), 2):  # still a basis, and no bit waits for the last
        rest[i] ^= rest[j] if rng.integers(2) else 0
    return [first, *rest]


def digits(words: UInt64[np.ndarray, "words limbs"], bits: int) -> UInt8[np.ndarray, "words bits"]:
    """Returns the bits of words as 0 and 1."""
    octets = words.astype("<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, count=bits, bitorder="little")


def minimum_weight(basis: list[int], bits: int) -> int:
    """Returns the smallest weight of a nonzero word, which is the minimum distance of the code."""
    return int(hamming_weights(span(basis, bits))[1:].min())


def span(basis: list[int], bits: int) -> UInt64[np.ndarray, "words limbs"]:
    """Returns all sums of the basis; word i is the sum of the generators at the ones of i."""
    words = np.zeros((1, -(-bits // 64)), np.uint64)
    for generator in to_limbs(basis, bits):
        words = np.concatenate([words, words ^ generator])
    return words


def to_limbs(words: list[int], bits: int) -> UInt64[np.ndarray, "words limbs"]:
    """Converts integers to rows of 64-bit limbs, the least significant first."""
    size = 8 * -(-bits // 64)
    octets = b"".join(word.to_bytes(size, "little") for word in words)
    return np.frombuffer(octets, "<u8").astype(np.uint64).reshape(len(words), size // 8)


def _to_integer(word: UInt64[np.ndarray, " limbs"]) -> int:
    return int.from_bytes(word.astype("<u8").tobytes(), "little")


def hamming_weights(words: UInt64[np.ndarray, "*words limbs"]) -> Shaped[np.ndarray, "*words"]:
    """Returns the number of ones of each word."""
    return np.bitwise_count(words).sum(axis=-1, dtype=np.int64)


def bch_basis(
    dimension: int, bits: int, rng: np.random.Generator
) -> tuple[list[int], int, str] | None:
    """Returns a basis cut from the extended BCH code with the largest guaranteed distance.

    Beside the basis stand its minimum distance and the name of the construction. The result is None
    if no BCH code guarantees a distance of at least 1.
    """
    plans = []
    shortest = max(2, (bits - 1).bit_length())
    for degree in range(shortest, min(shortest + 3, max(_PRIMITIVE) + 1)):
        length = 1 << degree
        for generator, designed in _bch_generators(degree):
            size = length - generator.bit_length()  # (length - 1) - the degree of the polynomial
            if size >= dimension:
                shortened = min(size - dimension, length - bits)
                guaranteed = designed + designed % 2 - (length - bits - shortened)
                plans.append((guaranteed, -length, generator, size - shortened, designed))
    if not plans or max(plans)[0] < 1:
        return None
    _, length, generator, size, designed = max(plans)
    name = f"BCH code of length {-length} and distance {designed + designed % 2} cut to {bits} bits"
    rows = [generator << i for i in range(size)]
    rows = [row << 1 | row.bit_count() % 2 for row in rows]
    total = generator.bit_length() + size
    best = None
    for _ in range(16 if dimension <= 12 else 2):
        columns = rng.permutation(total)[:bits]
        ones = np.array([[row >> int(c) & 1 for c in columns] for row in rows])
        if size > dimension:
            mixed = np.concatenate(
                [np.eye(dimension, dtype=int), rng.integers(2, size=(dimension, size - dimension))],
                axis=1,
            )
            ones = mixed[:, rng.permutation(size)] @ ones % 2
        basis = [sum(int(bit) << i for i, bit in enumerate(row)) for row in ones]
        least = minimum_weight(basis, bits)
        if best is None or least > best[1]:
            best = basis, least, name
    return best if best[1] > 0 else None


def _bch_generators(degree: int) -> Iterator[tuple[int, int]]:
    """Yields generator polynomials of BCH codes of length 2^degree - 1 and their designed distances.

    A polynomial with the roots a, a^2, ..., a^(d-1), where a generates the field, makes a code of
    distance at least d.
    """
    length, powers = (1 << degree) - 1, [1]
    for _ in range(length - 1):
        power = powers[-1] << 1
        powers.append(power ^ _PRIMITIVE[degree] if power >> degree else power)
    logarithm = {power: i for i, power in enumerate(powers)}
    product, roots = 1, set()
    for start in range(1, length):
        if start in roots:
            continue
        yield product, start
        conjugates = []
        while start not in conjugates:
            conjugates.append(start)
            start = 2 * start % length
        roots.update(conjugates)
        minimal = [1]  # coefficients in the field, the lowest first
        for root in conjugates:
            shifted = [0, *minimal]
            scaled = [powers[(logarithm[c] + root) % length] if c else 0 for c in minimal] + [0]
            minimal = [a ^ b for a, b in zip(shifted, scaled, strict=True)]
        product = _multiply(product, sum(c << i for i, c in enumerate(minimal)))
        if length - product.bit_length() + 1 < 1:
            return


def _multiply(first: int, second: int) -> int:
    """Returns the product of two polynomials over GF(2)."""
    product = 0
    while second:
        product ^= first * (second & 1)
        first, second = first << 1, second >> 1
    return product


def grown_basis(
    dimension: int, bits: int, distance: int, rng: np.random.Generator
) -> list[int] | None:
    """Searches at random for a basis whose nonzero sums all have a weight of at least ``distance``.

    A pool holds words that are far enough from the code so far. One of them joins the basis; the
    others stay in the pool if they are far from the new words too. The result is None if no try
    reaches the dimension.
    """
    for _ in range(8 if dimension <= 10 else 2):
        if bits <= 16:
            pool = rng.permutation(np.arange(1, 1 << bits, dtype=np.uint64))[:, None]
        else:
            pool = rng.integers(1 << 64, size=(1 << 15, -(-bits // 64)), dtype=np.uint64)
            spare = -bits % 64
            pool[:, -1] >>= np.uint64(spare)
        basis, words = [], np.zeros((1, pool.shape[1]), np.uint64)
        pool = pool[hamming_weights(pool) >= distance]
        while len(basis) < dimension and len(pool):
            basis.append(_to_integer(pool[0]))
            added = words ^ pool[0]
            words = np.concatenate([words, added])
            pool = _keep_distant(added, pool[1 : max(2, _MAX_COMPARISONS // len(added))], distance)
        if len(basis) == dimension:
            return basis
    return None


def _keep_distant(
    words: UInt64[np.ndarray, "words limbs"], pool: UInt64[np.ndarray, "pool limbs"], distance: int
) -> UInt64[np.ndarray, "rest limbs"]:
    """Returns the words of the pool at a distance of at least ``distance`` from all given words."""
    step = max(1, (1 << 20) // max(1, len(pool)))
    for start in range(0, len(words), step):
        block = words[start : start + step]
        pool = pool[(hamming_weights(pool[:, None] ^ block[None]) >= distance).all(axis=1)]
    return pool
