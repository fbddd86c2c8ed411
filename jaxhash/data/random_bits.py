"""Random numbers of rows from a seed for each row, so that a row's do not depend on other rows."""

import numpy as np
from jaxtyping import Float, UInt64


def random_bits(seeds: UInt64[np.ndarray, " n"], count: int) -> UInt64[np.ndarray, "n count"]:
    """Returns numbers of 64 random bits for each seed, by SplitMix64.

    The numbers of a row depend only on its seed, so a process computes only those of its own rows.

    Example:
        >>> seeds = np.array([3, 4], np.uint64)
        >>> bool((random_bits(seeds, 2)[1:] == random_bits(seeds[1:], 2)).all())
        True
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = seeds[:, None] + steps[None, :]
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def random_shares(seeds: UInt64[np.ndarray, " n"], count: int) -> Float[np.ndarray, "n count"]:
    """Returns uniform numbers in [0, 1) for each seed, of `random_bits`."""
    return (random_bits(seeds, count) >> np.uint64(11)) * 2.0**-53
