"""Collapse of the codes: measured in the step, and noticed in the log."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from jaxhash.metrics import COLLAPSE_DEAD_SHARE

#: A collapse lasts for so many steps in a row, the first steps included. One batch may hold images
#: of one kind; a training that has collapsed stays so, and a few steps of delay cost nothing.
MIN_STEPS = 20

#: In fewer rows many bits agree by chance: a fair bit is dead in n rows with probability 2^(1 - n).
MIN_ROWS = 8


def code_metrics(
    codes: PyTree, mask: Bool[Array | np.ndarray, " n"], *, axis_name: str | None = None
) -> dict[str, Shaped[Array, ""]]:
    """How the bits split a batch: ``bit_balance`` and ``dead_bits``, without a gradient.

    Of the signs of the codes, with 0 counted as +1: the mean over bits of 1 - |mean of the bit|, as
    `jaxhash.metrics.bit_balance` has it, and the number of bits with the same sign in every row.

    Args:
        codes: real-valued codes [n, bits]. Anything else, such as the codes of two modalities, has no
            bits that could be told from other outputs of a model: the result is then empty.
        mask: False where a row is padding.
        axis_name: mapped axis that the batch is spread over.

    Example:
        >>> codes = jnp.array([[0.5, 1.0], [0.1, -1.0], [9.0, 9.0]])
        >>> code_metrics(codes, jnp.array([True, True, False]))
        {'bit_balance': Array(0.5, dtype=float32), 'dead_bits': Array(1, dtype=int32)}
    """
    if not (isinstance(codes, jax.Array) and codes.ndim == 2):
        return {}
    positive, rows = _count(lax.stop_gradient(codes), mask)
    if axis_name is not None:
        positive, rows = lax.psum((positive, rows), axis_name)
    mean = (2 * positive - rows) / jnp.maximum(rows, 1)
    return {
        "bit_balance": jnp.mean(1.0 - jnp.abs(mean)),
        "dead_bits": jnp.sum((positive == 0) | (positive == rows)),
    }


def _count(
    codes: Float[Array, "n bits"], mask: Bool[Array | np.ndarray, " n"]
) -> tuple[Int[Array, " bits"], Int[Array, ""]]:
    """Rows in which each bit is +1, and rows, leaving out padding."""
    return jnp.sum((codes >= 0) & mask[:, None], axis=0), jnp.sum(mask)


class CollapseAlarm:
    """Notices that the codes have collapsed, from the ``dead_bits`` of the steps.

    More than `jaxhash.metrics.COLLAPSE_DEAD_SHARE` of the bits dead in each of `MIN_STEPS` steps in a row
    is a collapse. It is reported once, and again only after a step that ended it. All there is to
    know of a run follows from its records, so a run that goes on is given those it has.

    Args:
        bits: length of a code.
        rows: rows of a batch; with fewer than `MIN_ROWS` nothing is noticed.
        records: what is in the run's metrics.jsonl already.

    Attributes:
        steps: the steps at which a collapse was noticed.

    Example:
        >>> alarm = CollapseAlarm(bits=8, rows=100)
        >>> said = [alarm.update(step, {"dead_bits": 5}) for step in range(1, 41)]
        >>> [i + 1 for i, line in enumerate(said) if line], alarm.steps
        ([20], [20])
    """

    def __init__(self, *, bits: int, rows: int, records: Iterable[dict[str, int | float]] = ()):
        self.steps: list[int] = []
        self._bits, self._rows, self._dead_steps = bits, rows, 0
        for record in records:
            self.update(record["step"], record)

    def update(self, step: int, metrics: dict[str, int | float]) -> str | None:
        """A line for the log if a collapse is noticed at this step, else None."""
        dead = metrics.get("dead_bits", 0)
        collapsed = self._rows >= MIN_ROWS and dead > COLLAPSE_DEAD_SHARE * self._bits
        self._dead_steps = self._dead_steps + 1 if collapsed else 0
        if self._dead_steps != MIN_STEPS:
            return None
        self.steps.append(step)
        return (
            f"{dead} of {self._bits} bits are the same for every image of the batch: the codes have "
            "collapsed; a lower --learning-rate, a --quantizer or a larger --quantizer-weight may help"
        )
