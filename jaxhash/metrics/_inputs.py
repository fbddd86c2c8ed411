"""Codes and labels in whatever form people have them, read as bits and as relevance."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Shaped

from jaxhash.ops.arguments import UNLABELLED, Whole, whole_number

#: What an exact zero of real-valued codes counts as.
Zero = Literal["+1", "-1", "error"]
#: What makes an item relevant: a label in common, the same set of labels, or the number in common.
Relevance = Literal["shared", "equal", "graded"]

#: Values looked at together, so that a memory-mapped file is never held whole.
_VALUES = 2**22

#: Items, and eight values each, from which on it is remarked on that all are on one side of zero, or
#: far more than on the other side of the search; fewer may be so by chance.
FEW = 8
#: How many times larger the codes of one side may be before that is remarked on.
_SCALE = 30.0


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
    bits: Whole | None = None,
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
        ValueError: if shapes differ, an array is empty, values are NaN or fit none of these,
            or the sides do not fit together: 0/1 beside other values, packed beside unpacked ones.
            Its attribute ``of`` names what is wrong: "query codes", "database codes" or "codes".
        TypeError: if an array holds no numbers.

    Example:
        >>> code_format(np.array([[0.3, -1.2]]), np.array([[0.0, 2.0]]))
        CodeFormat(kind='real-valued', bits=2, zero='+1', zeros=1)
    """
    bits = None if bits is None else whole_number("bits", bits)
    if zero not in get_args(Zero):
        raise ValueError(f"zero must be one of {get_args(Zero)}, got {zero!r}")
    sides = {"query": np.asanyarray(query_codes), "database": np.asanyarray(database_codes)}
    for name, codes in sides.items():
        if codes.ndim != 2 or 0 in codes.shape:
            raise fault(
                f"{name} codes",
                f"{name} codes must have shape [items, bits], at least one of each, got "
                f"{codes.shape}",
            )
        if codes.dtype.kind not in "bui" and not _is_floating(codes):
            raise fault(
                f"{name} codes",
                f"{name} codes must be numbers or bool, got {codes.dtype}",
                TypeError,
            )
    columns, other = (codes.shape[1] for codes in sides.values())
    packed_types = {codes.dtype == np.uint8 for codes in sides.values()}
    if columns != other:
        unit = "bytes" if packed_types == {True} else "bits"
        words = f"queries have {columns} {unit}, the database {other}{_maybe_packed(sides)}"
        raise fault("codes", words)
    values = {name: _values(name, codes) for name, codes in sides.items()}
    binary, signs = (all(getattr(v, kind) for v in values.values()) for kind in ("binary", "signs"))
    if packed_types == {True} and (not binary or bits not in (None, columns)):
        if bits in (None, columns):
            _refuse_unpacked(sides, values)
        return _packed_format(sides, columns, bits)
    if bits not in (None, columns):
        words = f"bits={bits}, but the codes have {columns} columns and are not packed"
        raise fault("codes", words)
    if all(codes.dtype == bool for codes in sides.values()):
        return CodeFormat("bool", columns)
    if binary:
        return CodeFormat("0/1", columns)
    for side, value in values.items():
        if value.binary and value.least == 0:
            raise fault(
                f"{side} codes", f"{side} codes are 0 and 1, those of the other side are not"
            )
    if min(value.least for value in values.values()) >= 0:
        raise fault(
            "codes",
            "codes have no negative value and are not 0/1, so zero does not cut them; subtract "
            "their threshold first (packed codes are uint8)",
        )
    for side, value in values.items():
        codes = sides[side]
        if (codes.dtype == np.int8 or codes.dtype.kind == "u") and value.size > 1:
            raise fault(
                f"{side} codes",
                f"{side} codes are {codes.dtype} with values up to {value.size:.0f} in size, and may be "
                "packed; packed codes are uint8 on both sides, real-valued ones floats",
            )
    if signs:
        return CodeFormat("-1/+1", columns)
    zeros = sum(value.zeros for value in values.values())
    if zeros and zero == "error":
        words = f"{zeros:,} code values are exactly zero, and zero='error' refuses them"
        raise fault("codes", words)
    return CodeFormat("real-valued", columns, zero, zeros)


