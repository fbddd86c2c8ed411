"""Groups rows of multi-hot labels: where few sets of labels occur, work on sets stands for work on pairs of rows."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Shaped, UInt32

#: Labels that a word holds.
_WORD = 32


class LabelSets(NamedTuple):
    """The distinct sets of labels that occur in some rows."""

    of_row: Int[Array, " n"]
    """Number of the set of each row."""
    labels: Shaped[Array, "n classes"]
    """Each set as a multi-hot row; rows from ``count`` on are zeros."""
    count: Int[Array, ""]
    """Number of sets."""

    @classmethod
    def of(cls, labels: Shaped[Array, "n classes"]) -> "LabelSets":
        """Finds the sets of multi-hot rows, by a sort of their bits.

        Example:
            >>> sets = LabelSets.of(jnp.array([[0, 1], [1, 1], [0, 1], [1, 0]]))
            >>> sets.of_row.tolist(), int(sets.count)
            ([1, 2, 1, 0], 3)
            >>> sets.labels.tolist()
            [[1, 0], [0, 1], [1, 1], [0, 0]]
        """
        words = _pack(labels)
        places = jnp.arange(len(labels), dtype=jnp.int32)
        *words, rows = lax.sort((*words, places), num_keys=len(words))
        is_first = jnp.zeros(len(labels), bool).at[0].set(True)
        for word in words:
            is_first = is_first.at[1:].set(is_first[1:] | (word[1:] != word[:-1]))
        numbers = jnp.cumsum(is_first, dtype=jnp.int32) - 1
        of_row = jnp.zeros_like(numbers).at[rows].set(numbers)
        distinct = jnp.zeros_like(labels).at[of_row].set(labels)
        return cls(of_row, distinct, numbers[-1] + 1)


def _pack(labels: Shaped[Array, "n classes"]) -> list[UInt32[Array, " n"]]:
    """Returns the bits of each row, `_WORD` a word."""
    places = jnp.arange(_WORD, dtype=jnp.uint32)
    words = []
    for start in range(0, labels.shape[1], _WORD):
        bits = labels[:, start : start + _WORD] > 0
        shifted = bits.astype(jnp.uint32) << places[None, : bits.shape[1]]
        words.append(jnp.sum(shifted, axis=1, dtype=jnp.uint32))
    return words
