"""Methods that alternate: training steps, and once an epoch new binary codes of all images."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Key, PyTree

from jaxhash import losses
from jaxhash.losses._discrete import normal_equations, solve_ridge
from jaxhash.objectives._banks import Unfilled, empty_bank
from jaxhash.objectives._base import (
    Context,
    Loss,
    Objective,
    Setup,
    Variables,
    Weight,
    check_positive,
    check_weights,
    is_static_zero,
)
from jaxhash.objectives._method import Method
from jaxhash.objectives._pairs import pairwise
from jaxhash.objectives._tables import (
    Bank,
    ItemTable,
    look_up,
    pad_rows,
    table_axis,
)
from jaxhash.ops.row_blocks import RowBlocks
from jaxhash.similarity import multi_hot

__all__ = ["dsdh", "dsdh_released"]

#: Number of images of a device whose labels are floats in memory at a time.
_ROWS_PER_BLOCK = 1 << 18


class DiscreteState(NamedTuple):
    """The binary codes of an alternating method and what they are computed from."""

    bank: Bank
    """The last real-valued code and the labels of each training image."""
    codes: ItemTable
    """Codes of -1 and +1; random until the first epoch has ended."""
    of_class: PyTree
    """The classifier W of DSDH, both of DSAH; of ADSH each class's sum of codes and size, or ()."""


def dsdh(
    *,
    mu: float = 1e-2,
    nu: float = 1.0,
    sweeps: int = 1,
    unseen: Unfilled = "ignored",
    penalty: Weight = 1e-2,
) -> Objective:
    r"""DSDH: a pairwise likelihood, and binary codes that a linear classifier maps to labels.

    .. math:: L = \operatorname{mean}_{ij} \ell(\tfrac12 u_i \cdot U_j, s_{ij})
              + \eta \operatorname{mean} (B_b - u)^2

    with the likelihood of `jaxhash.losses.pairwise_likelihood` against the bank U of the last raw
    codes of all training images (a constant, to which the batch is written first), and the
    batch's rows of the binary codes B. When an epoch begins, B and a classifier W are computed from
    the bank to reduce :math:`\mu \|Y - BW\|^2 + \nu \|W\|^2 + \eta \|B - U\|^2`:
    `jaxhash.losses.dsdh_classifier` with nu / mu, then `jaxhash.losses.dsdh_codes` with eta / mu.
    In the first epoch B is random. The terms in W are constants for the network and not in L.

    Images that share any label are similar, and Y is multi-hot. An image without a label is left
    out of the classifier; one that no batch has held yet keeps its random code.

    Args:
        mu: weight of the classification.
        nu: weight of the classifier's squared norm.
        sweeps: number of updates of W and then of each bit of B, per epoch.
        unseen: how the likelihood treats images that no batch has held yet; with
            ``"dissimilar"`` their rows of zeros are dissimilar to everything, as in released code.
        penalty: eta, the weight of the distance to B; 0 leaves it out, and B with it.

    Raises:
        ValueError: if ``unseen`` is unknown, ``mu`` or ``nu`` is not above 0, ``sweeps`` is below
            1, or ``penalty`` below 0.

    Example:
        >>> method = dsdh(sweeps=3)

    Reference:
        Li, Sun, He, Tan, "Deep supervised discrete hashing", NIPS 2017. Weights, the random start
        and one sweep are those of an independent implementation whose quantization works; it, too,
        weighs means in the loss of the network and sums in the steps. (The paper's text was not at
        hand.)
    """
    check_weights(penalty=penalty)
    check_positive(mu=mu, nu=nu)
    if sweeps < 1:
        raise ValueError(f"sweeps must be at least 1, got {sweeps}")
    likelihood = pairwise("dsdh", losses.mean_likelihood, pairs="bank", unseen=unseen)
    if is_static_zero(penalty):
        return likelihood

    def init(key, setup):
        classifier = jnp.zeros((setup.bits, setup.classes), jnp.float32)
        return Variables(state=initial_state(key, setup, classifier))

    def find_codes(state, axis_name):
        bank = state.bank
        blocks = bank_blocks(bank)

        def block(number):
            part = bank_block(bank, blocks, number)
            return part, multi_hot(part.labels, state.of_class.shape[1])

        def sweep(_, found):
            codes, classifier = found

            def products(number):
                part, labels = block(number)
                return normal_equations(blocks.cut(codes, number), labels, part.seen)

            def update(number, codes):
                part, labels = block(number)
                new = losses.dsdh_codes(
                    blocks.cut(codes, number),
                    part.codes,
                    labels,
                    classifier,
                    weight=penalty / mu,
                    where=part.seen,
                )
                return blocks.put(codes, new, number)

            classifier = solve_ridge(*blocks.sum(products, axis_name), nu / mu)
            return lax.fori_loop(0, blocks.count, update, codes), classifier

        codes, classifier = lax.fori_loop(0, sweeps, sweep, (state.codes.rows, state.of_class))
        return state._replace(codes=ItemTable(codes), of_class=classifier)

    def loss(variables, codes, batch, context):
        state = update_codes(find_codes, variables.state, context)
        value, bank, terms = likelihood.loss(Variables(state=state.bank), codes, batch, context)
        found = look_up(state.codes, batch.index, context)
        distance = losses.distance_to_codes(
            codes, found, where=batch.mask, axis_name=context.axis_name
        )
        terms |= {"dsdh_penalty": distance}
        return Loss(value + penalty * distance, state._replace(bank=bank), terms)

    return Objective(init, loss)


