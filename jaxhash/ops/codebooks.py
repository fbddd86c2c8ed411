"""Binary codes that lie far apart, one for each class, with a proven distance.

Methods of fixed centers ask for as many words as there are classes, each two of them differing in
as many bits as possible. Three constructions compete, and the farthest wins:

* rows of a Hadamard matrix H and of -H: up to two words a bit, half the bits apart;
* a BCH code, extended by a parity bit, shortened and punctured to the length;
* a linear code grown generator by generator, each far from all words so far.

The minimum distance is counted on the words themselves, never taken from a formula.
"""

import math
from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int8, Shaped, UInt64

from jaxhash.ops.arguments import (
    UNLABELLED,
    Whole,
    as_labels,
    check_shape,
    check_signs,
    whole_number,
)
from jaxhash.ops.meshes import like_rows, on_any_mesh

#: Primitive polynomials over GF(2) by degree, the coefficients as bits.
_PRIMITIVE = {
    **{2: 0x7, 3: 0xB, 4: 0x13, 5: 0x25, 6: 0x43, 7: 0x89, 8: 0x11D},
    **{9: 0x211, 10: 0x409, 11: 0x805, 12: 0x1053, 13: 0x201B, 14: 0x4443},
}

#: Pairs of words that one step of a search compares at most.
_BUDGET = 1 << 25


class Codebook(NamedTuple):
    """A code of -1 and +1 for each class."""

    codes: Int8[np.ndarray, "classes bits"]
    distance: int
    """Least number of bits in which two of the codes differ; of a single code, all bits."""
    construction: str
    """How the codes were made, in words."""


def codebook(classes: Whole, bits: Whole, *, seed: Whole = 0) -> Codebook:
    r"""Codes of the classes, as far apart as a construction is found for.

    Up to ``2 * bits`` classes, where a Hadamard matrix of order ``bits`` is made (multiples of 4
    but for a few, such as 92 and 116), each two codes differ in ``bits / 2`` bits or in all: the
    most possible for more than ``bits`` classes. Up to ``bits`` classes the codes are orthogonal;
    a few codes could lie a little farther apart, but not without many repeated bits. Two classes
    get a code and its complement.

    What is guaranteed of balance: over a linear code (BCH, grown) of 2^k classes a bit that is not
    constant is as often -1 as +1; other numbers of classes are a sum of powers of 2, and all but
    the small ones of these are balanced as a rule. Of N orthogonal codes the column sums have a
    root mean square of :math:`\sqrt N` exactly, whatever the signs of the codes; these are drawn a
    few times, and the draw whose largest sum is smallest is kept.

    Args:
        classes: how many codes; at most ``2**bits``.
        bits: length of a code, of any size from 1.
        seed: of the order of the codes and of the bits, and of which bits are flipped. The
            distance does not depend on it.

    Returns:
        The codes, their minimum distance and the construction. The same arguments give the same
        codes.

    Raises:
        TypeError: if classes, bits or seed are no integers.
        ValueError: if classes or bits are below 1 or seed below 0, or there are fewer codes than classes.

    Example:
        >>> book = codebook(100, 64)
        >>> book.codes.shape, book.distance, book.construction
        ((100, 64), 32, 'Hadamard matrix of order 64')
        >>> codebook(1000, 48).distance >= 14
        True

    Reference:
        Hadamard matrices by Sylvester's doubling and Paley's two constructions (1933) over fields
        of p and of p^2 elements; Bose and Ray-Chaudhuri (1960) and Hocquenghem (1959) for BCH
        codes. Hadamard rows as centers: Yuan et al., "Central Similarity Quantization" (CSQ), CVPR
        2020, which draws random centers where there are more classes than rows, and whose released
        code wants a power of 2 for bits.
    """
    bits = whole_number("bits", bits, least=1)
    classes = whole_number("classes", classes, least=1)
    seed = whole_number("seed", seed, least=0)
    if bits < classes.bit_length() and classes > 2**bits:
        raise ValueError(f"classes={classes} need more codes than the {2**bits} of bits={bits}")
    best = _farthest(classes, bits)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(classes), rng.permutation(bits)
    flips = rng.choice(np.array([-1, 1], np.int8), bits)
    return best._replace(codes=best.codes[rows][:, columns] * flips)


