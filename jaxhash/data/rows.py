"""Rows: inputs that are read by index, from memory or from files."""

import hashlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped, UInt64

#: Bytes of a block of `row_blocks`.
BLOCK_BYTES = 2**24

#: Indices of inputs, a range of them, or one.
Index = Int[np.ndarray, " n"] | slice | int | np.integer


@runtime_checkable
class Rows(Protocol):
    """Inputs that are read by index: a NumPy array, or a reader of files."""

    def __len__(self) -> int:
        """Returns the number of inputs."""

    def __getitem__(self, rows: Index) -> Shaped[np.ndarray, "..."]:
        """Returns what a NumPy array of all inputs returns for this index."""


@runtime_checkable
class ViewRows(Rows, Protocol):
    """Rows that make the views of a training item themselves, in place of an augmentation."""

    def views(
        self, items: Int[np.ndarray, " n"], seeds: UInt64[np.ndarray, " n"], views: int
    ) -> tuple[Shaped[np.ndarray, "n ..."], ...]:
        """Returns each of the views of some items; what is drawn for one depends on its seed alone."""


def row_blocks(items: int, row_bytes: int) -> Iterator[slice]:
    """Yields consecutive ranges of items, of about `BLOCK_BYTES` each, that cover all of them.

    Args:
        items: number of items.
        row_bytes: bytes of one item.

    Example:
        >>> list(row_blocks(5, BLOCK_BYTES // 2))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    rows = max(BLOCK_BYTES // max(row_bytes, 1), 1)
    return (slice(start, min(start + rows, items)) for start in range(0, items, rows))


def row_digest(values: Shaped[np.ndarray, "..."]) -> int:
    """Returns a digest of 8 bytes, the same for equal images or for equal vectors of one dtype.

    Example:
        >>> row_digest(np.zeros((1, 1, 3), np.uint8)) == row_digest(np.ones((1, 1, 3), np.uint8))
        False
    """
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(values), digest_size=8).digest())
