"""The plots of a run. Each function draws one figure and returns it; nothing is global."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxhash.training.speed import TIMING_FIELDS

RIGHT, WRONG = "#2a7f3f", "#c0392b"


class Neighbors(NamedTuple):
    """A few queries, each with its nearest items of the database."""

    images: Sequence[Sequence[Shaped[np.ndarray, "..."]]]
    """A row a query: its input first, then those of its neighbors, nearest first."""
    titles: Sequence[Sequence[str]]
    """Class names of the same."""
    relevant: Sequence[Sequence[bool]] | Bool[np.ndarray, "queries k"]
    """Whether each neighbor (without the query) shares a class with the query."""
    names: Sequence[Sequence[str]] = ()
    """What the items are called, as ``titles``; they are in no plot."""

    def to_json(self) -> list[dict[str, Any]]:
        """The rows in words: a query, and its neighbors."""
        return [
            {
                "query": names[0],
                "class": titles[0],
                "nearest": [
                    {"item": name, "class": title, "relevant": bool(right)}
                    for name, title, right in zip(names[1:], titles[1:], relevant, strict=True)
                ],
            }
            for names, titles, relevant in zip(self.names, self.titles, self.relevant, strict=True)
        ]


def plot_losses(records: Sequence[dict[str, int | float]]) -> Figure:
    """The loss and its terms over the steps, one panel each, with a running mean over 1/50."""
    steps = np.array([record["step"] for record in records])
    known = dict.fromkeys(name for record in records for name in record)
    names = [name for name in known if name not in ("step", *TIMING_FIELDS)]
    panels = max(1, len(names))  # an empty one where no record is left
    figure = Figure(figsize=(3.2 * panels, 2.8), layout="constrained")
    window = max(1, len(steps) // 50)
    for axes, name in zip(figure.subplots(1, panels, squeeze=False)[0], names, strict=False):
        # None: it was not finite, or the step has none
        values = np.array([record.get(name) for record in records], float)
        axes.plot(steps, values, color="0.8", linewidth=0.8)
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], smooth, color="C0")
        axes.set(title=name, xlabel="step")
    return figure


def plot_code_values(
    start: Float[np.ndarray, "n bits"], end: Float[np.ndarray, "n bits"]
) -> Figure:
    """Histogram of the real-valued codes before and after training, with -1 and +1 marked."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    for axes, title, codes in zip(
        figure.subplots(1, 2), ("before training", "after training"), (start, end), strict=True
    ):
        reach = max(1.5, float(np.quantile(np.abs(codes), 0.999)))
        axes.hist(np.clip(codes.ravel(), -reach, reach), bins=101, range=(-reach, reach))
        for sign in (-1, 1):
            axes.axvline(sign, color="0.4", linewidth=0.8, linestyle="--")
        axes.set(title=title, xlabel="code value", yticks=[])
    return figure


def plot_precision_recall(results: dict[str, Any]) -> Figure:
    """Precision against recall over the Hamming radius, for the learned codes and the baselines."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, scores in (("learned", results), *results["baselines"].items()):
        curve = scores["precision_recall"]
        precision = np.array(curve["precision"], dtype=float)  # None, nothing retrieved, is a gap
        axes.plot(curve["recall"], precision, marker=".", markersize=3, label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(frameon=False)
    return figure


def plot_neighbors(neighbors: Neighbors) -> Figure:
    """A grid: each row a query and its nearest items, right ones framed green, wrong ones red."""
    rows, columns = len(neighbors.images), len(neighbors.images[0])
    height = rows + 0.2  # in cells
    figure = Figure(figsize=(0.8 * columns, 0.8 * height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(height, 0), aspect="equal")
    axes.set_axis_off()  # one pair of axes for all cells: a pair for each takes ten times as long
    for row, (images, titles, relevant) in enumerate(zip(*neighbors[:3], strict=True)):
        for column, (image, title, right) in enumerate(
            zip(images, titles, (None, *relevant), strict=True)
        ):
            color = "0.2" if right is None else RIGHT if right else WRONG
            _draw_input(axes, image, center=(column + 0.5, row + 0.75), color=color)
            axes.text(column + 0.5, row + 0.3, title, fontsize=6, color=color, ha="center")
    axes.text(0.5, 0.15, "query", ha="center", fontsize=7)
    return figure


def _draw_input(
    axes: Any, values: Shaped[np.ndarray, "..."], *, center: tuple[float, float], color: str
) -> None:
    """An image as itself, a feature vector as a small heat map of its values, in a frame."""
    options = {"interpolation": "nearest", "cmap": "gray"}  # which colors do not need
    if values.ndim == 3:
        cells = values.squeeze(axis=2) if values.shape[2] == 1 else values
    else:
        side = int(np.ceil(np.sqrt(values.size)))
        cells = np.pad(values.ravel(), (0, side * side - values.size)).reshape(side, side)
        reach = np.abs(values).max()
        options |= {"cmap": "coolwarm", "vmin": -reach, "vmax": reach}
    height, width = np.array(cells.shape[:2]) * 0.76 / max(cells.shape[:2])
    left, top = center[0] - width / 2, center[1] - height / 2
    axes.imshow(cells, extent=(left, left + width, top + height, top), **options)
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=color, linewidth=2))
