"""Draws the map of `where_hswd_pays.py`: what HSWD gains over each other quantizer in each condition."""

from pathlib import Path
from typing import Any

import matplotlib.figure

#: Titles and colors of what HSWD is compared with.
AGAINST = {
    "none": ("none", "tab:gray"),
    "l2": ("L2", "tab:orange"),
    "l2 + balance": ("L2 and balance", "tab:green"),
}

TITLES = {
    "bits": "bits",
    "imbalance": "largest by smallest class",
    "classes": "classes",
    "batch": "items a step",
    "epochs": "epochs",
}


def save_plot(content: dict[str, Any], path: Path) -> None:
    """Draws a row of panels for each method: the difference of mAP, with its 95 % interval.

    Args:
        content: the results.
        path: path of the image.
    """
    comparisons = content["comparisons"]
    methods = list(dict.fromkeys(each["method"] for each in comparisons))
    values = {
        name: {each["value"] for each in comparisons if each["axis"] == name} for name in TITLES
    }
    axes_names = [name for name, found in values.items() if len(found) > 1]
    if not axes_names:
        return
    figure = matplotlib.figure.Figure(
        figsize=(1 + 2.6 * len(axes_names), 2.8 * len(methods) + 0.4), layout="constrained"
    )
    grid = figure.subplots(len(methods), len(axes_names), squeeze=False, sharey="row")
    for method, row in zip(methods, grid, strict=True):
        for name, axes in zip(axes_names, row, strict=True):
            _draw(axes, [e for e in comparisons if e["method"] == method and e["axis"] == name])
            axes.set(xlabel=TITLES[name])
        row[0].set_ylabel(f"{method}: mAP of HSWD\nless that of")
    lines, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=len(lines))
    figure.savefig(path, dpi=150)


def _draw(axes: Any, comparisons: list[dict[str, Any]]) -> None:
    values = sorted({each["value"] for each in comparisons})
    axes.axhline(0, color="black", linewidth=0.8)
    for shift, (against, (title, color)) in enumerate(AGAINST.items()):
        found = {each["value"]: each for each in comparisons if each["against"] == against}
        places = [values.index(value) + 0.12 * (shift - 1) for value in values if value in found]
        shown = [found[value] for value in values if value in found]
        if not shown:
            continue
        means = [each["difference"] for each in shown]
        below = [each["difference"] - each["interval"]["low"] for each in shown]
        above = [each["interval"]["high"] - each["difference"] for each in shown]
        axes.errorbar(
            places,
            means,
            [below, above],
            marker="o",
            markersize=3.5,
            capsize=2,
            color=color,
            label=title,
        )
    axes.set_xticks(range(len(values)), [f"{value:,}" for value in values])