def minimum_distance(codes: Int8[np.ndarray, "classes bits"]) -> int:
    """Least number of bits in which two of the codes differ, over all pairs; of one code, all bits.

    Raises:
        TypeError: if codes are neither signed integers nor floating.
        ValueError: if codes are no matrix of -1 and +1.

    Example:
        >>> minimum_distance(np.array([[1, 1, 1], [1, -1, -1], [-1, -1, -1]], np.int8))
        1
    """
    check_signs("codes", codes)
    check_shape("codes", codes, (None, None))
    rows, least, step = np.asarray(codes, np.float32), codes.shape[1], 4096
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        products = block @ rows[start:].T
        np.fill_diagonal(products, -codes.shape[1])  # of the first columns: the block with itself
        least = min(least, round((codes.shape[1] - products.max()) / 2))
    return least


@on_any_mesh(returns=like_rows)
def label_codes(
    labels: Shaped[ArrayLike, " n *classes"],
    codes: Int8[Array, "classes bits"],
    ties: Int8[Array, " bits"],
) -> Int8[Array, "n bits"]:
    """The code that the labels of each row stand for: bit by bit, what most of its classes have.

    Args:
        labels: class ids with shape [n], or 0/1 rows (multi-hot) with shape [n, classes].
        codes: a code of -1 and +1 for each class.
        ties: what a bit is where as many classes say -1 as +1, and in a row without a label.

    Returns:
        Codes of -1 and +1.

    Where ids are traced, one out of range cannot be refused: its code is 0.

    Raises:
        TypeError: if labels are no numbers, or ids no integers.
        ValueError: if multi-hot rows have another number of classes, an id is not one of them, or
            codes or ties are other than -1 and +1.

    Example:
        >>> codes = jnp.array([[1, 1, -1], [1, -1, 1]], jnp.int8)
        >>> label_codes(jnp.array([[1, 1], [0, 1]]), codes, jnp.array([-1, -1, 1], jnp.int8))
        Array([[ 1, -1,  1],
               [ 1, -1,  1]], dtype=int8)

    Reference:
        Yuan et al. (CSQ), CVPR 2020. Its released code draws the ties anew in each process and
        leaves them out of the checkpoint; here they are the caller's to keep.
    """
    check_signs("codes", codes)
    check_shape("codes", codes, (None, None))
    check_signs("ties", ties)
    check_shape("ties", ties, codes.shape[1:])
    return majority(label_sums(labels, codes), ties)


@on_any_mesh(returns=like_rows)
def label_sums(
    labels: Shaped[ArrayLike, " n *classes"], rows: Shaped[Array, "classes columns"]
) -> Float[Array, "n columns"]:
    """For each set of labels the sum of its classes' rows, in float32; zeros without a label.

    Where ids are traced, one out of range cannot be refused: its sum is NaN.

    Raises:
        TypeError: if labels are no numbers, or ids no integers.
        ValueError: if multi-hot rows have another number of classes, or an id is not one of them.

    Example:
        >>> label_sums(jnp.array([[1, 1], [0, 0]]), jnp.array([[1, -1], [1, 1]])).tolist()
        [[2.0, 0.0], [0.0, 0.0]]
    """
    rows = jnp.asarray(rows)
    labels = jnp.asarray(as_labels("labels", labels, len(rows)))
    if labels.ndim == 2:
        weights, rows = labels.astype(jnp.float32), rows.astype(jnp.float32)
        return jnp.matmul(weights, rows, precision=lax.Precision.HIGHEST)
    found = rows.at[labels].get(mode="clip").astype(jnp.float32)
    none = jnp.where(labels == UNLABELLED, 0.0, jnp.nan)
    known = (labels >= 0) & (labels < len(rows))
    return jnp.where(known[:, None], found, none[:, None])


