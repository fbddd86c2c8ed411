"""Collapse of the codes: measured in the training step, reported in the log."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from jaxhash.metrics import COLLAPSE_DEAD_SHARE

#: Consecutive steps with dead bits that make a collapse. One batch may hold images of one kind
#: only; a collapsed training stays collapsed, so a few steps of delay cost nothing.
MIN_STEPS = 20

#: Smallest batch that is checked. In few rows many bits agree by chance: a fair bit is dead in n
#: rows with probability 2^(1 - n).
MIN_ROWS = 8


def code_metrics(
    codes: PyTree, mask: Bool[Array | np.ndarray, " n"], *, axis_name: str | None = None
) -> dict[str, Shaped[Array, ""]]:
    """Computes ``bit_balance`` and ``dead_bits`` of a batch, without a gradient.

    Both are taken from the signs of the codes, with 0 as +1. ``bit_balance`` is the mean over bits
    of 1 - abs(mean of the bit), as in `jaxhash.metrics.bit_balance`; ``dead_bits`` is the number of
    bits with the same sign in every row.

    Args:
        codes: real-valued codes [n, bits]. The result is empty for anything else, such as the codes
            of two modalities, whose bits cannot be told from other outputs of a model.
        mask: [n], False for rows of padding.
        axis_name: mapped axis over which the batch is sharded.

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
    """Returns the number of valid rows in which each bit is +1, and the number of valid rows."""
    return jnp.sum((codes >= 0) & mask[:, None], axis=0), jnp.sum(mask)


class CollapseAlarm:
    """Detects a collapse of the codes from the ``dead_bits`` of the steps.

    A collapse is a run of `MIN_STEPS` steps, each with more than
    `jaxhash.metrics.COLLAPSE_DEAD_SHARE` of the bits dead. It is reported once, and again only
    after a step that ended it. The state follows from the records of the steps, so a resumed run
    passes the records it has.

    Args:
        bits: length of a code.
        rows: rows of a batch; nothing is reported below `MIN_ROWS`.
        records: earlier records of the run's metrics.jsonl.

    Attributes:
        steps: the steps at which a collapse was reported.
        changed: whether the last update changed what the next ones depend on; the others may be
            missing in ``records``.

    Example:
        >>> alarm = CollapseAlarm(bits=8, rows=100)
        >>> lines = [alarm.update(step, {"dead_bits": 5}) for step in range(1, 41)]
        >>> [i + 1 for i, line in enumerate(lines) if line], alarm.steps
        ([20], [20])
    """

    def __init__(self, *, bits: int, rows: int, records: Iterable[dict[str, int | float]] = ()):
        self.steps: list[int] = []
        self._bits, self._rows, self._consecutive, self.changed = bits, rows, 0, False
        for record in records:
            self.update(record["step"], record)

    def update(self, step: int, metrics: dict[str, int | float]) -> str | None:
        """Returns a line for the log if this step completes a collapse, else None."""
        dead = metrics.get("dead_bits", 0)
        collapsed = self._rows >= MIN_ROWS and dead > COLLAPSE_DEAD_SHARE * self._bits
        before, self._consecutive = self._consecutive, self._consecutive + 1 if collapsed else 0
        self.changed = self._consecutive <= MIN_STEPS and self._consecutive != before
        if self._consecutive != MIN_STEPS:
            return None
        self.steps.append(step)
        return (
            f"{dead} of {self._bits} bits are the same for every image of the batch: the codes "
            "have collapsed; a lower `learning_rate`, a `quantizer` or a larger "
            "`quantizer_weight` may help"
        )
