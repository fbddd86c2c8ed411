"""What every loss needs: argument checks, accumulation dtype, and sums over devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

#: The name of a reduction, such as ``jnp.mean``; None leaves the loss unreduced.
Reduce = Callable[[Array], Array]


def check_floating(name: str, array: Array, *, ndim: int) -> None:
    """Raise unless ``array`` is floating with ``ndim`` dimensions."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got {array.dtype}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {array.shape}")


def check_shape(name: str, array: Array | None, shape: tuple[int, ...]) -> None:
    """Raise unless ``array`` is None or has the shape."""
    if array is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def accumulate(array: Array) -> Array:
    """The array in the dtype that losses accumulate in: float32, or its own where wider."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


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