def code_warnings(
    query_codes: Shaped[np.ndarray, "queries columns"],
    database_codes: Shaped[np.ndarray, "items columns"],
    form: CodeFormat,
) -> list[str]:
    """What makes codes implausible beside those of the other side, a sentence each.

    - the share of bits that are set differs by more than a quarter, and more than 1.5 / sqrt(bits);
    - real values of one side are `_SCALE` times as large, in the mean of |u|, or never change sign;
    - a real value is infinite.

    That codes have collapsed is for `jaxhash.metrics.code_health` to tell. Nothing of it is impossible: queries may be of one class, and a scale changes no bit. What is
    impossible `code_format` refuses.

    Args:
        query_codes: codes, a row each.
        database_codes: the same.
        form: what `code_format` found both to be.

    Example:
        >>> codes = np.array([[0.3, -1.2, 0.1], [-0.1, 0.4, -0.7]])
        >>> code_warnings(codes, 100 * codes, CodeFormat("real-valued", 3))
        ['database codes are 100 times as large as query codes']
    """
    sides = {
        "query codes": np.asanyarray(query_codes),
        "database codes": np.asanyarray(database_codes),
    }
    orders, found = (tuple(sides), tuple(sides)[::-1]), []
    shares = {name: _share_of_ones(codes, form) for name, codes in sides.items()}
    for name, other in orders:
        more = shares[name] - shares[other] > max(0.25, 1.5 / np.sqrt(form.bits))
        if more and min(map(len, sides.values())) >= FEW:
            found.append(
                f"{shares[name]:.0%} of the bits of {name} are set, and {shares[other]:.0%} of those of "
                f"{other}: are both cut at the same threshold?"
            )
    if form.kind != "real-valued":
        return found
    values = {name: _values(name.removesuffix(" codes"), codes) for name, codes in sides.items()}
    for name, other in orders:
        mine, theirs = values[name], values[other]
        if mine.one_sign and not theirs.one_sign and sides[name].size >= 8 * FEW:
            found.append(
                f"{name} {mine.one_sign} as it cuts {other}: subtract their threshold first"
            )
        if np.isinf(mine.size):
            found.append(f"{name} hold infinity")
        elif theirs.mean_size and mine.mean_size > _SCALE * theirs.mean_size:
            times = mine.mean_size / theirs.mean_size
            found.append(f"{name} are {times:,.0f} times as large as {other}")
    return found


def _share_of_ones(codes: np.ndarray, form: CodeFormat) -> float:
    ones = sum(int(form.read(rows).sum()) for rows in _blocks(codes))
    return ones / (len(codes) * form.bits)


def fault(of: str, message: str, kind: type[Exception] = ValueError) -> Exception:
    """An error with ``of`` to say whose codes or labels are wrong, for who knows their file."""
    error = kind(message)
    error.of = of
    return error


def _is_floating(codes: np.ndarray) -> bool:
    """Whether they are floats, bfloat16 too, which NumPy itself does not know."""
    return jnp.issubdtype(codes.dtype, jnp.floating)


class _Values(NamedTuple):
    """What occurs in an array."""

    least: float
    most: float
    zeros: int
    mean_size: float
    binary: bool
    signs: bool

    @property
    def size(self) -> float:
        """The largest in size."""
        return max(-self.least, self.most)

    @property
    def one_sign(self) -> str:
        """That the values are all on one side of zero, where it would cut them; else nothing."""
        if self.least < 0 < self.most or self.signs:
            return ""
        never = "negative" if self.least >= 0 else "positive"
        return f"are never {never} ({self.least:.3g} to {self.most:.3g}), so zero does not cut them"


def _values(name: str, codes: np.ndarray) -> _Values:
    least, most, zeros, size, binary, signs = np.inf, -np.inf, 0, 0.0, True, True
    for rows in _blocks(codes):
        if _is_floating(rows) and np.isnan(rows).any():
            raise fault(f"{name} codes", f"{name} codes hold NaN")
        zero, one = rows == 0, rows == 1
        least, most = min(least, rows.min()), max(most, rows.max())
        zeros += int(zero.sum())
        size += float(np.abs(rows).sum(dtype=np.float64))
        binary &= bool((zero | one).all())
        signs &= bool((one | (rows == -1)).all()) if rows.dtype.kind not in "bu" else False
    return _Values(float(least), float(most), zeros, size / codes.size, binary, signs)


