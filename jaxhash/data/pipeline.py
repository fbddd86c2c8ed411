"""Makes batches with grain: seeded, sharded by process, resumable, and without dropping items.

The rows of each global batch are chosen first; then each process loads its own. An epoch thus has the
same batches, augmented in the same way, for any number of processes. An element of the grain pipeline is
a batch rather than an item, because grain's overhead per element would exceed the time of a step.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import grain
import numpy as np
from jaxtyping import Int

from jaxhash.data.augment import Augment, DeferredAugment
from jaxhash.data.class_batches import PADDING, ClassBatchOrder
from jaxhash.data.rows import ViewRows
from jaxhash.data.sources import Source
from jaxhash.data.workers import WorkerIterator
from jaxhash.objectives import Batch

#: Where `training_batches` applies the augmentation.
AugmentDevice = Literal["host", "device"]


def training_batches(
    source: Source,
    items: Int[np.ndarray, " train"],
    *,
    batch_size: int,
    seed: int,
    augment: Augment,
    batch_classes: int | None = None,
    views: int = 1,
    start: int = 0,
    workers: int = 0,
    augment_on: AugmentDevice = "host",
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Yields batches of augmented training items without end, in a new order each epoch.

    The last batch of an epoch is padded with masked rows. A batch depends only on the seed and on its
    number: ``start``, ``workers`` and the number of processes change no bit of it.

    Worker processes help if inputs take long to decode. Each holds a copy of the source, with all inputs
    that are in memory, and sends its batches through a pipe. If inputs are in memory, the threads of this
    process are faster. The workers end with the iterator, or by its ``close``.

    Args:
        source: the source of the items.
        items: indices of the training items; `Batch.index` counts in this array.
        batch_size: rows of the global batch.
        seed: seed of order and augmentation.
        augment: the augmentation.
        batch_classes: number of classes of a batch, each with as many rows; any if not given. See
            `jaxhash.data.class_batches.ClassBatchOrder`.
        views: number of independent augmentations of each item. With several, `Batch.inputs` is a tuple,
            whose first view equals the only view of ``views=1``. `ViewRows` make them themselves.
        start: number of global batches to skip; ``get_state`` and ``set_state`` count from there.
        workers: number of processes that load batches; 0 for threads of this process.
        augment_on: ``host``, or ``device``: then `Batch.inputs` is a `DeferredAugment`, from which
            `Augment.on_device` computes the same bits as ``host``.
        process_index: index of this process, from 0.
        process_count: number of processes, a divisor of ``batch_size``.

    Raises:
        ValueError: if the batch cannot be divided over the processes, a number is too small, or feature
            dropout is to be computed on the device.
        UserError: if the labels do not allow batches of ``batch_classes``.
    """
    for name, number, least in (("views", views, 1), ("start", start, 0), ("workers", workers, 0)):
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    if augment_on == "device":
        augment.check_on_device()
    if batch_classes is None:
        order = _EpochOrder(len(items), seed)
    else:
        order = ClassBatchOrder(
            source.labels[items], batch_size=batch_size, batch_classes=batch_classes, seed=seed
        )
    load = _LoadBatch(
        source,
        items,
        augment,
        order=order,
        batch_size=batch_size,
        local_rows=rows_of_process(batch_size, process_index, process_count),
        views=views,
        defer=augment_on == "device",
    )
    batches = grain.MapDataset.range(sys.maxsize).seed(seed).random_map(load)[start:]
    if not workers:
        return iter(batches.to_iter_dataset(_read_options()))
    return WorkerIterator(batches, workers)


def evaluation_batches(
    source: Source,
    items: Int[np.ndarray, " items"],
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Yields all items once, in order; the last batch is padded with masked rows.

    The rows of each batch are divided over the processes as in `training_batches`.
    """
    load = _LoadBatch(
        source,
        items,
        Augment(),
        order=lambda _: range(
            len(items)
        ),  # an array, made for each batch, would cost items squared
        batch_size=batch_size,
        local_rows=rows_of_process(batch_size, process_index, process_count),
    )
    batches = grain.MapDataset.range(load.batches).map(
        lambda number: load.random_map(number, np.random.default_rng(0))
    )
    return iter(batches.to_iter_dataset(_read_options()))


def rows_of_process(batch_size: int, process_index: int, process_count: int) -> slice:
    """Returns the rows of a global batch that a process loads.

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


def _read_options() -> grain.ReadOptions:
    """Returns options to load a few batches ahead in threads."""
    return grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)


class _EpochOrder:
    """The random order of the items in an epoch; the latest one is cached."""

    def __init__(self, items: int, seed: int):
        self._items, self._seed, self._last = items, seed, (-1, np.arange(0))

    def __call__(self, epoch: int) -> Int[np.ndarray, " items"]:
        last = self._last  # read once, since another thread may replace it for another epoch
        if last[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch])
            last = self._last = (epoch, rng.permutation(self._items))
        return last[1]


@dataclasses.dataclass(frozen=True)
class _LoadBatch(grain.transforms.RandomMap):
    """Read and augment this process's rows of a global batch, given its number from 0.

    Attributes:
        source: the source of the items.
        items: indices of the items.
        augment: the augmentation.
        order: maps the number of an epoch to its rows, batch by batch; an array or a range.
        batch_size: rows of a global batch.
        local_rows: the rows of this process.
        views: number of augmentations of each item.
        defer: whether to leave the augmentation to the device.
    """

    source: Source
    items: np.ndarray
    augment: Augment
    order: Callable[[int], Sequence[int] | np.ndarray]
    batch_size: int
    local_rows: slice
    views: int = 1
    defer: bool = False

    @property
    def batches(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self.items) // self.batch_size)

    def random_map(self, element: int, rng: np.random.Generator) -> Batch:
        epoch, number = divmod(element, self.batches)
        chosen = self.order(epoch)[number * self.batch_size : (number + 1) * self.batch_size]
        rows = np.full(self.batch_size, PADDING, np.int32)
        rows[: len(chosen)] = chosen
        rows = rows[self.local_rows]
        mask = rows != PADDING
        items = self.items[np.where(mask, rows, 0)]
        if self.views > 1 and isinstance(self.source.inputs, ViewRows):
            seeds = rng.integers(0, 2**63, self.batch_size)[self.local_rows].astype(np.uint64)
            inputs = self.source.inputs.views(items, seeds, self.views)
        else:
            inputs = self._augment(self.source.inputs[items], rng)
        return Batch(inputs, self.source.labels[items], rows, mask)

    def _augment(self, inputs: Any, rng: np.random.Generator) -> Any:
        """Returns the augmented inputs, one for each view; or defers that to the device.

        Every process samples for the whole batch, and thus the same numbers.
        """
        if self.defer:
            samples = (self.augment.sample(self.batch_size, rng) for _ in range(self.views))
            numbers = (sample[self.local_rows].astype(np.int32) for sample in samples)
            return DeferredAugment(inputs, tuple(numbers))
        options = {"rows": self.batch_size, "of": self.local_rows}
        views = tuple(
            self.augment.sample_and_apply(inputs, rng, **options) for _ in range(self.views)
        )
        return views if self.views > 1 else views[0]
