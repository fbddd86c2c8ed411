"""Rows: inputs that are read by index, from memory or from files; and trees of them."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped, UInt64

#: Bytes of a block of `row_blocks`.
BLOCK_BYTES = 2**24

#: Indices of inputs, a range of them, or one.
Index = Int[np.ndarray, " n"] | slice | int | np.integer


@runtime_checkable
class Rows(Protocol):
    """Inputs that are read by index: a NumPy array, a reader of files, or `TreeRows` of several."""

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


@runtime_checkable
class StoredRows(Rows, Protocol):
    """Rows that stay in files of any size, of which nothing was read when they were opened.

    Attributes:
        fingerprint: digest of the content, as far as it is known without reading it all.
        left_unchecked: where the rows are too many for a training to examine all of them before its first
            step, a sentence on what it leaves out; None where they are not.
    """

    fingerprint: str
    left_unchecked: str | None


class Blocks(NamedTuple):
    """Ranges of rows each of which is read as a whole, such as row groups of a Parquet file.

    Attributes:
        starts: first row of each block, from 0.
        window: number of blocks that are held in memory, and shuffled with one another.
    """

    starts: Int[np.ndarray, " blocks"]
    window: int


class TreeRows:
    """Inputs of several parts, such as two modalities of each item: a dict of rows for each index.

    Attributes:
        parts: the rows of each part by its name, in the order of the sorted names.

    Raises:
        ValueError: if there is no part, or parts differ in the number of their items.

    Example:
        >>> tree = TreeRows({"title": np.eye(3), "body": np.ones((3, 1))})
        >>> len(tree), {name: rows.shape for name, rows in tree[:2].items()}
        (3, {'body': (2, 1), 'title': (2, 3)})
    """

    def __init__(self, parts: Mapping[str, Rows]):
        self.parts: dict[str, Rows] = {name: parts[name] for name in sorted(parts)}
        sizes = {name: len(rows) for name, rows in self.parts.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"the parts of a tree must have equally many items, got {sizes}")

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, rows: Index) -> dict[str, Shaped[np.ndarray, "..."]]:
        return {name: part[rows] for name, part in self.parts.items()}


def large_parts(rows: Rows) -> list[StoredRows]:
    """Returns the rows, or of a tree the parts, that are too many to be examined before a training."""
    parts = rows.parts.values() if isinstance(rows, TreeRows) else [rows]
    return [part for part in parts if isinstance(part, StoredRows) and part.left_unchecked]


def blocks_of(rows: Rows) -> Blocks | None:
    """Returns the blocks in which rows are read; None if they are read one by one."""
    return getattr(rows, "blocks", None)


def row_numbers(rows: Index, count: int) -> Int[np.ndarray, " *n"]:
    """Returns the numbers of the rows that an index chooses of a count; of one row, of shape ().

    Raises:
        IndexError: if a row is out of range.

    Example:
        >>> row_numbers(slice(1, 9), 4), row_numbers(np.array([-1]), 4), row_numbers(2, 4)
        (array([1, 2, 3]), array([3]), array(2))
    """
    if isinstance(rows, slice):
        return np.arange(*rows.indices(count))
    numbers = np.asarray(rows, np.int64)
    numbers = np.where(numbers < 0, numbers + count, numbers)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < count):
        raise IndexError(f"rows are from 0 to {count - 1:,}, got {rows}")
    return numbers


def map_rows(function: Callable[..., Any], rows: Any, *others: Any) -> Any:
    """Returns the function of rows; of each part if they are a tree, by the name of the part.

    Args:
        function: function of an array of rows, and of as many other values as there are others.
        rows: an array, or a dict of arrays such as `TreeRows` returns.
        others: further arguments; dicts with the same names if the rows are a tree.

    Example:
        >>> map_rows(len, {"body": [1, 2], "title": [3, 4]})
        {'body': 2, 'title': 2}
    """
    if not isinstance(rows, dict):
        return function(rows, *others)
    return {name: function(part, *(each[name] for each in others)) for name, part in rows.items()}


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
