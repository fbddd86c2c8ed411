"""What the values of codes are, found in blocks, and the error of codes or labels that are wrong."""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

#: Values per block, so that a memory-mapped file is never loaded whole.
_VALUES = 2**22


def input_error(subject: str, message: str, kind: type[Exception] = ValueError) -> Exception:
    """Returns an error whose ``subject`` names the wrong codes or labels, so callers can add the file."""
    error = kind(message)
    error.subject = subject
    return error


def row_blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the rows of an array in order, `_VALUES` values at a time."""
    some = max(1, _VALUES // (rows[:1].size or 1))
    return (rows[start : start + some] for start in range(0, len(rows), some))


def is_floating(codes: np.ndarray) -> bool:
    """Returns whether codes are floating; bfloat16, unknown to NumPy, counts too."""
    return jnp.issubdtype(codes.dtype, jnp.floating)


class ValueStatistics(NamedTuple):
    """Statistics of the values of codes, which add up over pieces."""

    minimum: float = np.inf
    maximum: float = -np.inf
    count: int = 0
    zeros: int = 0
    absolute: float = 0.0
    """The sum of absolute values."""
    binary: bool = True
    """Whether all values are 0 and 1."""
    signs: bool = True
    """Whether all values are -1 and +1."""

    @classmethod
    def of(cls, codes: np.ndarray) -> "ValueStatistics":
        """Returns the statistics of codes, read in blocks; with NaN, ``absolute`` is NaN."""
        found = cls()
        for rows in row_blocks(codes):
            zero, one = rows == 0, rows == 1
            signs = rows.dtype.kind not in "bu" and bool((one | (rows == -1)).all())
            found += cls(
                float(rows.min()),
                float(rows.max()),
                rows.size,
                int(zero.sum()),
                float(np.abs(rows).sum(dtype=np.float64)),
                bool((zero | one).all()),
                signs,
            )
        return found

    def __add__(self, other: "ValueStatistics") -> "ValueStatistics":
        """Returns the statistics of both pieces together."""
        return ValueStatistics(
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.count + other.count,
            self.zeros + other.zeros,
            self.absolute + other.absolute,
            self.binary and other.binary,
            self.signs and other.signs,
        )

    @property
    def mean_size(self) -> float:
        """The mean absolute value."""
        return self.absolute / self.count

    @property
    def size(self) -> float:
        """The largest absolute value."""
        return max(-self.minimum, self.maximum)

    @property
    def one_sign(self) -> str:
        """A description of values that are all on one side of zero; empty for others."""
        if self.minimum < 0 < self.maximum or self.signs:
            return ""
        never = "negative" if self.minimum >= 0 else "positive"
        return f"are never {never} ({self.minimum:.3g} to {self.maximum:.3g}), so zero does not cut them"
