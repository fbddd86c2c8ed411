"""The grain pipeline: seeded, sharded by process, resumable, and complete.

First the rows of each global batch are chosen, then each process loads its own. So an epoch is the
same batches of the same images, augmented alike, whatever the number of processes. An element of the
pipeline is a batch, never an item: what grain does for an element would cost more than a step.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

import grain
import numpy as np
from jaxtyping import Int

from jaxhash.data.augment import Augment, Drawn
from jaxhash.data.sources import Source
from jaxhash.data.workers import WorkerIterator
from jaxhash.objectives import Batch

#: Marks a row of a batch that is padding.
_PADDING = -1

Where = Literal["host", "device"]


def training_batches(
    source: Source,
    items: Int[np.ndarray, " train"],
    *,
    batch_size: int,
    seed: int,
    augment: Augment,
    views: int = 1,
    start: int = 0,
    workers: int = 0,
    augment_on: Where = "host",
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Batches of shuffled, augmented training items without end, each epoch in a new order.

    The last batch of an epoch is filled up with masked rows. A batch is a function of the seed and
    of its number alone: ``start``, ``workers`` and the number of processes change no bit of it.

    Worker processes are for inputs that take long to decode. Each has a copy of the source, all of
    its inputs where they are held in memory, and a batch is copied on its way from there: of inputs
    in memory they bring fewer images a second than this process's threads.
    They end with the iterator, or by its ``close``.

    Args:
        source: where the items are read.
        items: indices of the training items; `Batch.index` counts in this array.
        batch_size: rows of the global batch.
        seed: seed of order and augmentation.
        augment: what is done to the images.
        views: how many times each item is augmented, independently. Of several, `Batch.inputs` is a
            tuple, whose first view is that of a single one.
        start: number of global batches that are done already; ``get_state`` and ``set_state`` count
            from there.
        workers: processes that load batches; 0 for threads of this process.
        augment_on: ``host``, or ``device``: then `Batch.inputs` is a `Drawn`, of which
            `Augment.on_device` makes what ``host`` would have made, to the last bit.
        process_index: this process, from 0.
        process_count: number of processes, a divisor of ``batch_size``.

    Raises:
        ValueError: if the batch cannot be divided over the processes, a number is too small, or
            entries of vectors are to be dropped on the device.
    """
    for name, number, least in (("views", views, 1), ("start", start, 0), ("workers", workers, 0)):
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    if augment_on == "device":
        augment.check_device()
    load = _Load(
        source,
        items,
        augment,
        order=_Shuffled(len(items), seed),
        batch_size=batch_size,
        mine=rows_of_process(batch_size, process_index, process_count),
        views=views,
        defer=augment_on == "device",
    )
    batches = grain.MapDataset.range(sys.maxsize).seed(seed).random_map(load)[start:]
    if not workers:
        return iter(batches.to_iter_dataset(_in_background()))
    return WorkerIterator(batches, workers)


def evaluation_batches(
    source: Source,
    items: Int[np.ndarray, " items"],
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """The items once, in order, none left out; the last batch is filled up with masked rows.

    The processes share the rows of each batch as in `training_batches`.
    """
    load = _Load(
        source,
        items,
        Augment(),
        order=lambda _: np.arange(len(items)),
        batch_size=batch_size,
        mine=rows_of_process(batch_size, process_index, process_count),
    )
    batches = grain.MapDataset.range(load.batches).map(
        lambda number: load.random_map(number, np.random.default_rng(0))
    )
    return iter(batches.to_iter_dataset(_in_background()))


def rows_of_process(batch_size: int, process_index: int, process_count: int) -> slice:
    """The rows of a global batch that are a process's.

    Raises:
        ValueError: if the batch cannot be divided over the processes.

    Example:
        >>> rows_of_process(12, 1, 3)
        slice(4, 8, None)
    """
    if batch_size % process_count:
        raise ValueError(f"batch_size {batch_size} is no multiple of {process_count} processes")
    rows = batch_size // process_count
    return slice(process_index * rows, (process_index + 1) * rows)


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
        defer: leave the augmentation to the device.
    """

    source: Source
    items: np.ndarray
    augment: Augment
    order: Callable[[int], np.ndarray]
    batch_size: int
    mine: slice
    views: int = 1
    defer: bool = False

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
        inputs = self._augmented(self.source.inputs[items], draws)
        return Batch(inputs, self.source.labels[items], rows, mask)

    def _augmented(self, inputs: np.ndarray, draws: list[np.ndarray]) -> Any:
        if self.defer:
            return Drawn(inputs, tuple(each.astype(np.int32) for each in draws))
        views = tuple(self.augment.apply(inputs, each) for each in draws)
        return views if self.views > 1 else views[0]
