"""Plots the real-valued codes before and after training."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxhash.report.plots.style import styled


@styled
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
