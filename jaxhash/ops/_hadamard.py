"""Hadamard matrices, and codes cut from their rows."""

import math

import numpy as np
from jaxtyping import Int8


def select_rows(
    matrix: Int8[np.ndarray, "m m"], classes: int, bits: int, rng: np.random.Generator
) -> Int8[np.ndarray, "classes bits"]:
    """Draws rows of [H; -H] and cuts them to ``bits`` columns, or repeats columns to fill them.

    A row is drawn together with its negative only if there are more classes than rows. Rows are
    chosen to be constant in as many of the removed columns as leaves enough rows, since removing a
    constant column costs no distance.
    """
    order = len(matrix)
    columns = rng.permutation(order)
    kept, removed = columns[:bits], columns[bits:]
    both = np.concatenate([matrix, -matrix])
    for constant in range(len(removed), 0, -1):
        rows = np.flatnonzero((both[:, removed[:constant]] == 1).all(axis=1))
        if len(rows) >= classes:
            break
    else:
        rows = np.arange(order) + order * rng.integers(2, size=order)  # one sign of each row
        negatives = (rows + order) % (2 * order)
        shuffled = rng.permutation(order)
        rows = np.concatenate([rows[shuffled], negatives[rng.permutation(order)]])
        rows = rows[:classes]
    rows = rows if len(rows) == classes else rng.choice(rows, classes, replace=False)
    repeated = rng.choice(columns, max(bits - order, 0), replace=False)
    return both[rows][:, np.concatenate([kept, repeated])]


def hadamard_matrix(order: int) -> Int8[np.ndarray, "m m"] | None:
    """Returns a Hadamard matrix by Sylvester, Paley or a product of two, or None if none is found."""
    pair = np.array([[1, 1], [1, -1]], np.int8)
    if order == 1:
        return np.ones((1, 1), np.int8)
    if order == 2:
        return pair
    if order % 4:
        return None
    half = hadamard_matrix(order // 2)
    if half is not None:
        return np.kron(pair, half)
    if _is_prime(order - 1):
        residues = _jacobsthal_matrix(order - 1)
        core = np.pad(residues, ((1, 0), (1, 0)), constant_values=1)
        core[1:, 0], core[0, 0] = -1, 0
        return core + np.eye(order, dtype=np.int8)
    field = order // 2 - 1
    if field % 4 == 1 and (residues := _jacobsthal_matrix(field)) is not None:
        core = np.pad(residues, ((1, 0), (1, 0)), constant_values=1)
        core[0, 0] = 0
        diagonal = np.array([[1, -1], [-1, -1]], np.int8)
        return np.kron(core, pair) + np.kron(np.eye(field + 1, dtype=np.int8), diagonal)
    for factor in range(12, math.isqrt(order) + 1, 4):
        if order % factor == 0:
            parts = hadamard_matrix(factor), hadamard_matrix(order // factor)
            if parts[0] is not None and parts[1] is not None:
                return np.kron(*parts)
    return None


def _jacobsthal_matrix(size: int) -> Int8[np.ndarray, "q q"] | None:
    """Returns the quadratic character of the difference of each two elements of a finite field.

    The character is 1 for a square, -1 for a non-square and 0 for zero. The field has p elements for
    a prime p, or p^2 for an odd prime p; else the result is None. Elements of the latter are pairs
    a + b w with w^2 = r, where r is a non-square; a pair is a square if and only if its norm
    a^2 - r b^2 is a square in the field of p elements.
    """
    root = math.isqrt(size)
    prime = size if _is_prime(size) else root
    if not _is_prime(prime) or prime % 2 == 0 or size not in (prime, prime**2):
        return None
    character = np.full(prime, -1, np.int8)
    character[np.arange(prime) ** 2 % prime] = 1
    character[0] = 0
    element = np.arange(prime)
    difference = (element[:, None] - element[None, :]) % prime
    if size == prime:
        return character[difference]
    r = int(np.flatnonzero(character == -1)[0])
    a = difference[:, None, :, None]
    b = difference[None, :, None, :]
    return character[(a**2 - r * b**2) % prime].reshape(size, size)


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % k for k in range(2, math.isqrt(number) + 1))
