"""Codes and labels in whatever form people have them, read as bits and as relevance."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Shaped

from jaxhash.similarity import UNLABELLED

#: What an exact zero of real-valued codes counts as.
Zero = Literal["+1", "-1", "error"]
#: What makes an item relevant: a label in common, the same set of labels, or the number in common.
Relevance = Literal["shared", "equal", "graded"]

#: Rows looked at together, so that a memory-mapped file is never held whole.
_ROWS = 2**16


class CodeFormat(NamedTuple):
    """How an array of codes is to be read."""

    kind: Literal["bool", "packed", "0/1", "-1/+1", "real-valued"]
    bits: int
    zero: Zero = "+1"
    zeros: int = 0
    """Exact zeros among real-valued codes."""

    def read(self, codes: Shaped[np.ndarray, "n columns"]) -> Bool[np.ndarray, "n bits"]:
        """The bits of these rows."""
        if self.kind == "packed":
            return np.unpackbits(codes, axis=1, count=self.bits).astype(bool)
        if self.kind == "real-valued" and self.zero == "+1":
            return codes >= 0
        return codes > 0


def code_format(
    query_codes: Shaped[np.ndarray, "queries columns"],
    database_codes: Shaped[np.ndarray, "items columns"],
    *,
    bits: int | None = None,
    zero: Zero = "+1",
) -> CodeFormat:
    """Find out what both arrays hold; they are read alike, so both take part in the decision.

    - bool: a bit each;
    - uint8 with a value above 1: packed, eight bits a byte, the first the most significant (as
      `numpy.packbits`); so is uint8 with ``bits`` that fit the bytes and not the columns;
    - nothing but 0 and 1, of any dtype: a bit each;
    - numbers of both signs: cut at zero, where ``zero`` says what an exact zero counts as; int8
      only from -1 to 1, for other values may be packed bits.

    Args:
        query_codes: codes, a row each.
        database_codes: the same.
        bits: length of a code, where packed codes do not fill their last byte.
        zero: ``"+1"``, ``"-1"``, or ``"error"`` to refuse codes with exact zeros.

    Raises:
        ValueError: if shapes differ, an array is empty, or values are NaN or fit none of these.
        TypeError: if an array holds no numbers.

    Example:
        >>> code_format(np.array([[0.3, -1.2]]), np.array([[0.0, 2.0]]))
        CodeFormat(kind='real-valued', bits=2, zero='+1', zeros=1)
    """
    if zero not in get_args(Zero):
        raise ValueError(f"zero must be one of {get_args(Zero)}, got {zero!r}")
    sides = {"query": np.asanyarray(query_codes), "database": np.asanyarray(database_codes)}
    for name, codes in sides.items():
        if codes.ndim != 2 or 0 in codes.shape:
            raise ValueError(
                f"{name} codes must have shape [items, bits], at least one of each, got "
                f"{codes.shape}"
            )
        if codes.dtype.kind not in "bui" and not _is_floating(codes):
            raise TypeError(f"{name} codes must be numbers or bool, got {codes.dtype}")
    columns, other = (codes.shape[1] for codes in sides.values())
    packed_types = {codes.dtype == np.uint8 for codes in sides.values()}
    if columns != other:
        unit = "bytes" if packed_types == {True} else "bits"
        raise ValueError(f"queries have {columns} {unit}, the database {other}")
    values = [_values(name, codes) for name, codes in sides.items()]
    binary, signs = (all(getattr(v, kind) for v in values) for kind in ("binary", "signs"))
    if packed_types == {True} and (not binary or bits not in (None, columns)):
        return _packed_format(sides, columns, bits)
    if bits not in (None, columns):
        raise ValueError(f"bits={bits}, but the codes have {columns} columns and are not packed")
    if all(codes.dtype == bool for codes in sides.values()):
        return CodeFormat("bool", columns)
    if binary:
        return CodeFormat("0/1", columns)
    for side, value in zip(sides, values, strict=True):
        if value.binary and value.least == 0:
            raise ValueError(f"{side} codes are 0 and 1, those of the other side are not")
    if min(value.least for value in values) >= 0:
        raise ValueError(
            "codes have no negative value and are not 0/1, so zero does not cut them; subtract "
            "their threshold first (packed codes are uint8)"
        )
    for (side, codes), value in zip(sides.items(), values, strict=True):
        if (codes.dtype == np.int8 or codes.dtype.kind == "u") and value.largest > 1:
            raise ValueError(
                f"{side} codes are {codes.dtype} with values up to {value.largest:.0f} in size, and "
                "may be packed; packed codes are uint8 on both sides, real-valued ones floats"
            )
    if signs:
        return CodeFormat("-1/+1", columns)
    zeros = sum(value.zeros for value in values)
    if zeros and zero == "error":
        raise ValueError(f"{zeros:,} code values are exactly zero, and zero='error' refuses them")
    return CodeFormat("real-valued", columns, zero, zeros)


def _is_floating(codes: np.ndarray) -> bool:
    """Whether they are floats, bfloat16 too, which NumPy itself does not know."""
    return jnp.issubdtype(codes.dtype, jnp.floating)


class _Values(NamedTuple):
    """What occurs in an array; the largest in size."""

    least: float
    largest: float
    zeros: int
    binary: bool
    signs: bool


def _values(name: str, codes: np.ndarray) -> _Values:
    least, most, zeros, binary, signs = np.inf, -np.inf, 0, True, True
    for rows in _blocks(codes):
        if _is_floating(rows) and np.isnan(rows).any():
            raise ValueError(f"{name} codes hold NaN")
        zero, one = rows == 0, rows == 1
        least, most = min(least, rows.min()), max(most, rows.max())
        zeros += int(zero.sum())
        binary &= bool((zero | one).all())
        signs &= bool((one | (rows == -1)).all()) if rows.dtype.kind not in "bu" else False
    return _Values(float(least), max(-float(least), float(most)), zeros, binary, signs)


def _packed_format(sides: dict[str, np.ndarray], columns: int, bits: int | None) -> CodeFormat:
    if bits is None:
        return CodeFormat("packed", 8 * columns)
    if not 8 * (columns - 1) < bits <= 8 * columns:
        raise ValueError(f"bits={bits} do not fit {columns} bytes a code")
    padding = (1 << (8 * columns - bits)) - 1
    for name, codes in sides.items():
        if any((rows[:, -1] & padding).any() for rows in _blocks(codes)):
            raise ValueError(f"bits={bits}, but {name} codes have bits set after the last of them")
    return CodeFormat("packed", bits)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))


class Labels(NamedTuple):
    """Labels of both sides in a form that relevance is computed from.

    Either class ids as binary digits, where equal means relevant and 0 is "no label"; or multi-hot.
    """

    multi_hot: bool
    query: Bool[np.ndarray, "queries digits"]
    database: Bool[np.ndarray, "items digits"]
    levels: int
    """The largest number of labels that a pair can share; 1 unless relevance is graded."""


def read_labels(
    query_labels: Shaped[np.ndarray, " queries *classes"],
    database_labels: Shaped[np.ndarray, " items *classes"],
    *,
    queries: int,
    items: int,
    relevance: Relevance = "shared",
) -> Labels:
    """Check labels and bring them into the form that `Labels` describes.

    Args:
        query_labels: class ids [queries] (-1: no label), or 0/1 rows [queries, classes].
        database_labels: the same kind.
        queries: number of query codes, which the labels must match.
        items: number of database codes.
        relevance: what makes an item relevant. Class ids know one meaning of it.

    Raises:
        ValueError: if shapes do not match, or values are neither ids nor 0/1.
        TypeError: if the labels are no numbers.
    """
    if relevance not in get_args(Relevance):
        raise ValueError(f"relevance must be one of {get_args(Relevance)}, got {relevance!r}")
    query = check_labels("query ", query_labels, queries)
    database = check_labels("database ", database_labels, items)
    if query.ndim != database.ndim or query.shape[1:] != database.shape[1:]:
        raise ValueError(
            "labels must be of one kind on both sides, class ids [items] or 0/1 rows "
            f"[items, classes], got shapes {query.shape} and {database.shape}"
        )
    if query.ndim == 1:
        return _digits(query, database)
    if relevance == "equal":
        return _digits(*_sets(query, database))
    most = min(int(labels.sum(axis=1).max()) for labels in (query, database))
    return Labels(True, query, database, max(most, 1) if relevance == "graded" else 1)


def check_labels(
    name: str, labels: Shaped[np.ndarray, " n *classes"], items: int
) -> Int[np.ndarray, " n"] | Bool[np.ndarray, "n classes"]:
    """Labels as int64 class ids, or as bool rows.

    Args:
        name: whose labels they are, for the message.
        labels: class ids of any dtype (-1: no label), or 0/1 rows.
        items: number of codes, which the labels must match.

    Raises:
        ValueError: if shapes do not match, or values are neither ids nor 0/1.
        TypeError: if the labels are no numbers.

    Example:
        >>> check_labels("query ", np.array([2.0, -1.0]), 2)
        array([ 2, -1])
    """
    labels = np.asanyarray(labels)
    if labels.dtype.kind not in "buif":
        raise TypeError(f"{name}labels must be numbers, got {labels.dtype}")
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[1] < 2):
        raise ValueError(
            f"{name}labels must be class ids [items] or 0/1 rows [items, 2 or more classes], got "
            f"shape {labels.shape}"
        )
    if len(labels) != items:
        raise ValueError(f"there are {items} {name}codes and {len(labels)} labels")
    return _ids(name, labels) if labels.ndim == 1 else _multi_hot(name, labels)


def _ids(name: str, labels: np.ndarray) -> Int[np.ndarray, " n"]:
    if labels.dtype == bool or not np.isfinite(labels).all() or (labels % 1 != 0).any():
        raise ValueError(f"{name}labels must be integer class ids")
    least, most = labels.min().item(), labels.max().item()
    if least < UNLABELLED:
        raise ValueError(f"{name}labels must be class ids from 0, or -1 for none, got {least}")
    if most > np.iinfo(np.int64).max:
        raise ValueError(f"{name}labels must be class ids below 2^63, got {most}")
    return labels.astype(np.int64)


def _multi_hot(name: str, labels: np.ndarray) -> Bool[np.ndarray, "n classes"]:
    for rows in _blocks(labels):
        wrong = (rows != 0) & (rows != 1)
        if wrong.any():
            raise ValueError(f"{name}labels [items, classes] must be 0 or 1, got {rows[wrong][0]}")
    return labels.astype(bool)


def _sets(query: np.ndarray, database: np.ndarray) -> list[Int[np.ndarray, " n"]]:
    """An id for each set of labels, -1 for the empty one."""
    rows = np.packbits(np.concatenate([query, database]), axis=1)
    _, ids = np.unique(rows, axis=0, return_inverse=True)
    ids = np.where(rows.any(axis=1), ids.ravel(), UNLABELLED)
    return np.split(ids, [len(query)])


def _digits(query: np.ndarray, database: np.ndarray) -> Labels:
    """Ids as the binary digits of their rank among all ids, from 1, with 0 for no label."""
    known = np.unique(query[query != UNLABELLED])
    digits = len(known).bit_length()

    def read(ids):
        rank = np.searchsorted(known, ids).clip(max=max(len(known) - 1, 0))
        found = known[rank] == ids if len(known) else np.zeros(len(ids), bool)
        return (np.where(found, rank + 1, 0)[:, None] >> np.arange(max(digits, 1))) & 1 == 1

    return Labels(False, read(query), read(database), 1)
