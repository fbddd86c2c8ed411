"""Sums, means, gathers and row indices of a batch whose rows are spread over a mapped axis.

Each function takes ``axis_name``: the axis of ``jax.pmap``, ``jax.vmap`` or ``jax.shard_map``, or
None for a batch on one device. Values are those of the whole batch. Gradients are one device's
share of the gradient, so that the shares add up to it (``jax.lax.psum`` of the gradients, no mean).
"""

import math
from typing import TypeVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Num, PyTree, Shaped

_Tree = TypeVar("_Tree", bound=PyTree)


def axis_size(axis_name: str | None) -> int:
    """Returns the number of devices along the axis, 1 without an axis."""
    return 1 if axis_name is None else lax.axis_size(axis_name)


def psum(value: Num[Array, "..."], axis_name: str | None) -> Num[Array, "..."]:
    """Sums over devices as `jax.lax.psum` does; the gradient is psum's as well."""
    return value if axis_name is None else lax.psum(value, axis_name)


def pmin(value: Num[Array, "..."], axis_name: str | None) -> Num[Array, "..."]:
    """Returns the least over devices, as `jax.lax.pmin` does."""
    return value if axis_name is None else lax.pmin(value, axis_name)


def pmax(value: Num[Array, "..."], axis_name: str | None) -> Num[Array, "..."]:
    """Returns the largest over devices, as `jax.lax.pmax` does."""
    return value if axis_name is None else lax.pmax(value, axis_name)


def psum_no_grad(value: Num[Array, "..."], axis_name: str | None) -> Num[Array, "..."]:
    """Sums over devices; the sum is a constant for the gradient."""
    return psum(lax.stop_gradient(value), axis_name)


def psum_local_grad(value: Float[Array, "..."], axis_name: str | None) -> Float[Array, "..."]:
    """Sums over devices; the gradient is that of this device's summand alone."""
    if axis_name is None:
        return value
    return psum_no_grad(value, axis_name) + (value - lax.stop_gradient(value))


def split_grad(value: Float[Array, "..."], axis_name: str | None) -> Float[Array, "..."]:
    """Divides the gradient of a value by the number of devices, all of which computed the value.

    The transpose of `jax.lax.all_gather` sums the gradients of all devices, so the shares add up to
    the whole gradient.
    """
    if axis_name is None:
        return value
    share = value / lax.axis_size(axis_name)
    return lax.stop_gradient(value) + (share - lax.stop_gradient(share))


def all_gather(tree: _Tree, axis_name: str | None) -> _Tree:
    """Returns each array of the tree with the rows of all devices, in the order of the devices."""
    return tree if axis_name is None else lax.all_gather(tree, axis_name, tiled=True)


def row_count(
    values: Shaped[Array, "n columns"], where: Bool[Array, " n"] | None, axis_name: str | None
) -> Int[ArrayLike, ""]:
    """Returns the number of valid rows on all devices; a Python integer without a mask."""
    if where is None:
        return values.shape[0] * axis_size(axis_name)
    return psum(jnp.sum(where, dtype=jnp.int32), axis_name)


def row_indices(rows: int, axis_name: str | None) -> Int[Array, " rows"]:
    """Returns the index in the global batch of each of this device's rows."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * rows
    return first + jnp.arange(rows, dtype=jnp.int32)


def masked_mean(
    values: Float[Array, "n ..."], where: Bool[Array, " n"] | None, axis_name: str | None
) -> Float[Array, "..."]:
    """Averages the valid rows of all devices, with the gradient of this device's rows.

    The mean is 0 without a valid row. Masked rows may hold NaN.
    """
    rows = values.reshape(values.shape[0], math.prod(values.shape[1:]))
    if where is not None:
        rows = jnp.where(where[:, None], rows, 0.0)
    share = jnp.sum(rows, axis=0) / jnp.maximum(row_count(rows, where, axis_name), 1)
    return psum_local_grad(share, axis_name).reshape(values.shape[1:])


def weighted_means(
    rows: Float[Array, "n columns"], weights: Float[Array, "n groups"], axis_name: str | None
) -> tuple[Float[Array, "groups columns"], Float[Array, " groups"]]:
    """Averages the rows of all devices by the weights of each group, as of classes.

    The gradient is the whole one of this device's rows, whichever device uses the means.

    Returns:
        The means, 0 for a group without weight, and the sum of the weights of each group.

    Example:
        >>> rows, weights = jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [1.0, 0.0]])
        >>> [array.tolist() for array in weighted_means(rows, weights, None)]
        [[[2.0], [0.0]], [2.0, 0.0]]
    """
    sums = psum(jnp.matmul(weights.T, rows, precision=lax.Precision.HIGHEST), axis_name)
    total = psum(jnp.sum(weights, axis=0), axis_name)
    return sums / jnp.where(total > 0, total, 1.0)[:, None], total
