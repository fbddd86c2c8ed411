"""What a code costs, given where its target lies: the terms that HSWD sums over a batch."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

#: The power of the distance.
Order = Literal[1, 2]

#: The lower and the upper target of each bit; None stands for -1 and +1.
Levels = tuple[Float[ArrayLike, "..."], Float[ArrayLike, "..."]] | None


def costs_of(
    codes: Float[Array, "..."],
    signs: Float[Array, "..."],
    order: Order,
    levels: Levels,
    splits: bool,
) -> Float[Array, "..."]:
    """Computes E |u - t|^order of each code u, for random targets t with the given mean signs.

    A mean sign of -1 stands for the lower level, +1 for the upper level. ``splits`` tells whether
    other mean signs occur.
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
    """Computes |u - t|, with the derivative 0 at t; that of jnp.abs is 1."""
    gap = codes - target
    return gap * jnp.sign(gap)
