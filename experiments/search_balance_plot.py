"""Draws the plot of `search_balance.py`: recall against what multi-index hashing visits, and against seconds."""

from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib.ticker import NullFormatter

COLORS = {"none": "tab:gray", "l2": "tab:orange", "hswd": "tab:blue"}
BASELINE_COLORS = {"itq": "tab:purple", "pca-rotation": "tab:brown"}
NAMES = {"none": "none", "l2": "L2", "hswd": "HSWD"}


def save_plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws, for each length and method, recall against entries visited, and of the first length against seconds.

    Args:
        rows: the rows of the results.
        path: path of the image.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows if row["quantizer"] != "-"))
    lengths = sorted({row["bits"] for row in rows})
    figure = matplotlib.figure.Figure(
        figsize=(3.4 * len(methods), 2.7 * (len(lengths) + 1)), layout="constrained"
    )
    grid = figure.subplots(len(lengths) + 1, len(methods), squeeze=False)
    for column, method in enumerate(methods):
        shown = [row for row in rows if row["method"] == method]
        truth = shown[0]["truth"]
        if truth == "features":
            shown += [row for row in rows if row["method"] in BASELINE_COLORS]
        for axes, length in zip(grid[:, column], lengths, strict=False):
            of_length = [row for row in shown if row["bits"] == length]
            if not any(row["method"] == method for row in of_length):
                axes.set_axis_off()
                continue
            _draw_visits(axes, of_length, truth)
            axes.set(title=f"{method}, {length} bits", xlabel="entries visited a query")
            axes.set_ylabel(f"recall@10 of {truth}")
        _draw_seconds(grid[-1, column], [row for row in shown if row["bits"] == lengths[0]])
        grid[-1, column].set(
            title=f"{method}, {lengths[0]} bits, faiss",
            xlabel="seconds a query",
            ylabel="recall@10",
        )
    lines = {line.get_label(): line for axes in grid.flat for line in axes.get_lines()}
    lines = {name: line for name, line in lines.items() if not name.startswith("_")}
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=len(lines))
    figure.savefig(path, dpi=150)


def _groups(rows: list[dict[str, Any]]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Returns label, color and rows of each quantizer or baseline."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        name = row["method"] if row["quantizer"] == "-" else row["quantizer"]
        groups.setdefault(name, []).append(row)
    colors = COLORS | BASELINE_COLORS
    return [(NAMES.get(name, name), colors[name], group) for name, group in groups.items()]


def _draw_visits(axes: Any, rows: list[dict[str, Any]], truth: str) -> None:
    """Draws the mean over seeds by a line with points at each radius, and each seed by a thin one."""
    for label, color, group in _groups(rows):
        entries = np.array([row["entries"] for row in group])
        shares = np.array([row["recall"][truth] for row in group])
        for one, share in zip(entries, shares, strict=True):
            axes.semilogx(np.maximum(one, 0.1), share, color=color, lw=0.4, alpha=0.6)
        mean = np.exp(np.log(np.maximum(entries, 0.1)).mean(axis=0))
        axes.semilogx(mean, shares.mean(axis=0), ".-", color=color, ms=3, lw=1.2, label=label)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)


def _draw_seconds(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Draws the tables of faiss by flips as a line, and its exact scan as a cross."""
    for label, color, group in _groups(rows):
        points = np.array(
            [
                [(each["seconds"], each["recall"]) for each in row["faiss"]]
                for row in group
                if row["faiss"]
            ]
        )
        seconds, share = np.moveaxis(np.median(points, axis=0), -1, 0)
        axes.semilogx(seconds[1:], share[1:], ".-", color=color, ms=4, lw=1.2, label=label)
        axes.semilogx(seconds[:1], share[:1], "x", color=color)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
