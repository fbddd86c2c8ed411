"""Draws the plots of a run. Each function returns a new figure and keeps no global state."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxhash.training.speed import TIMING_FIELDS

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


def plot_losses(records: Sequence[dict[str, int | float]]) -> Figure:
    """Draws the loss and its terms over the steps, a panel each.

    A second line is the running mean over 1/50 of the steps.
    """
    steps = np.array([record["step"] for record in records])
    known = dict.fromkeys(name for record in records for name in record)
    names = [name for name in known if name not in ("step", *TIMING_FIELDS)]
    panels = max(1, len(names))  # an empty panel if there is no record
    figure = Figure(figsize=(3.2 * panels, 2.8), layout="constrained")
    window = max(1, len(steps) // 50)
    for axes, name in zip(figure.subplots(1, panels, squeeze=False)[0], names, strict=False):
        # None: the value was not finite, or the step lacks it
        values = np.array([record.get(name) for record in records], float)
        axes.plot(steps, values, color="0.8", linewidth=0.8)
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], smooth, color="C0")
        axes.set(title=name, xlabel="step")
    return figure


def plot_code_values(
    start: Float[np.ndarray, "n bits"], end: Float[np.ndarray, "n bits"]
) -> Figure:
    """Draws histograms of the real-valued codes before and after training; marks -1 and +1."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    for axes, title, codes in zip(
        figure.subplots(1, 2), ("before training", "after training"), (start, end), strict=True
    ):
        limit = max(1.5, float(np.quantile(np.abs(codes), 0.999)))
        axes.hist(np.clip(codes.ravel(), -limit, limit), bins=101, range=(-limit, limit))
        for sign in (-1, 1):
            axes.axvline(sign, color="0.4", linewidth=0.8, linestyle="--")
        axes.set(title=title, xlabel="code value", yticks=[])
    return figure


def plot_precision_recall(results: dict[str, Any]) -> Figure:
    """Draws precision against recall over the Hamming radius, for codes and baselines."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, scores in (("learned", results), *results["baselines"].items()):
        curve = scores["precision_recall"]
        precision = np.array(
            curve["precision"], dtype=float
        )  # None (nothing retrieved) becomes a gap
        axes.plot(curve["recall"], precision, marker=".", markersize=3, label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(frameon=False)
    return figure


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
