"""The grain pipeline: seeded, sharded by process, resumable, and complete.

First the rows of each global batch are chosen, then each process loads its own. So an epoch is the
same batches of the same images, augmented alike, whatever the number of processes. An element of the
pipeline is a batch, never an item: what grain does for an element would cost more than a step.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator

import grain
import numpy as np
from jaxtyping import Int

from jaxhash.data.augment import Augment
from jaxhash.data.sources import Source
from jaxhash.objectives import Batch

#: Marks a row of a batch that is padding.
_PADDING = -1


def training_batches(
    source: Source,
    items: Int[np.ndarray, " train"],
    *,
    batch_size: int,
    seed: int,
    augment: Augment,
    views: int = 1,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Batches of shuffled, augmented training items without end, each epoch in a new order.

    The last batch of an epoch is filled up with masked rows. The iterator's ``get_state`` and
    ``set_state`` move it exactly.

    Args:
        source: where the items are read.
        items: indices of the training items; `Batch.index` counts in this array.
        batch_size: rows of the global batch.
        seed: seed of order and augmentation.
        augment: what is done to the images.
        views: how many times each item is augmented, independently. Of several, `Batch.inputs` is a
            tuple, whose first view is that of a single one.
        process_index: this process, from 0.
        process_count: number of processes, a divisor of ``batch_size``.

    Raises:
        ValueError: if the batch cannot be divided over the processes, or ``views`` is below 1.
    """
    if views < 1:
        raise ValueError(f"views must be at least 1, got {views}")
    if batch_size % process_count:
        raise ValueError(f"batch_size {batch_size} is no multiple of {process_count} processes")
    rows = batch_size // process_count
    load = _Load(
        source,
        items,
        augment,
        order=_Shuffled(len(items), seed),
        batch_size=batch_size,
        mine=slice(process_index * rows, (process_index + 1) * rows),
        views=views,
    )
    batches = grain.MapDataset.range(sys.maxsize).seed(seed).random_map(load)
    return iter(batches.to_iter_dataset(_in_background()))


def evaluation_batches(
    source: Source, items: Int[np.ndarray, " items"], *, batch_size: int
) -> Iterator[Batch]:
    """The items once, in order, none left out; the last batch is filled up with masked rows."""
    load = _Load(
        source,
        items,
        Augment(),
        order=lambda _: np.arange(len(items)),
        batch_size=batch_size,
        mine=slice(None),
    )
    batches = grain.MapDataset.range(load.batches).map(
        lambda number: load.random_map(number, np.random.default_rng(0))
    )
    return iter(batches.to_iter_dataset(_in_background()))


def _in_background() -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)


class _Shuffled:
    """The order of the items in an epoch; it is kept until that of another epoch is asked for."""

    def __init__(self, items: int, seed: int):
        self._items, self._seed, self._last = items, seed, (-1, np.arange(0))

    def __call__(self, epoch: int) -> Int[np.ndarray, " items"]:
        last = self._last  # threads may ask for two epochs at once: each sees a whole pair
        if last[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch])
            last = self._last = (epoch, rng.permutation(self._items))
        return last[1]


@dataclasses.dataclass(frozen=True)
class _Load(grain.transforms.RandomMap):
    """Read and augment this process's rows of a global batch, given its number from 0.

    Attributes:
        source: where the items are read.
        items: the items that there are.
        augment: what is done to the images.
        order: from the number of an epoch to the order of the items.
        batch_size: rows of a global batch.
        mine: this process's rows of it.
        views: how many times each item is augmented.
    """

    source: Source
    items: np.ndarray
    augment: Augment
    order: Callable[[int], np.ndarray]
    batch_size: int
    mine: slice
    views: int = 1

    @property
    def batches(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self.items) // self.batch_size)

    def random_map(self, element: int, rng: np.random.Generator) -> Batch:
        epoch, number = divmod(element, self.batches)
        chosen = self.order(epoch)[number * self.batch_size : (number + 1) * self.batch_size]
        rows = np.full(self.batch_size, _PADDING, np.int32)
        rows[: len(chosen)] = chosen
        # Drawn for the whole batch, so that every process draws the same.
        draws = [self.augment.draw(self.batch_size, rng)[self.mine] for _ in range(self.views)]
        rows = rows[self.mine]
        mask = rows != _PADDING
        items = self.items[np.where(mask, rows, 0)]
        inputs = self.source.inputs[items]
        views = tuple(self.augment.apply(inputs, each) for each in draws)
        return Batch(views if self.views > 1 else views[0], self.source.labels[items], rows, mask)
