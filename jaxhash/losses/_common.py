"""What every loss needs: its codes and their mask, means over what is valid, sums over devices."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Num, Shaped

from jaxhash.ops.arguments import as_floating, as_mask
from jaxhash.ops.numerics import accumulate
from jaxhash.ops.selection import row_count

#: The name of a reduction, such as ``jnp.mean``; None leaves the loss unreduced.
Reduce = Callable[[Array], Array]


def valid_codes(
    codes: Float[Array, "n bits"], where: Shaped[ArrayLike, " n"] | None, *, masked: float = 0.0
) -> tuple[Float[Array, "n bits"], Bool[Array, " n"] | None]:
    """Checked codes in the accumulation dtype, and their checked mask.

    Rows that are masked, NaN or not, are ``masked``: what is worked out of NaN has a gradient of
    NaN, even if nothing comes of it.
    """
    codes = accumulate(as_floating("codes", codes, ndim=2))
    where = as_mask("where", where, codes.shape[:1])
    return codes if where is None else jnp.where(where[:, None], codes, masked), where


def with_a_row(
    codes: Float[Array, "n bits"], where: Bool[Array, " n"] | None
) -> tuple[Float[Array, "rows bits"], Bool[Array, " rows"] | None]:
    """The batch; of no rows at all, one that is masked: the least of nothing cannot be sought."""
    if len(codes):
        return codes, where
    return jnp.zeros_like(codes, shape=(1, codes.shape[1])), jnp.zeros(1, bool)


def mean_of_rows(
    values: Float[Array, "n ..."], where: Bool[Array, " n"] | None, axis_name: str | None
) -> Float[Array, "..."]:
    """The mean over the valid rows of all devices, with this device's share of the gradient.

    It is 0 without a valid row.
    """
    rows = values.reshape(values.shape[0], math.prod(values.shape[1:]))
    if where is not None:
        rows = jnp.where(where[:, None], rows, 0.0)
    share = jnp.sum(rows, axis=0) / jnp.maximum(row_count(rows, where, axis_name), 1)
    return sum_of_shares(share, axis_name).reshape(values.shape[1:])


def pair_count(where: Bool[Array, "n m"], axis_name: str | None) -> Int[Array, ""]:
    """The number of marked pairs of all devices."""
    columns = jnp.sum(where, axis=0, dtype=jnp.int32)
    count = jnp.sum(lax.optimization_barrier(columns))  # merged, XLA would hold the pairs as int32
    return sum_over_devices(count, axis_name)


def pair_weight(where: Bool[Array, "n m"], axis_name: str | None) -> Float[Array, ""]:
    """One over the number of marked pairs of all devices, or 1 where there is none."""
    return 1.0 / jnp.maximum(pair_count(where, axis_name), 1)


def whole_batch(
    codes: Float[Array, "n bits"], where: Bool[Array, " n"] | None, axis_name: str | None
) -> tuple[Float[Array, "rows bits"], Bool[Array, " rows"]]:
    """The codes of all devices in the accumulation dtype, with their mask."""
    codes = accumulate(codes)
    if where is None:
        where = jnp.ones(codes.shape[0], bool)
    if axis_name is None:
        return codes, where
    return lax.all_gather((codes, where), axis_name, tiled=True)


def sum_over_devices(value: Num[Array, "..."], axis_name: str | None) -> Num[Array, "..."]:
    """The sum of the devices' values; a constant where it is differentiated."""
    value = lax.stop_gradient(value)
    return value if axis_name is None else lax.psum(value, axis_name)


def sum_of_shares(share: Float[Array, "..."], axis_name: str | None) -> Float[Array, "..."]:
    """The sum of all devices' shares as value, with the gradient of this device's share alone."""
    if axis_name is None:
        return share
    return lax.stop_gradient(lax.psum(share, axis_name)) + (share - lax.stop_gradient(share))


def share_of_whole(whole: Float[Array, "..."], axis_name: str | None) -> Float[Array, "..."]:
    """A value that every device computed from the gathered batch, with 1/devices of its gradient.

    The transpose of ``all_gather`` sums what the devices ask of each row, so the shares add up to
    the whole gradient.
    """
    if axis_name is None:
        return whole
    share = whole / jax.lax.axis_size(axis_name)
    return lax.stop_gradient(whole) + (share - lax.stop_gradient(share))
