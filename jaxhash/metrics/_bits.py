"""Measures of the bits of codes: each bit alone, pairs of bits, and bits with labels.

Everything is computed from integer counts, so it is exact up to the last step in float64 and does not
depend on the order of the items. Codes are read in blocks of rows, which may be packed.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxhash.metrics._labels import check_labels
from jaxhash.ops.arguments import dtype_of
from jaxhash.similarity import has_label

#: Rows per block: small enough for memory, and for counts that are exact in float32 (below 2^24).
_ROWS = 2**13
#: Counts of bits and classes that are held at once.
_TABLE = 2**23


class FlipRate(NamedTuple):
    """The share of bits that differ between two encodings of the same items."""

    mean: float
    per_bit: Float[np.ndarray, " bits"]


#: Codes of -1 and +1.
Signs = Int[np.ndarray, "n bits"] | Float[np.ndarray, "n bits"]


class BitBlocks:
    """Codes of any form, read as blocks of bits.

    Args:
        codes: array with one row per item; it may be mapped from a file.
        bits: length of a code.
        read: function that converts rows of the array to bits.
    """

    def __init__(
        self,
        codes: Shaped[np.ndarray, "n columns"],
        bits: int,
        read: Callable[[Shaped[np.ndarray, "rows columns"]], Bool[np.ndarray, "rows bits"]],
    ):
        self._codes, self._read = codes, read
        self.items, self.bits = len(codes), bits

    def __iter__(self) -> Iterator[Bool[np.ndarray, "rows bits"]]:
        """Yields the bits of all items in order, in blocks of rows."""
        return (self._read(self._codes[rows]) for rows in self.slices())

    def slices(self) -> Iterator[slice]:
        """Yields the rows of each block."""
        return (slice(at, min(at + _ROWS, self.items)) for at in range(0, self.items, _ROWS))

    @functools.cached_property
    def cooccurrence(self) -> Int[np.ndarray, "bits bits"]:
        """The number of items with both of two bits set."""
        return _count_both(((rows, rows) for rows in self), (self.bits, self.bits))

    @functools.cached_property
    def ones(self) -> Int[np.ndarray, " bits"]:
        """The number of items with each bit set."""
        if "cooccurrence" in vars(self):
            return self.cooccurrence.diagonal()
        return sum((rows.sum(axis=0) for rows in self), np.zeros(self.bits, np.int64))

    @property
    def differing(self) -> Int[np.ndarray, "bits bits"]:
        """The number of items on which each two bits differ."""
        ones = self.cooccurrence.diagonal()
        return ones[:, None] + ones - 2 * self.cooccurrence


#: The argument of the measures: codes of -1 and +1, or codes of another form with their reader.
Codes = Signs | BitBlocks


def bit_balance(codes: Codes) -> float:
    """Computes the mean over bits of 1 - |mean of the bit over the codes|.

    It is 1 if every bit splits the codes in half, and 0 if all bits are constant.

    Args:
        codes: codes of -1 and +1.

    Example:
        >>> bit_balance(np.array([[1, 1], [-1, 1]], np.int8))
        0.5
    """
    bits = as_bits(codes)
    return float(np.mean(1.0 - np.abs((2 * bits.ones - bits.items) / bits.items)))


def bit_entropy(codes: Codes) -> Float[np.ndarray, " bits"]:
    """Computes the entropy of each bit, -p log2 p - (1 - p) log2(1 - p) for a share p of +1.

    It is 1 if the bit splits the codes in half, and 0 if the bit is constant.

    Args:
        codes: codes of -1 and +1.

    Example:
        >>> bit_entropy(np.array([[1, 1], [-1, 1]], np.int8))
        array([1., 0.])
    """
    bits = as_bits(codes)
    ones = bits.ones
    return entropy_terms(np.stack([bits.items - ones, ones]), bits.items).sum(axis=0)


def bit_correlation(codes: Codes) -> Float[np.ndarray, "bits bits"]:
    """Computes the Pearson correlation of each pair of bits.

    A constant bit has no correlation; its row and column are 0, the diagonal included. The rest of
    the diagonal is exactly 1, as are equal bits; complementary bits have exactly -1.

    Args:
        codes: codes of -1 and +1.

    Example:
        >>> bit_correlation(np.array([[1, -1, 1], [-1, 1, 1]], np.int8))
        array([[ 1., -1.,  0.],
               [-1.,  1.,  0.],
               [ 0.,  0.,  0.]])
    """
    bits = as_bits(codes)
    n, positive = bits.items, bits.cooccurrence.diagonal()
    covariance = n * bits.cooccurrence - np.outer(positive, positive)  # times n^2
    variance = (positive * (n - positive)).astype(np.float64)
    # The root of a product, not a product of roots, so that the root of v v is exactly v.
    scale = np.sqrt(np.outer(variance, variance))
    correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.clip(correlation, -1.0, 1.0)


def mutual_information(
    codes: Codes, labels: Shaped[np.ndarray, " n *classes"]
) -> Float[np.ndarray, " bits *classes"]:
    r"""Computes the mutual information of each bit and the labels, in bits.

    .. math:: I(B; Y) = \sum_{b, y} \frac{n_{by}}{n} \log_2 \frac{n\, n_{by}}{n_b\, n_y}

    is the plug-in estimator. It is too large by about (values of Y - 1) / (2 n ln 2) if bit and label
    are independent. Items without a label are left out.

    Args:
        codes: codes of -1 and +1.
        labels: class ids [n], where Y is the class, or multi-hot rows [n, classes], where Y is the
            presence of each label in turn. An id of -1 and a row of zeros mean "no label".

    Returns:
        One value per bit for ids, with shape [bits]; one per bit and label for multi-hot rows, with
        shape [bits, classes]. At most 1, the entropy of a balanced bit.

    Raises:
        ValueError: if labels are neither ids nor 0/1 rows of as many items, or no item has a label.

    Example:
        >>> codes = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.int8)
        >>> mutual_information(codes, np.array([0, 0, 1, 1]))
        array([1., 0.])

    Reference:
        Paninski, "Estimation of Entropy and Mutual Information", Neural Computation 15, 2003.
    """
    bits = as_bits(codes)
    labels = check_labels("", labels, bits.items)
    if not any(has_label(labels[rows]).any() for rows in bits.slices()):
        raise ValueError("no item has a label")
    if labels.ndim == 1:
        return _information_of_ids(bits, labels)
    pairs = zip(bits, (labels[rows].astype(bool) for rows in bits.slices()), strict=True)
    # A last column of ones counts the labelled items, alone and with each bit or label.
    pairs = (
        (_with_ones(rows)[marks.any(axis=1)], _with_ones(marks)[marks.any(axis=1)])
        for rows, marks in pairs
    )
    counts = _count_both(pairs, (bits.bits + 1, labels.shape[1] + 1))
    both, of_bit, of_label = counts[:-1, :-1], counts[:-1, -1:], counts[-1:, :-1]
    one_bit, one_label = of_bit - both, of_label - both
    neither = counts[-1, -1] - both - one_bit - one_label
    return _information(np.array([[neither, one_label], [one_bit, both]]))


def dead_bits(codes: Codes) -> Int[np.ndarray, " dead"]:
    """Returns the indices of the bits that are the same for all codes.

    Args:
        codes: codes of -1 and +1.

    Example:
        >>> dead_bits(np.array([[1, 1, -1], [-1, 1, -1]], np.int8))
        array([1, 2])
    """
    bits = as_bits(codes)
    ones = bits.ones
    return np.flatnonzero((ones == 0) | (ones == bits.items))


def duplicate_bits(codes: Codes) -> Int[np.ndarray, "pairs 2"]:
    """Returns the pairs of bits that are equal, or opposite, on every code.

    Three such bits are three pairs. Any two dead bits are also a pair.

    Args:
        codes: codes of -1 and +1.

    Returns:
        Indices (i, j) with i < j, in ascending order.

    Example:
        >>> duplicate_bits(np.array([[1, 1, -1], [-1, 1, 1]], np.int8))
        array([[0, 2]])
    """
    bits = as_bits(codes)
    differing = bits.differing
    return np.argwhere(np.triu((differing == 0) | (differing == bits.items), k=1))


def flip_rate(codes: Signs, others: Signs) -> FlipRate:
    """Computes the share of bits that differ between two encodings of the same items.

    Args:
        codes: codes of -1 and +1, such as those of the original images.
        others: codes of the same items in the same order, such as those of the augmented images.

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> flip_rate(np.array([[1, 1], [-1, 1]], np.int8), np.array([[1, 1], [1, 1]], np.int8))
        FlipRate(mean=0.25, per_bit=array([0.5, 0. ]))
    """
    sides = as_bits(codes), as_bits(others)
    if codes.shape != others.shape:
        raise ValueError(
            f"both encodings must have the same items and bits, got {codes.shape} and {others.shape}"
        )
    pairs = zip(*sides, strict=True)
    flips = sum(((a != b).sum(axis=0) for a, b in pairs), np.zeros(codes.shape[1], np.int64))
    return FlipRate(float(flips.sum() / codes.size), flips / len(codes))


def as_bits(codes: Codes) -> BitBlocks:
    """Wraps codes of -1 and +1 in `BitBlocks`, which checks their values when they are read."""
    if isinstance(codes, BitBlocks):
        return codes
    if dtype_of("codes", codes).kind not in "if":
        raise TypeError(f"codes must be signed integers or floats of -1 and +1, got {codes.dtype}")
    check_shape(codes)
    return BitBlocks(codes, codes.shape[1], _read_signs)


def _read_signs(codes: Signs) -> Bool[np.ndarray, "n bits"]:
    codes = np.asarray(codes)  # JAX would count in float32, and would refuse some meshes
    wrong = np.abs(codes) != 1
    if wrong.any():
        raise ValueError(f"codes must be -1 and +1, got {codes[wrong][0]}")
    return codes > 0


def check_shape(codes: np.ndarray) -> None:
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(f"codes must have shape [items, bits], both at least 1, got {codes.shape}")


def _count_both(
    pairs: Iterator[tuple[Bool[np.ndarray, "rows a"], Bool[np.ndarray, "rows b"]]],
    shape: tuple[int, int],
) -> Int[np.ndarray, "a b"]:
    """Counts the rows in which column i of the first and column j of the second are both true."""
    counts = np.zeros(shape, np.int64)
    for first, second in pairs:
        # A matrix product is fast in float32, where integers this small are exact.
        left = first.astype(np.float32)
        right = left if second is first else second.astype(np.float32)
        counts += (left.T @ right).astype(np.int64)
    return counts


def entropy_terms(counts: Int[np.ndarray, "*shape"], n: int) -> Float[np.ndarray, "*shape"]:
    """Returns -p log2 p for each p = count / n, and 0 for p = 0."""
    return counts / n * np.log2(n / np.maximum(counts, 1))


def _with_ones(rows: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows more"]:
    return np.pad(rows, ((0, 0), (0, 1)), constant_values=True)


def _information_of_ids(
    bits: BitBlocks, labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " bits"]:
    """Computes the information of class ids, with counts of a limited number of bits at a time."""
    ids = np.unique(np.concatenate([np.unique(labels[rows]) for rows in bits.slices()]))
    size, labelled = np.zeros(len(ids), np.int64), has_label(ids)
    for rows in bits.slices():
        some, counts = np.unique(np.searchsorted(ids, labels[rows]), return_counts=True)
        size[some] += counts
    at_once, found = max(1, _TABLE // len(ids)), []
    for first in range(0, bits.bits, at_once):
        table = np.zeros((min(at_once, bits.bits - first), len(ids)), np.int64)
        for rows, block in zip(bits.slices(), bits, strict=True):
            classes = np.searchsorted(ids, labels[rows])
            order = np.argsort(classes, kind="stable")
            of_row = classes[order]
            starts = np.flatnonzero(np.diff(of_row, prepend=-1))
            some = block[order, first : first + at_once].astype(np.int32)
            table[:, of_row[starts]] += np.add.reduceat(some, starts, axis=0).T
        found += [np.stack([size - some, some])[:, labelled] for some in table]
    return np.array([_information(counts) for counts in found])


def _information(
    table: Int[np.ndarray, "2 values *shape"],
) -> Float[np.ndarray, "*shape"] | np.float64:
    """Computes mutual information in bits from counts of pairs of values on the first two axes."""
    n = table.sum(axis=(0, 1))
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)
    seen = table > 0
    ratio = np.divide(n * table, expected, out=np.ones(table.shape), where=seen)
    # Terms of an independent pair are exactly 0; only rounding can make the sum negative.
    return np.maximum(np.sum(table / n * np.log2(ratio), axis=(0, 1)), 0.0)
