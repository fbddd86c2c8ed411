"""Prints what was measured on one machine or several, or compiled for others."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from jaxhash.bench.compiled_loss import CompiledLoss
from jaxhash.bench.config import Setting
from jaxhash.bench.measure import Measurement
from jaxhash.utils.console import print_table


class MachineResults(NamedTuple):
    """The measurements of one machine, or the programs of one target that nothing was run on."""

    machine: str
    """Name of the machine or target, or the letter that stands for it."""
    points: list[Measurement] | list[CompiledLoss]


def print_points(measured: Sequence[MachineResults], console: Console) -> None:
    """Prints a row for each machine, setting, pass and loss; equal values move into the title.

    The column "of copy" is `Measurement.copy_share`. Programs that were compiled only have numbers of
    `CompiledLoss` instead of times, and "x least", the bytes over `CompiledLoss.moved_bytes`.
    """
    rows = [(machine, point) for machine, points in measured for point in points]
    rows.sort(
        key=lambda row: (row[1].setting, row[1].which)
    )  # stable: keeps the order of machines and losses
    keys = [{"machine": m, **p.setting._asdict(), "pass": p.which} for m, p in rows]
    varying = [name for name in keys[0] if len({key[name] for key in keys}) > 1]
    common = (setting_label(name, keys[0][name]) for name in keys[0] if name not in varying)
    table = Table(title=", ".join(common), box=None)
    for name in varying:
        table.add_column(name, justify="right" if isinstance(keys[0][name], int) else "left")
    table.add_column("loss")
    of_select = {
        (m, p.setting, p.which): p.median_seconds
        for m, p in rows
        if isinstance(p, Measurement) and p.loss == "select"
    }
    cells = [_cells(p, of_select.get((machine, p.setting, p.which))) for machine, p in rows]
    is_mixed = len({type(point) for _, point in rows}) > 1
    titles = [
        title
        for title in _COLUMNS
        if any(title in row for row in cells) and not (is_mixed and title in _DETAILS)
    ]
    for title in titles:
        table.add_column(title, justify="right")
    for key, (_, point), row in zip(keys, rows, cells, strict=True):
        shown = [*(_cell(key[name]) for name in varying), point.loss]
        table.add_row(*shown, *(row.get(title, "-") for title in titles))
    print_table(console, table)


#: Columns of numbers, in their order; one that no row has is left out.
_COLUMNS = (
    "median", "quartiles", "x select", "of copy", "flop", "bytes", "x least", "sent", "loops",
    "memory", "compile",
)  # fmt: skip
#: Columns that there is no room for where measured and compiled rows stand beside each other.
_DETAILS = ("quartiles", "sent", "loops")


def _cells(point: Measurement | CompiledLoss, select: float | None) -> dict[str, str]:
    """Returns the numbers of a row by column; ``select`` are the seconds of select beside it."""
    if isinstance(point, CompiledLoss):
        return {"median": "not run"} | compiled_cells(point)
    quartiles = " to ".join(map(format_seconds, point.quartiles_seconds))
    return {
        "median": format_seconds(point.median_seconds),
        "quartiles": quartiles,
        "x select": "-" if select is None else f"{point.median_seconds / select:.2f}",
        "of copy": "-" if point.copy_share is None else f"{point.copy_share:.1%}",
        "memory": "-" if point.peak_bytes is None else format_bytes(point.peak_bytes),
        "compile": "-" if point.compile_seconds is None else format_seconds(point.compile_seconds),
    }


def compiled_cells(point: CompiledLoss) -> dict[str, str]:
    """Returns what is known of a compiled program, by name, for each device."""
    least = point.moved_bytes / point.devices
    return {
        "flop": f"{point.flops:.3g}",
        "bytes": format_bytes(point.accessed_bytes),
        "x least": f"{point.accessed_bytes / least:.1f}",
        "sent": format_bytes(point.sent_bytes),
        "loops": str(point.loops),
        "memory": format_bytes(point.peak_bytes),
        "compile": format_seconds(point.compile_seconds),
    }


def describe_setting(setting: Setting) -> str:
    """Describes a setting in words.

    Example:
        >>> describe_setting(Setting(batch=1024, bits=64))
        'batch 1,024, 64 bits, float32, 1 device'
    """
    return ", ".join(setting_label(name, value) for name, value in setting._asdict().items())


def format_seconds(seconds: float) -> str:
    """Formats seconds in a fitting unit, with three digits.

    Example:
        >>> format_seconds(0.00123), format_seconds(12.345)
        ('1.23 ms', '12.3 s')
    """
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 0.9995:  # rounds to 1
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def format_bytes(count: int) -> str:
    """Formats bytes in a fitting unit, with three digits.

    Example:
        >>> format_bytes(300), format_bytes(1010 * 2**10), format_bytes(2**33)
        ('0.293 KiB', '0.986 MiB', '8 GiB')
    """
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= factor * 999.5 / 1024:  # three digits of the smaller unit are not enough
            return f"{count / factor:.3g} {unit}"
    return f"{count / 2**10:.3g} KiB"


def setting_label(name: str, value: str | int) -> str:
    """Returns a field of a `Setting`, or the name of a machine or pass, in words."""
    if name == "batch":
        return f"batch {value:,}"
    if name == "bits":
        return f"{value:,} bits"
    if name == "devices":
        return f"{value} device{'s' * (value > 1)}"
    return value


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value
