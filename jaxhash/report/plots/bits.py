"""Plots scores against what was varied: the length of the codes, or the settings of a sweep."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxhash.report.plots.comparison import add_legend, line_styles
from jaxhash.report.plots.style import PAGE_WIDTH, styled


class Score(NamedTuple):
    """A score of one training.

    Attributes:
        line: name of the line that it belongs to, such as the objective.
        place: what was varied: bits, or the value of a setting.
        score: the score.
    """

    line: str
    place: int | float
    score: float


@styled
def plot_bits(scores: Sequence[Score]) -> Figure:
    """Draws mAP against the length of the codes: a point for each run, and a line through the means.

    Args:
        scores: mAP by objective and bits; runs of other seeds have the same.
    """
    figure = Figure(figsize=(0.67 * PAGE_WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log", base=2)
    _draw_lines(figure, axes, scores, {score.place: score.place for score in scores})
    axes.set(title="mAP by the length of the codes", xlabel="bits", ylabel="mAP")
    return figure


@styled
def plot_settings(panels: dict[str, Sequence[Score]], axis: str) -> Figure:
    """Draws scores against the values of a setting: a point for each member, and a line through the means.

    The values stand at equal distances, in order.

    Args:
        panels: by title, the scores of a panel.
        axis: name of the setting.
    """
    figure = Figure(figsize=(PAGE_WIDTH, 3.4), layout="constrained")
    drawn = figure.subplots(1, max(len(panels), 2), squeeze=False)[0]
    for axes in drawn[len(panels) :]:
        axes.set_axis_off()
    for number, (title, scores) in enumerate(panels.items()):
        values = sorted({score.place for score in scores})
        places = {value: place for place, value in enumerate(values)}
        _draw_lines(figure if number == 0 else None, drawn[number], scores, places)
        drawn[number].set(title=title, xlabel=axis)
        drawn[number].set_xlim(-0.5, len(values) - 0.5)
    return figure


def _draw_lines(
    figure: Figure | None,
    axes: Axes,
    scores: Sequence[Score],
    places: dict[int | float, int | float],
) -> None:
    """Draws lines through the means of scores, and the scores where there are several.

    Args:
        figure: gets a legend if there are several lines; None for none.
        axes: where they are drawn.
        scores: the scores.
        places: where the values that were varied stand.
    """
    lines = defaultdict(lambda: defaultdict(list))
    for line, place, score in scores:
        lines[line][places[place]].append(score)
    for by_place, style in zip(lines.values(), line_styles(), strict=False):
        at = sorted(by_place)
        axes.plot(at, [np.mean(by_place[place]) for place in at], **style)
    for by_place, style in zip(lines.values(), line_styles(), strict=False):
        points = [(p, s) for p, found in by_place.items() if len(found) > 1 for s in found]
        if points:
            axes.scatter(*zip(*points, strict=True), s=12, color=style["color"], alpha=0.5)
    ticks = {where: f"{value:g}" for value, where in sorted(places.items())}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    if figure is not None and len(lines) > 1:
        add_legend(figure, axes, [*lines])
