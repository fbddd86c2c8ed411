"""The plots of runs, all in one style. Each function returns a new figure and keeps no global state.

Read first: `style`, which every plot is drawn in, and which makes files and parts of pages of figures.
"""

from jaxhash.report.plots.bits import Score as Score
from jaxhash.report.plots.bits import plot_bits as plot_bits
from jaxhash.report.plots.bits import plot_settings as plot_settings
from jaxhash.report.plots.code_values import count_code_values as count_code_values
from jaxhash.report.plots.code_values import plot_code_values as plot_code_values
from jaxhash.report.plots.comparison import plot_differences as plot_differences
from jaxhash.report.plots.comparison import (
    plot_precision_recall_of_runs as plot_precision_recall_of_runs,
)
from jaxhash.report.plots.comparison import plot_steps as plot_steps
from jaxhash.report.plots.losses import plot_losses as plot_losses
from jaxhash.report.plots.neighbors import NeighborExamples as NeighborExamples
from jaxhash.report.plots.neighbors import plot_neighbors as plot_neighbors
from jaxhash.report.plots.precision_recall import plot_precision_recall as plot_precision_recall
from jaxhash.report.plots.style import inline_svg as inline_svg
from jaxhash.report.plots.style import save_figure as save_figure
from jaxhash.report.plots.style import set_log_scale as set_log_scale
from jaxhash.report.plots.style import styled as styled
from jaxhash.report.plots.style import to_svg as to_svg
from jaxhash.report.plots.style import write_figure as write_figure