def majority(votes: Float[Array, "n bits"], ties: Int8[Array, " bits"]) -> Int8[Array, "n bits"]:
    """The sign of each sum of bits, of a sum of 0 what ``ties`` has, and 0 of NaN.

    Example:
        >>> majority(jnp.array([[3.0, 0.0, -1.0]]), jnp.array([1, -1, 1], jnp.int8)).tolist()
        [[1, -1, -1]]
    """
    signs = (votes > 0).astype(jnp.int8) - (votes < 0).astype(jnp.int8)
    return jnp.where(votes == 0, ties[None, :], signs)


def _farthest(classes: int, bits: int) -> Codebook:
    """The best of the constructions, of which the first wins a tie."""
    rng = np.random.default_rng(0)
    if classes <= 2:
        codes = np.ones((classes, bits), np.int8)
        codes[1:] = -1
        return Codebook(codes, bits, "a word and its complement")
    best = max(_hadamard_codes(classes, bits, rng), key=lambda b: b.distance, default=None)
    if best is not None and best.distance == bits / 2:
        return best
    dimension = (classes - 1).bit_length()
    found = _bch_basis(dimension, bits, rng)
    if found is not None and (best is None or found[1] > best.distance):
        best = _linear_codes(classes, bits, *found, rng)
    while True:
        goal = 1 if best is None else best.distance + 1
        basis = _grown_basis(dimension, bits, goal, rng)
        if basis is None:
            return best
        least = int(_weights(_span(basis, bits))[1:].min())
        best = _linear_codes(classes, bits, basis, least, "linear code grown by search", rng)


# Hadamard matrices


