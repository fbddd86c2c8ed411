"""Training vectors at length 1, read block by block: their mean and principal components."""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial

import numpy as np
from jaxtyping import Float, Float32, Float64

from jaxhash.retrieval.vectors import (
    LazyVectors,
    ProgressTracker,
    no_progress,
    normalize_rows,
)

#: Vectors that hash functions are fitted to.
Features = LazyVectors | Float[np.ndarray, "items dimensions"]

#: Standard deviation of vectors of length 1 in float32 up to which a direction holds rounding alone.
_ROUNDING = 1e-6

#: Columns of a matrix of products that a thread computes.
_COLUMNS = 128


class TrainingVectors:
    """Training vectors at length 1, read in blocks within bounded memory.

    Args:
        vectors: the vectors at any length.
        memory_bytes: bound on the memory in bytes, beside the vectors.
        track: shows the progress of what takes longest.

    Example:
        >>> training = TrainingVectors(np.array([[2.0, 0.0], [0.0, 1.0]], np.float32))
        >>> training.mean.tolist(), np.abs(training.principal_directions(2)).round(2).tolist()
        ([0.5, 0.5], [[0.71, 0.71]])
    """

    def __init__(
        self,
        vectors: Features,
        memory_bytes: int = 2**30,
        track: ProgressTracker = no_progress,
    ):
        self._vectors, self.memory_bytes, self.track = vectors, memory_bytes, track
        self.items, self.dimensions = vectors.shape

    def blocks(
        self, every: int = 1
    ) -> Iterator[tuple[slice, Float32[np.ndarray, "rows dimensions"]]]:
        """Yields the rows in order: their numbers among the rows that are yielded, and their values.

        Args:
            every: step between two rows, 1 for all of them.
        """
        step = self._block_rows
        for at in range(0, self.items, step * every):
            rows = self._vectors[at : at + step * every : every]
            first = at // every
            yield slice(first, first + len(rows)), normalize_rows(rows.astype(np.float32))

    @property
    def _block_rows(self) -> int:
        """Rows of a block, which is held a few times, also in float64."""
        return max(1, self.memory_bytes // 64 // self.dimensions)

    @property
    def _num_blocks(self) -> int:
        return -(-self.items // self._block_rows)

    @cached_property
    def mean(self) -> Float64[np.ndarray, " dimensions"]:
        """The mean of all rows."""
        return sum(block.sum(axis=0, dtype=np.float64) for _, block in self.blocks()) / self.items

    def principal_directions(self, count: int) -> Float64[np.ndarray, "directions dimensions"]:
        """Returns unit vectors, the largest variance first, from the smaller matrix of products.

        Its eigenvectors take a fraction of the time of singular vectors.

        Args:
            count: how many to return at most; there are no more than directions in which the vectors
                differ by more than rounding.
        """
        if self.items >= self.dimensions:
            products = self._sum_of_squares()
        else:
            products = np.empty((self.items, self.items))
            for rows, block in self._centered():
                for columns, others in self._centered():
                    products[rows, columns] = block @ others.T
        squares, vectors = np.linalg.eigh(products)
        used = np.flatnonzero(squares > _ROUNDING**2 * self.items)[::-1][:count]
        directions = vectors.T[used]
        if self.items < self.dimensions:  # they are weights of the items
            weights, directions = directions, np.zeros((len(used), self.dimensions))
            for rows, block in self._centered():
                directions += weights[:, rows] @ block
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return directions

    def _sum_of_squares(self) -> Float64[np.ndarray, "dimensions dimensions"]:
        """Sums the products of the centered rows, some columns a thread: the same on any cores."""
        products = np.zeros((self.dimensions, self.dimensions))
        parts = [slice(at, at + _COLUMNS) for at in range(0, self.dimensions, _COLUMNS)]

        def add(block, columns):
            products[:, columns] += block.T @ block[:, columns]

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for _, block in self.track(self._centered(), "principal components", self._num_blocks):
                list(threads.map(partial(add, block), parts))
        return products

    def _centered(self) -> Iterator[tuple[slice, Float64[np.ndarray, "rows dimensions"]]]:
        return ((rows, block - self.mean) for rows, block in self.blocks())


def max_fitting_items(train: Features, memory_bytes: int, *, ridge: bool = False) -> int:
    """Returns how many training items fit into the memory while the baselines are fitted to them.

    A quarter of the memory holds the items in their stored dtype. Principal components of n items
    of d dimensions come from a matrix [d, d] or [n, n], the smaller one, and four such matrices are
    held in float64. Ridge regression holds all items three times in float32, in half of the memory.

    Args:
        train: features of the training items.
        memory_bytes: bound on the memory in bytes.
        ridge: whether `class_index` is among the baselines.

    Example:
        >>> max_fitting_items(np.zeros((5, 3), np.float32), memory_bytes=2**30)
        5
    """
    items, dimensions = train.shape
    bytes_per_item = train.bytes_per_item if isinstance(train, LazyVectors) else train[:1].nbytes
    limits = [items, memory_bytes // 4 // bytes_per_item]
    largest = math.isqrt(memory_bytes // 32)
    if dimensions > largest:
        limits.append(largest)
    if ridge:
        limits.append(memory_bytes // (24 * dimensions))
    return max(2, min(limits))