def _maybe_packed(sides: dict[str, np.ndarray]) -> str:
    """A hint where the numbers of columns differ as those of packed and of unpacked codes do."""
    for (name, codes), others in zip(sides.items(), reversed(sides.values()), strict=True):
        if codes.dtype == np.uint8 and -(-others.shape[1] // 8) == codes.shape[1]:
            return f"; {name} codes look packed, pack those of the other side too"
    return ""


def _refuse_unpacked(sides: dict[str, np.ndarray], values: dict[str, _Values]) -> None:
    """Raise if one side is 0/1 beside packed bytes of the same number, which by chance never is."""
    for side, value in values.items():
        if value.binary and value.most == 1 and sides[side].size >= 16:
            raise fault(
                f"{side} codes",
                f"{side} codes are 0 and 1, those of the other side are packed; pack both "
                "(numpy.packbits), or name the bits where both are",
            )


def _packed_format(sides: dict[str, np.ndarray], columns: int, bits: int | None) -> CodeFormat:
    if bits is None:
        return CodeFormat("packed", 8 * columns)
    if not 8 * (columns - 1) < bits <= 8 * columns:
        raise fault("codes", f"bits={bits} do not fit {columns} bytes a code")
    padding = (1 << (8 * columns - bits)) - 1
    for name, codes in sides.items():
        if any((rows[:, -1] & padding).any() for rows in _blocks(codes)):
            raise fault(
                f"{name} codes",
                f"bits={bits}, but {name} codes have bits set after the last of them",
            )
    return CodeFormat("packed", bits)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    some = max(1, _VALUES // (rows[:1].size or 1))
    return (rows[start : start + some] for start in range(0, len(rows), some))


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
        raise fault(
            "labels",
            "labels must be of one kind on both sides, class ids [items] or 0/1 rows "
            f"[items, classes], got shapes {query.shape} and {database.shape}",
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
    labels, of = np.asanyarray(labels), f"{name}labels"
    if labels.dtype.kind not in "buif":
        raise fault(of, f"{of} must be numbers, got {labels.dtype}", TypeError)
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[1] < 2):
        raise fault(
            of,
            f"{of} must be class ids [items] or 0/1 rows [items, 2 or more classes], got shape "
            f"{labels.shape}",
        )
    if len(labels) != items:
        words = f"there are {items} {name}codes and {len(labels)} labels"
        raise fault(f"{of} and codes", words)
    return _ids(name, labels) if labels.ndim == 1 else _multi_hot(name, labels)


def _ids(name: str, labels: np.ndarray) -> Int[np.ndarray, " n"]:
    of, least, most = f"{name}labels", 0, 0
    for rows in _blocks(labels):
        if labels.dtype == bool:
            raise fault(of, f"{of} must be integer class ids, got bool")
        whole = np.isfinite(rows) & (np.trunc(rows) == rows)
        if not whole.all():
            raise fault(of, f"{of} must be integer class ids, got {rows[~whole][0]}")
        least, most = min(least, rows.min().item()), max(most, rows.max().item())
    if least < UNLABELLED:
        wrapped = labels.dtype in (np.int8, np.int16)
        hint = f"; {labels.dtype} holds ids up to {np.iinfo(labels.dtype).max:,}" if wrapped else ""
        raise fault(of, f"{of} must be class ids from 0, or -1 for none, got {least}{hint}")
    narrow = labels.dtype in (np.float16, np.float32)  # no ids are counted up to 2^53
    if narrow and most >= (limit := 2 ** (np.finfo(labels.dtype).nmant + 1)):
        raise fault(
            of,
            f"{of} are {labels.dtype}, which cannot tell class ids from {limit:,} on apart, and go up "
            f"to {most:,.0f}; save them as integers",
        )
    if most > np.iinfo(np.int64).max:
        raise fault(of, f"{of} must be class ids below 2^63, got {most}")
    return labels.astype(np.int64)


def _multi_hot(name: str, labels: np.ndarray) -> Bool[np.ndarray, "n classes"]:
    for rows in _blocks(labels):
        wrong = (rows != 0) & (rows != 1)
        if wrong.any():
            raise fault(
                f"{name}labels",
                f"{name}labels [items, classes] must be 0 or 1, got {rows[wrong][0]}",
            )
    return labels.view(bool) if labels.dtype.itemsize == 1 else labels.astype(bool)


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

    def read_all(ids):
        some = max(1, _VALUES // max(digits, 1))  # what is on the way takes eight bytes a digit
        return np.concatenate([read(ids[at : at + some]) for at in range(0, len(ids), some)])

    return Labels(False, read_all(query), read_all(database), 1)
