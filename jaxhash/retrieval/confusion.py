"""Which classes take each other's places among the nearest neighbors of queries."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.sparse import csr_array

from jaxhash.metrics import DistanceCounts
from jaxhash.retrieval.search import range_search_codes

#: Neighbors of a query that are looked at, unless it has fewer relevant items.
NEIGHBORS = 100

#: Pairs of a query and a group of items that are held in memory at once.
_PAIRS = 2**22


class ClassConfusion(NamedTuple):
    """Neighbors of queries by class.

    The neighbors of a query are as many nearest items as are relevant to it, at most `NEIGHBORS`. At the
    last distance they are the mean over all orders of the ties, so that numbers may have a fraction.

    Attributes:
        queries: number of queries of each class that have a relevant item; others are left out.
        neighbors: number of neighbors of these.
        right: number of these neighbors that are relevant, which share a class with the query.
        wrong: number of the others, by class of the query and class of the neighbor. An item of several
            classes counts for each.
        is_multi_label: whether items may have several classes.
    """

    queries: Int[np.ndarray, " classes"]
    neighbors: Float[np.ndarray, " classes"]
    right: Float[np.ndarray, " classes"]
    wrong: csr_array
    is_multi_label: bool

    def shares(self) -> Float[np.ndarray, " classes"]:
        """Returns the share of right neighbors of each class; NaN without a query."""
        with np.errstate(invalid="ignore"):
            return self.right / self.neighbors

    def pairs(self) -> list[tuple[int, int, float]]:
        """Returns pairs of classes with the number of wrong neighbors of the first that have the second.

        The largest number comes first, at equal numbers the smaller classes.
        """
        wrong = self.wrong.tocoo()
        first, second = (each.astype(np.int64) for each in wrong.coords)
        order = np.lexsort((second, first, -wrong.data))
        columns = (each[order].tolist() for each in (first, second, wrong.data))
        return list(zip(*columns, strict=True))


def class_confusion(
    query_codes: UInt8[np.ndarray, "queries bytes"],
    query_labels: Int[np.ndarray, " queries *classes"],
    database_codes: UInt8[np.ndarray, "items bytes"],
    database_labels: Int[np.ndarray, " items *classes"],
    counts: DistanceCounts,
    *,
    classes: int,
    k: int = NEIGHBORS,
) -> ClassConfusion:
    """Counts the neighbors of queries by class.

    Args:
        query_codes: packed codes of the queries.
        query_labels: class ids, -1 for none, or multi-hot rows.
        database_codes: packed codes of the items.
        database_labels: labels of the items, of the same kind.
        counts: the items at each distance from each query, by `jaxhash.metrics.distance_counts`.
        classes: number of classes.
        k: largest number of neighbors of a query.

    Example:
        >>> codes = np.array([[0b0000_0000], [0b1000_0000], [0b1100_0000]], np.uint8)
        >>> labels = np.array([0, 1, 0])
        >>> counts = DistanceCounts(*np.array([[[1, 1, 1]], [[1, 0, 1]]]))
        >>> found = class_confusion(codes[:1], labels[:1], codes, labels, counts, classes=2)
        >>> found.right.tolist(), found.pairs()
        ([1.0, 0.0], [(0, 1, 1.0)])
    """
    last, share = _last_distance(counts, k)
    used = np.flatnonzero(counts.relevant.sum(axis=1))
    first, sizes = _group(database_codes, database_labels)
    groups, labels = database_codes[first], one_hot(database_labels[first], classes)
    of_queries = one_hot(query_labels, classes)
    neighbors, right = np.zeros((2, classes))
    wrong = csr_array((classes, classes))
    for rows in _chunks(used[np.argsort(last[used], kind="stable")], last, len(groups)):
        found = range_search_codes(query_codes[rows], groups, int(last[rows[0]]))
        query = np.repeat(np.arange(len(rows)), [len(each.rows) for each in found])
        group = np.concatenate([each.rows for each in found])
        at_last = np.concatenate([each.distances for each in found]) == last[rows[0]]
        weight = sizes[group] * np.where(at_last, share[rows][query], 1.0)
        own = of_queries[rows]
        is_right = own[query].multiply(labels[group]).sum(axis=1) > 0
        sums = [np.bincount(query, each, len(rows)) for each in (weight, weight * is_right)]
        neighbors += own.T @ sums[0]
        right += own.T @ sums[1]
        weights = csr_array((weight * ~is_right, (query, group)), (len(rows), len(groups)))
        wrong += own.T @ (weights @ labels)
    wrong.eliminate_zeros()
    queries = of_queries[used].sum(axis=0).astype(np.int64)
    return ClassConfusion(queries, neighbors, right, csr_array(wrong), query_labels.ndim == 2)


def _last_distance(
    counts: DistanceCounts, k: int
) -> tuple[Int[np.ndarray, " queries"], Float[np.ndarray, " queries"]]:
    """Returns the distance of the last neighbor, and the share of the items there that are neighbors."""
    wanted = np.minimum(counts.relevant.sum(axis=1), k)
    within = counts.total.cumsum(axis=1)
    last = (within < wanted[:, None]).sum(axis=1)
    there = np.take_along_axis(counts.total, last[:, None], axis=1)[:, 0]
    before = np.take_along_axis(within, last[:, None], axis=1)[:, 0] - there
    return last, (wanted - before) / np.maximum(there, 1)


def one_hot(labels: Int[np.ndarray, " n *classes"], classes: int) -> csr_array:
    """Returns multi-hot rows of labels, [n, classes]; a row without a label is empty."""
    if labels.ndim == 2:
        return csr_array(labels != 0, dtype=np.float64)
    rows = np.flatnonzero(labels >= 0)
    return csr_array((np.ones(len(rows)), (rows, labels[rows])), (len(labels), classes))


def _group(
    codes: UInt8[np.ndarray, "n bytes"], labels: Int[np.ndarray, " n *classes"]
) -> tuple[Int[np.ndarray, " groups"], Int[np.ndarray, " groups"]]:
    """Returns the first of the items that are equal in code and labels, and their number."""
    if labels.ndim == 2:
        labels = np.packbits(labels != 0, axis=1)
    else:
        labels = labels.astype("<i8")[:, None].view(np.uint8)
    rows = np.concatenate([codes, labels], axis=1)
    _, first, sizes = np.unique(
        rows.view(f"V{rows.shape[1]}")[:, 0], return_index=True, return_counts=True
    )
    return first, sizes


def _chunks(
    rows: Int[np.ndarray, " n"], last: Int[np.ndarray, " queries"], groups: int
) -> Iterator[Int[np.ndarray, " some"]]:
    """Yields queries of equal last distance together, as many as fit into memory with their items."""
    step = max(1, _PAIRS // max(groups, 1))
    for same in np.split(rows, np.flatnonzero(np.diff(last[rows])) + 1):
        for start in range(0, len(same), step):
            yield same[start : start + step]
