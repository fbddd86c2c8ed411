"""Measures of a set of codes: bits, buckets, collapse, and the distance of real values from signs.

Everything but the two measures of real-valued codes is computed from integer counts, so it is exact
up to the last step in float64 and does not depend on the order of the items.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash.metrics._bits import (
    BitBlocks,
    Codes,
    as_bits,
    bit_balance,
    bit_correlation,
    bit_entropy,
    dead_bits,
    duplicate_bits,
    mutual_information,
)
from jaxhash.metrics._inputs import CodeFormat
from jaxhash.metrics._quantization_error import (
    MAX_VALUE,
    check_real,
    is_finite,
    squared_error,
)
from jaxhash.ops.arguments import dtype_of

#: Codes have collapsed if more than this share of their bits is constant.
COLLAPSE_DEAD_SHARE = 0.5
#: Codes have collapsed if more than this share of them is the same code.
COLLAPSE_BUCKET_SHARE = 0.9

#: Real values per block, in float64.
_VALUES = 2**24


class BucketStatistics(NamedTuple):
    """The distribution of items over buckets; a bucket holds the items of one code."""

    distinct: int
    """Number of distinct codes, that is of nonempty buckets."""
    largest: int
    """Number of items in the largest bucket."""
    entropy: float
    """Entropy of the distribution of codes in bits, at most log2 of the number of items."""
    histogram: dict[str, int]
    """Number of buckets by size, under the keys "1", "2", "3-4", "5-8", ..."""


class CodeHealth(NamedTuple):
    """All measures of a set of codes; None where labels or real values are missing."""

    items: int
    bits: int
    bit_balance: float
    bit_entropy: Float[np.ndarray, " bits"]
    bit_correlation: Float[np.ndarray, "bits bits"]
    dead_bits: Int[np.ndarray, " dead"]
    duplicate_bits: Int[np.ndarray, "pairs 2"]
    buckets: BucketStatistics
    mutual_information: Float[np.ndarray, " bits *classes"] | None
    quantization_error: float | None
    wasserstein_to_signs: Float[np.ndarray, " bits"] | None
    collapse: str | None

    def to_json(self) -> dict[str, Any]:
        """Returns numbers, lists and dicts; correlations become the mean and largest size over pairs."""
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
    """Computes all measures of a set of codes, except `flip_rate`, which needs a second encoding.

    Codes are read in blocks of rows, and real-valued codes in blocks of columns; memory besides them
    is a packed copy, whose rows are sorted. The JSON has at most bits^2 numbers.

    Args:
        codes: codes of -1 and +1 in int8; real-valued codes, which are binarized (zero counts as +1)
            and also have a quantization error and a distance to signs; or codes of the form given.
            They may be mapped from a file.
        labels: class ids [n] or multi-hot rows [n, classes], as in `mutual_information`.
        form: format of the codes by `jaxhash.metrics.infer_code_format`. The two measures of real
            values are then computed only for finite real values whose zeros count as +1.

    Raises:
        ValueError: if codes are empty, not finite, or not -1 and +1 in int8; or labels do not fit.
        TypeError: if codes are neither int8 nor floating, and no form is given.

    Example:
        >>> health = code_health(np.array([[0.5, -1.0], [-1.5, -1.0]]))
        >>> health.dead_bits.tolist(), health.wasserstein_to_signs.tolist()
        ([1], [0.25, 2.0])
        >>> health.to_json()["buckets"]
        {'distinct': 2, 'largest': 1, 'entropy': 1.0, 'histogram': {'1': 2}}
    """
    real = np.issubdtype(dtype_of("codes", codes), np.floating)
    codes = np.asarray(codes)  # they may be spread over a mesh
    if form is not None:
        bits = BitBlocks(codes, form.bits, form.read)
        real = real and form.kind in ("real-valued", "-1/+1") and form.zero == "+1"
        real = real and is_finite(codes, bound=MAX_VALUE)
    elif real:
        check_real(codes)
        bits = BitBlocks(codes, codes.shape[1], lambda rows: rows >= 0)
    else:
        bits = as_bits(codes)
    correlation = bit_correlation(bits)  # first, since most measures use its counts
    return CodeHealth(
        items=bits.items,
        bits=bits.bits,
        bit_balance=bit_balance(bits),
        bit_entropy=bit_entropy(bits),
        bit_correlation=correlation,
        dead_bits=dead_bits(bits),
        duplicate_bits=duplicate_bits(bits),
        buckets=(found := bucket_statistics(bits)),
        mutual_information=None if labels is None else mutual_information(bits, labels),
        quantization_error=_quantization_error_in_order(codes) if real else None,
        wasserstein_to_signs=_wasserstein(codes) if real else None,
        collapse=_collapse(bits, found),
    )


def bucket_statistics(codes: Codes) -> BucketStatistics:
    """Computes the distribution of the items over the distinct codes.

    Args:
        codes: codes of -1 and +1.

    Example:
        >>> bucket_statistics(np.array([[1, 1], [1, 1], [1, 1], [1, -1]], np.int8)).histogram
        {'1': 1, '2': 0, '3-4': 1}
    """
    bits = as_bits(codes)
    sizes = _bucket_sizes(bits)
    # Sorted by size, so that the entropy does not depend on the order of the codes.
    size, count = np.unique(sizes, return_counts=True)
    histogram: dict[str, int] = {}
    low, high = 1, 1
    while low <= size[-1]:
        name = str(low) if low == high else f"{low}-{high}"
        histogram[name] = int(count[(low <= size) & (size <= high)].sum())
        low, high = high + 1, 2 * high
    return BucketStatistics(
        distinct=len(sizes),
        largest=int(size[-1]),
        entropy=float(np.sum(count * size / bits.items * np.log2(bits.items / size))),
        histogram=histogram,
    )


def _bucket_sizes(bits: BitBlocks) -> Int[np.ndarray, " distinct"]:
    """Counts the items of each distinct code."""
    width = -(-bits.bits // 8)
    word = next((size for size in (1, 2, 4, 8) if width <= size), width)
    packed = np.zeros((bits.items, word), np.uint8)
    for rows, block in zip(bits.slices(), bits, strict=True):
        packed[rows, :width] = np.packbits(block, axis=1)
    codes = packed.view(f"u{word}" if word <= 8 else f"V{word}")[:, 0]
    codes.sort()
    ends = np.flatnonzero(np.append(codes[1:] != codes[:-1], True))
    return np.diff(ends, prepend=-1)


def _quantization_error_in_order(codes: Float[np.ndarray, "n bits"]) -> float:
    """Computes `quantization_error` in the order of the values, independent of that of the items."""
    some = max(1, _VALUES // len(codes))
    columns = (codes[:, first : first + some] for first in range(0, codes.shape[1], some))
    return sum(squared_error(np.sort(block, axis=0)) for block in columns) / codes.size


def wasserstein_to_signs(codes: Float[np.ndarray, "n bits"]) -> Float[np.ndarray, " bits"]:
    r"""Computes the squared 2-Wasserstein distance of each bit to the uniform law on {-1, +1}.

    With the sorted values :math:`u_{(1)} \le \dots \le u_{(n)}` of a bit,

    .. math:: \frac1n \sum_{r=1}^n \big[(u_{(r)} - \tau_r)^2 + 1 - \tau_r^2\big],

    in float64, where :math:`\tau_r` is -1 in the lower half, +1 in the upper half, and 0 for the
    middle value of an odd number. It is 0 if half of the values are -1 and half are +1. In float32
    ``jaxhash.losses.hswd(codes, target="balanced", reduce_fn=None)`` computes the same.

    Args:
        codes: real-valued codes.

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
    check_real(codes)
    return _wasserstein(codes)


