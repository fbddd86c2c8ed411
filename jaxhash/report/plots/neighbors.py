"""Plots a few queries with their nearest items: pictures of images, and names of all else."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from jaxhash.report.plots.style import INK, PAGE_WIDTH, styled
from jaxhash.utils.errors import printable


class Mark(NamedTuple):
    """What marks a neighbor: a sign and a dash beside the color, for who does not tell colors apart."""

    color: str
    sign: str
    dash: str


RELEVANT = Mark("#0072b2", "\N{CHECK MARK}", "-")
IRRELEVANT = Mark("#d55e00", "\N{BALLOT X}", "--")

#: What the signs and numbers are.
_CAPTION = f"{RELEVANT.sign} shares a class, {IRRELEVANT.sign} shares none; the number is the Hamming distance"

#: Height in inches of title and caption.
_HEADER = 0.5

#: Longest side in pixels at which an image is drawn; what is larger is reduced.
_SIDE = 72

#: Characters of a line in as many columns; a longer line is cut.
_LINE_LENGTHS = {4: 33, 3: 45, 2: 70, 1: 140}


class NeighborExamples(NamedTuple):
    """A few queries, each with its nearest items of the database."""

    images: Sequence[Sequence[Shaped[np.ndarray, "..."]]]
    """For each query its input, then the inputs of its neighbors, nearest first; none if they are no
    single array."""
    titles: Sequence[Sequence[str]]
    """Class names, in the order of ``images``."""
    relevant: Sequence[Sequence[bool]]
    """True where a neighbor (without the query) shares a class with the query."""
    names: Sequence[Sequence[str]]
    """Names of the items, in the order of ``images``."""
    distances: Sequence[Sequence[int]]
    """Hamming distance of each neighbor to the query."""

    def to_json(self) -> list[dict[str, Any]]:
        """Returns, for each query, its name, its class and its neighbors."""
        return [
            {
                "query": names[0],
                "class": titles[0],
                "nearest": [
                    {
                        "item": name,
                        "class": title,
                        "relevant": is_relevant,
                        "distance": distance,
                    }
                    for name, title, is_relevant, distance in zip(
                        names[1:], titles[1:], relevant, distances, strict=True
                    )
                ],
            }
            for titles, relevant, names, distances in zip(*self[1:], strict=True)
        ]


@styled
def plot_neighbors(neighbors: NeighborExamples, *, title: str = "") -> Figure:
    """Draws each query and its nearest items, with class and distance: images, or else a list of names.

    A relevant item has a check mark, and a solid blue frame if it is an image; another one has a cross, and
    a dashed orange frame.

    Args:
        neighbors: the queries and their nearest items.
        title: title of the figure.
    """
    is_image = len(neighbors.images) > 0 and np.ndim(neighbors.images[0][0]) == 3
    return (_plot_images if is_image else _plot_names)(neighbors, title)


def _plot_images(neighbors: NeighborExamples, title: str) -> Figure:
    rows, columns = len(neighbors.images), len(neighbors.images[0])
    cell = PAGE_WIDTH / max(columns, 11)
    width = max(cell * columns, PAGE_WIDTH / 2)
    figure, axes = _make_page(width, _HEADER + 1.2 * cell * rows, title)
    for row, (images, titles, relevant, _, distances) in enumerate(zip(*neighbors, strict=True)):
        top = _HEADER + 1.2 * cell * row
        for column, (image, class_names) in enumerate(zip(images, titles, strict=True)):
            center = (cell * (column + 0.5), top + 0.78 * cell)
            if column == 0:
                mark, words = Mark(INK, "", "-"), "query"
            else:
                mark = RELEVANT if relevant[column - 1] else IRRELEVANT
                words = f"{mark.sign} {distances[column - 1]}"
            _draw_image(axes, image, center, 0.76 * cell, mark)
            lines = f"{words}\n{_cut(printable(class_names), 15)}"
            x, y = cell * (column + 0.12), top + 0.35 * cell
            axes.text(x, y, lines, fontsize=6.5, color=mark.color)
    return figure


def _draw_image(
    axes: Axes,
    pixels: Shaped[np.ndarray, "h w c"],
    center: tuple[float, float],
    side: float,
    mark: Mark,
) -> None:
    """Draws an image in a frame, its longest side in inches."""
    image = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    image.thumbnail((_SIDE, _SIDE))
    width, height = np.array([pixels.shape[1], pixels.shape[0]]) * side / max(pixels.shape[:2])
    left, top = center[0] - width / 2, center[1] - height / 2
    axes.imshow(
        image,
        extent=(left, left + width, top + height, top),
        interpolation="none",  # SVG then holds the pixels themselves
    )
    frame = {"fill": False, "edgecolor": mark.color, "linewidth": 2, "linestyle": mark.dash}
    axes.add_patch(Rectangle((left, top), width, height, **frame))


def _plot_names(neighbors: NeighborExamples, title: str) -> Figure:
    lists = [_lines(*parts) for parts in zip(*neighbors[1:], strict=True)]
    longest = max(len(text) for lines in lists for text, _ in lines)
    fitting = [columns for columns, length in _LINE_LENGTHS.items() if length >= longest]
    columns = fitting[0] if fitting else 1
    line = 0.15
    height = line * (max(map(len, lists)) + 1)
    rows = -(-len(lists) // columns)
    figure, axes = _make_page(PAGE_WIDTH, _HEADER + height * rows, title)
    for number, lines in enumerate(lists):
        row, column = divmod(number, columns)
        x, top = 0.1 + PAGE_WIDTH / columns * column, _HEADER + height * row
        for place, (text, color) in enumerate(lines):
            weight = "bold" if place == 0 else "normal"
            text = _cut(text, _LINE_LENGTHS[columns])
            axes.text(x, top + line * (place + 1), text, fontsize=7, color=color, weight=weight)
    return figure


def _lines(
    titles: Sequence[str],
    relevant: Sequence[bool],
    names: Sequence[str],
    distances: Sequence[int],
) -> list[tuple[str, str]]:
    """Returns the lines of a query and their colors: the query, then its nearest items."""
    items = [printable(f"{title}: {name}") for title, name in zip(titles, names, strict=True)]
    lines = [(items[0], INK)]
    for rank, is_relevant in enumerate(relevant):
        mark = RELEVANT if is_relevant else IRRELEVANT
        lines.append((f"{mark.sign} {distances[rank]:>2} {items[rank + 1]}", mark.color))
    return lines


def _make_page(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Returns a figure with one axes in inches from the top left, which is quick for many cells."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(0.1, 0.25, title, fontsize=11)
    axes.text(0.1, 0.43, _CAPTION, fontsize=7)
    return figure, axes


def _cut(text: str, length: int) -> str:
    """Returns a text; a long one without its middle, as names differ at both ends."""
    half = (length - 3) // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"
