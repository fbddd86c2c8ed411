"""Methods that alternate: the network learns by steps, binary codes of all images once an epoch."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, PyTree

from jaxhash import losses
from jaxhash.objectives._base import (
    Context,
    Loss,
    Objective,
    Setup,
    Variables,
    Weight,
    check_positive,
    check_weights,
    left_out,
    without_padding,
)
from jaxhash.objectives._method import Method
from jaxhash.objectives._pairs import Unseen, empty_bank, from_bank, pairwise, remember
from jaxhash.objectives._tables import (
    Bank,
    ItemTable,
    entries,
    gather_for_table,
    look_up,
    padded,
    table_axis,
)
from jaxhash.ops.codes import relax
from jaxhash.ops.collectives import psum_no_grad
from jaxhash.similarity import multi_hot, shares_label

__all__ = ["asymmetric_dsh", "dsdh", "dsdh_released"]

#: Images whose similarity to all others is held at a time.
_ROWS = 256


class DiscreteState(NamedTuple):
    """The binary codes of an alternating method and what they are found from."""

    bank: Bank
    """The last real-valued code and the labels of each training image."""
    codes: ItemTable
    """Codes of -1 and +1; random until the first epoch has ended."""
    of_class: PyTree
    """The classifier W of DSDH; of ADSH the sum of each class's codes and its size, or ()."""


