"""Codes and labels in any common form, converted to bits and to relevance."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Shaped

from jaxhash.ops.arguments import UNLABELLED, IntLike, as_int

#: The meaning of an exact zero of real-valued codes.
ZeroSign = Literal["+1", "-1", "error"]
#: The relevance of an item: a label in common, the same set of labels, or the number in common.
Relevance = Literal["shared", "equal", "graded"]

#: Values per block, so that a memory-mapped file is never loaded whole.
_VALUES = 2**22

#: The smallest number of items (and an eighth of the number of values) for a warning about signs or
#: about the share of ones; fewer may be so by chance.
MIN_ITEMS = 8
#: The ratio of the sizes of both sides' values above which there is a warning.
_MAX_SCALE_RATIO = 30.0


class CodeFormat(NamedTuple):
    """The format of an array of codes."""

    kind: Literal["bool", "packed", "0/1", "-1/+1", "real-valued"]
    bits: int
    zero: ZeroSign = "+1"
    zeros: int = 0
    """Number of exact zeros among real-valued codes."""

    def read(self, codes: Shaped[np.ndarray, "n columns"]) -> Bool[np.ndarray, "n bits"]:
        """Converts rows of codes to bits."""
        if self.kind == "packed":
            return np.unpackbits(codes, axis=1, count=self.bits).astype(bool)
        if self.kind == "real-valued" and self.zero == "+1":
            return codes >= 0
        return codes > 0


def infer_code_format(
    query_codes: Shaped[np.ndarray, "queries columns"],
    database_codes: Shaped[np.ndarray, "items columns"],
    *,
    bits: IntLike | None = None,
    zero: ZeroSign = "+1",
) -> CodeFormat:
    """Infers the format of query and database codes, which is the same for both.

    - bool: one bit per value;
    - uint8 with a value above 1: packed, eight bits per byte, the first the most significant (as
      `numpy.packbits`); also uint8 if ``bits`` fits the bytes and not the columns;
    - only 0 and 1, in any dtype: one bit per value;
    - numbers of both signs: binarized at zero, where ``zero`` is the meaning of an exact zero; int8
      only from -1 to 1, since other values may be packed bits.

    Args:
        query_codes: codes, one per row.
        database_codes: codes, one per row.
        bits: length of a code, if packed codes do not fill their last byte.
        zero: ``"+1"``, ``"-1"``, or ``"error"`` to refuse codes with exact zeros.

    Raises:
        ValueError: if shapes differ, an array is empty, values are NaN or fit no format, or the two
            sides do not match: 0/1 with other values, or packed with unpacked codes. Its attribute
            ``subject`` is "query codes", "database codes" or "codes".
        TypeError: if an array is not numbers.

    Example:
        >>> infer_code_format(np.array([[0.3, -1.2]]), np.array([[0.0, 2.0]]))
        CodeFormat(kind='real-valued', bits=2, zero='+1', zeros=1)
    """
    bits = None if bits is None else as_int("bits", bits)
    if zero not in get_args(ZeroSign):
        raise ValueError(f"zero must be one of {get_args(ZeroSign)}, got {zero!r}")
    sides = {"query": np.asanyarray(query_codes), "database": np.asanyarray(database_codes)}
    for name, codes in sides.items():
        if codes.ndim != 2 or 0 in codes.shape:
            raise input_error(
                f"{name} codes",
                f"{name} codes must have shape [items, bits], at least one of each, got "
                f"{codes.shape}",
            )
        if codes.dtype.kind not in "bui" and not _is_floating(codes):
            raise input_error(
                f"{name} codes",
                f"{name} codes must be numbers or bool, got {codes.dtype}",
                TypeError,
            )
    columns, other = (codes.shape[1] for codes in sides.values())
    packed_types = {codes.dtype == np.uint8 for codes in sides.values()}
    if columns != other:
        unit = "bytes" if packed_types == {True} else "bits"
        words = f"queries have {columns} {unit}, the database {other}{_packed_hint(sides)}"
        raise input_error("codes", words)
    values = {name: _value_statistics(name, codes) for name, codes in sides.items()}
    binary, signs = (all(getattr(v, kind) for v in values.values()) for kind in ("binary", "signs"))
    if packed_types == {True} and (not binary or bits not in (None, columns)):
        if bits in (None, columns):
            _check_both_packed(sides, values)
        return _packed_format(sides, columns, bits)
    if bits not in (None, columns):
        words = f"bits={bits}, but the codes have {columns} columns and are not packed"
        raise input_error("codes", words)
    if all(codes.dtype == bool for codes in sides.values()):
        return CodeFormat("bool", columns)
    if binary:
        return CodeFormat("0/1", columns)
    for side, value in values.items():
        if value.binary and value.minimum == 0:
            raise input_error(
                f"{side} codes", f"{side} codes are 0 and 1, those of the other side are not"
            )
    if min(value.minimum for value in values.values()) >= 0:
        raise input_error(
            "codes",
            "codes have no negative value and are not 0/1, so zero does not cut them; subtract "
            "their threshold first (packed codes are uint8)",
        )
    for side, value in values.items():
        codes = sides[side]
        if (codes.dtype == np.int8 or codes.dtype.kind == "u") and value.size > 1:
            raise input_error(
                f"{side} codes",
                f"{side} codes are {codes.dtype} with values up to {value.size:.0f} in size, and may be "
                "packed; packed codes are uint8 on both sides, real-valued ones floats",
            )
    if signs:
        return CodeFormat("-1/+1", columns)
    zeros = sum(value.zeros for value in values.values())
    if zeros and zero == "error":
        words = f"{zeros:,} code values are exactly zero, and zero='error' refuses them"
        raise input_error("codes", words)
    return CodeFormat("real-valued", columns, zero, zeros)


def code_warnings(
    query_codes: Shaped[np.ndarray, "queries columns"],
    database_codes: Shaped[np.ndarray, "items columns"],
    form: CodeFormat,
) -> list[str]:
    """Returns warnings about codes that are implausible beside those of the other side.

    There is a warning if

    - the shares of set bits differ by more than a quarter, and more than 1.5 / sqrt(bits);
    - the mean of |u| of real values on one side is more than `_MAX_SCALE_RATIO` times the other's;
    - real values of one side never change sign, and those of the other do;
    - a real value is infinite.

    None of this is an error: queries may be of one class, and a scale changes no bit. Errors are
    raised by `infer_code_format`. Collapsed codes are found by `jaxhash.metrics.code_health`.

    Args:
        query_codes: codes, one per row.
        database_codes: codes, one per row.
        form: format of both by `infer_code_format`.

    Example:
        >>> codes = np.array([[0.3, -1.2, 0.1], [-0.1, 0.4, -0.7]])
        >>> code_warnings(codes, 100 * codes, CodeFormat("real-valued", 3))
        ['database codes are 100 times as large as query codes']
    """
    sides = {
        "query codes": np.asanyarray(query_codes),
        "database codes": np.asanyarray(database_codes),
    }
    orders, messages = (tuple(sides), tuple(sides)[::-1]), []
    shares = {name: _share_of_ones(codes, form) for name, codes in sides.items()}
    for name, other in orders:
        more = shares[name] - shares[other] > max(0.25, 1.5 / np.sqrt(form.bits))
        if more and min(map(len, sides.values())) >= MIN_ITEMS:
            messages.append(
                f"{shares[name]:.0%} of the bits of {name} are set, and {shares[other]:.0%} of those of "
                f"{other}: are both cut at the same threshold?"
            )
    if form.kind != "real-valued":
        return messages
    values = {
        name: _value_statistics(name.removesuffix(" codes"), codes) for name, codes in sides.items()
    }
    for name, other in orders:
        own, others = values[name], values[other]
        if own.one_sign and not others.one_sign and sides[name].size >= 8 * MIN_ITEMS:
            messages.append(
                f"{name} {own.one_sign} as it cuts {other}: subtract their threshold first"
            )
        if np.isinf(own.size):
            messages.append(f"{name} hold infinity")
        elif others.mean_size and own.mean_size > _MAX_SCALE_RATIO * others.mean_size:
            times = own.mean_size / others.mean_size
            messages.append(f"{name} are {times:,.0f} times as large as {other}")
    return messages


def _share_of_ones(codes: np.ndarray, form: CodeFormat) -> float:
    ones = sum(int(form.read(rows).sum()) for rows in _blocks(codes))
    return ones / (len(codes) * form.bits)


def input_error(subject: str, message: str, kind: type[Exception] = ValueError) -> Exception:
    """Returns an error whose ``subject`` names the wrong codes or labels, so callers can add the file."""
    error = kind(message)
    error.subject = subject
    return error


def _is_floating(codes: np.ndarray) -> bool:
    """Returns whether codes are floating; bfloat16, unknown to NumPy, counts too."""
    return jnp.issubdtype(codes.dtype, jnp.floating)


class _ValueStatistics(NamedTuple):
    """Statistics of the values of an array."""

    minimum: float
    maximum: float
    zeros: int
    mean_size: float
    binary: bool
    signs: bool

    @property
    def size(self) -> float:
        """The largest absolute value."""
        return max(-self.minimum, self.maximum)

    @property
    def one_sign(self) -> str:
        """A description of values that are all on one side of zero; empty for others."""
        if self.minimum < 0 < self.maximum or self.signs:
            return ""
        never = "negative" if self.minimum >= 0 else "positive"
        return f"are never {never} ({self.minimum:.3g} to {self.maximum:.3g}), so zero does not cut them"


def _value_statistics(name: str, codes: np.ndarray) -> _ValueStatistics:
    minimum, maximum, zeros, size, binary, signs = np.inf, -np.inf, 0, 0.0, True, True
    for rows in _blocks(codes):
        if _is_floating(rows) and np.isnan(rows).any():
            raise input_error(f"{name} codes", f"{name} codes hold NaN")
        zero, one = rows == 0, rows == 1
        minimum, maximum = min(minimum, rows.min()), max(maximum, rows.max())
        zeros += int(zero.sum())
        size += float(np.abs(rows).sum(dtype=np.float64))
        binary &= bool((zero | one).all())
        signs &= bool((one | (rows == -1)).all()) if rows.dtype.kind not in "bu" else False
    return _ValueStatistics(float(minimum), float(maximum), zeros, size / codes.size, binary, signs)


def _packed_hint(sides: dict[str, np.ndarray]) -> str:
    """Returns a hint if the numbers of columns fit packed codes on one side and unpacked on the other."""
    for (name, codes), others in zip(sides.items(), reversed(sides.values()), strict=True):
        if codes.dtype == np.uint8 and -(-others.shape[1] // 8) == codes.shape[1]:
            return f"; {name} codes look packed, pack those of the other side too"
    return ""


def _check_both_packed(sides: dict[str, np.ndarray], values: dict[str, _ValueStatistics]) -> None:
    """Raises if one side is 0/1 and the other packed; with 16 values this is no coincidence."""
    for side, value in values.items():
        if value.binary and value.maximum == 1 and sides[side].size >= 16:
            raise input_error(
                f"{side} codes",
                f"{side} codes are 0 and 1, those of the other side are packed; pack both "
                "(numpy.packbits), or name the bits where both are",
            )


def _packed_format(sides: dict[str, np.ndarray], columns: int, bits: int | None) -> CodeFormat:
    if bits is None:
        return CodeFormat("packed", 8 * columns)
    if not 8 * (columns - 1) < bits <= 8 * columns:
        raise input_error("codes", f"bits={bits} do not fit {columns} bytes per code")
    padding = (1 << (8 * columns - bits)) - 1
    for name, codes in sides.items():
        if any((rows[:, -1] & padding).any() for rows in _blocks(codes)):
            raise input_error(
                f"{name} codes",
                f"bits={bits}, but {name} codes have bits set after the last of them",
            )
    return CodeFormat("packed", bits)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    some = max(1, _VALUES // (rows[:1].size or 1))
    return (rows[start : start + some] for start in range(0, len(rows), some))


class Labels(NamedTuple):
    """Labels of both sides, converted for the computation of relevance.

    They are either class ids as binary digits, where equal ids are relevant and 0 is "no label"; or
    multi-hot rows.
    """

    multi_hot: bool
    query: Bool[np.ndarray, "queries digits"]
    database: Bool[np.ndarray, "items digits"]
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
    database = check_labels("database ", database_labels, items)
    if query.ndim != database.ndim or query.shape[1:] != database.shape[1:]:
        raise input_error(
            "labels",
            "labels must be of one kind on both sides, class ids [items] or 0/1 rows "
            f"[items, classes], got shapes {query.shape} and {database.shape}",
        )
    if query.ndim == 1:
        return _rank_digits(query, database)
    if relevance == "equal":
        return _rank_digits(*_label_set_ids(query, database))
    shared = min(int(labels.sum(axis=1).max()) for labels in (query, database))
    return Labels(True, query, database, max(shared, 1) if relevance == "graded" else 1)


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
    return _check_ids(name, labels) if labels.ndim == 1 else _check_multi_hot(name, labels)


def _check_ids(name: str, labels: np.ndarray) -> Int[np.ndarray, " n"]:
    subject, smallest, largest = f"{name}labels", 0, 0
    for rows in _blocks(labels):
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
    return labels.astype(np.int64)


def _check_multi_hot(name: str, labels: np.ndarray) -> Bool[np.ndarray, "n classes"]:
    for rows in _blocks(labels):
        wrong = (rows != 0) & (rows != 1)
        if wrong.any():
            raise input_error(
                f"{name}labels",
                f"{name}labels [items, classes] must be 0 or 1, got {rows[wrong][0]}",
            )
    return labels.view(bool) if labels.dtype.itemsize == 1 else labels.astype(bool)


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
        rank = np.searchsorted(known, ids).clip(max=max(len(known) - 1, 0))
        found = known[rank] == ids if len(known) else np.zeros(len(ids), bool)
        return (np.where(found, rank + 1, 0)[:, None] >> np.arange(max(digits, 1))) & 1 == 1

    def read_all(ids):
        some = max(1, _VALUES // max(digits, 1))  # intermediate values take eight bytes per digit
        return np.concatenate([read(ids[at : at + some]) for at in range(0, len(ids), some)])

    return Labels(False, read_all(query), read_all(database), 1)
