"""Vectors that are read block by block, and their inner products, within bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int, Shaped

from jaxhash.data.rows import Rows

T = TypeVar("T")

#: Shows how far a long computation is: takes the steps, what they are, and how many.
Track = Callable[[Iterable[T], str, int], Iterable[T]]

#: Queries whose inner products are computed together.
_QUERIES = 64


def untracked(steps: Iterable[T], what: str, total: int) -> Iterable[T]:
    """The steps; shows nothing."""
    return steps


class Vectors:
    """The inputs of some items as float32 vectors, of which a slice is read when it is asked for.

    Args:
        inputs: inputs of all items, images or vectors.
        items: the rows of those that are meant; all of them if not given.

    Example:
        >>> Vectors(np.arange(12).reshape(3, 2, 2), np.array([2, 0]))[:1]
        array([[ 8.,  9., 10., 11.]], dtype=float32)
    """

    def __init__(self, inputs: Rows, items: Int[np.ndarray, " items"] | None = None):
        self._inputs = inputs
        self._items = np.arange(len(inputs)) if items is None else items
        example = inputs[self._items[:1]]
        self.shape = (len(self._items), example[0].size)
        self.item_bytes = example.nbytes
        """Bytes of an item as it is held."""

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, rows: slice) -> Float32[np.ndarray, "rows dimensions"]:
        inputs = self._inputs[self._items[rows]]
        return inputs.reshape(len(inputs), -1).astype(np.float32)

    def held(self, rows: slice | Int[np.ndarray, " rows"]) -> "Vectors":
        """Some of the rows, in memory, in the form that they have."""
        return Vectors(np.asarray(self._inputs[self._items[rows]]))

    def slices(self, memory_bytes: int) -> list[slice]:
        """All rows in order, in pieces that take so many bytes in float32."""
        step = max(1, memory_bytes // (4 * self.shape[1]))
        step = max(step // 1024 * 1024, min(step, 1024))  # products of whole tiles round alike
        return [slice(at, min(at + step, len(self))) for at in range(0, len(self), step)]


def as_vectors(vectors: Vectors | Shaped[np.ndarray, "n dimensions"]) -> Vectors:
    """An array as `Vectors`, which stay as they are."""
    return vectors if isinstance(vectors, Vectors) else Vectors(vectors)


def inner_products(
    query: Vectors | Shaped[np.ndarray, "queries dimensions"],
    database: Vectors | Shaped[np.ndarray, "items dimensions"],
    prepare: Callable[[Float32[np.ndarray, "n dimensions"]], Shaped[np.ndarray, "n dimensions"]],
    *,
    memory_bytes: int = 2**30,
    track: Track = untracked,
    what: str = "ranking",
) -> Iterator[tuple[Int[np.ndarray, " rows"], Float32[np.ndarray, "rows items"]]]:
    """The inner products of all queries with all items, a few queries at a time.

    The database is read once for as many queries as the bound allows: they are held in the form that
    they have, and so are their products.

    Args:
        query: the queries.
        database: the items.
        prepare: what is done to vectors before they are multiplied, such as `unit_rows`.
        memory_bytes: bound on what is held, half of which the vectors and their products take.
        track: shows the progress.
        what: what it is for, in words.

    Returns:
        The numbers of the queries, and a row of products for each.

    Example:
        >>> [(rows, scores)] = inner_products(np.eye(2), np.eye(3, 2), lambda rows: rows)
        >>> scores.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    query, database = as_vectors(query), as_vectors(database)
    at_once = memory_bytes // 4 // max(4 * len(database), query.item_bytes) or 1
    group = min(_QUERIES, at_once)
    groups = np.array_split(np.arange(len(query)), -(-len(query) // group))
    passes = [groups[at : at + at_once // group] for at in range(0, len(groups), at_once // group)]
    blocks = database.slices(memory_bytes // 16)
    steps = ((one, block) for one in passes for block in blocks)
    for mine, block in track(steps, what, len(passes) * len(blocks)):
        if block.start == 0:
            first = mine[0][0]
            held = query.held(np.concatenate(mine))
            scores = np.empty((len(held), len(database)), np.float32)
        items = prepare(database[block])
        for rows in mine:
            of_group = slice(rows[0] - first, rows[-1] + 1 - first)
            scores[of_group, block] = prepare(held[of_group]) @ items.T
        if block.stop == len(database):
            for rows in mine:
                yield rows, scores[rows[0] - first : rows[-1] + 1 - first]


def unit_rows(vectors: Shaped[np.ndarray, "n dimensions"]) -> Shaped[np.ndarray, "n dimensions"]:
    """The rows at length 1; a row of zeros stays one."""
    # By the largest entry first, so that no square under- or overflows.
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    vectors = vectors / np.where(largest > 0, largest, 1)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)
