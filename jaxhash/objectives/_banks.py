"""Memory banks: the last code of every training image, or of the images of the last batches."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from jaxhash.objectives._base import Batch, Context, Setup
from jaxhash.objectives._tables import Bank, num_rows, padded_size, row_mask, table_axis
from jaxhash.ops.arguments import as_index
from jaxhash.ops.collectives import all_gather, row_indices
from jaxhash.similarity import UNLABELLED

#: How a bank treats images that no batch has held yet.
Unfilled = Literal["ignored", "dissimilar"]


class RecentBank(NamedTuple):
    """A ring buffer of the last rows of the batches, whole on every device.

    An image that comes again leaves its older row empty, so that no image is there twice.
    """

    codes: Float[Array, "size bits"]
    labels: Shaped[Array, " size *classes"]
    items: Int[Array, " size"]
    """Index of each row in the training set, -1 where the row is empty."""
    next: Int[Array, ""]
    """The row that is written next, the oldest."""


def empty_bank(setup: Setup) -> Bank:
    """Returns a bank with codes of zeros and without labels."""
    rows = padded_size(setup.items, setup.table_sharding.items)
    return Bank(*_empty_rows(rows, setup), jnp.zeros(rows, bool))


def empty_recent_bank(size: int, setup: Setup) -> RecentBank:
    """Returns an empty ring buffer of a number of rows.

    Raises:
        ValueError: if there are fewer training images.
    """
    if size > setup.items:
        raise ValueError(
            f"bank_size={size:,} is above the number of training items, {setup.items:,}; without it "
            "the bank holds each of them"
        )
    items = jnp.full(size, -1, jnp.int32)
    return RecentBank(*_empty_rows(size, setup), items, jnp.int32(0))


def _empty_rows(
    rows: int, setup: Setup
) -> tuple[Float[Array, "rows bits"], Shaped[Array, " rows *classes"]]:
    labels = (
        jnp.zeros((rows, setup.classes), jnp.uint8)
        if setup.multi_label
        else jnp.full(rows, UNLABELLED, jnp.int32)
    )
    return jnp.zeros((rows, setup.bits), jnp.float32), labels


def update_bank(bank: Bank, codes: Float[Array, "n bits"], batch: Batch, context: Context) -> Bank:
    """Returns the bank with the rows of the whole batch written to it; padding is dropped."""
    codes, labels, index = _gather_rows(bank, codes, batch, num_rows(bank, context), context)
    index = index - row_indices(len(bank.seen), table_axis(bank, context))[0]
    index = jnp.where(index >= 0, index, len(bank.seen))  # out of range: dropped
    # As integers: XLA:TPU sorts the indices of a scatter into bytes, and compiles four times as long.
    seen = bank.seen.astype(jnp.int32).at[index].set(1, mode="drop")
    return Bank(
        bank.codes.at[index].set(codes, mode="drop"),
        bank.labels.at[index].set(labels, mode="drop"),
        seen.astype(bool),
    )


def update_recent_bank(
    bank: RecentBank, codes: Float[Array, "n bits"], batch: Batch, context: Context
) -> RecentBank:
    """Returns the ring buffer with the rows of the whole batch in place of the oldest."""
    codes, labels, items = _gather_rows(bank, codes, batch, None, context)
    is_row = items >= 0
    age = jnp.sum(is_row) - jnp.cumsum(is_row)  # 0 is the last row of the batch
    rows, size = jnp.arange(len(items)), len(bank.items)
    comes_again = (items[:, None] == items[None, :]) & (rows[:, None] < rows[None, :])
    position = (bank.next + jnp.cumsum(is_row) - 1) % size
    # Out of range: dropped. Of two rows at one position XLA may write either.
    position = jnp.where(is_row & (age < size), position, size)
    is_older = (bank.items[:, None] == items[None, :]).any(axis=1)
    kept = jnp.where(is_older, -1, bank.items)
    items = jnp.where(comes_again.any(axis=1), -1, items)
    return RecentBank(
        bank.codes.at[position].set(codes, mode="drop"),
        bank.labels.at[position].set(labels, mode="drop"),
        kept.at[position].set(items, mode="drop"),
        (bank.next + jnp.sum(is_row, dtype=jnp.int32)) % size,
    )


def filled_rows(bank: Bank | RecentBank, unseen: Unfilled, context: Context) -> Bank:
    """Returns the bank with the rows that count as ``seen``: all of them if unseen ones count."""
    if isinstance(bank, RecentBank):
        return Bank(bank.codes, bank.labels, bank.items >= 0)
    return bank._replace(seen=row_mask(bank, context)) if unseen == "dissimilar" else bank


def _gather_rows(
    bank: Bank | RecentBank,
    codes: Float[Array, "n bits"],
    batch: Batch,
    size: int | None,
    context: Context,
) -> tuple[Float[Array, "m bits"], Shaped[Array, " m *classes"], Int[Array, " m"]]:
    """Returns constant codes, labels and index of the rows of all devices, with -1 for padding."""
    rows = (
        lax.stop_gradient(codes),
        jnp.asarray(batch.labels, bank.labels.dtype),
        as_index("index", jnp.where(batch.mask, batch.index, -1), size, minimum=-1),
    )
    return all_gather(rows, context.axis_name)
