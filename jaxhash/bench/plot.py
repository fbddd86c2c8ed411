"""Plots what was measured on one machine or several, or compiled for others."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxhash.bench.compiled_loss import CompiledLoss
from jaxhash.bench.measure import Measurement
from jaxhash.bench.report import MachineResults, setting_label
from jaxhash.bench.scaling import Series, group_into_series, quantity_of, value_of
from jaxhash.report.plots.style import COLORS, LINE_STYLES, set_log_scale, styled

#: A line style for each machine.
MACHINE_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
AXIS_SYMBOLS = {"batch": "n", "bits": "b"}


@styled
def plot_points(measured: Sequence[MachineResults], title: str) -> Figure:
    """Plots seconds of a call over the batch size and over the bits, log-log, quartiles shaded.

    There is a row of panels for each pass, dtype and number of devices, a color and a marker for each loss,
    and a line style for each machine. The legend has the exponents of `jaxhash.bench.scaling.fit_exponent`.
    Programs that were compiled only have rows of their own, of the bytes that a device reads and writes.

    If neither the batch size nor the bits vary, the losses stand below each other, with a marker for each
    machine.
    """
    points = [point for _, points in measured for point in points]
    losses = list(dict.fromkeys(point.loss for point in points))
    lines = [
        (number, one)
        for number, (_, points) in enumerate(measured)
        for one in group_into_series(points)
    ]
    if not lines:
        return _plot_losses(measured, losses, title)
    rows = sorted({_row(one) for _, one in lines})
    columns = sorted({(one.axis, one.at) for _, one in lines})
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


def _row(one: Series) -> tuple[bool, str, str, int]:
    """Returns what the panels of a row have in common; those of times come first."""
    return one.quantity != "seconds", one.which, one.dtype, one.devices


def _draw(axes: Axes, one: Series, suffix: str, style: dict) -> None:
    growth = "" if one.exponent is None else f": {AXIS_SYMBOLS[one.axis]}^{one.exponent:.2f}"
    axes.plot(one.sizes, one.values, markersize=4, label=f"{one.loss}{suffix}{growth}", **style)
    if one.quantity == "seconds":
        lower, upper = zip(*(point.quartiles_seconds for point in one.points), strict=True)
        axes.fill_between(one.sizes, lower, upper, color=style["color"], alpha=0.2, linewidth=0)
    set_log_scale(axes, "x")
    set_log_scale(axes, "y")
    at = setting_label(*(("bits", one.at) if one.axis == "batch" else ("batch", one.at)))
    spread = f", {one.devices} devices" if one.devices > 1 else ""
    axes.set(
        title=f"{one.which}, {at}, {one.dtype}{spread}",
        xlabel=f"{one.axis} {AXIS_SYMBOLS[one.axis]}",
        ylabel=one.quantity,
    )


def _plot_losses(measured: Sequence[MachineResults], losses: list[str], title: str) -> Figure:
    """Plots a panel for each setting, pass and kind of number, with a line of its own for each loss."""
    panels: dict[tuple, list[tuple[int, Measurement | CompiledLoss]]] = {}
    for number, (_, points) in enumerate(measured):
        for point in points:
            key = (quantity_of(point) != "seconds", point.which, *point.setting)
            panels.setdefault(key, []).append((number, point))
    size = (6.5, len(panels) * (1.4 + 0.17 * len(losses)))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(panels), 1, squeeze=False)
    for key, axes in zip(sorted(panels), grid.flat, strict=True):
        for number, machine in enumerate(measured):
            own = [point for index, point in panels[key] if index == number]
            places = [losses.index(point.loss) for point in own]
            style = {"color": COLORS[number], "marker": LINE_STYLES[number]["marker"]}
            if own:
                values = [value_of(point) for point in own]
                axes.plot(values, places, linestyle="none", label=machine.machine, **style)
        set_log_scale(axes, "x")
        axes.set_yticks(range(len(losses)), losses, fontsize=7)
        axes.set_ylim(len(losses) - 0.5, -0.5)
        _, which, *setting = key
        labels = map(setting_label, ("batch", "bits", "dtype", "devices"), setting)
        axes.set(title=", ".join([which, *labels]), xlabel=quantity_of(panels[key][0][1]))
        if len(measured) > 1:
            axes.legend(frameon=False, fontsize=7)
    return figure