def dsdh_released(*, unseen: Unfilled = "dissimilar") -> Objective:
    """DSDH as released with HSWD: the pairwise likelihood against a bank, and nothing else.

    That code, and the code that it derives from, alternate as `dsdh` does, but no term of their
    loss depends on the binary codes: their updates change nothing and are left out here.

    Args:
        unseen: how the bank treats images that no batch has held yet; see `hashnet`.

    Raises:
        ValueError: if ``unseen`` is unknown.

    Example:
        >>> method = dsdh_released(unseen="ignored")

    Reference:
        The code of Doan, Yang, Li, "One Loss for Quantization", CVPR 2022.
    """
    return pairwise("dsdh_released", losses.mean_likelihood, pairs="bank", unseen=unseen)


def initial_state(key: Key[Array, ""], setup: Setup, of_class: PyTree) -> DiscreteState:
    """Returns random codes and an empty bank."""
    codes = jax.random.rademacher(key, (setup.items, setup.bits), jnp.float32)
    return DiscreteState(
        empty_bank(setup), ItemTable(pad_rows(codes, setup.table_sharding.items)), of_class
    )


def update_codes(
    find_codes: Callable[[DiscreteState, str | None], DiscreteState],
    state: DiscreteState,
    context: Context,
) -> DiscreteState:
    """Returns the state with updated codes if an epoch has just ended."""
    find = partial(find_codes, axis_name=table_axis(state.codes, context))
    return lax.cond(context.new_epoch, find, lambda same: same, state)


def bank_blocks(bank: Bank) -> RowBlocks:
    """Returns the blocks in which the binary codes of a bank's images are computed."""
    return RowBlocks.of(len(bank.seen), _ROWS_PER_BLOCK)


def bank_block(bank: Bank, blocks: RowBlocks, number: int | Int[Array, ""]) -> Bank:
    """Returns the rows of a block; those that a block before held too are not ``seen``."""
    part = jax.tree.map(lambda rows: blocks.cut(rows, number), bank)
    return part._replace(seen=part.seen & blocks.are_new(number))


#: The methods of this family.
METHODS = (
    Method(
        dsdh,
        "Li et al., NIPS 2017",
        kind="discrete",
        state="bank, codes, classifier",
        learning_rate=0.003,
        all_items=True,
    ),
    Method(
        dsdh_released,
        "Doan et al., CVPR 2022",
        kind="pairwise",
        state="bank",
        learning_rate=0.003,
        all_items=True,
    ),
)
