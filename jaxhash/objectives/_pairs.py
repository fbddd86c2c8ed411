"""Pairwise losses, of the rows of the batch with each other or with a memory bank."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxhash.losses import PairCounts
from jaxhash.objectives._banks import (
    RecentBank,
    Unfilled,
    empty_bank,
    empty_recent_bank,
    filled_rows,
    update_bank,
    update_recent_bank,
)
from jaxhash.objectives._base import (
    Batch,
    Context,
    Loss,
    Objective,
    Variables,
    zero_padding,
)
from jaxhash.objectives._tables import Bank, gather_for_table
from jaxhash.ops.collectives import all_gather, psum_local_grad, psum_no_grad, row_indices
from jaxhash.ops.row_blocks import RowBlocks
from jaxhash.similarity import shares_label

#: What each row of the batch is paired with.
Pairs = Literal["batch", "bank"]

#: The most pairs of a batch and a bank that are compared at once, on a device.
MAX_PAIRS = 1 << 24

#: The number of pairs of a block, where there are more: a few MiB, which fit the cache of a CPU core.
BLOCK_PAIRS = 1 << 20

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
    bank_size: int | None = None,
    relax: Relax = lambda codes, context: codes,
    similarity: Callable[..., Shaped[Array, "n m"]] = shares_label,
) -> Objective:
    """Makes an objective of a loss of pairs.

    Args:
        name: name of the term in the log.
        loss: ``loss(codes, others, similarity, where=, axis_name=)``, a scalar; that of a bank also
            takes ``pair_counts``, see `jaxhash.losses`.
        pairs: ``"batch"`` pairs each row with every other row of the whole batch, and the gradient
            flows through both; ``"bank"`` pairs it with the last code of every training image,
            itself included, which are constants. The batch is written to the bank first.
        unseen: how a bank treats images that no batch has held yet: ``"ignored"`` leaves them out;
            with ``"dissimilar"`` their rows of zeros are dissimilar to everything.
        bank_size: number of rows of a bank of the last rows of the batches; None for a bank of all
            training images.
        relax: function from the model's codes, in float32, to those that are compared and stored.
        similarity: similarity of labels; see `jaxhash.similarity`.

    Raises:
        ValueError: if ``pairs`` or ``unseen`` is unknown, ``bank_size`` is below 1, or it is given
            with pairs of the batch or with unseen images that count.
    """
    for what, value, allowed in (
        ("pairs", pairs, get_args(Pairs)),
        ("unseen", unseen, get_args(Unfilled)),
    ):
        if value not in allowed:
            raise ValueError(f"{what} must be one of {allowed}, got {value!r}")
    if bank_size is not None:
        if bank_size < 1:
            raise ValueError(f"bank_size must be at least 1, got {bank_size}")
        if pairs != "bank" or unseen != "ignored":
            raise ValueError(
                f"bank_size={bank_size} needs pairs=bank and unseen=ignored, got pairs={pairs} and "
                f"unseen={unseen}"
            )

    def init(key, setup):
        if pairs == "batch":
            return Variables()
        bank = empty_bank(setup) if bank_size is None else empty_recent_bank(bank_size, setup)
        return Variables(state=bank)

    def pair_loss(variables, codes, batch, context):
        codes = zero_padding(codes.astype(jnp.float32), batch)
        codes, state = relax(codes, context), variables.state
        if pairs == "batch":
            candidates = batch_candidates(codes, batch, context.axis_name)
            value = loss(
                codes,
                candidates.codes,
                similarity(batch.labels, candidates.labels),
                where=candidates.where,
                axis_name=context.axis_name,
            )
            return Loss(value, state, {name: value})
        if isinstance(state, RecentBank):
            state = update_recent_bank(state, codes, batch, context)
        else:
            state = update_bank(state, codes, batch, context)
            codes, batch = gather_for_table(state, codes, batch, context)
        bank = filled_rows(state, unseen, context)
        value = loss_over_bank(
            loss, codes, batch, bank, similarity=similarity, axis_name=context.axis_name
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


def loss_over_bank(
    loss: Callable[..., Float[Array, ""]],
    codes: Float[Array, "n bits"],
    batch: Batch,
    bank: Bank,
    *,
    axis_name: str | None,
    similarity: Callable[..., Shaped[Array, "n m"]] = shares_label,
) -> Float[Array, ""]:
    """Returns a loss of the rows of the batch with the rows of a bank that are marked as seen.

    A large bank is compared block by block, in memory of one block. The loss is a sum over pairs
    weighted by the numbers of pairs of each kind: these are counted first. Then each block adds its
    share of the value and of the gradient, so that nothing is kept for a backward pass. A block
    without a row that was seen costs nothing.

    Args:
        loss: as in `pairwise`.
        codes: codes that are compared; the gradient is in these alone.
        batch: labels and mask of their rows.
        bank: constants.
        similarity: as in `pairwise`.
        axis_name: mapped axis over which the batch or the bank is sharded.
    """
    blocks = RowBlocks.of(len(bank.seen), BLOCK_PAIRS // max(len(codes), 1))
    mask = jnp.asarray(batch.mask)

    def compare(codes, part, **options):
        where, similar = mask[:, None] & part.seen[None, :], similarity(batch.labels, part.labels)
        return loss(codes, part.codes, similar, where=where, **options)

    if len(codes) * blocks.rows <= MAX_PAIRS:
        return compare(codes, bank, axis_name=axis_name)

    def sum_blocks(function, zeros):
        def add(number, total):
            part = jax.tree.map(lambda rows: blocks.cut(rows, number), bank)
            part = part._replace(seen=part.seen & blocks.are_new(number))
            of_block = lax.cond(part.seen.any(), function, lambda part: zeros, part)
            return jax.tree.map(jnp.add, total, of_block)

        return lax.fori_loop(0, blocks.count, add, zeros)

    def count(part):
        similar = similarity(batch.labels, part.labels) > 0
        where = mask[:, None] & part.seen[None, :]
        kinds = where & similar, where & ~similar
        return PairCounts(*(jnp.sum(kind, axis=1, dtype=jnp.int32) for kind in kinds))

    zeros = jnp.zeros(len(codes), jnp.int32)
    by_row = sum_blocks(count, PairCounts(zeros, zeros))
    counts = PairCounts(*(_sum_counts(kind, axis_name) for kind in by_row))
    constant = lax.stop_gradient(codes)
    share = jax.value_and_grad(lambda codes, part: compare(codes, part, pair_counts=counts))
    value, gradient = sum_blocks(
        lambda part: share(constant, part), (jnp.float32(0), jnp.zeros_like(codes))
    )
    value = value + jnp.vdot(gradient, codes - constant)  # adds 0, with the gradient
    return psum_local_grad(value, axis_name)


def _sum_counts(by_row: Int[Array, " n"], axis_name: str | None) -> Float[Array, ""]:
    """Sums the numbers of pairs of all rows, which may exceed int32."""
    return psum_no_grad(jnp.sum(by_row.astype(jnp.float32)), axis_name)
