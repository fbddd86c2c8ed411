"""Plots precision against recall."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxhash.report.plots.style import styled


@styled
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
