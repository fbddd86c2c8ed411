"""The health of a set of codes: what its bits hold, alone, together and about the labels.

Everything but the two measures of real-valued codes is computed from integer counts, so it is exact
up to the last step in float64 and does not depend on the order of the items.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, Shaped

from jaxhash.codes import binarize
from jaxhash.metrics._inputs import check_labels
from jaxhash.similarity import UNLABELLED

#: Codes have collapsed when more than this share of their bits is constant.
COLLAPSE_DEAD_SHARE = 0.5
#: Codes have collapsed when more than this share of them is one and the same code.
COLLAPSE_BUCKET_SHARE = 0.9

#: Rows counted at a time: small enough for memory, and counts below 2^24 are exact in float32.
_ROWS = 2**13


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


class FlipRate(NamedTuple):
    """The share of bits that differ between two encodings of the same items."""

    mean: float
    per_bit: Float[np.ndarray, " bits"]


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
    items, bits = _read(signs).shape
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


def bit_entropy(codes: Int8[np.ndarray, "n bits"]) -> Float[np.ndarray, " bits"]:
    """Entropy of each bit in bits: 1 when it splits the codes in half, 0 when it is constant.

    -p log2 p - (1 - p) log2(1 - p), where p is the share of +1.

    Args:
        codes: codes of -1 and +1.

    Raises:
        ValueError: if codes are empty or other than -1 and +1.

    Example:
        >>> bit_entropy(np.array([[1, 1], [-1, 1]], np.int8))
        array([1., 0.])
    """
    bits = _read(codes)
    positive = bits.sum(axis=0)
    return _entropy_terms(np.stack([len(bits) - positive, positive]), len(bits)).sum(axis=0)


def bit_correlation(codes: Int8[np.ndarray, "n bits"]) -> Float[np.ndarray, "bits bits"]:
    """Pearson correlation of each pair of bits.

    A constant bit has no correlation; its row and column are 0, its place on the diagonal included.
    Elsewhere on the diagonal, and for bits that are equal, it is exactly 1; for complements -1.

    Args:
        codes: codes of -1 and +1.

    Raises:
        ValueError: if codes are empty or other than -1 and +1.

    Example:
        >>> bit_correlation(np.array([[1, -1, 1], [-1, 1, 1]], np.int8))
        array([[ 1., -1.,  0.],
               [-1.,  1.,  0.],
               [ 0.,  0.,  0.]])
    """
    bits = _read(codes)
    n, positive = len(bits), bits.sum(axis=0)
    covariance = n * _count_both(bits, bits) - np.outer(positive, positive)  # times n^2
    variance = (positive * (n - positive)).astype(np.float64)
    # The root of a product, not a product of roots: of v v it is v, to the last digit.
    scale = np.sqrt(np.outer(variance, variance))
    correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.clip(correlation, -1.0, 1.0)


def mutual_information(
    codes: Int8[np.ndarray, "n bits"], labels: Shaped[np.ndarray, " n *classes"]
) -> Float[np.ndarray, " bits *classes"]:
    r"""How much each bit tells about the labels, in bits.

    .. math:: I(B; Y) = \sum_{b, y} \frac{n_{by}}{n} \log_2 \frac{n\, n_{by}}{n_b\, n_y}

    from the counts as they are (the plug-in estimator). It is too large by about
    (values of Y - 1) / (2 n ln 2) when bit and label are independent. Items without a label are
    left out.

    Args:
        codes: codes of -1 and +1.
        labels: class ids [n], where Y is the class, or multi-hot rows [n, classes], where each
            label is a Y of its own, present or absent. An id of -1 and a row of zeros mean "no
            label".

    Returns:
        One value a bit for ids, with shape [bits]; one a bit and label for multi-hot rows, with
        shape [bits, classes]. At most 1, the entropy of a balanced bit.

    Raises:
        ValueError: if codes are empty or other than -1 and +1, labels are neither ids nor 0/1 rows
            of as many items, or no item has a label.

    Example:
        >>> codes = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.int8)
        >>> mutual_information(codes, np.array([0, 0, 1, 1]))
        array([1., 0.])

    Reference:
        Paninski, "Estimation of Entropy and Mutual Information", Neural Computation 15, 2003.
    """
    bits = _read(codes)
    labels = check_labels("", labels, len(bits))
    labelled = labels != UNLABELLED if labels.ndim == 1 else labels.any(axis=1)
    if not labelled.any():
        raise ValueError("no item has a label")
    bits, labels = bits[labelled], labels[labelled]
    if labels.ndim == 1:
        _, labels, size = np.unique(labels, return_inverse=True, return_counts=True)
        counts = (np.bincount(labels[bit], minlength=len(size)) for bit in bits.T)
        return np.array([_information(np.stack([size - some, some])) for some in counts])
    both = _count_both(bits, labels)
    one_bit, one_label = bits.sum(axis=0)[:, None] - both, labels.sum(axis=0)[None] - both
    neither = len(bits) - both - one_bit - one_label
    return _information(np.array([[neither, one_label], [one_bit, both]]))


def dead_bits(codes: Int8[np.ndarray, "n bits"]) -> Int[np.ndarray, " dead"]:
    """The bits that are the same for all codes, by index.

    Args:
        codes: codes of -1 and +1.

    Raises:
        ValueError: if codes are empty or other than -1 and +1.

    Example:
        >>> dead_bits(np.array([[1, 1, -1], [-1, 1, -1]], np.int8))
        array([1, 2])
    """
    bits = _read(codes)
    return np.flatnonzero((bits == bits[0]).all(axis=0))


def duplicate_bits(codes: Int8[np.ndarray, "n bits"]) -> Int[np.ndarray, "pairs 2"]:
    """The pairs of bits that are equal, or opposite, on every code: one of the two is wasted.

    Three such bits are three pairs. Any two dead bits are a pair too.

    Args:
        codes: codes of -1 and +1.

    Returns:
        Indices (i, j) with i < j, in ascending order.

    Raises:
        ValueError: if codes are empty or other than -1 and +1.

    Example:
        >>> duplicate_bits(np.array([[1, 1, -1], [-1, 1, 1]], np.int8))
        array([[0, 2]])
    """
    bits = _read(codes)
    # A bit and its complement become one column when their first code is made the same.
    columns = np.packbits((bits != bits[0]).T, axis=1)
    alike: dict[bytes, list[int]] = {}
    for index, column in enumerate(columns):
        alike.setdefault(column.tobytes(), []).append(index)
    pairs = [(i, j) for same in alike.values() for at, i in enumerate(same) for j in same[at + 1 :]]
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


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
    bits = _read(codes)
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


def flip_rate(codes: Int8[np.ndarray, "n bits"], others: Int8[np.ndarray, "n bits"]) -> FlipRate:
    """The share of bits that differ between two encodings of the same items.

    Args:
        codes: codes of -1 and +1, such as those of the images as they are.
        others: codes of the same items in the same order, such as those of the images augmented.

    Raises:
        ValueError: if shapes differ, or codes are empty or other than -1 and +1.

    Example:
        >>> flip_rate(np.array([[1, 1], [-1, 1]], np.int8), np.array([[1, 1], [1, 1]], np.int8))
        FlipRate(mean=0.25, per_bit=array([0.5, 0. ]))
    """
    if codes.shape != others.shape:
        raise ValueError(
            f"both encodings must have the same items and bits, got {codes.shape} and {others.shape}"
        )
    flips = (_read(codes) != _read(others)).sum(axis=0)
    return FlipRate(float(flips.sum() / codes.size), flips / len(codes))


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
    n, bits = _read(codes).shape
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


def _read(codes: Int8[np.ndarray, "n bits"]) -> Bool[np.ndarray, "n bits"]:
    """The codes as bits, checked."""
    if codes.dtype != np.int8:
        raise TypeError(f"codes must be int8 of -1 and +1, got {codes.dtype}")
    _check_shape(codes)
    wrong = np.abs(codes) != 1
    if wrong.any():
        raise ValueError(f"codes must be -1 and +1, got {codes[wrong][0]}")
    return codes > 0


def _check_real(codes: Float[np.ndarray, "n bits"]) -> None:
    _check_shape(codes)
    if not np.isfinite(codes).all():
        raise ValueError("codes must be finite, got NaN or infinity")


def _check_shape(codes: np.ndarray) -> None:
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(f"codes must have shape [items, bits], both at least 1, got {codes.shape}")


def _count_both(
    first: Bool[np.ndarray, "n a"], second: Bool[np.ndarray, "n b"]
) -> Int[np.ndarray, "a b"]:
    """In how many rows column i of one and column j of the other are both true."""
    counts = np.zeros((first.shape[1], second.shape[1]), np.int64)
    for start in range(0, len(first), _ROWS):
        rows = slice(start, start + _ROWS)
        # A matrix product is fast in floats, and integers this small are exact.
        product = first[rows].T.astype(np.float32) @ second[rows].astype(np.float32)
        counts += product.astype(np.int64)
    return counts


def _entropy_terms(counts: Int[np.ndarray, "*shape"], n: int) -> Float[np.ndarray, "*shape"]:
    """-p log2 p for each p = count / n, and 0 for p = 0."""
    return counts / n * np.log2(n / np.maximum(counts, 1))


def _information(
    table: Int[np.ndarray, "2 values *shape"],
) -> Float[np.ndarray, "*shape"] | np.float64:
    """Mutual information in bits from counts of each pair of values, along the first two axes."""
    n = table.sum(axis=(0, 1))
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)
    seen = table > 0
    ratio = np.divide(n * table, expected, out=np.ones(table.shape), where=seen)
    # Each term of an independent pair is exactly 0; the sum may fall below it by rounding alone.
    return np.maximum(np.sum(table / n * np.log2(ratio), axis=(0, 1)), 0.0)
