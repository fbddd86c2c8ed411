"""HSWD: the Wasserstein distance, bit by bit, from a batch of codes to balanced random signs."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, Shaped

from jaxhash.losses._common import Reduce, gather_batch, pad_empty_batch
from jaxhash.losses._target_costs import Order, costs_of
from jaxhash.ops.arguments import as_floating, as_mask, concrete_values
from jaxhash.ops.collectives import psum_local_grad, row_count, split_grad
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32
from jaxhash.ops.random_words import random_words
from jaxhash.ops.selection import Threshold, include_next, is_above, top_m_threshold

#: The distribution that the batch is compared with; see `hswd`.
Target = Literal["sampled", "balanced", "expected"]
#: How the codes are ranked; see `hswd`.
RankingMethod = Literal["select", "kernel", "sort"]
#: Rows that a kernel takes: beyond these a column does not fit in the registers of a GPU.
MAX_KERNEL_ROWS = 65_536

#: The lower and the upper target of each bit; None stands for -1 and +1.
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
    part to +1, so each bit becomes binary and balanced. Bits need not be independent: identical
    balanced bits are a minimum as well.

    Two parameters extend the loss of the paper. With ``order`` 1 it is the 1-Wasserstein distance,
    the mean of :math:`\mathbb E\,|u_{(r)j} - t_{(r)j}|`, whose gradient has the same size at every
    distance. With ``levels`` :math:`(a, b)` the targets are a and b instead of -1 and +1.

    Args:
        codes: raw outputs of the network.
        key: random key, the same on every device; needed for ``target="sampled"`` only.
        target: the distribution that the batch is compared with.

            * ``"sampled"``: N new random signs per bit, as in the paper. After sorting only the
              number of -1 matters, so one Binomial(N, 1 - mass) count per bit is drawn. Even
              perfect codes then cost about :math:`4/\sqrt{2\pi N}`.
            * ``"balanced"``: the distribution itself, ``mass`` at +1 and the rest at -1; the code
              at the border may be split. Balanced signs cost 0 (an odd batch of signs at least
              2/N).
            * ``"expected"``: the expectation of ``"sampled"`` in closed form,
              :math:`\tau_r = 2 P(\mathrm{Bin}(N, 1/2) \le r - 1) - 1`; for mass 1/2 only.
        mass: probability of +1, in [0, 1]: one number, or one per bit.
        order: 2 for squared distances, 1 for distances.
        levels: the two targets, the lower first: each one number, or one per bit.
        method: how the codes are ranked; None is ``"select"``, or ``"sort"`` for ``"expected"``.

            * ``"select"``: finds only the side of the border of each code, by counting
              (`jaxhash.ops.selection`). Memory is that of the codes, also over devices.
            * ``"kernel"``: the same in one Pallas kernel on an NVIDIA GPU (Triton) or a TPU (Mosaic),
              which reads the codes from memory once for value and gradient; a CPU selects. For the
              batch of one device, at most 65,536 rows (on a TPU v4 half as many): of rows that are
              sharded under jit, XLA gathers the batch on a GPU, and JAX refuses to compile for TPUs.
              Its derivatives are those in the codes. Not timed on a GPU or TPU yet.
            * ``"sort"``: sorts each column, and gathers the whole batch on each device. Needed for
              ``target="expected"``, where each rank has its own sign; otherwise it is slower, with
              the same value and gradient.

    Returns:
        The loss. The ranks are constants for differentiation, so derivatives of any order, forward
        mode included, are those of the sum of squares (or distances). The backward pass stores the
        codes and a few numbers per bit.

    Raises:
        ValueError: if the key is missing, an option is unknown, or options are incompatible.

    Example:
        >>> codes = jnp.array([[-1.0, 0.5], [1.0, 0.5], [-1.0, 0.5], [1.0, 0.5]])
        >>> hswd(codes, target="balanced", reduce_fn=None)
        Array([0.  , 1.25], dtype=float32)

    Reference:
        Doan, Yang, Li, "One Loss for Quantization: Deep Hashing with Discrete Wasserstein
        Distributional Matching", CVPR 2022, arXiv 2205.15721. The value with ``"sampled"`` is that
        of the authors' released code (loss type ``swdC``); its equation numbers could not be
        checked, since the text was not at hand. Departures: one count per bit is drawn instead of N
        signs (the same distribution), no sort is needed, and ``"balanced"``, ``"expected"``,
        ``mass``, ``order`` and ``levels`` are ours.
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
        raise ValueError('target="sampled" draws a new target at each call: it needs key')
    if target == "expected" and method != "sort":
        raise ValueError('target="expected" has a sign for each rank: it needs method="sort"')
    if method == "kernel":
        _check_kernel(codes, axis_name)
    if target == "expected" and not _is_half(mass):
        raise ValueError('target="expected" is for mass 1/2')
    values = concrete_values(mass)
    if values is not None and not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError(f"mass must be in [0, 1], got {mass}")
    if order not in get_args(Order):
        raise ValueError(f"order must be one of {get_args(Order)}, got {order!r}")
    bits = codes.shape[1]
    levels = _check_levels(levels, bits)
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
        selected = codes, count - lower, count, splits, where
        if method == "select":
            loss = _by_selection(*selected, axis_name, order, levels)
        elif reduce_fn is jnp.mean:  # the kernel divides, which leaves no product of the gradient
            return jnp.sum(_by_kernel(*selected, order, levels, weight=1 / max(bits, 1)))
        else:
            loss = _by_kernel(*selected, order, levels)
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
    """Returns the squared 2-Wasserstein distance of each bit to signs with the given number of -1."""
    count = row_count(codes, where, axis_name)
    return _by_selection(codes, count - negatives, count, False, where, axis_name, 2, None)


def _by_selection(
    codes: Float[Array, "n bits"],
    upper: Shaped[Array, " bits"],
    count: Int[ArrayLike, ""],
    splits: bool,
    where: Bool[Array, " n"] | None,
    axis_name: str | None,
    order: Order,
    levels: _Levels,
) -> Float[Array, " bits"]:
    """Computes the loss of each bit, where ``upper`` of ``count`` codes have the upper target.

    ``splits`` tells whether ``upper`` may be fractional.
    """
    whole = jnp.floor(upper).astype(jnp.int32)
    thresholds = (top_m_threshold(codes, whole, where=where, axis_name=axis_name),)
    fraction = upper - whole
    levels = levels and tuple(level[None] for level in levels)
    if splits:
        thresholds += (include_next(thresholds[0], codes, where=where, axis_name=axis_name),)

    # The backward pass stores the codes in their own dtype, not a float32 array of their size.
    @partial(jax.checkpoint, prevent_cse=False)
    def cost(
        codes: Float[Array, "n bits"], thresholds: tuple[Threshold, ...]
    ) -> Float[Array, " bits"]:
        if where is not None:
            codes = jnp.where(where[:, None], codes, 0)  # masked rows may hold NaN
        positive = is_above(thresholds[0], codes, axis_name=axis_name).astype(jnp.float32)
        if splits:
            wider = is_above(thresholds[1], codes, axis_name=axis_name).astype(jnp.float32)
            positive = positive + fraction[None] * (wider - positive)
        signs = 2.0 * positive - 1.0
        costs = costs_of(at_least_float32(codes), signs, order, levels, splits)
        if where is not None:
            costs = jnp.where(where[:, None], costs, 0.0)
        return jnp.sum(costs, axis=0)

    return psum_local_grad(cost(codes, thresholds) / jnp.maximum(count, 1), axis_name)


def _by_kernel(
    codes: Float[Array, "n bits"],
    upper: Shaped[Array, " bits"],
    count: Int[ArrayLike, ""],
    splits: bool,
    where: Bool[Array, " n"] | None,
    order: Order,
    levels: _Levels,
    weight: float = 1.0,
) -> Float[Array, " bits"]:
    """Computes `_by_selection`, times the weight, in a kernel of the platform."""
    from jaxhash.losses._hswd_kernel import Columns, Form, distances  # Pallas is slow to import

    def plain(codes, columns, where):
        upper = columns.upper + columns.fraction if splits else columns.upper
        levels = columns.low, columns.high
        count = row_count(codes, where, None)
        return weight * _by_selection(codes, upper, count, splits, where, None, order, levels)

    whole = jnp.floor(upper).astype(jnp.int32)
    numbers = upper - whole, *(levels or (-1.0, 1.0)), weight / jnp.maximum(count, 1)
    numbers = (jnp.broadcast_to(jnp.asarray(each, jnp.float32), upper.shape) for each in numbers)
    return distances(Form(order, splits, plain), codes, Columns(whole, *numbers), where)


def _by_sorting(
    codes: Float[Array, "n bits"],
    lower: Shaped[Array, " bits"] | None,
    where: Bool[Array, " n"] | None,
    axis_name: str | None,
    order: Order,
    levels: _Levels,
) -> Float[Array, " bits"]:
    """Computes the loss of each bit; ``lower`` is None for the expected target."""
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
    """Computes the loss of one bit, given the mean target sign of each rank.

    Masked rows sort behind all valid rows, NaN included.
    """
    _, ordered = lax.sort((~where, jnp.where(where, column, 0.0)), num_keys=2)
    cost = costs_of(ordered, signs, order, levels, splits=True)
    count = jnp.sum(where)
    ranked = jnp.arange(column.shape[0]) < count
    return jnp.sum(jnp.where(ranked, cost, 0.0)) / jnp.maximum(count, 1)


def _check_levels(
    levels: tuple[Float[ArrayLike, "..."], Float[ArrayLike, "..."]], bits: int
) -> _Levels:
    """Returns the levels of each bit, or None for -1 and +1."""
    low, high = levels
    for level in levels:
        if jnp.shape(level) not in ((), (bits,)):
            shape = jnp.shape(level)
            raise ValueError(f"levels must be numbers or have shape {(bits,)}, got {shape}")
    values = [concrete_values(level) for level in levels]
    if not any(each is None for each in values):
        if not np.all(values[0] < values[1]):
            raise ValueError(f"levels must be two numbers, the lower first, got {levels}")
        if np.ndim(low) == np.ndim(high) == 0 and (low, high) == (-1, 1):
            return None
    return tuple(jnp.broadcast_to(jnp.asarray(level, jnp.float32), (bits,)) for level in levels)


def _check_kernel(codes: Float[Array, "n bits"], axis_name: str | None) -> None:
    if axis_name is not None:
        raise ValueError('method="kernel" searches the batch of one device: it takes no axis_name')
    if len(codes) > MAX_KERNEL_ROWS or codes.dtype == jnp.float64:
        raise ValueError(
            f'method="kernel" takes at most {MAX_KERNEL_ROWS} codes of at most 32 bits a value, got '
            f"{len(codes)} of {codes.dtype}"
        )


def _is_half(mass: Float[ArrayLike, "..."]) -> bool:
    return isinstance(mass, float) and mass == 0.5


def _sampled_negatives(
    key: Key[Array, ""] | Shaped[Array, "2"],
    mass: Float[ArrayLike, "..."],
    count: Int[ArrayLike, ""],
    codes: Float[Array, "n bits"],
    axis_name: str | None,
) -> Int[Array, " bits"]:
    """Draws, per bit, the number of -1 among ``count`` random signs; the same on every device.

    For mass 1/2 it counts the ones among ``count`` random bits, which is exact and several times
    faster than a general binomial draw. Bits beyond ``count`` are ignored, so the draw does not
    depend on the number of padded rows.
    """
    bits = codes.shape[1]
    if not _is_half(mass):
        below = 1.0 - jnp.broadcast_to(jnp.asarray(mass, jnp.float32), (bits,))
        return jax.random.binomial(key, jnp.float32(count), below).astype(jnp.int32)
    rows = row_count(codes, None, axis_name)
    words = random_words(key, (-(-rows // 32), bits))
    used = jnp.clip(count - 32 * jnp.arange(words.shape[0]), 0, 32).astype(jnp.uint32)
    ones = jnp.where(used > 0, jnp.uint32(0xFFFFFFFF) >> ((32 - used) % 32), jnp.uint32(0))
    return jnp.sum(lax.population_count(words & ones[:, None]), axis=0).astype(jnp.int32)


def _expected_signs(rank: Int[Array, " n"], count: Int[Array, ""]) -> Float[Array, " n"]:
    """Returns the mean of the r-th smallest of ``count`` signs, 2 P(Bin(count, 1/2) < r) - 1.

    The binomial probabilities are computed from the center outwards by their ratios, and normalized
    by their sum. The usual forms by lgamma or the incomplete beta function lose three digits in
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
