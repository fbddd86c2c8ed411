"""The bits of codes: what each holds, alone, beside the others and about the labels.

Everything is computed from integer counts, so it is exact up to the last step in float64 and does not
depend on the order of the items. The codes are read some rows at a time, which may be packed.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxhash.metrics._inputs import check_labels
from jaxhash.ops.arguments import dtype_of
from jaxhash.similarity import has_label

#: Rows counted at a time: small enough for memory, and counts below 2^24 are exact in float32.
_ROWS = 2**13
#: Counts of bits and classes that are held at a time.
_TABLE = 2**23


class FlipRate(NamedTuple):
    """The share of bits that differ between two encodings of the same items."""

    mean: float
    per_bit: Float[np.ndarray, " bits"]


#: Codes of -1 and +1.
Signs = Int[np.ndarray, "n bits"] | Float[np.ndarray, "n bits"]


class Bits:
    """Codes as bits, some rows at a time, in whatever form they are held.

    Args:
        codes: an array that has a row for each item; it may be mapped from a file.
        bits: length of a code.
        read: the bits of some of the rows.
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
        """The bits of all items, in order, a few thousand rows at a time."""
        return (self._read(self._codes[rows]) for rows in self.slices())

    def slices(self) -> Iterator[slice]:
        """The rows of each block."""
        return (slice(at, min(at + _ROWS, self.items)) for at in range(0, self.items, _ROWS))

    @functools.cached_property
    def both(self) -> Int[np.ndarray, "bits bits"]:
        """How many items have both of two bits set."""
        return _count_both(((rows, rows) for rows in self), (self.bits, self.bits))

    @functools.cached_property
    def ones(self) -> Int[np.ndarray, " bits"]:
        """How many items have each bit set."""
        if "both" in vars(self):
            return self.both.diagonal()
        return sum((rows.sum(axis=0) for rows in self), np.zeros(self.bits, np.int64))

    @property
    def differing(self) -> Int[np.ndarray, "bits bits"]:
        """On how many items each two bits differ."""
        ones = self.both.diagonal()
        return ones[:, None] + ones - 2 * self.both


#: What the measures take: codes of -1 and +1, or codes of another form that says how it is read.
Codes = Signs | Bits


def bit_balance(codes: Codes) -> float:
    """How evenly each bit splits the codes: 1 when every bit is half +1, 0 when all are constant.

    The mean over bits of 1 - |mean of the bit over the codes|.

    Args:
        codes: codes of -1 and +1.

    Raises:
        TypeError: if codes are not int8.
        ValueError: if codes are empty or other than -1 and +1.

    Example:
        >>> bit_balance(np.array([[1, 1], [-1, 1]], np.int8))
        0.5
    """
    bits = as_bits(codes)
    return float(np.mean(1.0 - np.abs((2 * bits.ones - bits.items) / bits.items)))


def bit_entropy(codes: Codes) -> Float[np.ndarray, " bits"]:
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
    bits = as_bits(codes)
    ones = bits.ones
    return entropy_terms(np.stack([bits.items - ones, ones]), bits.items).sum(axis=0)


def bit_correlation(codes: Codes) -> Float[np.ndarray, "bits bits"]:
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
    bits = as_bits(codes)
    n, positive = bits.items, bits.both.diagonal()
    covariance = n * bits.both - np.outer(positive, positive)  # times n^2
    variance = (positive * (n - positive)).astype(np.float64)
    # The root of a product, not a product of roots: of v v it is v, to the last digit.
    scale = np.sqrt(np.outer(variance, variance))
    correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.clip(correlation, -1.0, 1.0)


def mutual_information(
    codes: Codes, labels: Shaped[np.ndarray, " n *classes"]
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
    bits = as_bits(codes)
    labels = check_labels("", labels, bits.items)
    if not any(has_label(labels[rows]).any() for rows in bits.slices()):
        raise ValueError("no item has a label")
    if labels.ndim == 1:
        return _information_of_ids(bits, labels)
    pairs = zip(bits, (labels[rows].astype(bool) for rows in bits.slices()), strict=True)
    # A last column of ones, for the labelled items: how many of them have the bit, or a label.
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
    """The bits that are the same for all codes, by index.

    Args:
        codes: codes of -1 and +1.

    Raises:
        ValueError: if codes are empty or other than -1 and +1.

    Example:
        >>> dead_bits(np.array([[1, 1, -1], [-1, 1, -1]], np.int8))
        array([1, 2])
    """
    bits = as_bits(codes)
    ones = bits.ones
    return np.flatnonzero((ones == 0) | (ones == bits.items))


def duplicate_bits(codes: Codes) -> Int[np.ndarray, "pairs 2"]:
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
    bits = as_bits(codes)
    differing = bits.differing
    return np.argwhere(np.triu((differing == 0) | (differing == bits.items), k=1))


def flip_rate(codes: Signs, others: Signs) -> FlipRate:
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
    sides = as_bits(codes), as_bits(others)
    if codes.shape != others.shape:
        raise ValueError(
            f"both encodings must have the same items and bits, got {codes.shape} and {others.shape}"
        )
    pairs = zip(*sides, strict=True)
    flips = sum(((a != b).sum(axis=0) for a, b in pairs), np.zeros(codes.shape[1], np.int64))
    return FlipRate(float(flips.sum() / codes.size), flips / len(codes))


def as_bits(codes: Codes) -> Bits:
    """The codes as bits; those of -1 and +1 are checked as they are read."""
    if isinstance(codes, Bits):
        return codes
    if dtype_of("codes", codes).kind not in "if":
        raise TypeError(f"codes must be signed integers or floats of -1 and +1, got {codes.dtype}")
    check_shape(codes)
    return Bits(codes, codes.shape[1], _read_signs)


def _read_signs(codes: Signs) -> Bool[np.ndarray, "n bits"]:
    codes = np.asarray(codes)  # JAX would count in float32, and not at all on some meshes
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
    """In how many rows column i of one and column j of the other are both true."""
    counts = np.zeros(shape, np.int64)
    for first, second in pairs:
        # A matrix product is fast in floats, and integers this small are exact.
        left = first.astype(np.float32)
        right = left if second is first else second.astype(np.float32)
        counts += (left.T @ right).astype(np.int64)
    return counts


def entropy_terms(counts: Int[np.ndarray, "*shape"], n: int) -> Float[np.ndarray, "*shape"]:
    """-p log2 p for each p = count / n, and 0 for p = 0."""
    return counts / n * np.log2(n / np.maximum(counts, 1))


def _with_ones(rows: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows more"]:
    return np.pad(rows, ((0, 0), (0, 1)), constant_values=True)


def _information_of_ids(bits: Bits, labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " bits"]:
    """A few bits at a time, where a table of all bits and classes is large."""
    ids, classes, size = np.unique(labels, return_inverse=True, return_counts=True)
    labelled = has_label(ids)
    at_once, found = max(1, _TABLE // len(ids)), []
    for first in range(0, bits.bits, at_once):
        table = np.zeros((min(at_once, bits.bits - first), len(ids)), np.int64)
        for rows, block in zip(bits.slices(), bits, strict=True):
            order = np.argsort(classes[rows], kind="stable")
            of_row = classes[rows][order]
            starts = np.flatnonzero(np.diff(of_row, prepend=-1))
            some = block[order, first : first + at_once].astype(np.int32)
            table[:, of_row[starts]] += np.add.reduceat(some, starts, axis=0).T
        found += [np.stack([size - some, some])[:, labelled] for some in table]
    return np.array([_information(counts) for counts in found])


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
