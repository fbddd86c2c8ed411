"""ADSH: relaxed codes of the batch against binary codes of all images, on alternating methods."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, Shaped

from jaxhash import losses
from jaxhash.objectives._banks import update_bank
from jaxhash.objectives._base import (
    Loss,
    Objective,
    Variables,
    Weight,
    check_weights,
    is_static_zero,
    zero_padding,
)
from jaxhash.objectives._discrete import bank_block, bank_blocks, initial_state, update_codes
from jaxhash.objectives._method import Method
from jaxhash.objectives._pairs import loss_over_bank
from jaxhash.objectives._tables import Bank, ItemTable, gather_for_table, look_up, num_rows
from jaxhash.ops.codebooks import sum_over_labels
from jaxhash.ops.codes import relax
from jaxhash.ops.label_sets import LabelSets
from jaxhash.ops.row_blocks import RowBlocks
from jaxhash.similarity import multi_hot, shares_label

__all__ = ["asymmetric_dsh"]

#: Number of images, or of sets of labels, whose similarity to all others is in memory at a time.
_ROWS_PER_STEP = 256

#: Images of a device from which those of equal labels are added first. Fewer are added as they are: that
#: rounds otherwise, and a run that was stored with fewer resumes to the same bits.
_GROUPED_FROM = 1 << 16

#: Sets of labels that are compared with those of a step at a time.
_SETS_PER_BLOCK = 1 << 13

#: Classes from which the sums over classes are scattered, and not multiplied: one-hot rows would not fit.
_SCATTERED_FROM = 1 << 12


def asymmetric_dsh(*, balanced: bool = True, penalty: Weight = 200.0) -> Objective:
    r"""ADSH: relaxed codes of the batch against binary codes of all images, updated each epoch.

    .. math:: L = \operatorname{mean}_{ij} \Big(\frac{h_i \cdot v_j}{\mathrm{bits}} - S_{ij}\Big)^2
              + \frac{\gamma}{\mathrm{bits} \cdot \mathrm{items}} \operatorname{mean}(v - h)^2

    with :math:`h = \tanh u` and `jaxhash.losses.asymmetric_dsh`. When an epoch begins, each bit of
    V in turn is set to its optimum for the last h of all images, by
    `jaxhash.losses.asymmetric_dsh_codes`. In the first epoch V is random.

    Images that share any label are similar. An image that no batch has held yet keeps its random
    code, and is left out of the pairs.

    The update takes blocks of images, beside the new codes; with class ids its time is linear in the
    number of images. With multi-hot labels it holds a sum of codes for each image. On a device of up to 65,535
    images it compares all pairs of images; where there are more, all pairs of the sets of labels that occur.

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
        bank, of_class = state.bank, state.of_class
        blocks = bank_blocks(bank)

        def block(number):
            part = bank_block(bank, blocks, number)
            # The last column counts images; unseen ones have no label yet.
            seen = part.seen[:, None].astype(jnp.float32)
            return part, jnp.concatenate([part.codes * seen, seen], axis=1)

        def totals(number):
            part, rows = block(number)
            relaxed = jnp.where(part.seen[:, None], part.codes, 0.0)
            gram = jnp.matmul(relaxed.T, relaxed, precision=lax.Precision.HIGHEST)
            return jnp.sum(rows, axis=0), gram, _sums_over_classes(part.labels, rows, of_class)

        total, gram, of_class = blocks.sum(totals, axis_name)
        if bank.labels.ndim == 2:
            of_image = _sums_over_similar(bank.labels, blocks, block, axis_name)

        def sums_of_similar(number):
            if bank.labels.ndim == 2:
                return blocks.cut(of_image, number)
            return sum_over_labels(blocks.cut(bank.labels, number), of_class)

        def count_similar(number):
            return jnp.sum(jnp.where(blocks.are_new(number), sums_of_similar(number)[:, -1], 0.0))

        similar, images = blocks.sum(count_similar, axis_name), total[-1]
        dissimilar_target = (
            losses.asymmetric_dsh_target(similar, images**2 - similar) if balanced else -1.0
        )

        def update(number, codes):
            part, _ = block(number)
            sums = (1 - dissimilar_target) * sums_of_similar(number)[:, :-1]
            new = losses.asymmetric_dsh_codes(
                blocks.cut(codes, number),
                part.codes,
                sums + dissimilar_target * total[None, :-1],
                gamma=penalty,
                where=part.seen,
                gram=gram,
            )
            return blocks.put(codes, new, number)

        codes = lax.fori_loop(0, blocks.count, update, state.codes.rows)
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


