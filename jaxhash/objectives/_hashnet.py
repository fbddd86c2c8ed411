"""HashNet: pairwise likelihood against a memory bank, by continuation from tanh to sign."""

from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Shaped

from jaxhash import losses
from jaxhash.codes import relax
from jaxhash.objectives._base import Batch, Loss, Objective, Variables
from jaxhash.similarity import UNLABELLED, share_a_label

Unseen = Literal["ignored", "dissimilar"]


class Bank(NamedTuple):
    """The last relaxed code and the labels of each training image."""

    codes: Float[Array, "items bits"]
    labels: Shaped[Array, " items *classes"]
    seen: Bool[Array, " items"]


def hashnet(
    *, scale: float | None = None, stages: int = 10, unseen: Unseen = "ignored"
) -> Objective:
    r"""HashNet with a memory bank: each image of the batch against the whole training set.

    With :math:`z = \tanh(\beta u)` the loss is `jaxhash.losses.hashnet` between the batch's z and
    the bank of the last z of every training image. The rows of the batch are overwritten first, and
    no gradient flows through the bank. :math:`\beta = \sqrt{s + 1}` in stage
    :math:`s = \lfloor \mathrm{stages} \cdot \mathrm{progress} \rfloor`, from 1 to sqrt(stages).

    Args:
        scale: factor of the inner products; 10 / bits by default, as in HashNet's own code. (The
            code released with HSWD has 0.1 at every length.)
        stages: number of steps of the continuation; 10 gives the 1 to 3.16 of the released code,
            whose 200 epochs have 20 in a stage.
        unseen: what an image is that no batch has held yet. ``"ignored"`` leaves it out;
            ``"dissimilar"`` is the released code, where its empty row counts as dissimilar to
            everything, a constant that dilutes the mean over dissimilar pairs in the first epoch.

    Raises:
        ValueError: if ``stages`` < 1 or ``unseen`` is unknown.

    Example:
        >>> method = hashnet(unseen="dissimilar")

    Reference:
        Cao, Long, Wang, Yu, "HashNet: Deep Learning to Hash by Continuation", ICCV 2017. The paper
        pairs the images of a batch; the bank is that of the code released with HSWD (2022).
    """
    if stages < 1:
        raise ValueError(f"stages must be at least 1, got {stages}")
    if unseen not in get_args(Unseen):
        raise ValueError(f"unseen must be one of {get_args(Unseen)}, got {unseen!r}")

    def init(key, setup):
        labels = (
            jnp.zeros((setup.items, setup.classes), jnp.uint8)
            if setup.multi_label
            else jnp.full(setup.items, UNLABELLED, jnp.int32)
        )
        codes = jnp.zeros((setup.items, setup.bits), jnp.float32)
        return Variables(state=Bank(codes, labels, jnp.zeros(setup.items, bool)))

    def loss(variables, codes, batch, context):
        beta = jnp.sqrt(1.0 + jnp.floor(stages * context.progress))
        relaxed = relax(codes.astype(jnp.float32), beta)
        bank = _remember(variables.state, relaxed, batch, context.axis_name)
        columns = bank.seen if unseen == "ignored" else jnp.ones_like(bank.seen)
        value = losses.hashnet(
            relaxed,
            bank.codes,
            share_a_label(batch.labels, bank.labels),
            scale=10 / codes.shape[-1] if scale is None else scale,
            where=batch.mask[:, None] & columns[None, :],
            axis_name=context.axis_name,
        )
        return Loss(value, bank, {"hashnet": value})

    return Objective(init, loss)


def _remember(
    bank: Bank, relaxed: Float[Array, "n bits"], batch: Batch, axis_name: str | None
) -> Bank:
    """The bank with the rows of the whole batch overwritten; padding is dropped."""
    rows = (
        lax.stop_gradient(relaxed),
        jnp.asarray(batch.labels, bank.labels.dtype),
        jnp.where(batch.mask, batch.index, len(bank.seen)),  # padding: out of range, dropped
    )
    if axis_name is not None:
        rows = lax.all_gather(rows, axis_name, tiled=True)
    codes, labels, index = rows
    return Bank(
        bank.codes.at[index].set(codes, mode="drop"),
        bank.labels.at[index].set(labels, mode="drop"),
        bank.seen.at[index].set(True, mode="drop"),
    )