def _hadamard_codes(classes: int, bits: int, rng: np.random.Generator) -> Iterator[Codebook]:
    """Codes from the Hadamard matrices whose order is near the length, or is the length."""
    for order in (bits, *range(bits - 3, bits), *range(bits + 1, bits + 17)):
        matrix = _hadamard(order) if order >= 1 and classes <= 2 * order else None
        if matrix is None:
            continue
        tries = 16 if classes * classes * bits < 1 << 24 else 2
        draws = [_rows_of(matrix, classes, bits, rng) for _ in range(tries)]
        if order == bits:
            distances = [bits // 2] * tries  # of orthogonal rows and their negatives, at any signs
        else:
            distances = [minimum_distance(codes) for codes in draws]
        constant = [np.abs(codes.sum(axis=0, dtype=np.int64)).max() for codes in draws]
        top = max(range(tries), key=lambda i: (distances[i], -constant[i]))
        cut = f" cut to {bits} bits" if order > bits else f" and {bits - order} repeated bits"
        name = f"Hadamard matrix of order {order}" + (cut if order != bits else "")
        yield Codebook(draws[top], distances[top], name)
        if order == bits:
            return


def _rows_of(
    matrix: Int8[np.ndarray, "m m"], classes: int, bits: int, rng: np.random.Generator
) -> Int8[np.ndarray, "classes bits"]:
    """Rows of [H; -H], with the columns over the length cut off, or the missing ones repeated.

    A row and its negative are both taken only where there are more classes than rows. Of the
    columns that are cut off, as many as leave enough rows have the same entry in all rows, so that
    cutting them costs no distance.
    """
    order = len(matrix)
    columns = rng.permutation(order)
    kept, gone = columns[:bits], columns[bits:]
    both = np.concatenate([matrix, -matrix])
    for same in range(len(gone), 0, -1):
        rows = np.flatnonzero((both[:, gone[:same]] == 1).all(axis=1))
        if len(rows) >= classes:
            break
    else:
        rows = np.arange(order) + order * rng.integers(2, size=order)  # one sign of each row
        others = (rows + order) % (2 * order)
        mixed = rng.permutation(order)
        rows = np.concatenate([rows[mixed], others[rng.permutation(order)]])
        rows = rows[:classes]
    rows = rows if len(rows) == classes else rng.choice(rows, classes, replace=False)
    repeated = rng.choice(columns, max(bits - order, 0), replace=False)
    return both[rows][:, np.concatenate([kept, repeated])]


def _hadamard(order: int) -> Int8[np.ndarray, "m m"] | None:
    """A Hadamard matrix by Sylvester, Paley or a product of two of them, or None."""
    pair = np.array([[1, 1], [1, -1]], np.int8)
    if order == 1:
        return np.ones((1, 1), np.int8)
    if order == 2:
        return pair
    if order % 4:
        return None
    half = _hadamard(order // 2)
    if half is not None:
        return np.kron(pair, half)
    if _is_prime(order - 1):
        residues = _residues(order - 1)
        core = np.pad(residues, ((1, 0), (1, 0)), constant_values=1)
        core[1:, 0], core[0, 0] = -1, 0
        return core + np.eye(order, dtype=np.int8)
    field = order // 2 - 1
    if field % 4 == 1 and (residues := _residues(field)) is not None:
        core = np.pad(residues, ((1, 0), (1, 0)), constant_values=1)
        core[0, 0] = 0
        turned = np.array([[1, -1], [-1, -1]], np.int8)
        return np.kron(core, pair) + np.kron(np.eye(field + 1, dtype=np.int8), turned)
    for factor in range(12, math.isqrt(order) + 1, 4):
        if order % factor == 0:
            parts = _hadamard(factor), _hadamard(order // factor)
            if parts[0] is not None and parts[1] is not None:
                return np.kron(*parts)
    return None


def _residues(size: int) -> Int8[np.ndarray, "q q"] | None:
    """Whether the difference of two elements of a field is a square: 1, or -1, or 0 of the same.

    The field has a prime number p of elements, or p^2 of them for an odd prime. Those are pairs
    a + b w with w^2 = r for an r that is no square; such a pair is a square where its norm
    a^2 - r b^2 is one in the field of p elements.
    """
    root = math.isqrt(size)
    prime = size if _is_prime(size) else root
    if not _is_prime(prime) or prime % 2 == 0 or size not in (prime, prime**2):
        return None
    square = np.full(prime, -1, np.int8)
    square[np.arange(prime) ** 2 % prime] = 1
    square[0] = 0
    element = np.arange(prime)
    difference = (element[:, None] - element[None, :]) % prime
    if size == prime:
        return square[difference]
    other = int(np.flatnonzero(square == -1)[0])
    first = difference[:, None, :, None]
    second = difference[None, :, None, :]
    return square[(first**2 - other * second**2) % prime].reshape(size, size)


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % k for k in range(2, math.isqrt(number) + 1))


# Linear codes, as a basis of integers whose bits are the bits of a word


def _linear_codes(
    classes: int, bits: int, basis: list[int], least: int, name: str, rng: np.random.Generator
) -> Codebook:
    """The first words of a linear code, of which the first two are as near as any two are.

    The number of words is a sum of powers of 2, and so the words are cosets of subcodes. A bit is
    as often -1 as +1 in each of them that has a generator with a one there.
    """
    words = _span(basis, bits)
    nearest = int(np.flatnonzero(_weights(words) == least)[0])
    # The word is the sum of the generators at its ones; it may take the place of one of these.
    first = _integer(words[nearest])
    place = nearest.bit_length() - 1
    rest = [*basis[:place], *basis[place + 1 :]]
    for i, j in permutations(range(len(rest)), 2):  # still a basis, and no bit is left to its end
        rest[i] ^= rest[j] if rng.integers(2) else 0
    words = _span([first, *rest], bits)[:classes]
    octets = words.astype("<u8").view(np.uint8)
    ones = np.unpackbits(octets, axis=1, count=bits, bitorder="little")
    return Codebook(ones.astype(np.int8) * np.int8(2) - np.int8(1), least, name)


def _span(basis: list[int], bits: int) -> UInt64[np.ndarray, "words limbs"]:
    """All sums of the basis; word i is the sum of the generators at the ones of i."""
    words = np.zeros((1, -(-bits // 64)), np.uint64)
    for generator in _limbs(basis, bits):
        words = np.concatenate([words, words ^ generator])
    return words


def _limbs(words: list[int], bits: int) -> UInt64[np.ndarray, "words limbs"]:
    """Integers as rows of 64-bit numbers, the least significant first."""
    size = 8 * -(-bits // 64)
    octets = b"".join(word.to_bytes(size, "little") for word in words)
    return np.frombuffer(octets, "<u8").astype(np.uint64).reshape(len(words), size // 8)


def _integer(word: UInt64[np.ndarray, " limbs"]) -> int:
    return int.from_bytes(word.astype("<u8").tobytes(), "little")


def _weights(words: UInt64[np.ndarray, "*words limbs"]) -> Shaped[np.ndarray, "*words"]:
    """The number of ones of each word."""
    return np.bitwise_count(words).sum(axis=-1, dtype=np.int64)


def _bch_basis(
    dimension: int, bits: int, rng: np.random.Generator
) -> tuple[list[int], int, str] | None:
    """A basis from the extended BCH code that promises the largest distance, and that distance."""
    plans = []
    shortest = max(2, (bits - 1).bit_length())
    for degree in range(shortest, min(shortest + 3, max(_PRIMITIVE) + 1)):
        length = 1 << degree
        for generator, designed in _bch_generators(degree):
            size = length - generator.bit_length()  # (length - 1) - the degree of the polynomial
            if size >= dimension:
                shortened = min(size - dimension, length - bits)
                promise = designed + designed % 2 - (length - bits - shortened)
                plans.append((promise, -length, generator, size - shortened, designed))
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
        least = int(_weights(_span(basis, bits))[1:].min())
        if best is None or least > best[1]:
            best = basis, least, name
    return best if best[1] > 0 else None


def _bch_generators(degree: int) -> Iterator[tuple[int, int]]:
    """Generator polynomials of the BCH codes of length 2^degree - 1, with what they promise.

    A polynomial with the roots a, a^2, ..., a^(d-1), where a generates the field, makes a code of
    distance d at least.
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
        product = _times(product, sum(c << i for i, c in enumerate(minimal)))
        if length - product.bit_length() + 1 < 1:
            return


def _times(first: int, second: int) -> int:
    """The product of two polynomials over GF(2)."""
    product = 0
    while second:
        product ^= first * (second & 1)
        first, second = first << 1, second >> 1
    return product


def _grown_basis(
    dimension: int, bits: int, distance: int, rng: np.random.Generator
) -> list[int] | None:
    """A basis whose sums all have the weight, found by chance, or None.

    Words that are far enough from the code so far are kept; one of them joins the code; those of
    the rest stay that are far from the new words too.
    """
    for _ in range(8 if dimension <= 10 else 2):
        if bits <= 16:
            pool = rng.permutation(np.arange(1, 1 << bits, dtype=np.uint64))[:, None]
        else:
            pool = rng.integers(1 << 64, size=(1 << 15, -(-bits // 64)), dtype=np.uint64)
            spare = -bits % 64
            pool[:, -1] >>= np.uint64(spare)
        basis, words = [], np.zeros((1, pool.shape[1]), np.uint64)
        pool = pool[_weights(pool) >= distance]
        while len(basis) < dimension and len(pool):
            basis.append(_integer(pool[0]))
            fresh = words ^ pool[0]
            words = np.concatenate([words, fresh])
            pool = _far_from(fresh, pool[1 : max(2, _BUDGET // len(fresh))], distance)
        if len(basis) == dimension:
            return basis
    return None


def _far_from(
    words: UInt64[np.ndarray, "words limbs"], pool: UInt64[np.ndarray, "pool limbs"], distance: int
) -> UInt64[np.ndarray, "rest limbs"]:
    """Those of the pool that are at the distance from all the words."""
    step = max(1, (1 << 20) // max(1, len(pool)))
    for start in range(0, len(words), step):
        block = words[start : start + step]
        pool = pool[(_weights(pool[:, None] ^ block[None]) >= distance).all(axis=1)]
    return pool
