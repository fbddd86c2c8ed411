"""The health of a set of codes: balanced bits, small quantization error."""

import numpy as np
from jaxtyping import Float, Int8


def bit_balance(codes: Int8[np.ndarray, "n bits"]) -> float:
    """How evenly each bit splits the codes: 1 when every bit is half +1, 0 when all are constant.

    The mean over bits of 1 - |mean of the bit over the codes|.

    Args:
        codes: codes of -1 and +1.

    Example:
        >>> bit_balance(np.array([[1, 1], [-1, 1]], np.int8))
        0.5
    """
    return float(np.mean(1.0 - np.abs(np.mean(codes, axis=0, dtype=np.float64))))


def quantization_error(codes: Float[np.ndarray, "n bits"]) -> float:
    """The mean squared distance of real-valued codes from their signs, mean of (|u| - 1)^2.

    Args:
        codes: codes before they are cut at zero.

    Example:
        >>> quantization_error(np.array([[0.5, -1.0]]))
        0.125
    """
    return float(np.mean((np.abs(codes.astype(np.float64)) - 1.0) ** 2))
