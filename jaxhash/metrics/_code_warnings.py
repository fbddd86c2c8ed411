"""Warnings about codes of one side that are implausible beside those of the other."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from jaxhash.metrics._inputs import CodeFormat
from jaxhash.metrics._values import ValueStatistics, row_blocks

#: The smallest number of items (and an eighth of the number of values) for a warning about signs or
#: about the share of ones; fewer may be so by chance.
MIN_ITEMS = 8
#: The ratio of the sizes of both sides' values above which there is a warning.
_MAX_SCALE_RATIO = 30.0


class CodeStatistics(NamedTuple):
    """What `code_warnings` needs to know of the codes of a side; it adds up over blocks of rows.

    Example:
        >>> codes, form = np.array([[0.3, -1.2], [-0.1, 0.4]]), CodeFormat("real-valued", 2)
        >>> CodeStatistics.of(codes[:1], form) + CodeStatistics.of(codes[1:], form) == (
        ...     CodeStatistics.of(codes, form))
        True
    """

    items: int = 0
    ones: int = 0
    """Number of bits that are set."""
    values: ValueStatistics | None = ValueStatistics()
    """Statistics of real values; None of codes of another form."""

    @classmethod
    def of(cls, codes: Shaped[np.ndarray, "n columns"], form: CodeFormat) -> "CodeStatistics":
        """Returns the statistics of codes of a form, which may be mapped from a file."""
        ones = sum(int(form.read(rows).sum()) for rows in row_blocks(codes))
        values = ValueStatistics.of(codes) if form.kind == "real-valued" else None
        return cls(len(codes), ones, values)

    def __add__(self, other: "CodeStatistics") -> "CodeStatistics":
        """Returns the statistics of both blocks of one side together."""
        values = None if self.values is None else self.values + other.values
        return CodeStatistics(self.items + other.items, self.ones + other.ones, values)


def code_warnings(
    query_codes: Shaped[np.ndarray, "queries columns"] | CodeStatistics,
    database_codes: Shaped[np.ndarray, "items columns"] | CodeStatistics,
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
        query_codes: codes, one per row, or their statistics.
        database_codes: codes, one per row, or their statistics.
        form: format of both by `infer_code_format`.

    Example:
        >>> codes = np.array([[0.3, -1.2, 0.1], [-0.1, 0.4, -0.7]])
        >>> code_warnings(codes, 100 * codes, CodeFormat("real-valued", 3))
        ['database codes are 100 times as large as query codes']
    """
    sides = {
        name: codes
        if isinstance(codes, CodeStatistics)
        else CodeStatistics.of(np.asanyarray(codes), form)
        for name, codes in (("query codes", query_codes), ("database codes", database_codes))
    }
    orders, messages = (tuple(sides), tuple(sides)[::-1]), []
    shares = {name: side.ones / (side.items * form.bits) for name, side in sides.items()}
    for name, other in orders:
        more = shares[name] - shares[other] > max(0.25, 1.5 / np.sqrt(form.bits))
        if more and min(side.items for side in sides.values()) >= MIN_ITEMS:
            messages.append(
                f"{shares[name]:.0%} of the bits of {name} are set, and {shares[other]:.0%} of those of "
                f"{other}: are both cut at the same threshold?"
            )
    if form.kind != "real-valued":
        return messages
    for name, other in orders:
        own, others = sides[name].values, sides[other].values
        if own.one_sign and not others.one_sign and own.count >= 8 * MIN_ITEMS:
            messages.append(
                f"{name} {own.one_sign} as it cuts {other}: subtract their threshold first"
            )
        if np.isinf(own.size):
            messages.append(f"{name} hold infinity")
        elif others.mean_size and own.mean_size > _MAX_SCALE_RATIO * others.mean_size:
            times = own.mean_size / others.mean_size
            messages.append(f"{name} are {times:,.0f} times as large as {other}")
    return messages
