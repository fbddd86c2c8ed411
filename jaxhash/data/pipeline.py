"""The grain pipeline: seeded, sharded by process, resumable, and complete.

First the rows of each global batch are chosen, then each process loads its own. So an epoch is the
same batches of the same images, augmented alike, whatever the number of processes.
"""

import dataclasses
from collections.abc import Iterator, Sequence

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
        process_index: this process, from 0.
        process_count: number of processes, a divisor of ``batch_size``.

    Raises:
        ValueError: if the batch cannot be divided over the processes.
    """
    if batch_size % process_count:
        raise ValueError(f"batch_size {batch_size} is no multiple of {process_count} processes")
    rows = batch_size // process_count
    mine = slice(process_index * rows, (process_index + 1) * rows)
    batches = (
        grain.MapDataset.range(len(items))
        .seed(seed)
        .shuffle()
        .batch(batch_size, batch_fn=_Pad(batch_size))
        .repeat()
        .random_map(_Load(source, items, augment, mine))
    )
    return iter(batches.to_iter_dataset(_in_background()))


def evaluation_batches(
    source: Source, items: Int[np.ndarray, " items"], *, batch_size: int
) -> Iterator[Batch]:
    """The items once, in order, none left out; the last batch is filled up with masked rows."""
    load = _Load(source, items, Augment(), slice(None))
    batches = (
        grain.MapDataset.range(len(items))
        .batch(batch_size, batch_fn=_Pad(batch_size))
        .map(lambda rows: load.random_map(rows, np.random.default_rng(0)))
    )
    return iter(batches.to_iter_dataset(_in_background()))


def _in_background() -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)


@dataclasses.dataclass(frozen=True)
class _Pad:
    """Fill up a batch of row numbers."""

    batch_size: int

    def __call__(self, rows: Sequence[int]) -> np.ndarray:
        return np.pad(rows, (0, self.batch_size - len(rows)), constant_values=_PADDING)


@dataclasses.dataclass(frozen=True)
class _Load(grain.transforms.RandomMap):
    """Read and augment this process's rows of a global batch."""

    source: Source
    items: np.ndarray
    augment: Augment
    mine: slice

    def random_map(self, element: np.ndarray, rng: np.random.Generator) -> Batch:
        draws = self.augment.draw(len(element), rng)[self.mine]  # the same on every process
        rows = element[self.mine]
        mask = rows != _PADDING
        items = self.items[np.where(mask, rows, 0)]
        inputs = self.augment.apply(self.source.inputs[items], draws)
        return Batch(inputs, self.source.labels[items], rows.astype(np.int32), mask)
