"""Binary codes for classes, far apart, and the codes of items by their labels.

Methods with fixed centers need as many codes as there are classes, any two of them differing in as
many bits as possible. Of three constructions the one with the largest minimum distance is used:

* rows of a Hadamard matrix H and of -H: up to two codes per bit, half of the bits apart;
* a BCH code, extended by a parity bit, shortened and punctured to the length;
* a linear code grown generator by generator, each far from all words so far.

The minimum distance is counted on the codes themselves. Codes of the last two can also be computed from
the class, in place of a table of all: `linear_codebook`.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Int8, Shaped

from jaxhash.ops._hadamard import hadamard_matrix, select_rows
from jaxhash.ops._linear_codes import (
    bch_basis,
    digits,
    grown_basis,
    minimum_weight,
    span,
    spread_basis,
    to_limbs,
)
from jaxhash.ops.arguments import (
    UNLABELLED,
    IntLike,
    as_int,
    as_labels,
    check_shape,
    check_signs,
)
from jaxhash.ops.meshes import on_any_mesh, sharded_like_first


class Codebook(NamedTuple):
    """A code of -1 and +1 for each class."""

    codes: Int8[np.ndarray, "classes bits"]
    distance: int
    """Least number of bits in which two of the codes differ; of a single code, all bits."""
    construction: str
    """The name of the construction."""


class LinearCodebook(NamedTuple):
    r"""The codes of a `codebook` that is a linear code, by their formula.

    The code of class c is the sum modulo 2 of the generators at the ones of its word number w_c:

    .. math:: \mathrm{code}_{cj} = f_j \Big(2 \Big(\sum_i w_{ci}\, g_{ij} \bmod 2\Big) - 1\Big)

    It takes 4 bytes per class for the order of the words, where a table takes one per bit.
    """

    words: Int[Array, " classes"]
    """Number of the word of each class."""
    generators: Int8[Array, "dimension bits"]
    """Generators of the code, of 0 and 1."""
    flips: Int8[Array, " bits"]
    """-1 for the bits that are inverted, else 1."""

    def codes(self, words: Int[Array, " n"]) -> Float[Array, "n bits"]:
        """Computes the codes of -1 and +1 of words, such as ``book.words[labels]``."""
        ones = (words[:, None] >> jnp.arange(len(self.generators))[None, :]) & 1
        sums = jnp.matmul(
            ones.astype(jnp.float32),
            self.generators.astype(jnp.float32),
            precision=lax.Precision.HIGHEST,
        )
        return (2.0 * (sums % 2) - 1.0) * self.flips.astype(jnp.float32)[None, :]

    def codes_of(self, labels: Int[Array, " n"]) -> Float[Array, "n bits"]:
        """Computes the codes of class ids, as `sum_over_labels` does from a table: 0 for -1.

        A traced id out of range cannot be refused; its code is NaN.
        """
        codes = self.codes(self.words.at[labels].get(mode="clip"))
        missing = jnp.where(labels == UNLABELLED, 0.0, jnp.nan)
        known = (labels >= 0) & (labels < len(self.words))
        return jnp.where(known[:, None], codes, missing[:, None])


class _Construction(NamedTuple):
    """Codes in a fixed order, or the basis of a linear code of which they are the first words."""

    codes: Int8[np.ndarray, "classes bits"] | list[int]
    distance: int
    name: str


def codebook(classes: IntLike, bits: IntLike, *, seed: IntLike = 0) -> Codebook:
    r"""Constructs one code per class with a large minimum distance.

    For up to ``2 * bits`` classes, if a Hadamard matrix of order ``bits`` is known here (multiples
    of 4 except a few, such as 92 and 116), any two codes differ in ``bits / 2`` bits or in all bits,
    which is optimal for more than ``bits`` classes. Up to ``bits`` classes the codes are orthogonal;
    a few codes could lie slightly farther apart, but only with many repeated bits. Two classes get a
    code and its complement.

    Balance: over a linear code (BCH or grown) of 2^k classes a bit that is not constant is -1 as
    often as +1; any other number of classes is a sum of powers of 2, and usually all parts but the
    small ones are balanced. The column sums of N orthogonal codes have a root mean square of exactly
    :math:`\sqrt N` for any signs of the codes; the signs are drawn several times, and the draw with
    the smallest largest sum is kept.

    Args:
        classes: number of codes, at most ``2**bits``.
        bits: length of a code, at least 1.
        seed: seed of the order of the codes, the order of the bits and the flipped bits. The
            distance does not depend on it.

    Returns:
        The codes, their minimum distance and the construction. The same arguments give the same
        codes.

    Raises:
        TypeError: if classes, bits or seed are not integers.
        ValueError: if classes or bits are below 1, seed is below 0, or classes exceed ``2**bits``.

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
        2020, which draws random centers if there are more classes than rows, and whose released
        code requires a power of 2 for bits.
    """
    best, (rows, columns, flips) = _construct(classes, bits, seed)
    codes = best.codes
    if isinstance(codes, list):
        ones = digits(span(codes, bits)[:classes], bits)
        codes = ones.astype(np.int8) * np.int8(2) - np.int8(1)
    return Codebook(codes[rows][:, columns] * flips, best.distance, best.name)


def linear_codebook(classes: IntLike, bits: IntLike, *, seed: IntLike = 0) -> LinearCodebook:
    """Returns the codes of `codebook` for the same arguments by their formula.

    A linear code has been found by a short search over generators; none is left for each class. Codes
    from a Hadamard matrix, of few classes, have no such form.

    Raises:
        TypeError: as in `codebook`.
        ValueError: as in `codebook`, or if its codes are not those of a linear code.

    Example:
        >>> book = linear_codebook(1000, 64, seed=1)
        >>> bool((book.codes(book.words) == codebook(1000, 64, seed=1).codes).all())
        True
    """
    best, (rows, columns, flips) = _construct(classes, bits, seed)
    if not isinstance(best.codes, list):
        raise ValueError(
            f"the codes of {classes} classes and {bits} bits are no linear code: {best.name}"
        )
    generators = digits(to_limbs(best.codes, bits), bits)[:, columns].astype(np.int8)
    return LinearCodebook(*map(jnp.asarray, (rows.astype(np.int32), generators, flips)))


def _construct(
    classes: IntLike, bits: IntLike, seed: IntLike
) -> tuple[_Construction, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Returns the best construction, with the order of its codes and bits and the flipped bits."""
    bits = as_int("bits", bits, minimum=1)
    classes = as_int("classes", classes, minimum=1)
    seed = as_int("seed", seed, minimum=0)
    if bits < classes.bit_length() and classes > 2**bits:
        raise ValueError(f"classes={classes} need more codes than the {2**bits} of bits={bits}")
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(classes), rng.permutation(bits)
    flips = rng.choice(np.array([-1, 1], np.int8), bits)
    return _best_construction(classes, bits), (rows, columns, flips)


