"""Labels in any common form, converted to relevance."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Int, Shaped

from jaxhash.metrics._values import input_error, row_blocks
from jaxhash.ops.arguments import UNLABELLED

#: The relevance of an item: a label in common, the same set of labels, or the number in common.
Relevance = Literal["shared", "equal", "graded"]


class Labels(NamedTuple):
    """Labels of both sides, converted for the computation of relevance.

    They are either class ids as binary digits, where equal ids are relevant and 0 is "no label"; or
    multi-hot rows. Those of the database are converted when they are read, some items at a time.
    """

    multi_hot: bool
    query: Bool[np.ndarray, "queries digits"]
    read: Callable[[slice | Int[np.ndarray, " n"]], Bool[np.ndarray, "n digits"]]
    """Returns the converted labels of some items of the database."""
    levels: int
    """Largest number of labels that a pair can share; 1 unless relevance is graded."""


def read_labels(
    query_labels: Shaped[np.ndarray, " queries *classes"],
    database_labels: Shaped[np.ndarray, " items *classes"],
    *,
    queries: int,
    items: int,
    relevance: Relevance = "shared",
) -> Labels:
    """Checks labels of both sides and converts them to `Labels`.

    Args:
        query_labels: class ids [queries] (-1: no label), or 0/1 rows [queries, classes].
        database_labels: labels of the same kind.
        queries: number of query codes, which the labels must match.
        items: number of database codes.
        relevance: relevance of an item; all choices are the same for class ids.

    Raises:
        ValueError: if shapes do not match, or values are neither ids nor 0/1.
        TypeError: if the labels are not numbers.
    """
    if relevance not in get_args(Relevance):
        raise ValueError(f"relevance must be one of {get_args(Relevance)}, got {relevance!r}")
    query = check_labels("query ", query_labels, queries)
    database = _checked("database ", database_labels, items)
    if query.ndim != database.ndim or query.shape[1:] != database.shape[1:]:
        raise input_error(
            "labels",
            "labels must be of one kind on both sides, class ids [items] or 0/1 rows "
            f"[items, classes], got shapes {query.shape} and {database.shape}",
        )
    if query.ndim == 1:
        return _rank_digits(query, database)
    if relevance == "equal":
        return _rank_digits(*_label_set_ids(query, _converted(database)))
    levels = 1
    if relevance == "graded":
        levels = max(1, min(_most_labels(labels) for labels in (query, database)))
    return Labels(True, query, lambda rows: _converted(database[rows]), levels)


def check_labels(
    name: str, labels: Shaped[np.ndarray, " n *classes"], items: int
) -> Int[np.ndarray, " n"] | Bool[np.ndarray, "n classes"]:
    """Checks labels and converts them to int64 class ids, or to bool rows.

    Args:
        name: prefix of "labels" in messages, such as "query ".
        labels: class ids of any dtype (-1: no label), or 0/1 rows.
        items: number of codes, which the labels must match.

    Raises:
        ValueError: if shapes do not match, or values are neither ids nor 0/1.
        TypeError: if the labels are not numbers.

    Example:
        >>> check_labels("query ", np.array([2.0, -1.0]), 2)
        array([ 2, -1])
    """
    return _converted(_checked(name, labels, items))


def _checked(
    name: str, labels: Shaped[np.ndarray, " n *classes"], items: int
) -> Shaped[np.ndarray, " n *classes"]:
    """Returns labels that `_converted` converts; they are read in blocks and not copied."""
    labels, subject = np.asanyarray(labels), f"{name}labels"
    if labels.dtype.kind not in "buif":
        raise input_error(subject, f"{subject} must be numbers, got {labels.dtype}", TypeError)
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[1] < 2):
        raise input_error(
            subject,
            f"{subject} must be class ids [items] or 0/1 rows [items, 2 or more classes], got shape "
            f"{labels.shape}",
        )
    if len(labels) != items:
        words = f"there are {items} {name}codes and {len(labels)} labels"
        raise input_error(f"{subject} and codes", words)
    (_check_ids if labels.ndim == 1 else _check_multi_hot)(subject, labels)
    return labels


def _converted(
    labels: Shaped[np.ndarray, " n *classes"],
) -> Int[np.ndarray, " n"] | Bool[np.ndarray, "n classes"]:
    if labels.ndim == 1:
        return labels.astype(np.int64)
    return labels.view(bool) if labels.dtype.itemsize == 1 else labels.astype(bool)


def _check_ids(subject: str, labels: np.ndarray) -> None:
    smallest, largest = 0, 0
    for rows in row_blocks(labels):
        if labels.dtype == bool:
            raise input_error(subject, f"{subject} must be integer class ids, got bool")
        is_float = labels.dtype.kind == "f"
        whole = np.isfinite(rows) & (np.trunc(rows) == rows) if is_float else np.array(True)
        if not whole.all():
            raise input_error(
                subject, f"{subject} must be integer class ids, got {rows[~whole][0]}"
            )
        smallest = min(smallest, rows.min().item())
        largest = max(largest, rows.max().item())
    if smallest < UNLABELLED:
        wrapped = labels.dtype in (np.int8, np.int16)
        hint = f"; {labels.dtype} holds ids up to {np.iinfo(labels.dtype).max:,}" if wrapped else ""
        raise input_error(
            subject, f"{subject} must be class ids from 0, or -1 for none, got {smallest}{hint}"
        )
    narrow = labels.dtype in (np.float16, np.float32)  # float64 ids would have to reach 2^53
    if narrow and largest >= (limit := 2 ** (np.finfo(labels.dtype).nmant + 1)):
        raise input_error(
            subject,
            f"{subject} are {labels.dtype}, which cannot represent all class ids from {limit:,}, and go up "
            f"to {largest:,.0f}; save them as integers",
        )
    if largest > np.iinfo(np.int64).max:
        raise input_error(subject, f"{subject} must be class ids below 2^63, got {largest}")


def _check_multi_hot(subject: str, labels: np.ndarray) -> None:
    for rows in row_blocks(labels):
        wrong = (rows != 0) & (rows != 1)
        if wrong.any():
            raise input_error(
                subject, f"{subject} [items, classes] must be 0 or 1, got {rows[wrong][0]}"
            )


def _most_labels(labels: Shaped[np.ndarray, "n classes"]) -> int:
    """Returns the largest number of labels of an item."""
    return max(int(_converted(rows).sum(axis=1).max()) for rows in row_blocks(labels))


def _label_set_ids(query: np.ndarray, database: np.ndarray) -> list[Int[np.ndarray, " n"]]:
    """Returns an id for each set of labels, -1 for the empty set."""
    rows = np.packbits(np.concatenate([query, database]), axis=1)
    _, ids = np.unique(rows, axis=0, return_inverse=True)
    ids = np.where(rows.any(axis=1), ids.ravel(), UNLABELLED)
    return np.split(ids, [len(query)])


def _rank_digits(query: np.ndarray, database: np.ndarray) -> Labels:
    """Converts ids to binary digits of their rank among the query ids, from 1; 0 for no label."""
    known = np.unique(query[query != UNLABELLED])
    digits = len(known).bit_length()

    def read(ids):
        ids = _converted(ids)
        rank = np.searchsorted(known, ids).clip(max=max(len(known) - 1, 0))
        found = known[rank] == ids if len(known) else np.zeros(len(ids), bool)
        return (np.where(found, rank + 1, 0)[:, None] >> np.arange(max(digits, 1))) & 1 == 1

    return Labels(False, read(query), lambda rows: read(database[rows]), 1)
