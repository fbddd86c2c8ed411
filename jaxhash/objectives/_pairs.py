"""Pairs of a row of the batch with another image: of the whole batch, or of a memory bank."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Shaped

from jaxhash.objectives._base import (
    Batch,
    Context,
    Loss,
    Objective,
    Setup,
    Variables,
    without_padding,
)
from jaxhash.objectives._tables import (
    Bank,
    entries,
    gather_for_table,
    row_mask,
    table_axis,
    table_rows,
)
from jaxhash.ops.arguments import as_index
from jaxhash.ops.collectives import row_indices
from jaxhash.similarity import UNLABELLED, shares_label

#: What the rows of a batch are paired with.
Pairs = Literal["batch", "bank"]

#: What an image is that no batch has held yet.
Unseen = Literal["ignored", "dissimilar"]

Relax = Callable[[Float[Array, "n bits"], Context], Float[Array, "n bits"]]


class Columns(NamedTuple):
    """What the rows of the batch are paired with."""

    codes: Float[Array, "m bits"]
    labels: Shaped[Array, " m *classes"]
    where: Bool[Array, "n m"]
    """The valid pairs."""


def pairwise(
    name: str,
    loss: Callable[..., Float[Array, ""]],
    *,
    pairs: Pairs,
    unseen: Unseen = "ignored",
    relax: Relax = lambda codes, context: codes,
    similarity: Callable[..., Shaped[Array, "n m"]] = shares_label,
) -> Objective:
    """A loss of pairs as an objective.

    Args:
        name: of the term in the log.
        loss: ``loss(codes, others, similarity, where=, axis_name=)``, a scalar.
        pairs: ``"batch"`` pairs each row with every other one of the whole batch, and the gradient
            flows through both; ``"bank"`` pairs it with the last code of every training image,
            itself included, which are constants. The rows of the batch are overwritten first.
        unseen: of a bank, what an image is that no batch has held yet: ``"ignored"`` leaves it
            out; with ``"dissimilar"`` its row of zeros is dissimilar to everything.
        relax: from the codes of the model, in float32, to those that are compared and remembered.
        similarity: of labels; see `jaxhash.similarity`.

    Raises:
        ValueError: if ``pairs`` or ``unseen`` is unknown.
    """
    for what, value, allowed in (
        ("pairs", pairs, get_args(Pairs)),
        ("unseen", unseen, get_args(Unseen)),
    ):
        if value not in allowed:
            raise ValueError(f"{what} must be one of {allowed}, got {value!r}")

    def init(key, setup):
        return Variables(state=empty_bank(setup) if pairs == "bank" else ())

    def of_pairs(variables, codes, batch, context):
        codes = without_padding(codes.astype(jnp.float32), batch)
        codes, state = relax(codes, context), variables.state
        if pairs == "bank":
            state = remember(state, codes, batch, context)
            codes, batch = gather_for_table(state, codes, batch, context)
            columns = from_bank(state, batch, unseen, context)
        else:
            columns = from_batch(codes, batch, context.axis_name)
        value = loss(
            codes,
            columns.codes,
            similarity(batch.labels, columns.labels),
            where=columns.where,
            axis_name=context.axis_name,
        )
        return Loss(value, state, {name: value})

    return Objective(init, of_pairs)


def from_batch(codes: Float[Array, "n bits"], batch: Batch, axis_name: str | None) -> Columns:
    """The rows of the whole batch over devices, of which none is paired with itself."""
    rows = row_indices(codes.shape[0], axis_name)
    columns = (codes, jnp.asarray(batch.labels), jnp.asarray(batch.mask))
    if axis_name is not None:
        columns = lax.all_gather(columns, axis_name, tiled=True)
    codes, labels, mask = columns
    another = rows[:, None] != jnp.arange(codes.shape[0])[None, :]
    return Columns(codes, labels, batch.mask[:, None] & mask[None, :] & another)


def from_bank(bank: Bank, batch: Batch, unseen: Unseen, context: Context) -> Columns:
    """All images of a bank, or those that it has seen."""
    seen = row_mask(bank, context) if unseen == "dissimilar" else bank.seen
    return Columns(bank.codes, bank.labels, batch.mask[:, None] & seen[None, :])


def empty_bank(setup: Setup) -> Bank:
    """A bank that has seen nothing: codes of zeros, and no labels."""
    rows = table_rows(setup.items, setup.table_sharding.items)
    labels = (
        jnp.zeros((rows, setup.classes), jnp.uint8)
        if setup.multi_label
        else jnp.full(rows, UNLABELLED, jnp.int32)
    )
    codes = jnp.zeros((rows, setup.bits), jnp.float32)
    return Bank(codes, labels, jnp.zeros(rows, bool))


def remember(bank: Bank, codes: Float[Array, "n bits"], batch: Batch, context: Context) -> Bank:
    """The bank with the rows of the whole batch overwritten; padding is dropped."""
    index = jnp.where(batch.mask, batch.index, -1)
    rows = (
        lax.stop_gradient(codes),
        jnp.asarray(batch.labels, bank.labels.dtype),
        as_index("index", index, entries(bank, context), minimum=-1),
    )
    if context.axis_name is not None:
        rows = lax.all_gather(rows, context.axis_name, tiled=True)
    codes, labels, index = rows
    index = index - row_indices(len(bank.seen), table_axis(bank, context))[0]
    index = jnp.where(index >= 0, index, len(bank.seen))  # out of range: dropped
    return Bank(
        bank.codes.at[index].set(codes, mode="drop"),
        bank.labels.at[index].set(labels, mode="drop"),
        bank.seen.at[index].set(True, mode="drop"),
    )
