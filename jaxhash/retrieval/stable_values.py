"""Values whose signs do not depend on the batch that they are computed in.

XLA compiles a program for each shape of a batch, and each orders its sums differently. So the values of
an item differ in their last digits with the batch that it comes in, and a value near zero may change its
sign. Batches are computed by the program of their shape, and each row with a value within rounding of
zero is computed once more by the program for a single row, whose values count.

How much is within rounding: over seven backbones, batches of 2 to 256 rows, and 1 and 8 devices, float32
values differed from those of the single row by at most 5e-6 times the root mean square of the row
(bfloat16: 1e-2, where nearly every row would be repeated). `TOLERANCE` is four times that. The repeated
rows are measured too, a few of each program for that reason alone, and the tolerance rises to four times
the largest difference that was seen: some models round more.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from jaxhash.data.rows import Rows
from jaxhash.retrieval.encode import local_shardings

#: Distance from zero, in root mean squares of the row, up to which a row is computed again.
TOLERANCE = 2e-5

#: The tolerance is at least this many times the largest difference between two programs that was seen.
_MARGIN = 4

#: Rows of the first batch of each program that are repeated to measure the difference.
_PROBES = 8


class _Computed(NamedTuple):
    """One batch that may still be computing: its rows, padded to ``size``, and what follows of them."""

    rows: Shaped[np.ndarray, "m ..."]
    size: int
    values: Float[Array, "size bits"]
    least: Float[Array, " size"]
    rms: Float[Array, " size"]


class StableProgram:
    """A function of variables and inputs, compiled, whose values have the same signs in any batch.

    Args:
        apply: function from variables and inputs [n, ...] to values [n, bits], row by row.
        variables: its variables.
        repeats: whether rows near zero are computed again; without it the signs may change.

    Values of a row with inputs that are not finite are nan.

    Attributes:
        tolerance: distance from zero up to which a row is computed again, in root mean squares.
        repeated: number of rows that were.
    """

    def __init__(
        self,
        apply: Callable[[PyTree, Shaped[Array, "n ..."]], Float[Array, "n bits"]],
        variables: PyTree,
        *,
        repeats: bool = True,
    ):
        def guarded(variables, inputs):
            values = apply(variables, inputs)
            if jnp.issubdtype(inputs.dtype, jnp.floating):  # a ReLU may hide what is not finite
                is_finite = jnp.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim)))
                values = jnp.where(is_finite[:, None], values, jnp.nan)
            return values

        def of_batch(variables, inputs):
            values = guarded(variables, inputs)
            least = jnp.abs(values).min(axis=1)
            return values, least, jnp.sqrt(jnp.square(values).mean(axis=1))

        self.tolerance, self.repeated = TOLERANCE, 0
        self._variables, self._repeats = variables, repeats
        self._of_batch, self._of_row = jax.jit(of_batch), jax.jit(guarded)
        self._placed, self._probed, self._typical = {}, set(), 0.0

    def __call__(self, inputs: Rows, batch_size: int) -> Iterator[Float[np.ndarray, "m bits"]]:
        """Yields the values of successive rows.

        Args:
            inputs: rows, at least one.
            batch_size: largest number of rows that are computed at a time. Where there are fewer rows,
                or several devices that do not divide it, less are.
        """
        if len(inputs) == 1 and self._repeats:
            yield self._rows_alone(inputs[:1])
            return
        size = _program_size(len(inputs), batch_size)
        previous = None
        for start in range(0, len(inputs), size):
            batch = self._start(inputs[start : start + size], size)
            if previous is not None:  # its values are fetched while this batch is computed
                yield self._finish(previous)
            previous = batch
        yield self._finish(previous)

    def _start(self, rows: Shaped[np.ndarray, "m ..."], size: int) -> _Computed:
        """Starts to compute one batch, padded to a size."""
        replicated, by_rows = local_shardings(size)
        padded = rows
        if len(rows) < size:
            padding = np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)
            padded = np.concatenate([rows, padding])
        found = self._of_batch(self._variables_on(replicated), jax.device_put(padded, by_rows))
        return _Computed(rows, size, *found)

    def _finish(self, batch: _Computed) -> Float[np.ndarray, "m bits"]:
        """Waits for the values of a batch, and replaces those of the rows that are near zero."""
        count = len(batch.rows)
        values = np.asarray(batch.values)[:count]
        if not self._repeats:
            return values
        repeated = values.copy()
        least, rms = np.asarray(batch.least)[:count], np.asarray(batch.rms)[:count]
        finite = rms[np.isfinite(rms)]
        # Rounding errors do not shrink with a row that is small by cancellation.
        self._typical = max(self._typical, float(np.median(finite)) if len(finite) else 0.0)
        scale = np.maximum(rms, self._typical)
        is_done = np.zeros(count, bool)
        again = self._is_doubtful(least, scale)
        if batch.size not in self._probed:
            self._probed.add(batch.size)
            again[:_PROBES] = True
        while again.any():
            alone = self._rows_alone(batch.rows[again])
            with np.errstate(invalid="ignore", divide="ignore"):
                differences = np.abs(alone - repeated[again]).max(axis=1) / scale[again]
            largest = max(differences[np.isfinite(differences)], default=0.0)
            self.tolerance = max(self.tolerance, _MARGIN * float(largest))
            self.repeated += len(alone)
            repeated[again] = alone
            is_done |= again
            again = self._is_doubtful(least, scale) & ~is_done
        # Not those that were measured alone: their last digits would depend on what came before them.
        return np.where(self._is_doubtful(least, scale)[:, None], repeated, values)

    def _is_doubtful(
        self, least: Float[np.ndarray, " m"], scale: Float[np.ndarray, " m"]
    ) -> Bool[np.ndarray, " m"]:
        """Returns which rows have a value within rounding of zero, or one that is not finite."""
        return ~(least > self.tolerance * scale)

    def _rows_alone(self, rows: Shaped[np.ndarray, "m ..."]) -> Float[np.ndarray, "m bits"]:
        """Computes each row by itself."""
        variables = self._variables_on(local_shardings(1)[0])
        started = [self._of_row(variables, rows[i : i + 1]) for i in range(len(rows))]
        return np.concatenate([np.asarray(values) for values in started])

    def _variables_on(self, sharding: jax.sharding.Sharding) -> PyTree:
        """Returns the variables on devices, where they stay."""
        if sharding not in self._placed:
            self._placed[sharding] = jax.device_put(self._variables, sharding)
        return self._placed[sharding]


def _program_size(rows: int, batch_size: int) -> int:
    """Returns the rows of a batch: of few sizes, so that few programs are compiled.

    Several devices divide it where it is not below their number.
    """
    size = min(batch_size, 1 << (rows - 1).bit_length())
    devices = len(jax.local_devices())
    return size if size < devices else size - size % devices