def _sums_over_classes(
    labels: Shaped[Array, " n *classes"], rows: Float[Array, "n columns"], of_class: PyTree
) -> PyTree:
    """Returns the sum of the rows of each class of ids; nothing of multi-hot labels."""
    if labels.ndim == 2:
        return of_class
    if len(of_class) >= _SCATTERED_FROM:
        known = jnp.where(labels < 0, len(of_class), labels)
        return jnp.zeros_like(of_class).at[known].add(rows, mode="drop")
    rows_of_class = multi_hot(labels, len(of_class)).T
    return jnp.matmul(rows_of_class, rows, precision=lax.Precision.HIGHEST)


def _sums_over_similar(
    labels: Shaped[Array, "items classes"],
    blocks: RowBlocks,
    block: Callable[[Int[Array, ""]], tuple[Bank, Float[Array, "n columns"]]],
    axis_name: str | None,
) -> Float[Array, "items columns"]:
    """Returns, for each image of multi-hot labels, the sum of the rows of all images similar to it.

    Whether an image shares no label with another is the orthogonal vectors problem, for which nothing faster
    than all pairs is known; but images of equal labels are similar to the same others.
    """
    if len(labels) < _GROUPED_FROM:
        return _sums_over_pairs(labels, blocks, block, axis_name)
    columns = jax.eval_shape(block, 0)[1].shape[1]
    sets = LabelSets.of(labels)

    def add_rows(number, sums):
        return sums.at[blocks.cut(sets.of_row, number)].add(block(number)[1])

    sums = lax.fori_loop(0, blocks.count, add_rows, jnp.zeros((len(labels), columns)))
    return _sums_over_pairs_of_sets(sets, sums, axis_name)[sets.of_row]


def _sums_over_pairs(
    labels: Shaped[Array, "items classes"],
    blocks: RowBlocks,
    block: Callable[[Int[Array, ""]], tuple[Bank, Float[Array, "n columns"]]],
    axis_name: str | None,
) -> Float[Array, "items columns"]:
    """Compares each image with all others.

    The similarities of a few images and a block of others are in memory at a time, and the blocks of a
    sharded table rotate through the devices.
    """

    def sums_of(others, rows):
        def sum_of_similar(own):
            similar = shares_label(own[None, :], others)[0].astype(rows.dtype)
            return jnp.matmul(similar, rows, precision=lax.Precision.HIGHEST)

        return lax.map(sum_of_similar, labels, batch_size=_ROWS_PER_STEP)

    def add_block(number, sums):
        part, rows = block(number)
        return _over_devices(sums_of, (part.labels, rows), sums, axis_name)

    columns = jax.eval_shape(block, 0)[1].shape[1]
    return lax.fori_loop(0, blocks.count, add_block, jnp.zeros((len(labels), columns)))


def _sums_over_pairs_of_sets(
    sets: LabelSets, sums: Float[Array, "items columns"], axis_name: str | None
) -> Float[Array, "items columns"]:
    """Compares each set of labels with those of all devices, as many as there are; sums are of each set's rows."""
    rows = len(sums)
    own = RowBlocks(1, rows, min(rows, _ROWS_PER_STEP))  # the first rows are the sets
    others = RowBlocks(1, rows, min(rows, _SETS_PER_BLOCK))

    def sums_of(labels, rows, count):
        def of_step(step, found):
            mine = own.cut(sets.labels, step)

            def add(number, total):
                similar = (
                    shares_label(mine, others.cut(labels, number)) & others.are_new(number)[None, :]
                )
                part = similar.astype(rows.dtype), others.cut(rows, number)
                return total + jnp.matmul(*part, precision=lax.Precision.HIGHEST)

            zeros = jnp.zeros((own.size, rows.shape[1]), rows.dtype)
            total = lax.fori_loop(0, -(-count // others.size), add, zeros)
            return own.put(found, total, step)

        return lax.fori_loop(0, -(-sets.count // own.size), of_step, jnp.zeros_like(rows))

    part = sets.labels, sums, sets.count
    return _over_devices(sums_of, part, jnp.zeros_like(sums), axis_name)


def _over_devices(
    of_part: Callable[..., Float[Array, "items columns"]],
    part: tuple[Array, ...],
    total: Float[Array, "items columns"],
    axis_name: str | None,
) -> Float[Array, "items columns"]:
    """Adds what a function makes of the part of each device, which rotates through them."""
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    shift_by_one = [(device, (device + 1) % devices) for device in range(devices)]

    def add_part(_, carry):
        total, part = carry
        total = total + of_part(*part)
        return total, lax.ppermute(part, axis_name, shift_by_one) if devices > 1 else part

    return lax.fori_loop(0, devices, add_part, (total, part))[0]


#: The methods of this family.
METHODS = (
    Method(
        asymmetric_dsh,
        "Jiang and Li, AAAI 2018",
        kind="discrete",
        state="bank, codes",
        learning_rate=0.0003,
        all_items=True,
    ),
)
