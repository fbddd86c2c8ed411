"""Plots several runs in one figure: their training, precision and recall, and single queries."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxhash.report.plots.style import INK, LINE_STYLES, PAGE_WIDTH, styled

#: A line has at most this many points, however many steps or queries there are.
_MAX_POINTS = 200

#: What is plotted of each step, if the records have it, and the title of its panel.
_OF_STEPS = {"loss": "loss", "bit_balance": "bit balance of the batch"}

#: Replaces the marker of lines with many points.
_NO_MARKER = {"marker": ""}

#: Characters of a name in a legend.
_LONGEST_NAME = 56


def line_styles() -> Iterator[dict[str, Any]]:
    """Yields colors, dashes and markers of lines: neighbors differ in all, and the first 36 in some."""
    for number in itertools.count():
        turn, place = divmod(number, len(LINE_STYLES))
        yield LINE_STYLES[(place + turn) % len(LINE_STYLES)] | {
            "color": LINE_STYLES[place]["color"]
        }


def add_legend(figure: Figure, axes: Axes, names: Sequence[str]) -> None:
    """Names the first lines of some axes, in rows below the panels of the figure.

    Args:
        figure: with a constrained layout.
        axes: axes with a line for each name, before any other.
        names: the names; long ones are cut in the middle.
    """
    half = _LONGEST_NAME // 2
    short = [n if len(n) <= _LONGEST_NAME else f"{n[: half - 1]}...{n[-half + 2 :]}" for n in names]
    columns = max(1, 110 // (max(map(len, short)) + 8))
    figure.legend(
        axes.lines[: len(names)], short, loc="outside lower left", ncols=min(columns, len(names))
    )


@styled
def plot_steps(records: Mapping[str, Sequence[dict[str, Any]]]) -> Figure:
    """Draws the loss and the bit balance of several runs over the steps, as means of short parts.

    Args:
        records: by name of the run, its metrics.jsonl.
    """
    known = {name for each in records.values() for record in each for name in record}
    shown = [name for name in _OF_STEPS if name in known] or ["loss"]
    figure = Figure(figsize=(PAGE_WIDTH, 3.4), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, name in zip(panels, shown, strict=True):
        for run, style in zip(records, line_styles(), strict=False):
            having = [record for record in records[run] if name in record]
            steps = np.array([record["step"] for record in having], float)
            values = np.array([record[name] for record in having], float)  # None becomes NaN
            axes.plot(_means_of_parts(steps), _means_of_parts(values), **style | _NO_MARKER)
        axes.set(title=_OF_STEPS[name], xlabel="step")
    add_legend(figure, panels[0], [*records])
    return figure


@styled
def plot_precision_recall_of_runs(results: Mapping[str, dict[str, Any]]) -> Figure:
    """Draws precision against recall within each Hamming radius for several runs.

    Args:
        results: by name of the run, the content of its results.json.
    """
    figure = Figure(figsize=(0.67 * PAGE_WIDTH, 3.8), layout="constrained")
    axes = figure.subplots()
    for scores, style in zip(results.values(), line_styles(), strict=False):
        curve = scores["precision_recall"]
        precision = np.array(curve["precision"], float)  # None, where nothing is found, is a gap
        axes.plot(curve["recall"], precision, markersize=3, **style)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title("precision and recall within each radius")
    add_legend(figure, axes, [*results])
    return figure


@styled
def plot_differences(
    first: str, differences: Mapping[str, Float[np.ndarray, " queries"]]
) -> Figure:
    """Draws the differences of the average precision of single queries, in descending order.

    Args:
        first: name of the run that is subtracted.
        differences: by name of each other run, the difference of each query.
    """
    figure = Figure(figsize=(0.67 * PAGE_WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    styles = itertools.islice(line_styles(), 1, None)  # the first is that of the one subtracted
    for values, style in zip(differences.values(), styles, strict=False):
        values = np.sort(values)[::-1]
        kept = np.unique(np.linspace(0, len(values) - 1, _MAX_POINTS).round().astype(int))
        axes.plot(100 * (kept + 0.5) / len(values), values[kept], **style | _NO_MARKER)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="% of the queries, the greatest gain first", xlim=(0, 100))
    axes.set(ylabel="difference", title=f"average precision minus that of {first}")
    add_legend(figure, axes, [*differences])
    return figure


def _means_of_parts(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " parts"]:
    """Returns the means of consecutive parts of about the same length, NaN where a value is."""
    parts = np.array_split(values, max(1, min(_MAX_POINTS, len(values))))
    return np.array([part.mean() if len(part) else np.nan for part in parts])
