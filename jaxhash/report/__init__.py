"""Tables and plots of a run, drawn from its results."""

from jaxhash.report.methods import METHOD_COLUMNS as METHOD_COLUMNS
from jaxhash.report.methods import method_rows as method_rows
from jaxhash.report.methods import print_methods as print_methods
from jaxhash.report.plots import Neighbors as Neighbors
from jaxhash.report.plots import plot_code_values as plot_code_values
from jaxhash.report.plots import plot_losses as plot_losses
from jaxhash.report.plots import plot_neighbors as plot_neighbors
from jaxhash.report.plots import plot_precision_recall as plot_precision_recall
from jaxhash.report.summary import print_summary as print_summary
from jaxhash.report.sweep import print_sweep as print_sweep
from jaxhash.report.table import print_table as print_table
from jaxhash.report.table import table_rows as table_rows
