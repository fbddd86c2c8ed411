"""Quantization losses: how far a batch of real-valued codes is from binary ones."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, Shaped

from jaxhash.losses._common import Reduce, gather_batch, pad_empty_batch
from jaxhash.ops.arguments import as_floating, as_mask, concrete_values
from jaxhash.ops.collectives import psum_local_grad, row_count, split_grad
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32
from jaxhash.ops.selection import Threshold, include_next, is_above, top_m_threshold

Target = Literal["sampled", "balanced", "expected"]
RankingMethod = Literal["select", "kernel", "sort"]
Order = Literal[1, 2]

#: The lower and the upper target of each bit, broadcast to all bits; None is -1 and +1.
_Levels = tuple[Float[Array, " bits"], Float[Array, " bits"]] | None


@on_any_mesh
def hswd(
    codes: Float[Array, "n bits"],
    *,
    key: Key[Array, ""] | Shaped[Array, "2"] | None = None,
    target: Target = "sampled",
    mass: Float[ArrayLike, "..."] = 0.5,
    order: Order = 2,
    levels: tuple[Float[ArrayLike, "..."], Float[ArrayLike, "..."]] = (-1.0, 1.0),
    method: RankingMethod | None = None,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Per-bit squared 2-Wasserstein distance from the batch of codes to random signs (HSWD).

    For bit :math:`j` with sorted values :math:`u_{(1)j} \le \dots \le u_{(N)j}`,

    .. math:: L_j = \frac1N \sum_{r=1}^N \mathbb E\,(u_{(r)j} - t_{(r)j})^2
              = \frac1N \sum_{r=1}^N \big[(u_{(r)j} - \tau_{rj})^2 + 1 - \tau_{rj}^2\big],
              \qquad \tau_{rj} = \mathbb E\, t_{(r)j},

    where :math:`t_{(1)j} \le \dots \le t_{(N)j}` are N sorted target signs. The gradient in a code
    of rank r is :math:`(2/N)(u - \tau_r)`: the lower part of the batch is drawn to -1 and the upper
    part to +1, so each bit becomes binary and balanced at once. It does not ask for independent
    bits: identical balanced bits are a minimum as well.

    The paper's loss is one of a family with two parameters more. Of ``order`` 1 it is the
    1-Wasserstein distance, the mean of :math:`\mathbb E\,|u_{(r)j} - t_{(r)j}|`: each code is drawn
    to its side with the same force from near and from far. With ``levels`` :math:`(a, b)` the
    targets are a and b instead of -1 and +1.

    Args:
        codes: raw outputs of the network, unbounded. Rows are the batch.
        key: random key; needed for ``target="sampled"`` only.
        target: the law that the batch is compared with.

            * ``"sampled"``: N fresh random signs a bit, as in the paper. Only the number of -1
              matters once they are sorted, so one Binomial(N, 1 - mass) count a bit is drawn. Even
              perfect codes then cost about :math:`4/\sqrt{2\pi N}`.
            * ``"balanced"``: the law itself, ``mass`` at +1 and the rest at -1; the code at the
              border may be split. Balanced signs cost 0 (an odd batch of signs 2/N at the least).
            * ``"expected"``: the expectation of ``"sampled"`` in closed form,
              :math:`\tau_r = 2 P(\mathrm{Bin}(N, 1/2) \le r - 1) - 1`, for mass 1/2 and either order.
        mass: probability of +1, in [0, 1]: one number, or one a bit.
        order: 2 for squared distances, 1 for distances.
        levels: the two targets, the lower first: each one number, or one a bit.
        method: how the codes are ranked; None is ``"select"``, or ``"sort"`` where the target needs it.

            * ``"select"``: only the codes' side of the border is found, by counting
              (`jaxhash.ops.selection`). Memory is that of the codes, also over devices.
            * ``"kernel"``: the same search as one Pallas kernel, for a GPU that holds the whole
              batch (no ``axis_name``). Not yet measured on one; elsewhere it is interpreted, slowly.
            * ``"sort"``: sorts each column, and gathers the whole batch on each device. Needed for
              ``target="expected"``, where each rank has a sign of its own; else it is slower for
              the same value and gradient.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.
        reduce_fn: reduction over bits; None returns the loss of each bit, with shape [bits].

    Returns:
        The loss in float32: a scalar, or one value a bit with ``reduce_fn=None``. The ranks count as
        constants, so that derivatives of any order and direction, forward mode included, are those
        of the sum of squares (or distances); the backward pass keeps the codes and a few numbers a bit.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit, the key is missing, an option is unknown, or options do
            not go together.

    Example:
        >>> codes = jnp.array([[-1.0, 0.5], [1.0, 0.5], [-1.0, 0.5], [1.0, 0.5]])
        >>> hswd(codes, target="balanced", reduce_fn=None)
        Array([0.  , 1.25], dtype=float32)

    Reference:
        Doan, Yang, Li, "One Loss for Quantization: Deep Hashing with Discrete Wasserstein
        Distributional Matching", CVPR 2022, arXiv 2205.15721. The value with ``"sampled"`` is that
        of the authors' released code (loss type ``swdC``); its equation numbers could not be
        checked, for want of the text. Departures: a count a bit is drawn instead of N signs (the
        same law), the sort is not needed, and ``"balanced"``, ``"expected"``, ``mass``, ``order`` and
        ``levels`` are ours.
    """
    codes = as_floating("codes", codes, ndim=2)
    where = as_mask("where", where, codes.shape[:1])
    if target not in get_args(Target):
        raise ValueError(f"target must be one of {get_args(Target)}, got {target!r}")
    if method is None:
        method = "sort" if target == "expected" else "select"
    if method not in get_args(RankingMethod):
        raise ValueError(f"method must be one of {get_args(RankingMethod)}, got {method!r}")
    if target == "sampled" and key is None:
        raise ValueError('target="sampled" draws a fresh target at each call: it needs key')
    if target == "expected" and method != "sort":
        raise ValueError('target="expected" has a sign for each rank: it needs method="sort"')
    if method == "kernel" and axis_name is not None:
        raise ValueError('method="kernel" searches the batch of one device: it takes no axis_name')
    if target == "expected" and not _is_half(mass):
        raise ValueError('target="expected" is for mass 1/2')
    values = concrete_values(mass)
    if values is not None and not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError(f"mass must be in [0, 1], got {mass}")
    if order not in get_args(Order):
        raise ValueError(f"order must be one of {get_args(Order)}, got {order!r}")
    bits = codes.shape[1]
    levels = _checked(levels, bits)
    if jnp.shape(mass) not in ((), (bits,)):
        raise ValueError(f"mass must be a number or have shape {(bits,)}, got {jnp.shape(mass)}")

    codes, where = pad_empty_batch(codes, where)
    count = row_count(codes, where, axis_name)
    if target == "sampled":
        lower = _sampled_negatives(key, mass, count, codes, axis_name)
    else:
        lower = jnp.broadcast_to((1.0 - jnp.asarray(mass)) * count, (bits,))
    if method != "sort":
        splits = target == "balanced" and not (_is_half(mass) and where is None and count % 2 == 0)
        loss = _by_selection(
            codes, lower, count, splits, where, axis_name, method == "kernel", order, levels
        )
    else:
        lower = None if target == "expected" else lower
        loss = _by_sorting(codes, lower, where, axis_name, order, levels)
    return loss if reduce_fn is None else reduce_fn(loss)


