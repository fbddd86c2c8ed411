"""Hamming search by NumPy: every distance, and a sort."""

import numpy as np


def all_distances(queries, codes):
    """Distances of packed codes, int [queries, items]."""
    return np.unpackbits(queries[:, None] ^ codes[None], axis=2).sum(axis=2, dtype=np.int64)


def nearest(queries, codes, k):
    """Distances and rows of the k nearest, ties in order of row."""
    distances = all_distances(queries, codes)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, axis=1), rows


def within(query, codes, radius):
    """Distances and rows within a radius of one query, by distance, then by row."""
    [distances], [rows] = nearest(query[None], codes, len(codes))
    return distances[distances <= radius], rows[distances <= radius]


def packed_codes(n, bits, seed, *, distinct=None):
    """Random packed codes, of which some are equal if there are fewer distinct ones."""
    rng = np.random.default_rng(seed)
    signs = rng.random((distinct or n, bits)) < rng.uniform(0.2, 0.8, size=bits)
    packed = np.packbits(signs, axis=1)
    return packed if distinct is None else packed[rng.integers(distinct, size=n)]
