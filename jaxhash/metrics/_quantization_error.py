"""The mean squared distance of real-valued codes from their signs, also of codes in pieces."""

import numpy as np
from jaxtyping import Float

from jaxhash.metrics._bits import check_shape

#: Real values per block, in float64.
_VALUES = 2**24

#: The largest absolute value whose squares can be summed in float64.
MAX_VALUE = 1e150


class QuantizationError:
    """The `quantization_error` of codes in pieces: the same to the last bit, whatever the pieces.

    Rows are held until they fill a block of the whole codes, of `_VALUES` values.

    Example:
        >>> error = QuantizationError()
        >>> error.update(np.array([[0.5, -1.0]])), error.update(np.array([[1.0, -1.0]]))
        (None, None)
        >>> error.compute()
        0.0625
    """

    def __init__(self) -> None:
        self._rows: list[Float[np.ndarray, "some bits"]] = []
        self._sum, self._count = 0.0, 0

    def update(self, codes: Float[np.ndarray, "n bits"]) -> None:
        """Adds the next rows.

        Raises:
            TypeError: if codes are not floating.
            ValueError: if codes are empty or not finite.
        """
        codes = np.asarray(codes)  # pieces cannot be cut from an array that is spread over a mesh
        check_real(codes)
        block = max(1, _VALUES // codes.shape[1])
        while len(codes):
            missing = block - sum(map(len, self._rows))
            self._rows.append(codes[:missing])
            codes = codes[missing:]
            if len(self._rows[-1]) == missing:
                self._add_rows()

    def compute(self) -> float:
        """Returns the mean over all rows until now, after which no rows can be added.

        Raises:
            ValueError: if there are no rows.
        """
        if self._rows:
            self._add_rows()
        if not self._count:
            raise ValueError("there are no codes")
        return self._sum / self._count

    def _add_rows(self) -> None:
        rows = self._rows[0] if len(self._rows) == 1 else np.concatenate(self._rows)
        self._sum += squared_error(rows)
        self._count += rows.size
        self._rows = []


def quantization_error(codes: Float[np.ndarray, "n bits"]) -> float:
    """Computes the mean squared distance of real-valued codes from their signs, (|u| - 1)^2.

    Args:
        codes: real-valued codes.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if codes are empty or not finite.

    Example:
        >>> quantization_error(np.array([[0.5, -1.0]]))
        0.125
    """
    error = QuantizationError()
    error.update(codes)
    return error.compute()


def squared_error(codes: Float[np.ndarray, "n bits"]) -> float:
    """Sums (|u| - 1)^2."""
    distance = np.abs(np.asarray(codes, np.float64))  # JAX would stay in float32
    distance -= 1.0
    return float(np.sum(np.square(distance, out=distance)))


def check_real(codes: Float[np.ndarray, "n bits"]) -> None:
    """Raises unless codes are floating and finite, with values that can be squared."""
    if not np.issubdtype(codes.dtype, np.floating):
        raise TypeError(f"codes must be floating, got {codes.dtype}")
    check_shape(codes)
    if not is_finite(codes):
        raise ValueError("codes must be finite, got NaN or infinity")
    if not is_finite(codes, bound=MAX_VALUE):
        raise ValueError(
            f"codes must be at most {MAX_VALUE:g} in size, for they are squared in float64"
        )


def is_finite(codes: Float[np.ndarray, "n bits"], bound: float = np.inf) -> bool:
    """Returns whether no value is NaN, infinite or larger than ``bound`` in size."""
    rows = max(1, _VALUES // codes.shape[1])
    blocks = (codes[at : at + rows] for at in range(0, len(codes), rows))
    bound = min(bound, float(np.finfo(codes.dtype).max))
    return all((np.abs(block) <= bound).all() for block in blocks)
