"""Values whose signs do not depend on the batch that they are computed in.

XLA orders sums differently for each shape of a batch, so the values of one item differ in their last
digits with the batch that it comes in, and a value near zero may change its sign. Batches are therefore
computed by the fast program, and each row with a value within rounding of zero once more by one program
for a single row, whose values count.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from jaxhash.retrieval.encode import local_shardings

#: Largest difference of a value between two programs, in root mean squares of its row.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


class StableProgram:
    """A function from variables and inputs to values [n, bits], one row for each input.

    Args:
        apply: the function.
        variables: its variables.
        tolerance: distance from zero, in root mean squares of a row, below which a row is computed again.
    """

    def __init__(
        self,
        apply: Callable[[PyTree, Shaped[Array, "n ..."]], Float[Array, "n bits"]],
        variables: PyTree,
        tolerance: float,
    ):
        self._variables, self._placed = variables, {}
        self._one = jax.jit(apply)
        self._tolerance = tolerance

        def many(variables, inputs):
            values = apply(variables, inputs)
            return values, _is_doubtful(values, inputs, tolerance)

        self._many = jax.jit(many)
        self.repeated = 0
        """Number of rows that were computed again."""

    def __call__(
        self, inputs: Shaped[np.ndarray, "n ..."], batch_size: int
    ) -> Iterator[Float[np.ndarray, "m bits"]]:
        """Yields the values of successive rows.

        Args:
            inputs: rows, at least one; they are read in slices.
            batch_size: largest number of rows that are computed at a time.
        """
        if len(inputs) == 1:
            yield self.one(np.asarray(inputs[:1]))
            return
        size = _batch_rows(len(inputs), batch_size)
        pending = None
        for start in range(0, len(inputs), size):
            rows = np.asarray(inputs[start : start + size])
            computed = self._start(rows, size)
            if pending is not None:  # its values are fetched while the next batch is computed
                yield self._finish(*pending)
            pending = rows, *computed
        yield self._finish(*pending)

    def one(self, row: Shaped[np.ndarray, "1 ..."]) -> Float[np.ndarray, "1 bits"]:
        """Returns the values of a single row."""
        return np.asarray(self._one(self._variables_on(local_shardings(1)[0]), row))

    def _start(self, rows: Shaped[np.ndarray, "m ..."], size: int) -> tuple[Any, Any]:
        """Starts the computation of one batch, padded to a size."""
        replicated, by_rows = local_shardings(size)
        if len(rows) < size:
            rows = np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])
        return self._many(self._variables_on(replicated), jax.device_put(rows, by_rows))

    def _finish(
        self, rows: Shaped[np.ndarray, "m ..."], values: Array, doubtful: Array
    ) -> Float[np.ndarray, "m bits"]:
        values = np.array(values)[: len(rows)]
        for row in np.flatnonzero(np.asarray(doubtful)[: len(rows)]):
            values[row] = self.one(rows[row : row + 1])[0]
            self.repeated += 1
        return values

    def _variables_on(self, sharding: jax.sharding.Sharding) -> PyTree:
        if sharding not in self._placed:
            self._placed[sharding] = jax.device_put(self._variables, sharding)
        return self._placed[sharding]


def _is_doubtful(
    values: Float[Array, "n bits"], inputs: Shaped[Array, "n ..."], tolerance: float
) -> Bool[Array, " n"]:
    """Returns which rows have a value within rounding of zero, or anything that is not finite."""
    scale = jnp.sqrt(jnp.square(values).mean(axis=1))
    is_safe = jnp.abs(values).min(axis=1) > tolerance * scale  # False for nan
    if jnp.issubdtype(inputs.dtype, jnp.floating):
        is_safe &= jnp.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim)))
    return ~is_safe


def _batch_rows(rows: int, batch_size: int) -> int:
    """Returns the rows of a batch: few sizes, so few compilations, and a multiple of the devices."""
    size = min(batch_size, 1 << (rows - 1).bit_length())
    devices = len(jax.local_devices())
    return size if size < devices else size - size % devices
