"""HSWD in one kernel (Pallas) per platform: Triton on NVIDIA GPUs, Mosaic on TPUs.

XLA runs the search of `jaxhash.ops.selection` as loops of small kernels, each of which reads the
codes again. Here a program holds whole columns on the chip, one column in the registers of a GPU,
eight in the vector memory of a TPU: it searches, sums the costs, and writes the derivative of each
cost, so the codes are read from memory once for the value and the gradient. `lax.platform_dependent`
chooses by the platform that is compiled for; a CPU computes the plain form.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as mosaic
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float, Int

from jaxhash.losses._target_costs import Order, costs_of
from jaxhash.ops.block_selection import choose_top_m

#: Columns of a program on a TPU: the sublanes of a vector register.
_SUBLANES = 8
#: Bytes of vector memory that a program may use: 65,536 rows need a little more than the default, 16 MiB.
_VMEM = 24 * 2**20


class Columns(NamedTuple):
    """What the loss of each bit depends on beside the codes."""

    upper: Int[Array, " bits"]
    """The number of codes with the upper target."""
    fraction: Float[Array, " bits"]
    """How much of the next code has it too."""
    low: Float[Array, " bits"]
    high: Float[Array, " bits"]
    """The targets."""
    scale: Float[Array, " bits"]
    """The factor of the sum of costs."""


class Form(NamedTuple):
    """What is known when the kernel is compiled."""

    order: Order
    splits: bool
    plain: Callable[[Array, Columns, Array | None], Array]
    """The same losses without a kernel."""


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def distances(
    form: Form, codes: Float[Array, "n bits"], columns: Columns, where: Bool[Array, " n"] | None
) -> Float[Array, " bits"]:
    """Returns the loss of each bit.

    Derivatives of any order in the codes are those of the plain form, reverse and forward mode. There are none in
    the other arguments, which is an error.
    """
    return on_platform(form, False, codes, columns, where)[0]


@partial(distances.defjvp, symbolic_zeros=True)
def _distances_jvp(form, primals, tangents):
    losses, slopes = _with_slopes(form, *primals)
    _check_tangents(tangents)
    return losses, jnp.sum(slopes.astype(jnp.float32) * tangents[0].astype(jnp.float32), axis=0)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_slopes(
    form: Form, codes: Float[Array, "n bits"], columns: Columns, where: Bool[Array, " n"] | None
) -> tuple[Float[Array, " bits"], Float[Array, "n bits"]]:
    """Returns the loss of each bit, and its derivative in each code."""
    return on_platform(form, True, codes, columns, where)


@partial(_with_slopes.defjvp, symbolic_zeros=True)
def _with_slopes_jvp(form, primals, tangents):
    losses, slopes = _with_slopes(form, *primals)
    _check_tangents(tangents)
    codes, columns, where = primals
    moved = tangents[0].astype(jnp.float32)
    losses_moved = jnp.sum(slopes.astype(jnp.float32) * moved, axis=0)
    curvature = 2.0 * columns.scale if form.order == 2 else jnp.zeros_like(columns.scale)
    slopes_moved = curvature[None] * (
        moved if where is None else jnp.where(where[:, None], moved, 0)
    )
    return (losses, slopes), (losses_moved, slopes_moved.astype(codes.dtype))


def _check_tangents(tangents: tuple[Any, ...]) -> None:
    if any(not isinstance(each, SymbolicZero) for each in jax.tree.leaves(tangents[1])):
        raise ValueError(
            'method="kernel" has derivatives in the codes alone: use method="select" for those in '
            "mass or levels"
        )


def on_platform(
    form: Form,
    slopes: bool,
    codes: Float[Array, "n bits"],
    columns: Columns,
    where: Bool[Array, " n"] | None,
) -> tuple[Float[Array, "..."], ...]:
    """Computes the losses, and their derivatives if ``slopes``, as the platform does."""
    return lax.platform_dependent(
        codes,
        columns,
        where,
        cuda=partial(on_gpu, form, slopes),
        tpu=partial(on_tpu, form, slopes),
        default=partial(_plainly, form, slopes),
    )


def _plainly(
    form: Form,
    slopes: bool,
    codes: Float[Array, "n bits"],
    columns: Columns,
    where: Bool[Array, " n"] | None,
) -> tuple[Float[Array, "..."], ...]:
    def losses_of(codes):
        return form.plain(codes, columns, where)

    if not slopes:
        return (losses_of(codes),)
    losses, back = jax.vjp(losses_of, codes)
    return losses, *back(jnp.ones_like(losses))


def on_gpu(
    form: Form,
    slopes: bool,
    codes: Float[Array, "n bits"],
    columns: Columns,
    where: Bool[Array, " n"] | None,
    interpret: bool = False,
) -> tuple[Float[Array, "..."], ...]:
    """Computes the losses, and their derivatives if ``slopes``, by one program of Triton per bit."""
    rows, bits = codes.shape
    padded = pl.next_power_of_2(rows)

    def kernel(codes_ref, upper_ref, numbers_ref, *refs):
        row = lax.broadcasted_iota(jnp.int32, (padded,), 0)
        inside = row < rows
        code = triton.load(codes_ref.at[:], mask=inside, other=0)
        valid = inside
        if where is not None:
            where_ref, *refs = refs
            valid &= triton.load(where_ref.at[:], mask=inside, other=0) != 0
        numbers = [numbers_ref[0, place].reshape(1, 1) for place in range(4)]
        losses, derivatives = _losses_of_block(
            form, code[None], valid[None], upper_ref[0].reshape(1, 1), *numbers
        )
        refs[0][0] = losses.reshape()
        if slopes:
            triton.store(refs[1].at[:], derivatives[0].astype(codes.dtype), mask=inside)

    column = pl.BlockSpec((padded, None), lambda bit: (0, bit))
    one = pl.BlockSpec((1,), lambda bit: (bit,))
    out = [(jax.ShapeDtypeStruct((bits,), jnp.float32), one)]
    out += [(jax.ShapeDtypeStruct(codes.shape, codes.dtype), column)] * slopes
    masks = [] if where is None else [where.astype(jnp.int32)]
    return tuple(
        pl.pallas_call(
            kernel,
            grid=(bits,),
            in_specs=[
                column,
                one,
                pl.BlockSpec((1, 4), lambda bit: (bit, 0)),
                *(pl.BlockSpec((padded,), lambda bit: (0,)) for _ in masks),
            ],
            out_shape=[shape for shape, _ in out],
            out_specs=[spec for _, spec in out],
            compiler_params=triton.CompilerParams(num_warps=min(max(padded // 512, 4), 32)),
            interpret=interpret,
            name="hswd",
        )(codes, columns.upper, jnp.stack(columns[1:], axis=1), *masks)
    )


def on_tpu(
    form: Form,
    slopes: bool,
    codes: Float[Array, "n bits"],
    columns: Columns,
    where: Bool[Array, " n"] | None,
    interpret: bool = False,
) -> tuple[Float[Array, "..."], ...]:
    """Computes the losses, and their derivatives if ``slopes``, eight bits at a time.

    The codes are transposed, which costs nothing: XLA stores a batch of fewer than 128 bits so.
    """
    rows, bits = codes.shape
    dtype = codes.dtype
    if dtype == jnp.float16:  # Mosaic does not load it
        codes = codes.astype(jnp.float32)
    block = min(_SUBLANES, bits)

    def kernel(codes_ref, upper_ref, numbers_ref, *refs):
        valid = None
        if where is not None:
            where_ref, *refs = refs
            valid = where_ref[...] != 0
        numbers = [numbers_ref[:, place : place + 1] for place in range(4)]
        losses, derivatives = _losses_of_block(
            form, codes_ref[...], valid, upper_ref[...], *numbers
        )
        refs[0][...] = losses
        if slopes:
            refs[1][...] = derivatives.astype(codes.dtype)

    def of_block(width):
        return pl.BlockSpec((block, width), lambda index: (index, 0))

    out = [jax.ShapeDtypeStruct((bits, 1), jnp.float32)]
    out += [jax.ShapeDtypeStruct((bits, rows), codes.dtype)] * slopes
    masks = [] if where is None else [where[None].astype(jnp.int32)]
    losses, *derivatives = pl.pallas_call(
        kernel,
        grid=(pl.cdiv(bits, block),),
        in_specs=[
            of_block(rows),
            of_block(1),
            of_block(4),
            *(pl.BlockSpec((1, rows), lambda index: (0, 0)) for _ in masks),
        ],
        out_shape=out,
        out_specs=[of_block(each.shape[1]) for each in out],
        compiler_params=mosaic.CompilerParams(vmem_limit_bytes=_VMEM),
        interpret=interpret,
        name="hswd",
    )(codes.T, columns.upper[:, None], jnp.stack(columns[1:], axis=1), *masks)
    return losses[:, 0], *(each.T.astype(dtype) for each in derivatives)


def _losses_of_block(
    form: Form,
    codes: Float[Array, "columns n"],
    valid: Bool[Array, "_ n"] | None,
    upper: Int[Array, "columns 1"],
    fraction: Float[Array, "columns 1"],
    low: Float[Array, "columns 1"],
    high: Float[Array, "columns 1"],
    scale: Float[Array, "columns 1"],
) -> tuple[Float[Array, "columns 1"], Float[Array, "columns n"]]:
    """Returns the loss of each column, and its derivative in each code."""
    codes = codes.astype(jnp.float32)
    if valid is not None:
        codes = jnp.where(valid, codes, 0.0)
    chosen = choose_top_m(codes, upper, valid)
    positive = chosen.above.astype(jnp.float32)
    if form.splits:
        positive += fraction * chosen.next.astype(jnp.float32)
    costs, back = jax.vjp(
        lambda codes: costs_of(codes, 2.0 * positive - 1.0, form.order, (low, high), form.splits),
        codes,
    )
    (derivatives,) = back(jnp.broadcast_to(scale, codes.shape))
    if valid is not None:
        costs, derivatives = (jnp.where(valid, each, 0.0) for each in (costs, derivatives))
    return scale * jnp.sum(costs, axis=1, keepdims=True), derivatives
