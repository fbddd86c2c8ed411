"""Plots precision against recall."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxhash.report.plots.panels import Margins, make_panels
from jaxhash.report.plots.style import INK, LINE_STYLES, styled
from jaxhash.report.run_table import run_title
from jaxhash.utils.errors import printable

#: The radius that is marked on each curve: that of `precision_at_radius_2`.
_RADIUS = 2


@styled
def plot_precision_recall(results: dict[str, Any]) -> Figure:
    """Draws precision against recall over the Hamming radius, for codes and baselines, with their mAP.

    A radius at which no query finds anything has no precision: there the curve has a gap.

    Args:
        results: content of a results.json.
    """
    figure, [axes] = make_panels(
        1,
        1,
        width=7.0,
        height=3.4,
        title=run_title(results),
        note=f"a point for each Hamming radius; the ring is radius {_RADIUS}",
        margins=Margins(right=2.5, top=0.1),
    )
    curves = {printable(results["objective"]): results, **results["baselines"]}
    for (name, scores), style in zip(curves.items(), LINE_STYLES, strict=False):
        precision = np.array(scores["precision_recall"]["precision"], float)  # None: a gap
        recall = np.array(scores["precision_recall"]["recall"], float)
        label = textwrap.fill(f"{name}: mAP {scores['map']:.3f}", 32)
        width = 2.0 if scores is results else 1.2
        axes.plot(recall, precision, label=label, linewidth=width, markersize=4, **style)
        ring = {"marker": "o", "markersize": 9, "fillstyle": "none", "color": INK}
        axes.plot(recall[_RADIUS : _RADIUS + 1], precision[_RADIUS : _RADIUS + 1], **ring)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.04))
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), handlelength=3)
    return figure
