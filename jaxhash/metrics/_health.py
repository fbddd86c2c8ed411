"""The health of a set of codes: its bits, its buckets, and how near real-valued codes are to signs.

Everything but the two measures of real-valued codes is computed from integer counts, so it is exact
up to the last step in float64 and does not depend on the order of the items.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int8, Shaped

from jaxhash.codes import binarize
from jaxhash.metrics._bits import (
    bit_balance,
    bit_correlation,
    bit_entropy,
    check_shape,
    dead_bits,
    duplicate_bits,
    mutual_information,
    read_signs,
)

#: Codes have collapsed when more than this share of their bits is constant.
COLLAPSE_DEAD_SHARE = 0.5
#: Codes have collapsed when more than this share of them is one and the same code.
COLLAPSE_BUCKET_SHARE = 0.9


class Buckets(NamedTuple):
    """How items spread over buckets; a bucket holds the items of one code."""

    distinct: int
    """Number of distinct codes, which are the buckets that are not empty."""
    largest: int
    """Items in the largest bucket."""
    entropy: float
    """Entropy of the distribution of the codes in bits, at most log2 of the number of items."""
    histogram: dict[str, int]
    """Number of buckets by the items they hold, under the keys "1", "2", "3-4", "5-8", ..."""


class CodeHealth(NamedTuple):
    """All measures of a set of codes; those that need labels or real values are None without."""

    items: int
    bits: int
    bit_balance: float
    bit_entropy: Float[np.ndarray, " bits"]
    bit_correlation: Float[np.ndarray, "bits bits"]
    dead_bits: Int[np.ndarray, " dead"]
    duplicate_bits: Int[np.ndarray, "pairs 2"]
    buckets: Buckets
    mutual_information: Float[np.ndarray, " bits *classes"] | None
    quantization_error: float | None
    wasserstein_to_signs: Float[np.ndarray, " bits"] | None
    collapse: str | None

    def to_json(self) -> dict[str, Any]:
        """The same in plain numbers, lists and dicts; of the correlations, their size over pairs."""
        plain = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self._asdict().items()
        }
        pairs = np.abs(self.bit_correlation[np.triu_indices(self.bits, k=1)])
        return plain | {
            "bit_correlation": {"mean": pairs.mean().item(), "largest": pairs.max().item()}
            if len(pairs)
            else None,
            "buckets": self.buckets._asdict(),
        }


def code_health(
    codes: Int8[np.ndarray, "n bits"] | Float[np.ndarray, "n bits"],
    labels: Shaped[np.ndarray, " n *classes"] | None = None,
) -> CodeHealth:
    """Measure everything in this file, but for the flip rate, which needs a second encoding.

    Its JSON holds the whole correlation matrix, bits^2 numbers.

    Args:
        codes: codes of -1 and +1 in int8, or real-valued codes, which are cut at zero (zero counts
            as +1) and give the quantization error and the distance to signs as well.
        labels: class ids [n] or multi-hot rows [n, classes], as in `mutual_information`.

    Raises:
        ValueError: if codes are empty, not finite, or not -1 and +1 in int8; or labels do not fit.
        TypeError: if codes are neither int8 nor floating.

    Example:
        >>> health = code_health(np.array([[0.5, -1.0], [-1.5, -1.0]]))
        >>> health.dead_bits.tolist(), health.wasserstein_to_signs.tolist()
        ([1], [0.25, 2.0])
        >>> health.to_json()["buckets"]
        {'distinct': 2, 'largest': 1, 'entropy': 1.0, 'histogram': {'1': 2}}
    """
    signs, real = codes, np.issubdtype(codes.dtype, np.floating)
    if real:
        _check_real(codes)
        # In the order of their values, so that no sum depends on the order of the items.
        codes = np.sort(codes, axis=0)
        signs = binarize(signs)
    items, bits = read_signs(signs).shape
    return CodeHealth(
        items=items,
        bits=bits,
        bit_balance=bit_balance(signs),
        bit_entropy=bit_entropy(signs),
        bit_correlation=bit_correlation(signs),
        dead_bits=dead_bits(signs),
        duplicate_bits=duplicate_bits(signs),
        buckets=buckets(signs),
        mutual_information=None if labels is None else mutual_information(signs, labels),
        quantization_error=quantization_error(codes) if real else None,
        wasserstein_to_signs=wasserstein_to_signs(codes) if real else None,
        collapse=collapse(signs),
    )


def buckets(codes: Int8[np.ndarray, "n bits"]) -> Buckets:
    """How the items spread over the distinct codes.

    Args:
        codes: codes of -1 and +1.

    Raises:
        ValueError: if codes are empty or other than -1 and +1.

    Example:
        >>> buckets(np.array([[1, 1], [1, 1], [1, 1], [1, -1]], np.int8)).histogram
        {'1': 1, '2': 0, '3-4': 1}
    """
    bits = read_signs(codes)
    rows = np.packbits(bits, axis=1)
    _, sizes = np.unique(rows, axis=0, return_counts=True)
    # By size, for an entropy that does not depend on which code is how frequent.
    size, count = np.unique(sizes, return_counts=True)
    histogram: dict[str, int] = {}
    low, high = 1, 1
    while low <= size[-1]:
        name = str(low) if low == high else f"{low}-{high}"
        histogram[name] = int(count[(low <= size) & (size <= high)].sum())
        low, high = high + 1, 2 * high
    return Buckets(
        distinct=len(sizes),
        largest=int(size[-1]),
        entropy=float(np.sum(count * size / len(bits) * np.log2(len(bits) / size))),
        histogram=histogram,
    )


def quantization_error(codes: Float[np.ndarray, "n bits"]) -> float:
    """The mean squared distance of real-valued codes from their signs, mean of (|u| - 1)^2.

    Args:
        codes: codes before they are cut at zero.

    Example:
        >>> quantization_error(np.array([[0.5, -1.0]]))
        0.125
    """
    return float(np.mean((np.abs(codes.astype(np.float64)) - 1.0) ** 2))


def wasserstein_to_signs(codes: Float[np.ndarray, "n bits"]) -> Float[np.ndarray, " bits"]:
    r"""Squared 2-Wasserstein distance of each bit to the uniform law on {-1, +1}, in float64.

    With the sorted values :math:`u_{(1)} \le \dots \le u_{(n)}` of a bit,

    .. math:: \frac1n \sum_{r=1}^n \big[(u_{(r)} - \tau_r)^2 + 1 - \tau_r^2\big],

    where :math:`\tau_r` is -1 in the lower half, +1 in the upper half, and 0 for the middle value
    of an odd number. It is 0 when half of the values are -1 and half are +1, and what
    ``jaxhash.losses.hswd(codes, target="balanced", reduce_fn=None)`` computes in float32.

    Args:
        codes: codes before they are cut at zero.

    Raises:
        ValueError: if codes are empty or not finite.

    Example:
        >>> wasserstein_to_signs(np.array([[-1.0, 0.5], [1.0, 0.5], [-1.0, 0.5], [1.0, 0.5]]))
        array([0.  , 1.25])

    Reference:
        Doan, Yang, Li, "One Loss for Quantization: Deep Hashing with Discrete Wasserstein
        Distributional Matching", CVPR 2022, arXiv 2205.15721.
    """
    _check_real(codes)
    n = len(codes)
    sign = np.sign(2.0 * np.arange(1, n + 1) - n - 1)
    columns = (np.sort(column.astype(np.float64)) for column in codes.T)
    return np.array([np.mean((column - sign) ** 2 + (1.0 - sign**2)) for column in columns])


def collapse(codes: Int8[np.ndarray, "n bits"]) -> str | None:
    """What is wrong with collapsed codes, in one sentence; None when they have not collapsed.

    Codes have collapsed when

    - all of them are the same; or
    - more than `COLLAPSE_DEAD_SHARE` of the bits are constant: they are paid for and tell nothing;
    - more than `COLLAPSE_BUCKET_SHARE` of the items have one and the same code: a few odd items
      keep every bit alive, and still a search finds nearly all or nothing. A share of one half
      would prove nothing: a single bit always has half of the items on one side.

    Duplicate bits are no sign of it: good codes of few classes have them. One code alone is never
    called collapsed, and a handful says little: of n random codes a bit is constant with
    probability 2^(1 - n).

    Args:
        codes: codes of -1 and +1.

    Raises:
        ValueError: if codes are empty or other than -1 and +1.

    Example:
        >>> collapse(np.array([[1, 1, 1], [-1, 1, 1]], np.int8))
        '2 of 3 bits are the same for all 2 codes'
    """
    n, bits = read_signs(codes).shape
    if n == 1:
        return None
    dead, largest = len(dead_bits(codes)), buckets(codes).largest
    if dead == bits:
        return f"all {n:,} codes are the same"
    if dead > COLLAPSE_DEAD_SHARE * bits:
        return f"{dead} of {bits} bits are the same for all {n:,} codes"
    if largest > COLLAPSE_BUCKET_SHARE * n:
        return f"{largest:,} of {n:,} codes are the same"
    return None


def _check_real(codes: Float[np.ndarray, "n bits"]) -> None:
    check_shape(codes)
    if not np.isfinite(codes).all():
        raise ValueError("codes must be finite, got NaN or infinity")
