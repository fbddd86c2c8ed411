"""The table of a model: shapes, parameters and multiply-adds."""

from rich.console import Console
from rich.table import Table

from jaxhash.models import Summary
from jaxhash.utils.console import print_line


def print_summary(summary: Summary, console: Console) -> None:
    """Print a line for each stage and layer, their sums, and what a training step computes."""
    table = Table(box=None)
    table.add_column("part")
    for title in ("output", "parameters", "trained", "multiply-adds"):
        table.add_column(title, justify="right")
    for row in summary.rows:
        shape = "-" if row.shape is None else " x ".join(map(str, row.shape))
        table.add_row(row.name, shape, *_numbers(row.parameters, row.trained, row.macs))
    table.add_row("all", "", *_numbers(summary.parameters, summary.trained, summary.macs))
    console.print(table)
    print_line(console, f"training: about {summary.training_macs:,} multiply-adds an input")


def _numbers(*counts: int) -> list[str]:
    return [f"{count:,}" for count in counts]
