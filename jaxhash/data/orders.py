"""The order of the training items in an epoch: shuffled as a whole, or in windows of blocks.

An order maps the number of an epoch and a range of places in it to the rows there. It depends on its seed
alone, so that any process reads any part of any epoch.
"""

from collections.abc import Callable
from typing import TypeVar

import grain
import numpy as np
from jaxtyping import Int

from jaxhash.data.rows import Blocks

T = TypeVar("T")

#: Number of items above which an order is computed place by place, and not held in memory.
MAX_HELD_ORDER = 2**24

#: Rounds of the cipher that permutes places.
_ROUNDS = 4

#: Maps an epoch and a range of places to rows.
Order = Callable[[int, slice], Int[np.ndarray, " rows"]]


def epoch_order(items: Int[np.ndarray, " items"], seed: int, blocks: Blocks | None = None) -> Order:
    """Returns the random order of the items in each epoch.

    Up to `MAX_HELD_ORDER` items it is NumPy's permutation; above, a permutation that is computed for each
    place by itself (`grain.experimental.index_shuffle`), which takes no memory.

    Args:
        items: numbers of the items.
        seed: seed of all epochs.
        blocks: blocks in which the items are read, if single ones cannot be read at once. Then the blocks
            are shuffled, and the items within each window of consecutive ones.

    Example:
        >>> order = epoch_order(np.arange(5), seed=0)
        >>> order(0, slice(0, 5)).tolist(), order(0, slice(3, 5)).tolist()
        ([2, 4, 3, 0, 1], [0, 1])
    """
    if blocks is not None:
        return _WindowedOrder(items, seed, blocks)
    if len(items) > MAX_HELD_ORDER:
        return _ComputedOrder(len(items), seed)
    return _HeldOrder(len(items), seed)


def item_order(items: int) -> Order:
    """Returns the order of the items themselves, the same in each epoch."""
    return lambda _, places: np.arange(*places.indices(items))


class _Latest:
    """Keeps the value that was computed last; threads that ask for several compute them again."""

    def __init__(self):
        self._held = (None, None)

    def __call__(self, key: object, compute: Callable[[], T]) -> T:
        held = self._held  # read once, since another thread may replace it
        if held[0] != key:
            held = self._held = (key, compute())
        return held[1]


class _HeldOrder:
    """A permutation of all items, of which the latest is held."""

    def __init__(self, items: int, seed: int):
        self._items, self._seed, self._latest = items, seed, _Latest()

    def __call__(self, epoch: int, places: slice) -> Int[np.ndarray, " rows"]:
        draw = np.random.default_rng([self._seed, epoch]).permutation
        return self._latest(epoch, lambda: draw(self._items))[places]


class _ComputedOrder:
    """A permutation of all items that is computed for each place by itself."""

    def __init__(self, items: int, seed: int):
        self._items, self._seed = items, seed

    def __call__(self, epoch: int, places: slice) -> Int[np.ndarray, " rows"]:
        [seed] = np.random.SeedSequence([self._seed, epoch]).generate_state(1)
        numbers = range(*places.indices(self._items))
        options = {"max_index": self._items - 1, "seed": int(seed), "rounds": _ROUNDS}
        shuffled = (grain.experimental.index_shuffle(number, **options) for number in numbers)
        return np.fromiter(shuffled, np.int64, len(numbers))


class _WindowedOrder:
    """A permutation of blocks of items, and of the items in each window of consecutive blocks."""

    def __init__(self, items: Int[np.ndarray, " items"], seed: int, blocks: Blocks):
        is_sorted = bool((items[1:] >= items[:-1]).all())
        self._by_item = None if is_sorted else np.argsort(items, kind="stable")
        by_item = items if is_sorted else items[self._by_item]
        self._cuts = np.unique(np.r_[np.searchsorted(by_item, blocks.starts), len(items)])
        self._seed, self._window = seed, blocks.window
        self._epoch, self._rows = _Latest(), _Latest()

    def __call__(self, epoch: int, places: slice) -> Int[np.ndarray, " rows"]:
        order, ends = self._epoch(epoch, lambda: self._draw(epoch))
        start, stop, _ = places.indices(int(ends[-1]))
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, stop, side="left"))
        rows = [self._shuffled(epoch, order, number) for number in range(first, last + 1)]
        offset = int(ends[first - 1]) if first else 0
        return np.concatenate(rows)[start - offset : stop - offset]

    def _draw(self, epoch: int) -> tuple[Int[np.ndarray, " blocks"], Int[np.ndarray, " windows"]]:
        """Returns the order of the blocks, and where each window of them ends."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._cuts) - 1)
        ends = np.cumsum(np.diff(self._cuts)[order])
        last = np.r_[self._window - 1 : len(order) - 1 : self._window, len(order) - 1]
        return order, ends[last]

    def _shuffled(
        self, epoch: int, order: Int[np.ndarray, " blocks"], number: int
    ) -> Int[np.ndarray, " rows"]:
        """Returns the items of a window, shuffled; those of the latest window are held."""

        def draw() -> Int[np.ndarray, " rows"]:
            here = order[number * self._window : (number + 1) * self._window]
            ranges = [np.arange(self._cuts[block], self._cuts[block + 1]) for block in here]
            rng = np.random.default_rng([self._seed, epoch, 1 + number])
            rows = rng.permutation(np.concatenate(ranges))
            return rows if self._by_item is None else self._by_item[rows]

        return self._rows((epoch, number), draw)
