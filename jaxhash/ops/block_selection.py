"""The search of `jaxhash.ops.selection` over a block that is on the chip: one row per column of codes.

The functions are the inside of a kernel, which holds the block in registers or in vector memory. So
a round costs arithmetic and no memory traffic, and its thresholds are simply the quarters of the
bracket: at most 16 rounds settle every column, and half as many order the entries that are equal to
the threshold. XLA compiles them too.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxhash.ops._bracket import Bracket, choose_end, is_settled, narrow
from jaxhash.ops.selection import to_keys

_LEAST = jnp.iinfo(jnp.int32).min


class Chosen(NamedTuple):
    """The m largest entries of each column, and the largest one that is not among them."""

    above: Bool[Array, "columns n"]
    next: Bool[Array, "columns n"]


def choose_top_m(
    values: Float[Array, "columns n"],
    m: Int[Array, "columns 1"],
    valid: Bool[Array, "_ n"] | None = None,
) -> Chosen:
    """Marks the m largest entries of each column, as `jaxhash.ops.selection` defines them.

    Args:
        values: float32 entries.
        m: number of entries above the threshold, from 0 to the number of valid ones.
        valid: True for the entries that count, [1, n] for all columns or one row for each.

    Example:
        >>> chosen = choose_top_m(jnp.array([[3.0, 1.0, 2.0, 1.0]]), jnp.array([[1]]))
        >>> chosen.above, chosen.next
        (Array([[ True, False, False, False]], dtype=bool), Array([[False, False,  True, False]], dtype=bool))
    """
    if valid is None:
        valid = jnp.ones_like(values, bool)
    keys = jnp.where(valid, to_keys(values), _LEAST)
    rows = lax.broadcasted_iota(jnp.int32, values.shape, 1)
    smallest = _least(jnp.where(valid, keys, jnp.iinfo(jnp.int32).max)) - 1
    bracket = Bracket(smallest, _most(keys), _count(jnp.broadcast_to(valid, keys.shape)), 0 * m)
    bracket = _search(bracket, m, keys)
    key = choose_end(bracket, m)
    missing = jnp.where(bracket.above_low == m, 0, m - bracket.above_high)
    tied = jnp.where(keys == key, rows, -1)
    bracket = Bracket(0 * m - 1, 0 * m + values.shape[1] - 1, _count(keys == key), 0 * m)
    row = choose_end(_search(bracket, missing, tied), missing)
    above = (keys > key) | ((keys == key) & (rows > row))
    below = jnp.where(above, _LEAST, keys)
    last = jnp.where(valid & ~above & (below == _most(below)), rows, -1)
    return Chosen(above & valid, valid & ~above & (last == _most(last)) & (last >= 0))


def _search(
    bracket: Bracket, m: Int[Array, "columns 1"], entries: Int[Array, "columns n"]
) -> Bracket:
    """Narrows the bracket to one of its quarters per round until every column is settled."""

    def next_round(bracket):
        middle = _midpoint(bracket.low, bracket.high)
        thresholds = _midpoint(bracket.low, middle), middle, _midpoint(middle, bracket.high)
        return narrow(bracket, m, [(each, _count(entries > each)) for each in thresholds])

    def is_unfinished(bracket):
        return jnp.max((~is_settled(bracket, m)).astype(jnp.int32)) > 0

    return lax.while_loop(is_unfinished, next_round, bracket)


def _midpoint(low: Int[Array, "..."], high: Int[Array, "..."]) -> Int[Array, "..."]:
    """Returns the mean of two integers, rounded down, without overflow of their sum."""
    return (low & high) + ((low ^ high) >> 1)


def _count(marked: Bool[Array, "columns n"]) -> Int[Array, "columns 1"]:
    return jnp.sum(marked.astype(jnp.int32), axis=1, keepdims=True)


def _least(entries: Int[Array, "columns n"]) -> Int[Array, "columns 1"]:
    return jnp.min(entries, axis=1, keepdims=True)


def _most(entries: Int[Array, "columns n"]) -> Int[Array, "columns 1"]:
    return jnp.max(entries, axis=1, keepdims=True)