def minimum_distance(codes: Int8[np.ndarray, "classes bits"]) -> int:
    """Returns the smallest Hamming distance of any two codes, or the number of bits for one code.

    Raises:
        TypeError: if codes are neither signed integers nor floating.
        ValueError: if codes are not a matrix of -1 and +1.

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


@on_any_mesh(out_specs=sharded_like_first)
def label_codes(
    labels: Shaped[ArrayLike, " n *classes"],
    codes: Int8[Array, "classes bits"],
    ties: Int8[Array, " bits"],
) -> Int8[Array, "n bits"]:
    """Returns the code of each row's labels: per bit, the majority vote of its classes' codes.

    Args:
        labels: class ids with shape [n], or 0/1 rows (multi-hot) with shape [n, classes].
        codes: code of -1 and +1 of each class.
        ties: value of each bit if as many classes have -1 as +1, and in a row without a label.

    Returns:
        Codes of -1 and +1. A traced id out of range cannot be refused; its code is 0.

    Raises:
        TypeError: if labels are not numbers, or ids not integers.
        ValueError: if multi-hot rows have another number of classes, an id is out of range, or
            codes or ties are not -1 and +1.

    Example:
        >>> codes = jnp.array([[1, 1, -1], [1, -1, 1]], jnp.int8)
        >>> label_codes(jnp.array([[1, 1], [0, 1]]), codes, jnp.array([-1, -1, 1], jnp.int8))
        Array([[ 1, -1,  1],
               [ 1, -1,  1]], dtype=int8)

    Reference:
        Yuan et al. (CSQ), CVPR 2020. Its released code draws the ties anew in each process and
        leaves them out of the checkpoint; here they are an argument, which the caller keeps.
    """
    check_signs("codes", codes)
    check_shape("codes", codes, (None, None))
    check_signs("ties", ties)
    check_shape("ties", ties, codes.shape[1:])
    return majority_vote(sum_over_labels(labels, codes), ties)


@on_any_mesh(out_specs=sharded_like_first)
def sum_over_labels(
    labels: Shaped[ArrayLike, " n *classes"], rows: Shaped[Array, "classes columns"]
) -> Float[Array, "n columns"]:
    """Sums the rows of each item's classes, in float32; an item without a label has zeros.

    A traced id out of range cannot be refused; its sum is NaN.

    Args:
        labels: class ids with shape [n], or 0/1 rows (multi-hot) with shape [n, classes].
        rows: one row per class.

    Raises:
        TypeError: if labels are not numbers, or ids not integers.
        ValueError: if multi-hot rows have another number of classes, or an id is out of range.

    Example:
        >>> sum_over_labels(jnp.array([[1, 1], [0, 0]]), jnp.array([[1, -1], [1, 1]])).tolist()
        [[2.0, 0.0], [0.0, 0.0]]
    """
    rows = jnp.asarray(rows)
    labels = jnp.asarray(as_labels("labels", labels, len(rows)))
    if labels.ndim == 2:
        weights, rows = labels.astype(jnp.float32), rows.astype(jnp.float32)
        return jnp.matmul(weights, rows, precision=lax.Precision.HIGHEST)
    sums = rows.at[labels].get(mode="clip").astype(jnp.float32)
    missing = jnp.where(labels == UNLABELLED, 0.0, jnp.nan)
    known = (labels >= 0) & (labels < len(rows))
    return jnp.where(known[:, None], sums, missing[:, None])


def majority_vote(
    votes: Float[Array, "n bits"], ties: Int8[Array, " bits"]
) -> Int8[Array, "n bits"]:
    """Returns the sign of each sum of bits, ``ties`` where the sum is 0, and 0 where it is NaN.

    Example:
        >>> majority_vote(jnp.array([[3.0, 0.0, -1.0]]), jnp.array([1, -1, 1], jnp.int8)).tolist()
        [[1, -1, -1]]
    """
    signs = (votes > 0).astype(jnp.int8) - (votes < 0).astype(jnp.int8)
    return jnp.where(votes == 0, ties[None, :], signs)


@functools.lru_cache(maxsize=8)
def _best_construction(classes: int, bits: int) -> _Construction:
    """Returns the construction with the largest distance; the first wins a tie."""
    rng = np.random.default_rng(0)
    if classes <= 2:
        codes = np.ones((classes, bits), np.int8)
        codes[1:] = -1
        return _Construction(codes, bits, "a word and its complement")
    best = max(_hadamard_codes(classes, bits, rng), key=lambda b: b.distance, default=None)
    if best is not None and best.distance == bits / 2:
        return best

    def linear_code(basis: list[int], distance: int, name: str) -> _Construction:
        return _Construction(spread_basis(basis, distance, bits, rng), distance, name)

    dimension = (classes - 1).bit_length()
    found = bch_basis(dimension, bits, rng)
    if found is not None and (best is None or found[1] > best.distance):
        best = linear_code(*found)
    while True:
        goal = 1 if best is None else best.distance + 1
        basis = grown_basis(dimension, bits, goal, rng)
        if basis is None:
            return best
        distance = minimum_weight(basis, bits)
        best = linear_code(basis, distance, "linear code grown by search")


def _hadamard_codes(classes: int, bits: int, rng: np.random.Generator) -> Iterator[_Construction]:
    """Yields codes from Hadamard matrices of orders near ``bits``, alone from that of order ``bits``."""
    for order in (bits, *range(bits - 3, bits), *range(bits + 1, bits + 17)):
        matrix = hadamard_matrix(order) if order >= 1 and classes <= 2 * order else None
        if matrix is None:
            continue
        tries = 16 if classes * classes * bits < 1 << 24 else 2
        draws = [select_rows(matrix, classes, bits, rng) for _ in range(tries)]
        if order == bits:
            distances = [bits // 2] * tries  # rows are orthogonal or opposite for any signs
        else:
            distances = [minimum_distance(codes) for codes in draws]
        imbalance = [np.abs(codes.sum(axis=0, dtype=np.int64)).max() for codes in draws]
        best = max(range(tries), key=lambda i: (distances[i], -imbalance[i]))
        change = f" cut to {bits} bits" if order > bits else f" and {bits - order} repeated bits"
        name = f"Hadamard matrix of order {order}" + (change if order != bits else "")
        yield _Construction(draws[best], distances[best], name)
        if order == bits:
            return
