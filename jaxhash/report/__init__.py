"""Tables and plots, drawn from results.

`run_table`, `sweep_table` and `comparison_table` print the results of a run, of a sweep and of runs side by
side, `model_table` the layers of a model, and `methods` the list of methods. `jaxhash.report.plots` draws
the figures in a run's ``report`` folder, and `jaxhash.report.html` makes pages. Each function takes results
as ``results.json`` holds them, and computes no metric itself.

Read first: `run_table`, which defines the columns that the other tables share.
"""

from jaxhash.report.methods import METHOD_COLUMNS as METHOD_COLUMNS
from jaxhash.report.methods import method_rows as method_rows
from jaxhash.report.methods import print_methods as print_methods
from jaxhash.report.model_table import print_model_summary as print_model_summary
from jaxhash.report.run_table import print_run as print_run
from jaxhash.report.run_table import ranking_rows as ranking_rows
from jaxhash.report.run_table import run_title as run_title
from jaxhash.report.sweep_table import print_sweep as print_sweep
