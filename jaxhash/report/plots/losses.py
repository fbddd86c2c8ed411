"""Plots the loss and its terms over the steps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxhash.report.plots.style import styled
from jaxhash.training.speed import TIMING_FIELDS


@styled
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
