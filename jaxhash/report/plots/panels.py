"""Panels at places that are given in inches, which costs a fraction of a layout that measures all text."""

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxhash.report.plots.style import COLUMN_WIDTH


class Margins(NamedTuple):
    """Room around the axes of a panel, in inches: for the labels, and for the title above."""

    left: float = 0.6
    right: float = 0.12
    top: float = 0.3
    bottom: float = 0.42


DEFAULT_MARGINS = Margins()


def make_panels(
    count: int,
    columns: int,
    *,
    width: float = COLUMN_WIDTH,
    height: float = 1.9,
    title: str = "",
    note: str = "",
    margins: Margins = DEFAULT_MARGINS,
) -> tuple[Figure, list[Axes]]:
    """Makes a figure of panels with axes, all of one size, in rows.

    Args:
        count: number of panels.
        columns: number of columns; the last row may have fewer panels.
        width: width of a panel in inches, with its margins.
        height: height of a panel in inches, with its margins.
        title: title of the figure; it is wrapped.
        note: text below the panels; it is wrapped.
        margins: the room around the axes.

    Returns:
        The figure, and the axes of each panel.
    """
    title = textwrap.fill(title, int(11 * width * columns))
    note = textwrap.fill(note, int(14 * width * columns))
    header, footer = (0.1 + 0.2 * len(text.splitlines()) if text else 0.0 for text in (title, note))
    size = np.array([width * columns, header + height * -(-count // columns) + footer])
    figure = Figure(figsize=size)
    inner = np.array([width - margins.left - margins.right, height - margins.top - margins.bottom])
    panels = []
    for number in range(count):
        row, column = divmod(number, columns)
        bottom = size[1] - header - height * (row + 1) + margins.bottom
        corner = np.array([width * column + margins.left, bottom])
        axes = figure.add_axes((*(corner / size), *(inner / size)))
        axes.xaxis.set_label_coords(0.5, -0.26 / inner[1])
        axes.yaxis.set_label_coords(-0.42 / inner[0], 0.5)
        panels.append(axes)
    left, edge = np.array([0.1, 0.08]) / size
    figure.text(left, 1 - edge, title, va="top", fontsize=11)
    figure.text(left, edge, note, va="bottom", fontsize=8)
    return figure, panels
