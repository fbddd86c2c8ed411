"""Plots what was measured at each step of a training: the loss, its terms, gradients and codes."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxhash.report.plots.panels import Margins, make_panels
from jaxhash.report.plots.style import COLORS, COLUMN_WIDTH, PAGE_WIDTH, set_log_scale, styled
from jaxhash.training.speed import TIMING_FIELDS
from jaxhash.utils.errors import printable

#: Titles of the panels, which come in this order; the terms of the loss come after the loss.
_TITLES = {
    "loss": "loss",
    "grad_norm": "norm of the gradient",
    "bit_balance": "bit balance of the batch",
    "dead_bits": "dead bits of the batch",
    "skipped": "updates skipped so far",
}

#: Metrics that are whole numbers, and those that are added up over the steps.
_COUNTS, _SUMS = ("dead_bits", "skipped"), ("skipped",)

#: A panel draws at most this many points of a line, however many steps there are.
MAX_POINTS = 200

#: A panel of fewer steps marks each.
_FEW_STEPS = 60

#: Values that differ by this factor have a logarithmic axis, if their mean differs by the second one.
_LOG_RATIOS = 30, 5


class Series(NamedTuple):
    """A quantity over the steps of a training.

    Attributes:
        name: its name in the records.
        steps: the steps whose record has it.
        values: its values there; NaN where it was not finite.
    """

    name: str
    steps: Int[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]


@styled
def plot_losses(records: Sequence[dict[str, Any]], *, title: str = "") -> Figure:
    """Draws a panel for the loss, for each of its terms, and for each other metric of a step.

    The line is the mean over about 1/50 of the steps; the band behind it reaches from the least to the
    greatest value. Metrics that are the same at all steps or never finite have no panel, but are named.

    Args:
        records: the run's metrics.jsonl.
        title: title of the figure.
    """
    series = read_series(records)
    shown = [one for one in series if _constant(one.values) is None]
    note = _note([one for one in series if one not in shown]) if records else "no step has a record"
    columns = min(3, max(1, len(shown)))
    width = COLUMN_WIDTH if columns > 1 else PAGE_WIDTH / 2
    figure, panels = make_panels(
        len(shown), columns, width=width, title=title, note=note, margins=Margins(top=0.42)
    )
    for axes, one in zip(panels, shown, strict=True):
        _draw(axes, one)
    for axes in panels[-columns:]:
        axes.set_xlabel("step")  # below the last panel of each column
    return figure


def read_series(records: Sequence[dict[str, Any]]) -> list[Series]:
    """Returns the metrics of a run's records but for the times: the loss, its terms, and the others."""
    known = dict.fromkeys(name for record in records for name in record)
    terms = [name for name in known if name not in ("step", *TIMING_FIELDS, *_TITLES)]
    series = []
    for name in ("loss", *terms, *(name for name in _TITLES if name != "loss")):
        having = [record for record in records if name in record]
        if having:
            steps = np.array([record["step"] for record in having])
            values = np.array([record[name] for record in having], float)  # None becomes NaN
            series.append(Series(name, steps, np.cumsum(values) if name in _SUMS else values))
    return series


def mean_around(
    values: Float[np.ndarray, " n"], places: Int[np.ndarray, " m"], width: int
) -> Float[np.ndarray, " m"]:
    """Returns the mean of the finite values around some places, NaN where there are none.

    The window reaches ``width // 2`` values to both sides. At the start, where a loss is steep, both sides
    are cut alike; at the end only the one without values.

    Example:
        >>> mean_around(np.array([4.0, 2.0, 0.0, np.nan]), np.arange(4), 3)
        array([4., 2., 1., 0.])
    """
    means = np.full(len(places), np.nan)
    for number, place in enumerate(places):
        reach = min(width // 2, place)
        window = values[place - reach : place + reach + 1]
        if (finite := window[np.isfinite(window)]).size:
            means[number] = finite.mean()
    return means


def envelope(
    values: Float[np.ndarray, " n"], parts: int
) -> tuple[Int[np.ndarray, " parts"], Float[np.ndarray, " parts"], Float[np.ndarray, " parts"]]:
    """Cuts a series into parts of about the same length.

    Args:
        values: the series; NaN is left out.
        parts: their number, at most n.

    Returns:
        The place of the last value of each part, and its least and greatest value, NaN where it has none.

    Example:
        >>> envelope(np.array([3.0, 1.0, np.nan, 2.0]), 2)
        (array([1, 3]), array([1., 2.]), array([3., 2.]))
    """
    starts = np.arange(parts) * len(values) // parts
    last = np.append(starts[1:], len(values)) - 1
    return last, np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)


def _draw(axes: Axes, one: Series) -> None:
    name, steps, values = one
    last, least, greatest = envelope(values, min(MAX_POINTS, len(values)))
    if len(values) > MAX_POINTS:
        axes.fill_between(steps[last], least, greatest, color=COLORS[0], alpha=0.25, linewidth=0)
    else:
        axes.plot(steps, values, color=COLORS[0], alpha=0.35, linewidth=0.8)
    places = np.unique(np.append(0, last))
    means = values[places] if name in _SUMS else mean_around(values, places, len(values) // 50)
    marker = "." if len(values) < _FEW_STEPS else ""
    axes.plot(steps[places], means, color=COLORS[0], marker=marker)
    remarks = []
    if _spans_magnitudes(values, means):
        set_log_scale(axes, "y")
        remarks.append("log")
    if broken := int(np.isnan(values).sum()):
        remarks.append(f"{broken:,} not finite")
    words = _words(name) + f" ({', '.join(remarks)})" * bool(remarks)
    axes.set_title("\n".join(textwrap.wrap(words, 36)[:2]))
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if name in _COUNTS:
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(bottom=0)


def _words(name: str) -> str:
    return _TITLES.get(name, printable(name).replace("_", " "))


def _constant(values: Float[np.ndarray, " n"]) -> str | None:
    """Returns what the values are, if a panel of them shows nothing."""
    if not np.isfinite(values).any():
        return "never finite"
    if len(values) > 1 and (values == values[0]).all():
        return f"{values[0]:g} at all steps"
    return None


def _spans_magnitudes(values: Float[np.ndarray, " n"], means: Float[np.ndarray, " m"]) -> bool:
    """Returns whether a logarithmic axis shows more: both single values and means differ by factors."""
    if not np.nanmin(values) > 0:
        return False
    ratios = np.nanmax(values) / np.nanmin(values), np.nanmax(means) / np.nanmin(means)
    return all(ratio > least for ratio, least in zip(ratios, _LOG_RATIOS, strict=True))


def _note(left_out: list[Series]) -> str:
    """Returns what the metrics are that have no panel."""
    names: dict[str, list[str]] = {}
    for one in left_out:
        names.setdefault(_constant(one.values), []).append(_words(one.name))
    return "; ".join(f"{what}: {', '.join(each)}" for what, each in names.items())
