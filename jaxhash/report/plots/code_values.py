"""Counts and plots the real-valued codes before and after training."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxhash.report.plots.panels import Margins, make_panels
from jaxhash.report.plots.style import COLORS, INK, PAGE_WIDTH, styled

_TIMES = ("before", "after")
_BINS = 101

#: A value at most this far from -1 or +1 is near.
NEAR = 0.1


def count_code_values(
    before: Float[np.ndarray, "n bits"], after: Float[np.ndarray, "n bits"]
) -> dict[str, Any]:
    """Counts the values of codes in bins of equal width, the same before and after training.

    Args:
        before: real-valued codes before training.
        after: codes of the same items after training.

    Returns:
        As JSON: ``items`` and ``bits``, ``edges`` of the bins, where the first and the last bin hold all
        values beyond them, too, and for ``before`` and ``after`` the ``counts`` in the bins and the share
        ``near_one`` of values at most 0.1 from -1 or +1.
    """
    codes = dict(zip(_TIMES, (before, after), strict=True))
    limit = max(1.5, *(float(np.quantile(np.abs(values), 0.999)) for values in codes.values()))
    edges = np.linspace(-limit, limit, _BINS + 1)
    return {
        "items": before.shape[0],
        "bits": before.shape[1],
        "edges": edges.tolist(),
    } | {
        time: {
            "counts": np.histogram(np.clip(values, -limit, limit), edges)[0].tolist(),
            "near_one": float(np.mean(np.abs(np.abs(values) - 1) <= NEAR)),
        }
        for time, values in codes.items()
    }


@styled
def plot_code_values(counts: dict[str, Any], *, title: str = "") -> Figure:
    """Draws the histograms of `count_code_values` side by side; the bands are what is near -1 and +1.

    Args:
        counts: what `count_code_values` returned.
        title: title of the figure.
    """
    edges = np.array(counts["edges"])
    figure, panels = make_panels(
        2,
        2,
        width=PAGE_WIDTH / 2,
        height=2.4,
        title=title,
        note=f"values of {counts['items']:,} items of the database; the bands are {NEAR:g} wide "
        "on both sides of -1 and +1",
        margins=Margins(top=0.35),
    )
    for axes, time in zip(panels, _TIMES, strict=True):
        values, near_one = np.array(counts[time]["counts"]), counts[time]["near_one"]
        axes.stairs(values / values.sum(), edges, fill=True, color=COLORS[0])
        for sign in (-1, 1):
            axes.axvspan(
                sign - NEAR, sign + NEAR, color=COLORS[3], alpha=0.3, linewidth=0, zorder=0
            )
            axes.axvline(sign, color=INK, linewidth=0.8, linestyle="--")
        axes.set_title(f"{time} training: {near_one:.1%} near -1 or +1")
        axes.set(xlabel="code value", ylabel="share of values", xlim=(edges[0], edges[-1]))
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    return figure
