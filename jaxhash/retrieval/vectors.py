"""Vectors that are read block by block, and their inner products, within bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Int, Shaped

from jaxhash.data.rows import Rows

T = TypeVar("T")

#: Wraps the steps of a long computation to show its progress; takes steps, description and total.
ProgressTracker = Callable[[Iterable[T], str, int], Iterable[T]]

#: Compares queries with a database: takes both, ``memory_bytes``, ``track`` and ``description``; yields
#: the row numbers of a few queries at a time and a row of scores for each, the largest ranked first.
Comparison = Callable[
    ..., Iterator[tuple[Int[np.ndarray, " rows"], Shaped[np.ndarray, "rows items"]]]
]

#: Number of queries that are yielded together.
_QUERIES = 64

#: Number of queries that are multiplied together.
_MULTIPLIED = 256


def no_progress(steps: Iterable[T], description: str, total: int) -> Iterable[T]:
    """Returns the steps as they are: the `ProgressTracker` that shows nothing."""
    return steps


class LazyVectors:
    """The inputs of some items as float32 vectors; a slice is read when it is indexed.

    Args:
        inputs: inputs of all items, images or vectors.
        items: row numbers of the items to use; all rows if not given.

    Example:
        >>> LazyVectors(np.arange(12).reshape(3, 2, 2), np.array([2, 0]))[:1]
        array([[ 8.,  9., 10., 11.]], dtype=float32)
    """

    def __init__(self, inputs: Rows, items: Int[np.ndarray, " items"] | None = None):
        self._inputs = inputs
        self._items = np.arange(len(inputs)) if items is None else items
        example = inputs[self._items[:1]]
        self.shape = (len(self._items), example[0].size)
        self.bytes_per_item = example.nbytes
        """Bytes of an item in its stored dtype."""

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, rows: slice) -> Float32[np.ndarray, "rows dimensions"]:
        inputs = self._inputs[self._items[rows]]
        return inputs.reshape(len(inputs), -1).astype(np.float32)

    def load(self, rows: slice | Int[np.ndarray, " rows"]) -> "LazyVectors":
        """Returns some of the rows, read into memory in their stored dtype."""
        return LazyVectors(np.asarray(self._inputs[self._items[rows]]))

    def row_blocks(self, memory_bytes: int) -> list[slice]:
        """Splits all rows, in order, into blocks of at most that number of bytes in float32."""
        step = max(1, memory_bytes // (4 * self.shape[1]))
        step = max(step // 1024 * 1024, min(step, 1024))  # products of whole tiles round equally
        return [slice(at, min(at + step, len(self))) for at in range(0, len(self), step)]


def as_lazy_vectors(vectors: LazyVectors | Shaped[np.ndarray, "n dimensions"]) -> LazyVectors:
    """Wraps an array as `LazyVectors`; returns `LazyVectors` unchanged."""
    return vectors if isinstance(vectors, LazyVectors) else LazyVectors(vectors)


def inner_products(
    query: LazyVectors | Shaped[np.ndarray, "queries dimensions"],
    database: LazyVectors | Shaped[np.ndarray, "items dimensions"],
    transform: Callable[
        [Float32[np.ndarray, "n dimensions"]], Shaped[np.ndarray, "n dimensions"]
    ] = lambda vectors: vectors,
    *,
    memory_bytes: int = 2**30,
    track: ProgressTracker = no_progress,
    description: str = "ranking",
) -> Iterator[tuple[Int[np.ndarray, " rows"], Float32[np.ndarray, "rows items"]]]:
    """Yields the inner products of all queries with all items, a few queries at a time.

    One pass over the database serves as many queries as the memory allows. During a pass the
    queries are held in their stored dtype, together with their products.

    Args:
        query: vectors of the queries.
        database: vectors of the items.
        transform: function that is applied to vectors before they are multiplied, such as
            `normalize_rows`.
        memory_bytes: bound on the memory in bytes; the vectors and their products take half of it.
        track: shows the progress.
        description: text beside the progress.

    Returns:
        Pairs of the row numbers of some queries and their products, a row for each query.

    Example:
        >>> [(rows, scores)] = inner_products(np.eye(2), np.eye(3, 2))
        >>> scores.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    query, database = as_lazy_vectors(query), as_lazy_vectors(database)
    per_pass = memory_bytes // 4 // max(4 * len(database), query.bytes_per_item) or 1
    group_size = min(_QUERIES, per_pass)
    groups = np.array_split(np.arange(len(query)), -(-len(query) // group_size))
    step = per_pass // group_size
    passes = [groups[at : at + step] for at in range(0, len(groups), step)]
    blocks = database.row_blocks(memory_bytes // 16)
    steps = ((groups, block) for groups in passes for block in blocks)
    for groups, block in track(steps, description, len(passes) * len(blocks)):
        if block.start == 0:
            first = groups[0][0]
            loaded = query.load(np.concatenate(groups))
            scores = np.empty((len(loaded), len(database)), np.float32)
        items = transform(database[block])
        for at in range(0, len(loaded), _MULTIPLIED):
            some = slice(at, at + _MULTIPLIED)
            np.matmul(transform(loaded[some]), items.T, out=scores[some, block])
        if block.stop == len(database):
            for rows in groups:
                yield rows, scores[rows[0] - first : rows[-1] + 1 - first]


def normalize_rows(
    vectors: Shaped[np.ndarray, "n dimensions"],
) -> Shaped[np.ndarray, "n dimensions"]:
    """Scales each row to length 1; a row of zeros is not changed."""
    # Divides by the largest entry first, so that no square under- or overflows.
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    vectors = vectors / np.where(largest > 0, largest, 1)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)


def cosine_similarities(
    query: LazyVectors | Shaped[np.ndarray, "queries dimensions"],
    database: LazyVectors | Shaped[np.ndarray, "items dimensions"],
    **options: Any,
) -> Iterator[tuple[Int[np.ndarray, " rows"], Float32[np.ndarray, "rows items"]]]:
    """Yields `inner_products` of rows of length 1: the `Comparison` by cosine."""
    return inner_products(query, database, normalize_rows, **options)
