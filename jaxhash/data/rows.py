"""Rows: inputs that are read by index, whether they are in memory or in files."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped

#: Indices of inputs, a range of them, or one.
Index = Int[np.ndarray, " n"] | slice | int | np.integer


@runtime_checkable
class Rows(Protocol):
    """Inputs that can be read by index: a NumPy array, or a reader of files."""

    def __len__(self) -> int:
        """Number of inputs."""

    def __getitem__(self, rows: Index) -> Shaped[np.ndarray, "..."]:
        """What a NumPy array of all inputs has there."""