def dsdh(
    *,
    mu: float = 1e-2,
    nu: float = 1.0,
    sweeps: int = 1,
    unseen: Unseen = "ignored",
    penalty: Weight = 1e-2,
) -> Objective:
    r"""DSDH: pairwise likelihood, and codes from which a linear classifier reads the labels.

    .. math:: L = \operatorname{mean}_{ij} \ell(\tfrac12 u_i \cdot U_j, s_{ij})
              + \eta \operatorname{mean} (B_b - u)^2

    with the likelihood of `jaxhash.losses.pairwise_likelihood` against the bank U of the last raw
    codes of all training images (a constant, the rows of the batch overwritten first), and the
    batch's rows of the binary codes B. When an epoch begins, B and a classifier W are found from
    the bank, to lessen :math:`\mu \|Y - BW\|^2 + \nu \|W\|^2 + \eta \|B - U\|^2`:
    `jaxhash.losses.dsdh_classifier` with nu / mu, then `jaxhash.losses.dsdh_codes` with eta / mu.
    In the first epoch B is random. The terms in W are constants for the network and not in L.

    Images that share any label are similar, and Y is multi-hot. An image without a label is left
    out of the classifier; one that no batch has held keeps its random code.

    Args:
        mu: weight of the classification.
        nu: weight of the classifier's norm.
        sweeps: how often an epoch finds W and then each bit of B.
        unseen: what an image is in the likelihood that no batch has held yet; with
            ``"dissimilar"`` its row of zeros is dissimilar to everything, as in released code.
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
    if left_out(penalty):
        return likelihood

    def init(key, setup):
        classifier = jnp.zeros((setup.bits, setup.classes), jnp.float32)
        return Variables(state=_random_codes(key, setup, classifier))

    def find_codes(state, axis_name):
        bank = state.bank
        labels = multi_hot(bank.labels, state.of_class.shape[1])

        def sweep(_, found):
            codes = found[0]
            classifier = losses.dsdh_classifier(
                codes, labels, ridge=nu / mu, where=bank.seen, axis_name=axis_name
            )
            codes = losses.dsdh_codes(
                codes, bank.codes, labels, classifier, weight=penalty / mu, where=bank.seen
            )
            return codes, classifier

        codes, classifier = lax.fori_loop(0, sweeps, sweep, (state.codes.rows, state.of_class))
        return state._replace(codes=ItemTable(codes), of_class=classifier)

    def loss(variables, codes, batch, context):
        state = _once_an_epoch(find_codes, variables.state, context)
        value, bank, terms = likelihood.loss(Variables(state=state.bank), codes, batch, context)
        found = look_up(state.codes, batch.index, context)
        distance = losses.distance_to_codes(
            codes, found, where=batch.mask, axis_name=context.axis_name
        )
        terms |= {"dsdh_penalty": distance}
        return Loss(value + penalty * distance, state._replace(bank=bank), terms)

    return Objective(init, loss)


def dsdh_released(*, unseen: Unseen = "dissimilar") -> Objective:
    """DSDH as released with HSWD: the pairwise likelihood against a bank, and nothing else.

    That code, and the one that it derives from, alternate as `dsdh` does, but no term of their loss
    joins the network to the binary codes: the steps change nothing and are not taken here.

    Args:
        unseen: of the bank, what an image is that no batch has held yet; see `hashnet`.

    Raises:
        ValueError: if ``unseen`` is unknown.

    Example:
        >>> method = dsdh_released(unseen="ignored")

    Reference:
        The code of Doan, Yang, Li, "One Loss for Quantization", CVPR 2022.
    """
    return pairwise("dsdh_released", losses.mean_likelihood, pairs="bank", unseen=unseen)


def asymmetric_dsh(*, balanced: bool = True, penalty: Weight = 200.0) -> Objective:
    r"""ADSH: the batch's relaxed codes against binary codes of all images, found once an epoch.

    .. math:: L = \operatorname{mean}_{ij} \Big(\frac{h_i \cdot v_j}{\mathrm{bits}} - S_{ij}\Big)^2
              + \frac{\gamma}{\mathrm{bits} \cdot \mathrm{items}} \operatorname{mean}(v - h)^2

    with :math:`h = \tanh u` and `jaxhash.losses.asymmetric_dsh`. When an epoch begins, each bit of
    V in turn is set to what is best for the last h of all images, by
    `jaxhash.losses.asymmetric_dsh_codes`. In the first epoch V is random.

    Images that share any label are similar. An image that no batch has held keeps its random code,
    and is no column yet.

    Args:
        balanced: whether dissimilar pairs are pushed apart the less the more of them there are, as
            in `jaxhash.losses.asymmetric_dsh`.
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
        code: V is found after each epoch of the whole training set, where it takes three epochs of
        a sample of 2,000 images; V starts at random signs and not at zeros; and nothing here
        searches V, which is there the codes of the database.
    """
    check_weights(penalty=penalty)

    def init(key, setup):
        shape = setup.classes, setup.bits + 1
        of_class = () if setup.multi_label else jnp.zeros(shape, jnp.float32)
        return Variables(state=_random_codes(key, setup, of_class))

    def find_codes(state, axis_name):
        bank = state.bank
        seen = bank.seen[:, None].astype(jnp.float32)
        rows = jnp.concatenate([bank.codes * seen, seen], axis=1)
        sums, of_class = _sums_over_similar(rows, bank, state.of_class, axis_name)
        # The last column counts: of all images, and of those similar to each; the unseen have no
        # label yet.
        total = psum_no_grad(jnp.sum(rows, axis=0), axis_name)
        similar, images = psum_no_grad(jnp.sum(sums[:, -1]), axis_name), total[-1]
        apart = losses.asymmetric_dsh_target(similar, images**2 - similar) if balanced else -1.0
        wanted = (1 - apart) * sums[:, :-1] + apart * total[None, :-1]
        codes = losses.asymmetric_dsh_codes(
            state.codes.rows,
            bank.codes,
            wanted,
            gamma=penalty,
            where=bank.seen,
            axis_name=axis_name,
        )
        return state._replace(codes=ItemTable(codes), of_class=of_class)

    def loss(variables, codes, batch, context):
        state = _once_an_epoch(find_codes, variables.state, context)
        relaxed = relax(without_padding(codes.astype(jnp.float32), batch))
        bank = remember(state.bank, relaxed, batch, context)
        rows, facing_batch = gather_for_table(bank, relaxed, batch, context)
        value = losses.asymmetric_dsh(
            rows,
            state.codes.rows,
            shares_label(facing_batch.labels, bank.labels),
            balanced=balanced,
            where=from_bank(bank, facing_batch, "ignored", context).where,
            axis_name=context.axis_name,
        )
        terms = {"asymmetric_dsh": value}
        if not left_out(penalty):
            found = look_up(state.codes, batch.index, context)
            distance = losses.distance_to_codes(
                relaxed, found, where=batch.mask, axis_name=context.axis_name
            )
            terms |= {"asymmetric_dsh_penalty": distance}
            numbers = entries(state.codes, context) * codes.shape[1]
            value = value + penalty / numbers * distance
        return Loss(value, state._replace(bank=bank), terms)

    return Objective(init, loss)


def _random_codes(key: Key[Array, ""], setup: Setup, of_class: PyTree) -> DiscreteState:
    codes = jax.random.rademacher(key, (setup.items, setup.bits), jnp.float32)
    return DiscreteState(
        empty_bank(setup), ItemTable(padded(codes, setup.table_sharding.items)), of_class
    )


def _once_an_epoch(
    find_codes: Callable[[DiscreteState, str | None], DiscreteState],
    state: DiscreteState,
    context: Context,
) -> DiscreteState:
    """The state with new codes if an epoch has just ended."""
    find = partial(find_codes, axis_name=table_axis(state.codes, context))
    return lax.cond(context.new_epoch, find, lambda same: same, state)


def _sums_over_similar(
    rows: Float[Array, "items columns"], bank: Bank, of_class: PyTree, axis_name: str | None
) -> tuple[Float[Array, "items columns"], PyTree]:
    """For each image the sum of the rows of all that are similar to it.

    Of class ids these are sums over classes, which are returned too. Of multi-hot labels the
    similarities are worked out for some images at a time, and the rows of a spread table go round
    the devices, so that none has more than two parts of it.
    """
    if bank.labels.ndim == 1:
        labels = multi_hot(bank.labels, len(of_class))
        of_class = jnp.matmul(labels.T, rows, precision=lax.Precision.HIGHEST)
        of_class = psum_no_grad(of_class, axis_name)
        return jnp.matmul(labels, of_class, precision=lax.Precision.HIGHEST), of_class

    def sums_of(labels, rows):
        def of_one(own):
            similar = shares_label(own[None, :], labels)[0].astype(rows.dtype)
            return jnp.matmul(similar, rows, precision=lax.Precision.HIGHEST)

        return lax.map(of_one, bank.labels, batch_size=_ROWS)

    if axis_name is None:
        return sums_of(bank.labels, rows), of_class
    devices = lax.axis_size(axis_name)
    to_next = [(device, (device + 1) % devices) for device in range(devices)]

    def add_part(_, carry):
        sums, part = carry
        return sums + sums_of(*part), lax.ppermute(part, axis_name, to_next)

    start = jnp.zeros_like(rows), (bank.labels, rows)
    return lax.fori_loop(0, devices, add_part, start)[0], of_class


#: The rows of this family.
METHODS = (
    Method(
        dsdh,
        "Li et al., NIPS 2017",
        kind="discrete",
        state="bank, codes, classifier",
        learning_rate=0.003,
    ),
    Method(
        dsdh_released,
        "Doan et al., CVPR 2022",
        kind="pairwise",
        state="bank",
        learning_rate=0.003,
    ),
    Method(
        asymmetric_dsh,
        "Jiang and Li, AAAI 2018",
        kind="discrete",
        state="bank, codes",
        learning_rate=0.0003,
    ),
)
