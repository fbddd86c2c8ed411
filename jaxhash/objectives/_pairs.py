"""Pairwise losses, of the rows of the batch with each other or with a memory bank."""

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
    zero_padding,
)
from jaxhash.objectives._tables import (
    Bank,
    gather_for_table,
    num_rows,
    padded_size,
    row_mask,
    table_axis,
)
from jaxhash.ops.arguments import as_index
from jaxhash.ops.collectives import all_gather, row_indices
from jaxhash.similarity import UNLABELLED, shares_label

#: What each row of the batch is paired with.
Pairs = Literal["batch", "bank"]

#: How a bank treats images that no batch has held yet.
Unfilled = Literal["ignored", "dissimilar"]

Relax = Callable[[Float[Array, "n bits"], Context], Float[Array, "n bits"]]


class Candidates(NamedTuple):
    """The images that the rows of the batch are paired with."""

    codes: Float[Array, "m bits"]
    labels: Shaped[Array, " m *classes"]
    where: Bool[Array, "n m"]
    """Which pairs are valid."""


def pairwise(
    name: str,
    loss: Callable[..., Float[Array, ""]],
    *,
    pairs: Pairs,
    unseen: Unfilled = "ignored",
    relax: Relax = lambda codes, context: codes,
    similarity: Callable[..., Shaped[Array, "n m"]] = shares_label,
) -> Objective:
    """Makes an objective of a loss of pairs.

    Args:
        name: name of the term in the log.
        loss: ``loss(codes, others, similarity, where=, axis_name=)``, a scalar.
        pairs: ``"batch"`` pairs each row with every other row of the whole batch, and the gradient
            flows through both; ``"bank"`` pairs it with the last code of every training image,
            itself included, which are constants. The batch is written to the bank first.
        unseen: how a bank treats images that no batch has held yet: ``"ignored"`` leaves them out;
            with ``"dissimilar"`` their rows of zeros are dissimilar to everything.
        relax: function from the model's codes, in float32, to those that are compared and stored.
        similarity: similarity of labels; see `jaxhash.similarity`.

    Raises:
        ValueError: if ``pairs`` or ``unseen`` is unknown.
    """
    for what, value, allowed in (
        ("pairs", pairs, get_args(Pairs)),
        ("unseen", unseen, get_args(Unfilled)),
    ):
        if value not in allowed:
            raise ValueError(f"{what} must be one of {allowed}, got {value!r}")

    def init(key, setup):
        return Variables(state=empty_bank(setup) if pairs == "bank" else ())

    def pair_loss(variables, codes, batch, context):
        codes = zero_padding(codes.astype(jnp.float32), batch)
        codes, state = relax(codes, context), variables.state
        if pairs == "bank":
            state = update_bank(state, codes, batch, context)
            codes, batch = gather_for_table(state, codes, batch, context)
            candidates = bank_candidates(state, batch, unseen, context)
        else:
            candidates = batch_candidates(codes, batch, context.axis_name)
        value = loss(
            codes,
            candidates.codes,
            similarity(batch.labels, candidates.labels),
            where=candidates.where,
            axis_name=context.axis_name,
        )
        return Loss(value, state, {name: value})

    return Objective(init, pair_loss)


def batch_candidates(
    codes: Float[Array, "n bits"], batch: Batch, axis_name: str | None
) -> Candidates:
    """Returns the rows of the whole batch over devices; no row is paired with itself."""
    rows = row_indices(codes.shape[0], axis_name)
    candidates = (codes, jnp.asarray(batch.labels), jnp.asarray(batch.mask))
    codes, labels, mask = all_gather(candidates, axis_name)
    is_other = rows[:, None] != jnp.arange(codes.shape[0])[None, :]
    return Candidates(codes, labels, batch.mask[:, None] & mask[None, :] & is_other)


def bank_candidates(bank: Bank, batch: Batch, unseen: Unfilled, context: Context) -> Candidates:
    """Returns the images of a bank: those seen so far, or all of them if unseen ones count."""
    seen = row_mask(bank, context) if unseen == "dissimilar" else bank.seen
    return Candidates(bank.codes, bank.labels, batch.mask[:, None] & seen[None, :])


def empty_bank(setup: Setup) -> Bank:
    """Returns a bank with codes of zeros and without labels."""
    rows = padded_size(setup.items, setup.table_sharding.items)
    labels = (
        jnp.zeros((rows, setup.classes), jnp.uint8)
        if setup.multi_label
        else jnp.full(rows, UNLABELLED, jnp.int32)
    )
    codes = jnp.zeros((rows, setup.bits), jnp.float32)
    return Bank(codes, labels, jnp.zeros(rows, bool))


def update_bank(bank: Bank, codes: Float[Array, "n bits"], batch: Batch, context: Context) -> Bank:
    """Returns the bank with the rows of the whole batch written to it; padding is dropped."""
    index = jnp.where(batch.mask, batch.index, -1)
    rows = (
        lax.stop_gradient(codes),
        jnp.asarray(batch.labels, bank.labels.dtype),
        as_index("index", index, num_rows(bank, context), minimum=-1),
    )
    codes, labels, index = all_gather(rows, context.axis_name)
    index = index - row_indices(len(bank.seen), table_axis(bank, context))[0]
    index = jnp.where(index >= 0, index, len(bank.seen))  # out of range: dropped
    # As integers: XLA:TPU sorts the indices of a scatter into bytes, and compiles four times as long.
    seen = bank.seen.astype(jnp.int32).at[index].set(1, mode="drop")
    return Bank(
        bank.codes.at[index].set(codes, mode="drop"),
        bank.labels.at[index].set(labels, mode="drop"),
        seen.astype(bool),
    )
