"""Work on the rows of large arrays block by block, without a copy of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree, Shaped

from jaxhash.ops.collectives import psum_no_grad
from jaxhash.ops.meshes import row_groups


class RowBlocks(NamedTuple):
    """Blocks of rows, the last of which overlaps the one before if it would be shorter.

    Where an ambient mesh spreads the rows over devices, a block has as many rows of each device, and
    no row leaves its device.

    Example:
        >>> blocks = RowBlocks.of(rows=5, size=2)
        >>> [blocks.cut(jnp.arange(5), number).tolist() for number in range(blocks.count)]
        [[0, 1], [2, 3], [3, 4]]
        >>> blocks.are_new(2).tolist()
        [False, True]
    """

    groups: int
    """Number of devices that an ambient mesh spreads the rows over, else 1."""
    rows: int
    """Rows of a group."""
    size: int
    """Rows of a group in a block, at most all."""

    @classmethod
    def of(cls, rows: int, size: int) -> "RowBlocks":
        """Returns blocks of so many rows of each device."""
        groups = row_groups(rows)
        return cls(groups, rows // groups, max(min(size, rows // groups), 1))

    @property
    def count(self) -> int:
        """Number of blocks."""
        return -(-self.rows // self.size)

    def cut(
        self, array: Shaped[Array, "m ..."], number: int | Int[Array, ""]
    ) -> Shaped[Array, "r ..."]:
        """Returns the rows of a block."""
        array = array.reshape(self.groups, self.rows, *array.shape[1:])
        part = lax.dynamic_slice_in_dim(array, self._start(number), self.size, axis=1)
        return part.reshape(self.groups * self.size, *array.shape[2:])

    def put(
        self,
        array: Shaped[Array, "m ..."],
        part: Shaped[Array, "r ..."],
        number: int | Int[Array, ""],
    ) -> Shaped[Array, "m ..."]:
        """Returns the array with the rows of a block replaced."""
        shape = array.shape
        array = array.reshape(self.groups, self.rows, *shape[1:])
        part = part.reshape(self.groups, self.size, *shape[1:])
        array = lax.dynamic_update_slice_in_dim(array, part, self._start(number), axis=1)
        return array.reshape(shape)

    def sum(
        self,
        of_block: Callable[[int | Int[Array, ""]], PyTree[Array]],
        axis_name: str | None = None,
    ) -> PyTree[Array]:
        """Sums the arrays that a function makes of each block, without gradient, over all devices.

        Example:
            >>> blocks, rows = RowBlocks.of(rows=5, size=2), jnp.arange(5)
            >>> blocks.sum(lambda number: jnp.sum(blocks.cut(rows, number) * blocks.are_new(number)))
            Array(10, dtype=int32)
        """

        def add(number, total):
            return jax.tree.map(jnp.add, total, of_block(number))

        shapes = jax.eval_shape(of_block, 0)
        zeros = jax.tree.map(lambda array: jnp.zeros(array.shape, array.dtype), shapes)
        total = lax.fori_loop(0, self.count, add, zeros)
        return jax.tree.map(lambda array: psum_no_grad(array, axis_name), total)

    def are_new(self, number: int | Int[Array, ""]) -> Bool[Array, " r"]:
        """Returns which rows of a block are in no block before."""
        is_new = self._start(number) + jnp.arange(self.size) >= number * self.size
        return jnp.tile(is_new, self.groups)

    def _start(self, number: int | Int[Array, ""]) -> Int[Array, ""]:
        return jnp.minimum(jnp.int32(number) * self.size, self.rows - self.size)
