"""Methods that alternate: training steps, and once an epoch new binary codes of all images."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, PyTree

from jaxhash import losses
from jaxhash.losses._discrete import normal_equations, solve_ridge
from jaxhash.objectives._banks import Unfilled, empty_bank, update_bank
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
    zero_padding,
)
from jaxhash.objectives._method import Method
from jaxhash.objectives._pairs import loss_over_bank, pairwise
from jaxhash.objectives._tables import (
    Bank,
    ItemTable,
    gather_for_table,
    look_up,
    num_rows,
    pad_rows,
    table_axis,
)
from jaxhash.ops.codebooks import sum_over_labels
from jaxhash.ops.codes import relax
from jaxhash.ops.collectives import psum_no_grad
from jaxhash.ops.row_blocks import RowBlocks
from jaxhash.similarity import multi_hot, shares_label

__all__ = ["asymmetric_dsh", "dsdh", "dsdh_released"]

#: Number of images whose similarity to all others is in memory at a time.
_ROWS_PER_STEP = 256

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
        blocks = RowBlocks.of(len(bank.seen), _ROWS_PER_BLOCK)

        def block(number):
            part = jax.tree.map(lambda rows: blocks.cut(rows, number), bank)
            labels = multi_hot(part.labels, state.of_class.shape[1])
            return part, labels, part.seen & blocks.are_new(number)

        def sweep(_, found):
            codes, classifier = found

            def add(number, total):
                _, labels, where = block(number)
                of_block = normal_equations(blocks.cut(codes, number), labels, where)
                return jax.tree.map(jnp.add, total, of_block)

            def update(number, codes):
                part, labels, where = block(number)
                new = losses.dsdh_codes(
                    blocks.cut(codes, number),
                    part.codes,
                    labels,
                    classifier,
                    weight=penalty / mu,
                    where=where,
                )
                return blocks.put(codes, new, number)

            bits = len(classifier)
            zeros = jnp.zeros((bits, bits)), jnp.zeros_like(classifier)
            products = lax.fori_loop(0, blocks.count, add, zeros)
            products = (psum_no_grad(each, axis_name) for each in products)
            classifier = solve_ridge(*products, nu / mu)
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


def asymmetric_dsh(*, balanced: bool = True, penalty: Weight = 200.0) -> Objective:
    r"""ADSH: relaxed codes of the batch against binary codes of all images, updated each epoch.

    .. math:: L = \operatorname{mean}_{ij} \Big(\frac{h_i \cdot v_j}{\mathrm{bits}} - S_{ij}\Big)^2
              + \frac{\gamma}{\mathrm{bits} \cdot \mathrm{items}} \operatorname{mean}(v - h)^2

    with :math:`h = \tanh u` and `jaxhash.losses.asymmetric_dsh`. When an epoch begins, each bit of
    V in turn is set to its optimum for the last h of all images, by
    `jaxhash.losses.asymmetric_dsh_codes`. In the first epoch V is random.

    Images that share any label are similar. An image that no batch has held yet keeps its random
    code, and is left out of the pairs.

    Args:
        balanced: whether the target of dissimilar pairs is the weaker the more of them there are,
            as in `jaxhash.losses.asymmetric_dsh`.
        penalty: gamma, the weight of the distance of h to v as the paper has it, beside a sum over
            pairs of (h . v - bits S)^2. The mean above divides that by the batch, by items and by
            bits^2, and a sum over the batch's h - v by the batch and bits: so gamma becomes
            gamma / (bits items), 0.00125 for 200 with 32 bits and 5,000 images. 0 leaves it out.

    Raises:
        ValueError: if ``penalty`` is below 0.

    Example:
        >>> method = asymmetric_dsh(balanced=False)

    Reference:
        Jiang, Li, "Asymmetric deep supervised hashing", AAAI 2018. Departures from the authors'
        code: V is updated after each epoch of the whole training set, there after three epochs of
        a sample of 2,000 images; V starts at random signs and not at zeros; and V is not used for
        retrieval, where that code takes it as the codes of the database.
    """
    check_weights(penalty=penalty)

    def init(key, setup):
        shape = setup.classes, setup.bits + 1
        of_class = () if setup.multi_label else jnp.zeros(shape, jnp.float32)
        return Variables(state=initial_state(key, setup, of_class))

    def find_codes(state, axis_name):
        bank = state.bank
        seen = bank.seen[:, None].astype(jnp.float32)
        rows = jnp.concatenate([bank.codes * seen, seen], axis=1)
        sums, of_class = _sums_over_similar(rows, bank, state.of_class, axis_name)
        # The last column counts all images, and those similar to each; unseen images have no label
        # yet.
        total = psum_no_grad(jnp.sum(rows, axis=0), axis_name)
        similar, images = psum_no_grad(jnp.sum(sums[:, -1]), axis_name), total[-1]
        dissimilar_target = (
            losses.asymmetric_dsh_target(similar, images**2 - similar) if balanced else -1.0
        )
        target_sums = (1 - dissimilar_target) * sums[:, :-1] + dissimilar_target * total[None, :-1]
        codes = losses.asymmetric_dsh_codes(
            state.codes.rows,
            bank.codes,
            target_sums,
            gamma=penalty,
            where=bank.seen,
            axis_name=axis_name,
        )
        return state._replace(codes=ItemTable(codes), of_class=of_class)

    def loss(variables, codes, batch, context):
        state = update_codes(find_codes, variables.state, context)
        relaxed = relax(zero_padding(codes.astype(jnp.float32), batch))
        bank = update_bank(state.bank, relaxed, batch, context)
        rows, gathered = gather_for_table(bank, relaxed, batch, context)
        value = loss_over_bank(
            partial(losses.asymmetric_dsh, balanced=balanced),
            rows,
            gathered,
            bank._replace(codes=state.codes.rows),
            axis_name=context.axis_name,
        )
        terms = {"asymmetric_dsh": value}
        if not is_static_zero(penalty):
            found = look_up(state.codes, batch.index, context)
            distance = losses.distance_to_codes(
                relaxed, found, where=batch.mask, axis_name=context.axis_name
            )
            terms |= {"asymmetric_dsh_penalty": distance}
            entries = num_rows(state.codes, context) * codes.shape[1]
            value = value + penalty / entries * distance
        return Loss(value, state._replace(bank=bank), terms)

    return Objective(init, loss)


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


def _sums_over_similar(
    rows: Float[Array, "items columns"], bank: Bank, of_class: PyTree, axis_name: str | None
) -> tuple[Float[Array, "items columns"], PyTree]:
    """Returns, for each image, the sum of the rows of all images similar to it.

    With class ids these are sums over classes, which are returned too. With multi-hot labels the
    similarities are computed for some images at a time, and the rows of a sharded table rotate
    through the devices, so that a device holds at most two parts of it.
    """
    if bank.labels.ndim == 1:
        blocks = RowBlocks.of(len(rows), _ROWS_PER_BLOCK)

        def add(number, total):
            labels = multi_hot(blocks.cut(bank.labels, number), len(of_class))
            labels = jnp.where(blocks.are_new(number)[:, None], labels, 0.0)
            part = blocks.cut(rows, number)
            return total + jnp.matmul(labels.T, part, precision=lax.Precision.HIGHEST)

        sums = lax.fori_loop(0, blocks.count, add, jnp.zeros_like(of_class))
        sums = psum_no_grad(sums, axis_name)
        return sum_over_labels(bank.labels, sums), sums

    def sums_of(labels, rows):
        def sum_of_similar(own):
            similar = shares_label(own[None, :], labels)[0].astype(rows.dtype)
            return jnp.matmul(similar, rows, precision=lax.Precision.HIGHEST)

        return lax.map(sum_of_similar, bank.labels, batch_size=_ROWS_PER_STEP)

    if axis_name is None:
        return sums_of(bank.labels, rows), of_class
    devices = lax.axis_size(axis_name)
    shift_by_one = [(device, (device + 1) % devices) for device in range(devices)]

    def add_part(_, carry):
        sums, part = carry
        return sums + sums_of(*part), lax.ppermute(part, axis_name, shift_by_one)

    start = jnp.zeros_like(rows), (bank.labels, rows)
    return lax.fori_loop(0, devices, add_part, start)[0], of_class


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
    Method(
        asymmetric_dsh,
        "Jiang and Li, AAAI 2018",
        kind="discrete",
        state="bank, codes",
        learning_rate=0.0003,
        all_items=True,
    ),
)
