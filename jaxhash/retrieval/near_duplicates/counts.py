"""Counts the pairs of items within each radius, and how many of them are of one label."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_array

from jaxhash.retrieval.near_duplicates.join import DistinctCodes, Pairs

#: Pairs of codes whose labels are compared at once.
_BLOCK = 2**20


class PairCounts(NamedTuple):
    """Pairs of items within a radius.

    Attributes:
        radius: the radius.
        pairs: number of pairs.
        labeled: number of those of which both items have a label.
        same_label: number of those of which the labels are equal.
    """

    radius: int
    pairs: int
    labeled: int
    same_label: int


def count_labels(distinct: DistinctCodes, labels: Int[np.ndarray, " n"], number: int) -> csr_array:
    """Returns the number of items of each code and label, int64 ``[codes, number]``.

    Args:
        distinct: distinct codes.
        labels: label of each of its ``rows``, from 0; -1 without one.
        number: number of labels.
    """
    code = np.repeat(np.arange(len(distinct.codes)), np.diff(distinct.starts))
    has_label = labels >= 0
    cells = np.ones(int(has_label.sum()), np.int64), (code[has_label], labels[has_label])
    return csr_array(cells, shape=(len(distinct.codes), number))


def count_pairs(
    pairs: Pairs,
    sizes: Int[np.ndarray, " codes"],
    labels: csr_array,
    radius: int,
    others: tuple[Int[np.ndarray, " others"], csr_array] | None = None,
) -> list[PairCounts]:
    """Returns the number of pairs of items within each radius up to one.

    Args:
        pairs: pairs of distinct codes within the greatest radius.
        sizes: number of items of each code.
        labels: number of items of each code and label, as `count_labels` returns it.
        radius: the greatest radius.
        others: sizes and labels of the codes that are ``second`` in the pairs, if they are of another
            index; then equal codes are pairs, and two items of one index are none.

    Example:
        >>> pairs = Pairs(np.array([0]), np.array([1]), np.array([1], np.int32))
        >>> labels = csr_array(np.array([[3, 0], [1, 1]]))
        >>> count_pairs(pairs, np.array([3, 2]), labels, radius=1)[1]
        PairCounts(radius=1, pairs=10, labeled=10, same_label=6)
    """
    counts = np.zeros((radius + 1, 3), np.int64)
    other_sizes, other_labels = others or (sizes, labels)
    totals, other_totals = (np.asarray(each.sum(axis=1)) for each in (labels, other_labels))
    if others is None:
        for column, number in enumerate((sizes, totals, labels.data)):
            counts[0, column] = (number * (number - 1) // 2).sum()
    for start in range(0, len(pairs.first), _BLOCK):
        first, second, distances = (each[start : start + _BLOCK] for each in pairs)
        both = (
            sizes[first] * other_sizes[second],
            totals[first] * other_totals[second],
            (labels[first] * other_labels[second]).sum(axis=1),
        )
        for column, number in enumerate(both):
            np.add.at(counts[:, column], distances, number)
    return [PairCounts(each, *row) for each, row in enumerate(counts.cumsum(axis=0).tolist())]