def distance_to_signs(
    codes: Float[Array, "n bits"],
    negatives: Int[Array, " bits"],
    *,
    where: Bool[Array, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " bits"]:
    """The squared 2-Wasserstein distance of each bit to signs of which so many are -1."""
    count = row_count(codes, where, axis_name)
    return _by_selection(codes, negatives, count, False, where, axis_name, False, 2, None)


def _by_selection(
    codes: Float[Array, "n bits"],
    lower: Shaped[Array, " bits"],
    count: Int[ArrayLike, ""],
    splits: bool,
    where: Bool[Array, " n"] | None,
    axis_name: str | None,
    kernel: bool,
    order: Order,
    levels: _Levels,
) -> Float[Array, " bits"]:
    """The loss of each bit, ``lower`` of whose ``count`` codes are to be at the lower level.

    ``splits`` says whether that may be a fraction.
    """
    upper = count - lower
    whole = jnp.floor(upper).astype(jnp.int32)
    cuts = (top_m_threshold(codes, whole, where=where, axis_name=axis_name, kernel=kernel),)
    fraction = upper - whole
    levels = levels and tuple(level[None] for level in levels)
    if splits:
        cuts += (include_next(cuts[0], codes, where=where, axis_name=axis_name),)

    # The backward pass is to keep the codes as they came, not a float32 array of their size.
    @partial(jax.checkpoint, prevent_cse=False)
    def cost(codes: Float[Array, "n bits"], cuts: tuple[Threshold, ...]) -> Float[Array, " bits"]:
        if where is not None:
            codes = jnp.where(where[:, None], codes, 0)  # the values of masked rows may be NaN
        positive = is_above(cuts[0], codes, axis_name=axis_name).astype(jnp.float32)
        if splits:
            wider = is_above(cuts[1], codes, axis_name=axis_name).astype(jnp.float32)
            positive = positive + fraction[None] * (wider - positive)
        signs = 2.0 * positive - 1.0
        costs = _costs(at_least_float32(codes), signs, order, levels, splits)
        if where is not None:
            costs = jnp.where(where[:, None], costs, 0.0)
        return jnp.sum(costs, axis=0)

    return psum_local_grad(cost(codes, cuts) / jnp.maximum(count, 1), axis_name)


def _by_sorting(
    codes: Float[Array, "n bits"],
    lower: Shaped[Array, " bits"] | None,
    where: Bool[Array, " n"] | None,
    axis_name: str | None,
    order: Order,
    levels: _Levels,
) -> Float[Array, " bits"]:
    """The loss of each bit; ``lower`` of None is the expected target."""
    codes, where = gather_batch(codes, where, axis_name)
    rows, bits = codes.shape
    rank = jnp.arange(1, rows + 1)
    if lower is None:
        signs = _expected_signs(rank, jnp.sum(where, dtype=jnp.int32))
        signs = jnp.broadcast_to(signs, (bits, rows))
    else:
        signs = jnp.clip(2 * (rank[None] - lower[:, None]) - 1, -1, 1)
    per_bit = jax.vmap(partial(_wasserstein_to_signs, order), in_axes=(1, None, 0, 0))(
        codes, where, signs.astype(codes.dtype), levels
    )
    return split_grad(per_bit, axis_name)


def _wasserstein_to_signs(
    order: Order,
    column: Float[Array, " n"],
    where: Bool[Array, " n"],
    signs: Float[Array, " n"],
    levels: tuple[Float[Array, ""], Float[Array, ""]] | None,
) -> Float[Array, ""]:
    """The loss of one bit, given the expected target sign of each rank.

    Masked rows sort behind all others, NaN included, where no rank reaches them.
    """
    _, ordered = lax.sort((~where, jnp.where(where, column, 0.0)), num_keys=2)
    cost = _costs(ordered, signs, order, levels, splits=True)
    count = jnp.sum(where)
    ranked = jnp.arange(column.shape[0]) < count
    return jnp.sum(jnp.where(ranked, cost, 0.0)) / jnp.maximum(count, 1)


def _costs(
    codes: Float[Array, "..."],
    signs: Float[Array, "..."],
    order: Order,
    levels: tuple[Float[Array, "..."], Float[Array, "..."]] | None,
    splits: bool,
) -> Float[Array, "..."]:
    """E |u - t|^order of each code u, whose target t has the mean sign that is given.

    ``splits`` says whether that may be other than -1 and +1. One of -1 is a t at the lower level
    for sure, one of +1 at the upper.
    """
    if order == 2 and levels is None:
        costs = (codes - signs) ** 2
        return costs + (1.0 - signs**2) if splits else costs
    low, high = (-1.0, 1.0) if levels is None else levels
    upper = (1.0 + signs) / 2
    if order == 2:
        half = (high - low) / 2
        costs = (codes - (low + upper * (high - low))) ** 2
        return costs + half**2 * (1.0 - signs**2) if splits else costs
    if not splits:
        return _distance(codes, jnp.where(signs > 0, high, low))
    from_low = jnp.where(upper < 1, _distance(codes, low), 0.0)
    from_high = jnp.where(upper > 0, _distance(codes, high), 0.0)
    return (1.0 - upper) * from_low + upper * from_high


def _distance(codes: Float[Array, "..."], target: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """|u - t|, with the slope 0 at t, where that of jnp.abs is 1."""
    gap = codes - target
    return gap * jnp.sign(gap)


def _checked(levels: tuple[Float[ArrayLike, "..."], Float[ArrayLike, "..."]], bits: int) -> _Levels:
    """The levels of each bit; None for those of the paper."""
    low, high = levels
    for level in levels:
        if jnp.shape(level) not in ((), (bits,)):
            shape = jnp.shape(level)
            raise ValueError(f"levels must be numbers or have shape {(bits,)}, got {shape}")
    at_hand = [concrete_values(level) for level in levels]
    if not any(values is None for values in at_hand):
        if not np.all(at_hand[0] < at_hand[1]):
            raise ValueError(f"levels must be two numbers, the lower first, got {levels}")
        if np.ndim(low) == np.ndim(high) == 0 and (low, high) == (-1, 1):
            return None
    return tuple(jnp.broadcast_to(jnp.asarray(level, jnp.float32), (bits,)) for level in levels)


def _is_half(mass: Float[ArrayLike, "..."]) -> bool:
    return isinstance(mass, float) and mass == 0.5


def _sampled_negatives(
    key: Key[Array, ""] | Shaped[Array, "2"],
    mass: Float[ArrayLike, "..."],
    count: Int[ArrayLike, ""],
    codes: Float[Array, "n bits"],
    axis_name: str | None,
) -> Int[Array, " bits"]:
    """How many of ``count`` random signs are -1, a draw a bit: the same draw on every device.

    For mass 1/2 these are the ones among as many random bits. That is exact, and several times
    faster than a general binomial draw; words beyond the count change nothing, so that the number
    of padded rows does not matter.
    """
    bits = codes.shape[1]
    if not _is_half(mass):
        below = 1.0 - jnp.broadcast_to(jnp.asarray(mass, jnp.float32), (bits,))
        return jax.random.binomial(key, jnp.float32(count), below).astype(jnp.int32)
    rows = row_count(codes, None, axis_name)
    words = jax.random.bits(key, (-(-rows // 32), bits), jnp.uint32)
    used = jnp.clip(count - 32 * jnp.arange(words.shape[0]), 0, 32).astype(jnp.uint32)
    ones = jnp.where(used > 0, jnp.uint32(0xFFFFFFFF) >> ((32 - used) % 32), jnp.uint32(0))
    return jnp.sum(lax.population_count(words & ones[:, None]), axis=0).astype(jnp.int32)


def _expected_signs(rank: Int[Array, " n"], count: Int[Array, ""]) -> Float[Array, " n"]:
    """The mean of the r-th smallest of ``count`` Rademacher signs, 2 P(Bin(count, 1/2) < r) - 1.

    The binomial probabilities are built outwards from the center by their ratios and normalized by
    their sum. The textbook forms by lgamma or the incomplete beta function lose three digits in
    float32 at count = 8,192, because they subtract logarithms of the size of count.
    """
    shell = jnp.arange(rank.shape[0] // 2 + 1)
    outcome = (count + 1) // 2 + shell
    ratio = jnp.maximum(count - outcome, 0) / (outcome + 1)  # of P(outcome + 1) to P(outcome)
    relative = jnp.concatenate([jnp.ones(1), jnp.cumprod(ratio)[:-1]])
    mirrored = jnp.where(2 * outcome == count, 1.0, 2.0)  # the center has no mirror image
    inner = jnp.cumsum(mirrored * relative)
    from_center = 2 * rank - count - 1
    reached = jnp.clip((jnp.abs(from_center) + 1) // 2 - 1, 0, shell[-1])
    return jnp.sign(from_center) * inner[reached] / inner[-1]
