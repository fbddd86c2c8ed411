"""The plots of a run. Each function draws one figure and returns it; nothing is global."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from matplotlib.figure import Figure

from jaxhash.training.speed import TIMES

RIGHT, WRONG = "#2a7f3f", "#c0392b"


class Neighbours(NamedTuple):
    """A few queries, each with its nearest items of the database."""

    images: Sequence[Sequence[Shaped[np.ndarray, "..."]]]
    """A row a query: its input first, then those of its neighbours, nearest first."""
    titles: Sequence[Sequence[str]]
    """Class names of the same."""
    relevant: Sequence[Sequence[bool]] | Bool[np.ndarray, "queries k"]
    """Whether each neighbour (without the query) shares a class with the query."""


def plot_losses(records: Sequence[dict[str, int | float]]) -> Figure:
    """The loss and its terms over the steps, one panel each, with a running mean over 1/50."""
    steps = np.array([record["step"] for record in records])
    names = [name for name in records[0] if name not in ("step", *TIMES)]
    figure = Figure(figsize=(3.2 * len(names), 2.8), layout="constrained")
    window = max(1, len(steps) // 50)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        values = np.array([record[name] for record in records], float)  # None: it was not finite
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


def plot_neighbours(neighbours: Neighbours) -> Figure:
    """A grid: each row a query and its nearest items, right ones framed green, wrong ones red."""
    rows, columns = len(neighbours.images), len(neighbours.images[0])
    figure = Figure(figsize=(0.8 * columns, 0.95 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, images, titles, relevant in zip(grid, *neighbours, strict=True):
        for cell, image, title, right in zip(axes, images, titles, (None, *relevant), strict=True):
            _draw_input(cell, image)
            colour = "0.2" if right is None else RIGHT if right else WRONG
            cell.set_title(title, fontsize=6, color=colour, pad=2)
            for spine in cell.spines.values():
                spine.set(color=colour, linewidth=2)
    grid[0][0].annotate("query", (0.5, 1.45), xycoords="axes fraction", ha="center", fontsize=7)
    return figure


def _draw_input(axes: Any, values: Shaped[np.ndarray, "..."]) -> None:
    """An image as itself, a feature vector as a small heat map of its values."""
    axes.set(xticks=[], yticks=[])
    if values.ndim == 3:
        axes.imshow(values.squeeze(), cmap="gray" if values.shape[-1] == 1 else None)
    else:
        side = int(np.ceil(np.sqrt(values.size)))
        padded = np.pad(values.ravel(), (0, side * side - values.size))
        reach = np.abs(values).max()
        axes.imshow(padded.reshape(side, side), cmap="coolwarm", vmin=-reach, vmax=reach)
