"""Codes in any common form, converted to bits."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Shaped

from jaxhash.metrics._values import ValueStatistics, input_error, is_floating, row_blocks
from jaxhash.ops.arguments import IntLike, as_int

#: The meaning of an exact zero of real-valued codes.
ZeroSign = Literal["+1", "-1", "error"]


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
    return infer_form(
        code_side("query", query_codes), code_side("database", database_codes), bits=bits, zero=zero
    )


class CodeSide(NamedTuple):
    """The codes of the queries or of the database, and what their values are."""

    codes: np.ndarray
    values: ValueStatistics


def code_side(name: str, codes: Shaped[np.ndarray, "n columns"]) -> CodeSide:
    """Checks the codes of a side by themselves, and reads them once; see `infer_code_format`."""
    codes = np.asanyarray(codes)
    if codes.ndim != 2 or 0 in codes.shape:
        raise input_error(
            f"{name} codes",
            f"{name} codes must have shape [items, bits], at least one of each, got {codes.shape}",
        )
    if codes.dtype.kind not in "bui" and not is_floating(codes):
        raise input_error(
            f"{name} codes", f"{name} codes must be numbers or bool, got {codes.dtype}", TypeError
        )
    values = ValueStatistics.of(codes)
    if np.isnan(values.absolute):
        raise input_error(f"{name} codes", f"{name} codes hold NaN")
    return CodeSide(codes, values)


def infer_form(
    query: CodeSide, database: CodeSide, *, bits: IntLike | None, zero: ZeroSign
) -> CodeFormat:
    """Infers the format of both sides from what their values are; see `infer_code_format`."""
    bits = None if bits is None else as_int("bits", bits)
    if zero not in get_args(ZeroSign):
        raise ValueError(f"zero must be one of {get_args(ZeroSign)}, got {zero!r}")
    sides = {"query": query.codes, "database": database.codes}
    values = {"query": query.values, "database": database.values}
    columns, other = (codes.shape[1] for codes in sides.values())
    packed_types = {codes.dtype == np.uint8 for codes in sides.values()}
    if columns != other:
        unit = "bytes" if packed_types == {True} else "bits"
        words = f"queries have {columns} {unit}, the database {other}{_packed_hint(sides)}"
        raise input_error("codes", words)
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


def _packed_hint(sides: dict[str, np.ndarray]) -> str:
    """Returns a hint if the numbers of columns fit packed codes on one side and unpacked on the other."""
    for (name, codes), others in zip(sides.items(), reversed(sides.values()), strict=True):
        if codes.dtype == np.uint8 and -(-others.shape[1] // 8) == codes.shape[1]:
            return f"; {name} codes look packed, pack those of the other side too"
    return ""


def _check_both_packed(sides: dict[str, np.ndarray], values: dict[str, ValueStatistics]) -> None:
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
        if any((rows[:, -1] & padding).any() for rows in row_blocks(codes)):
            raise input_error(
                f"{name} codes",
                f"bits={bits}, but {name} codes have bits set after the last of them",
            )
    return CodeFormat("packed", bits)
