"""Prints and plots what was measured on one machine or several, or compiled for others."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxhash.bench.compiled_loss import CompiledLoss
from jaxhash.bench.config import Pass, Setting
from jaxhash.bench.measure import Measurement
from jaxhash.bench.scaling import Series, group_into_series
from jaxhash.report.plots.style import LINE_STYLES, set_log_scale, styled
from jaxhash.utils.console import print_table

#: A line style for each machine.
MACHINE_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
AXIS_SYMBOLS = {"batch": "n", "bits": "b"}


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
    common = (_label(name, keys[0][name]) for name in keys[0] if name not in varying)
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


@styled
def plot_points(measured: Sequence[MachineResults], title: str) -> Figure:
    """Plots seconds of a call over the batch size and over the bits, log-log, quartiles shaded.

    There is a row of panels for each pass, dtype and number of devices, a color and a marker for each loss,
    and a line style for each machine. The legend has the exponents of `jaxhash.bench.scaling.fit_exponent`.
    Programs that were compiled only have rows of their own, of the bytes that a device reads and writes.
    """
    points = [point for _, points in measured for point in points]
    min_points = 2 if group_into_series(points) else 1  # dots if nothing varies
    lines = [
        (number, one)
        for number, (_, points) in enumerate(measured)
        for one in group_into_series(points, min_points)
    ]
    rows = sorted({_row(one) for _, one in lines})
    columns = sorted({(one.axis, one.at) for _, one in lines})
    losses = list(dict.fromkeys(point.loss for point in points))
    figure = Figure(figsize=(4.8 * len(columns), 3.8 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for number, one in lines:
        axes = grid[rows.index(_row(one))][columns.index((one.axis, one.at))]
        style = LINE_STYLES[losses.index(one.loss) % len(LINE_STYLES)]
        style = style | {"linestyle": MACHINE_DASHES[number]}
        suffix = f", {measured[number].machine}" if len(measured) > 1 else ""
        _draw(axes, one, suffix, style)
    for axes in grid.flat:
        if axes.lines:
            axes.legend(frameon=False, fontsize=7)
        else:
            axes.axis("off")
    return figure


def _row(one: Series) -> tuple[bool, Pass, str, int]:
    """Returns what the panels of a row have in common; those of times come first."""
    return one.quantity != "seconds", one.which, one.dtype, one.devices


def _draw(axes, one: Series, suffix: str, style: dict[str, str]) -> None:
    growth = "" if one.exponent is None else f": {AXIS_SYMBOLS[one.axis]}^{one.exponent:.2f}"
    axes.plot(one.sizes, one.values, markersize=4, label=f"{one.loss}{suffix}{growth}", **style)
    if one.quantity == "seconds":
        lower, upper = zip(*(point.quartiles_seconds for point in one.points), strict=True)
        axes.fill_between(one.sizes, lower, upper, color=style["color"], alpha=0.2, linewidth=0)
    set_log_scale(axes, "x")
    set_log_scale(axes, "y")
    at = _label(*(("bits", one.at) if one.axis == "batch" else ("batch", one.at)))
    spread = f", {one.devices} devices" if one.devices > 1 else ""
    axes.set(
        title=f"{one.which}, {at}, {one.dtype}{spread}",
        xlabel=f"{one.axis} {AXIS_SYMBOLS[one.axis]}",
        ylabel=one.quantity,
    )


def describe_setting(setting: Setting) -> str:
    """Describes a setting in words.

    Example:
        >>> describe_setting(Setting(batch=1024, bits=64))
        'batch 1,024, 64 bits, float32, 1 device'
    """
    return ", ".join(_label(name, value) for name, value in setting._asdict().items())


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
        >>> format_bytes(300), format_bytes(3 * 2**19), format_bytes(2**33)
        ('0.293 KiB', '1.5 MiB', '8 GiB')
    """
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 2**10:.3g} KiB"


def _label(name: str, value: str | int) -> str:
    if name == "batch":
        return f"batch {value:,}"
    if name == "bits":
        return f"{value:,} bits"
    if name == "devices":
        return f"{value} device{'s' * (value > 1)}"
    return value


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value
