"""Prints and plots the measurements of one machine or several."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxhash.bench.config import Setting
from jaxhash.bench.measure import Measurement
from jaxhash.bench.scaling import Series, group_into_series
from jaxhash.report.plots.style import LINE_STYLES, set_log_scale, styled
from jaxhash.utils.console import print_table

#: A line style for each machine.
MACHINE_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
AXIS_SYMBOLS = {"batch": "n", "bits": "b"}


class MachineResults(NamedTuple):
    """The measurements of one machine."""

    machine: str
    """Name of the machine, or the letter that stands for it."""
    points: list[Measurement]


def print_points(measured: Sequence[MachineResults], console: Console) -> None:
    """Prints a row for each machine, setting, pass and loss; equal values move into the title.

    The column "of copy" is `Measurement.copy_share`.
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
    for title in ("median", "quartiles", "x select", "of copy", "memory", "compile"):
        table.add_column(title, justify="right")
    of_select = {(m, p.setting, p.which): p.median_seconds for m, p in rows if p.loss == "select"}
    for key, (machine, point) in zip(keys, rows, strict=True):
        select = of_select.get((machine, point.setting, point.which))
        table.add_row(
            *(_cell(key[name]) for name in varying),
            point.loss,
            format_seconds(point.median_seconds),
            " to ".join(map(format_seconds, point.quartiles_seconds)),
            "-" if select is None else f"{point.median_seconds / select:.2f}",
            "-" if point.copy_share is None else f"{point.copy_share:.1%}",
            "-" if point.peak_bytes is None else format_bytes(point.peak_bytes),
            "-" if point.compile_seconds is None else format_seconds(point.compile_seconds),
        )
    print_table(console, table)


@styled
def plot_points(measured: Sequence[MachineResults], title: str) -> Figure:
    """Plots seconds of a call over the batch size and over the bits, log-log, quartiles shaded.

    There is a row of panels for each pass, dtype and number of devices, a color and a marker for each loss,
    and a line style for each machine. The legend has the exponents of `jaxhash.bench.scaling.fit_exponent`.
    """
    points = [point for _, points in measured for point in points]
    min_points = 2 if group_into_series(points) else 1  # dots if nothing varies
    lines = [
        (number, one)
        for number, (_, points) in enumerate(measured)
        for one in group_into_series(points, min_points)
    ]
    rows = sorted({(one.which, one.dtype, one.devices) for _, one in lines})
    columns = sorted({(one.axis, one.at) for _, one in lines})
    losses = list(dict.fromkeys(point.loss for point in points))
    figure = Figure(figsize=(4.8 * len(columns), 3.8 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for number, one in lines:
        row = rows.index((one.which, one.dtype, one.devices))
        axes = grid[row][columns.index((one.axis, one.at))]
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


def _draw(axes, one: Series, suffix: str, style: dict[str, str]) -> None:
    growth = "" if one.exponent is None else f": {AXIS_SYMBOLS[one.axis]}^{one.exponent:.2f}"
    medians = [point.median_seconds for point in one.points]
    lower, upper = zip(*(point.quartiles_seconds for point in one.points), strict=True)
    axes.plot(one.sizes, medians, markersize=4, label=f"{one.loss}{suffix}{growth}", **style)
    axes.fill_between(one.sizes, lower, upper, color=style["color"], alpha=0.2, linewidth=0)
    set_log_scale(axes, "x")
    set_log_scale(axes, "y")
    at = _label(*(("bits", one.at) if one.axis == "batch" else ("batch", one.at)))
    spread = f", {one.devices} devices" if one.devices > 1 else ""
    axes.set(
        title=f"{one.which}, {at}, {one.dtype}{spread}",
        xlabel=f"{one.axis} {AXIS_SYMBOLS[one.axis]}",
        ylabel="seconds",
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
