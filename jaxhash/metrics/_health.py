"""The health of a set of codes: its bits, its buckets, and how near real-valued codes are to signs.

Everything but the two measures of real-valued codes is computed from integer counts, so it is exact
up to the last step in float64 and does not depend on the order of the items.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash.metrics._bits import (
    Bits,
    Codes,
    as_bits,
    bit_balance,
    bit_correlation,
    bit_entropy,
    check_shape,
    dead_bits,
    duplicate_bits,
    mutual_information,
)
from jaxhash.metrics._inputs import CodeFormat

#: Codes have collapsed when more than this share of their bits is constant.
COLLAPSE_DEAD_SHARE = 0.5
#: Codes have collapsed when more than this share of them is one and the same code.
COLLAPSE_BUCKET_SHARE = 0.9

#: Real values that are held at a time, in float64.
_VALUES = 2**24


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
    codes: Shaped[np.ndarray, "n columns"],
    labels: Shaped[np.ndarray, " n *classes"] | None = None,
    *,
    form: CodeFormat | None = None,
) -> CodeHealth:
    """Measure everything in this file, but for the flip rate, which needs a second encoding.

    The codes are read some rows at a time, and real-valued ones a few columns at a time: what is
    held besides them is a packed copy, whose rows are sorted. The JSON holds bits^2 numbers at most.

    Args:
        codes: codes of -1 and +1 in int8, or real-valued codes, which are cut at zero (zero counts
            as +1) and give the quantization error and the distance to signs as well; or of any
            form, where it is named. They may be mapped from a file.
        labels: class ids [n] or multi-hot rows [n, classes], as in `mutual_information`.
        form: what `jaxhash.metrics.code_format` found the codes to be. The two measures of real
            values are then of real values alone, that are finite and whose zeros count as +1.

    Raises:
        ValueError: if codes are empty, not finite, or not -1 and +1 in int8; or labels do not fit.
        TypeError: if codes are neither int8 nor floating, and no form is named.

    Example:
        >>> health = code_health(np.array([[0.5, -1.0], [-1.5, -1.0]]))
        >>> health.dead_bits.tolist(), health.wasserstein_to_signs.tolist()
        ([1], [0.25, 2.0])
        >>> health.to_json()["buckets"]
        {'distinct': 2, 'largest': 1, 'entropy': 1.0, 'histogram': {'1': 2}}
    """
    real = np.issubdtype(codes.dtype, np.floating)
    if form is not None:
        bits = Bits(codes, form.bits, form.read)
        real = real and form.kind in ("real-valued", "-1/+1") and form.zero == "+1"
        real = real and _is_finite(codes, most=_MOST)
    elif real:
        _check_real(codes)
        bits = Bits(codes, codes.shape[1], lambda rows: rows >= 0)
    else:
        bits = as_bits(codes)
    correlation = bit_correlation(bits)  # whose counts serve most of the rest
    return CodeHealth(
        items=bits.items,
        bits=bits.bits,
        bit_balance=bit_balance(bits),
        bit_entropy=bit_entropy(bits),
        bit_correlation=correlation,
        dead_bits=dead_bits(bits),
        duplicate_bits=duplicate_bits(bits),
        buckets=(found := buckets(bits)),
        mutual_information=None if labels is None else mutual_information(bits, labels),
        quantization_error=_quantization_error_in_order(codes) if real else None,
        wasserstein_to_signs=_wasserstein(codes) if real else None,
        collapse=_collapse(bits, found),
    )


def buckets(codes: Codes) -> Buckets:
    """How the items spread over the distinct codes.

    Args:
        codes: codes of -1 and +1.

    Raises:
        ValueError: if codes are empty or other than -1 and +1.

    Example:
        >>> buckets(np.array([[1, 1], [1, 1], [1, 1], [1, -1]], np.int8)).histogram
        {'1': 1, '2': 0, '3-4': 1}
    """
    bits = as_bits(codes)
    sizes = _sizes(bits)
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
        entropy=float(np.sum(count * size / bits.items * np.log2(bits.items / size))),
        histogram=histogram,
    )


def _sizes(bits: Bits) -> Int[np.ndarray, " distinct"]:
    """How many items have each of the distinct codes."""
    width = -(-bits.bits // 8)
    word = next((size for size in (1, 2, 4, 8) if width <= size), width)
    packed = np.zeros((bits.items, word), np.uint8)
    for rows, block in zip(bits.slices(), bits, strict=True):
        packed[rows, :width] = np.packbits(block, axis=1)
    codes = packed.view(f"u{word}" if word <= 8 else f"V{word}")[:, 0]
    codes.sort()
    ends = np.flatnonzero(np.append(codes[1:] != codes[:-1], True))
    return np.diff(ends, prepend=-1)


def quantization_error(codes: Float[np.ndarray, "n bits"]) -> float:
    """The mean squared distance of real-valued codes from their signs, mean of (|u| - 1)^2.

    Args:
        codes: codes before they are cut at zero.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if codes are empty or not finite.

    Example:
        >>> quantization_error(np.array([[0.5, -1.0]]))
        0.125
    """
    _check_real(codes)
    rows = max(1, _VALUES // codes.shape[1])
    blocks = (codes[first : first + rows] for first in range(0, len(codes), rows))
    return sum(map(_error, blocks)) / codes.size


def _quantization_error_in_order(codes: Float[np.ndarray, "n bits"]) -> float:
    """The same, added up in the order of the values, so that it does not depend on the items'."""
    some = max(1, _VALUES // len(codes))
    columns = (codes[:, first : first + some] for first in range(0, codes.shape[1], some))
    return sum(_error(np.sort(block, axis=0)) for block in columns) / codes.size


def _error(codes: Float[np.ndarray, "n bits"]) -> float:
    """The sum of (|u| - 1)^2."""
    distance = np.abs(codes.astype(np.float64))
    distance -= 1.0
    return float(np.sum(np.square(distance, out=distance)))


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
        TypeError: if codes are not floating.
        ValueError: if codes are empty or not finite.

    Example:
        >>> wasserstein_to_signs(np.array([[-1.0, 0.5], [1.0, 0.5], [-1.0, 0.5], [1.0, 0.5]]))
        array([0.  , 1.25])

    Reference:
        Doan, Yang, Li, "One Loss for Quantization: Deep Hashing with Discrete Wasserstein
        Distributional Matching", CVPR 2022, arXiv 2205.15721.
    """
    _check_real(codes)
    return _wasserstein(codes)


def _wasserstein(codes: Float[np.ndarray, "n bits"]) -> Float[np.ndarray, " bits"]:
    n = len(codes)
    sign = np.sign(2.0 * np.arange(1, n + 1) - n - 1)
    columns = (np.sort(column.astype(np.float64)) for column in codes.T)
    return np.array([np.mean((column - sign) ** 2 + (1.0 - sign**2)) for column in columns])


def collapse(codes: Codes) -> str | None:
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
    bits = as_bits(codes)
    return _collapse(bits, buckets(bits))


def _collapse(codes: Bits, found: Buckets) -> str | None:
    n, bits = codes.items, codes.bits
    if n == 1:
        return None
    dead, largest = len(dead_bits(codes)), found.largest
    if dead == bits:
        return f"all {n:,} codes are the same"
    if dead > COLLAPSE_DEAD_SHARE * bits:
        return f"{dead} of {bits} bits are the same for all {n:,} codes"
    if largest > COLLAPSE_BUCKET_SHARE * n:
        return f"{largest:,} of {n:,} codes are the same"
    return None


#: The square of a larger value is none that float64 has, nor the sum of many.
_MOST = 1e150


def _check_real(codes: Float[np.ndarray, "n bits"]) -> None:
    if not np.issubdtype(codes.dtype, np.floating):
        raise TypeError(f"codes must be floating, got {codes.dtype}")
    check_shape(codes)
    if not _is_finite(codes):
        raise ValueError("codes must be finite, got NaN or infinity")
    if not _is_finite(codes, most=_MOST):
        raise ValueError(
            f"codes must be at most {_MOST:g} in size, for they are squared in float64"
        )


def _is_finite(codes: Float[np.ndarray, "n bits"], most: float = np.inf) -> bool:
    """Whether no value is NaN, infinite or above a size."""
    rows = max(1, _VALUES // codes.shape[1])
    blocks = (codes[at : at + rows] for at in range(0, len(codes), rows))
    most = min(most, float(np.finfo(codes.dtype).max))
    return all((np.abs(block) <= most).all() for block in blocks)
