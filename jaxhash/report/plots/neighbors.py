"""Plots a few queries with their nearest items."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxhash.report.plots.style import styled

RELEVANT_COLOR, IRRELEVANT_COLOR = "#2a7f3f", "#c0392b"


class NeighborExamples(NamedTuple):
    """A few queries, each with its nearest items of the database."""

    images: Sequence[Sequence[Shaped[np.ndarray, "..."]]]
    """For each query its input, then the inputs of its neighbors, nearest first."""
    titles: Sequence[Sequence[str]]
    """Class names, in the order of ``images``."""
    relevant: Sequence[Sequence[bool]] | Bool[np.ndarray, "queries k"]
    """True where a neighbor (without the query) shares a class with the query."""
    names: Sequence[Sequence[str]] = ()
    """Names of the items, in the order of ``images``; the plot does not show them."""

    def to_json(self) -> list[dict[str, Any]]:
        """Returns, for each query, its name, its class and its neighbors."""
        return [
            {
                "query": names[0],
                "class": titles[0],
                "nearest": [
                    {"item": name, "class": title, "relevant": bool(is_relevant)}
                    for name, title, is_relevant in zip(
                        names[1:], titles[1:], relevant, strict=True
                    )
                ],
            }
            for names, titles, relevant in zip(self.names, self.titles, self.relevant, strict=True)
        ]


@styled
def plot_neighbors(neighbors: NeighborExamples) -> Figure:
    """Draws a row for each query: its nearest items, relevant ones framed green, others red."""
    rows, columns = len(neighbors.images), len(neighbors.images[0])
    height = rows + 0.2  # in cells
    figure = Figure(figsize=(0.8 * columns, 0.8 * height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(height, 0), aspect="equal")
    axes.set_axis_off()  # one axes for all cells: one for each cell takes ten times as long
    for row, (images, titles, relevant) in enumerate(zip(*neighbors[:3], strict=True)):
        for column, (image, title, is_relevant) in enumerate(
            zip(images, titles, (None, *relevant), strict=True)
        ):
            if is_relevant is None:  # the query itself
                color = "0.2"
            else:
                color = RELEVANT_COLOR if is_relevant else IRRELEVANT_COLOR
            _draw_input(axes, image, center=(column + 0.5, row + 0.75), color=color)
            axes.text(column + 0.5, row + 0.3, title, fontsize=6, color=color, ha="center")
    axes.text(0.5, 0.15, "query", ha="center", fontsize=7)
    return figure


def _draw_input(
    axes: Any, values: Shaped[np.ndarray, "..."], *, center: tuple[float, float], color: str
) -> None:
    """Draws an image, or a feature vector as a small heat map of its values, in a frame."""
    options = {"interpolation": "nearest", "cmap": "gray"}  # ignored for color images
    if values.ndim == 3:
        cells = values.squeeze(axis=2) if values.shape[2] == 1 else values
    else:
        side = int(np.ceil(np.sqrt(values.size)))
        cells = np.pad(values.ravel(), (0, side * side - values.size)).reshape(side, side)
        limit = np.abs(values).max()
        options |= {"cmap": "coolwarm", "vmin": -limit, "vmax": limit}
    height, width = np.array(cells.shape[:2]) * 0.76 / max(cells.shape[:2])
    left, top = center[0] - width / 2, center[1] - height / 2
    axes.imshow(cells, extent=(left, left + width, top + height, top), **options)
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=color, linewidth=2))
