"""The state of a search for a threshold: a bracket of two thresholds per column, and how it narrows.

`jaxhash.ops.selection` searches in passes over memory, `jaxhash.ops.block_selection` on the chip; both
narrow the same bracket by the same rule.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Bracket(NamedTuple):
    """Two thresholds per column with the number of keys above each: at least m, and at most m."""

    low: Int[Array, "..."]
    high: Int[Array, "..."]
    above_low: Int[Array, "..."]
    above_high: Int[Array, "..."]


def is_exact(bracket: Bracket, m: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Returns whether one of the two thresholds has exactly m keys above it."""
    return (bracket.above_low == m) | (bracket.above_high == m)


def is_settled(bracket: Bracket, m: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Returns whether a threshold has exactly m keys above it, or all keys in between are equal."""
    return is_exact(bracket, m) | (bracket.high - bracket.low == 1)


def narrow(
    bracket: Bracket, m: Int[Array, "..."], counted: Iterable[tuple[Array, Array]]
) -> Bracket:
    """Moves the ends of the bracket to the closest thresholds.

    Args:
        bracket: the current bracket.
        m: number of keys wanted above the threshold.
        counted: pairs of a threshold inside the bracket and the number of keys above it.
    """
    low, high, above_low, above_high = bracket
    for threshold, count in counted:
        low = jnp.where(count >= m, jnp.maximum(low, threshold), low)
        above_low = jnp.where(count >= m, jnp.minimum(above_low, count), above_low)
        high = jnp.where(count <= m, jnp.minimum(high, threshold), high)
        above_high = jnp.where(count <= m, jnp.maximum(above_high, count), above_high)
    return Bracket(low, high, above_low, above_high)


def choose_end(bracket: Bracket, m: Int[Array, "..."]) -> Int[Array, "..."]:
    """Returns the threshold with m keys above it, or the higher one if neither has."""
    return jnp.where(bracket.above_low == m, bracket.low, bracket.high)