def _wasserstein(codes: Float[np.ndarray, "n bits"]) -> Float[np.ndarray, " bits"]:
    n = len(codes)
    sign = np.sign(2.0 * np.arange(1, n + 1) - n - 1)
    columns = (np.sort(np.asarray(column, np.float64)) for column in codes.T)
    return np.array([np.mean((column - sign) ** 2 + (1.0 - sign**2)) for column in columns])


def collapse_reason(codes: Codes) -> str | None:
    """Returns the reason why codes have collapsed, in one sentence, or None if they have not.

    Codes have collapsed if

    - all of them are the same; or
    - more than `COLLAPSE_DEAD_SHARE` of the bits are constant, and so carry no information; or
    - more than `COLLAPSE_BUCKET_SHARE` of the items have the same code: then a search finds nearly
      all items or nothing, even if a few items keep every bit from being constant. A share of one
      half would be no sign, since one side of a single bit always has at least half of the items.

    Duplicate bits are not a sign, since good codes of few classes have them. A single code never
    counts as collapsed, and few codes are weak evidence: a bit of n random codes is constant with
    probability 2^(1 - n).

    Args:
        codes: codes of -1 and +1.

    Example:
        >>> collapse_reason(np.array([[1, 1, 1], [-1, 1, 1]], np.int8))
        '2 of 3 bits are the same for all 2 codes'
    """
    bits = as_bits(codes)
    return _collapse(bits, bucket_statistics(bits))


def _collapse(codes: BitBlocks, found: BucketStatistics) -> str | None:
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
