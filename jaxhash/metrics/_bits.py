"""The bits of codes: what each holds, alone, beside the others and about the labels.

Everything is computed from integer counts, so it is exact up to the last step in float64 and does not
depend on the order of the items.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, Shaped

from jaxhash.metrics._inputs import check_labels
from jaxhash.similarity import has_label

#: Rows counted at a time: small enough for memory, and counts below 2^24 are exact in float32.
_ROWS = 2**13


class FlipRate(NamedTuple):
    """The share of bits that differ between two encodings of the same items."""

    mean: float
    per_bit: Float[np.ndarray, " bits"]


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
    bits = read_signs(codes)
    positive = bits.sum(axis=0)
    return entropy_terms(np.stack([len(bits) - positive, positive]), len(bits)).sum(axis=0)


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
    bits = read_signs(codes)
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
    bits = read_signs(codes)
    labels = check_labels("", labels, len(bits))
    labelled = has_label(labels)
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
    bits = read_signs(codes)
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
    bits = read_signs(codes)
    # A bit and its complement become one column when their first code is made the same.
    columns = np.packbits((bits != bits[0]).T, axis=1)
    alike: dict[bytes, list[int]] = {}
    for index, column in enumerate(columns):
        alike.setdefault(column.tobytes(), []).append(index)
    pairs = [(i, j) for same in alike.values() for at, i in enumerate(same) for j in same[at + 1 :]]
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


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
    flips = (read_signs(codes) != read_signs(others)).sum(axis=0)
    return FlipRate(float(flips.sum() / codes.size), flips / len(codes))


def read_signs(codes: Int8[np.ndarray, "n bits"]) -> Bool[np.ndarray, "n bits"]:
    """The codes as bits, checked."""
    if codes.dtype != np.int8:
        raise TypeError(f"codes must be int8 of -1 and +1, got {codes.dtype}")
    check_shape(codes)
    wrong = np.abs(codes) != 1
    if wrong.any():
        raise ValueError(f"codes must be -1 and +1, got {codes[wrong][0]}")
    return codes > 0


def check_shape(codes: np.ndarray) -> None:
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


def entropy_terms(counts: Int[np.ndarray, "*shape"], n: int) -> Float[np.ndarray, "*shape"]:
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
