"""Arithmetic that holds at every scale."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped


def accumulate(array: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """The array in the dtype that sums are taken in: float32, or its own where wider."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def unit_rows(rows: Float[Array, "n columns"]) -> Float[Array, "n columns"]:
    """Each row at length 1; a row of zeros stays one, and has no gradient.

    A direction does not depend on the length, so each row is first divided by its largest entry,
    taken as a constant: no square under- or overflows.
    """
    largest = lax.stop_gradient(jnp.max(jnp.abs(rows), axis=1, keepdims=True))
    empty = largest == 0
    rows = jnp.where(empty, 0.0, rows / jnp.where(empty, 1.0, largest))
    return rows / jnp.sqrt(jnp.sum(jnp.where(empty, 1.0, rows) ** 2, axis=1, keepdims=True))
