"""Prints the table of a model: shapes, parameters and multiply-adds."""

from rich.console import Console
from rich.table import Table

from jaxhash.models import Summary
from jaxhash.utils.console import print_line, print_table


def print_model_summary(summary: Summary, console: Console) -> None:
    """Prints a row for each stage and layer, the sums, and the multiply-adds of a training step."""
    table = Table(box=None)
    table.add_column("part")
    for title in ("output", "parameters", "trained", "multiply-adds"):
        table.add_column(title, justify="right")
    for row in summary.rows:
        shape = "-" if row.shape is None else " x ".join(map(str, row.shape))
        table.add_row(row.name, shape, *_format_counts(row.parameters, row.trained, row.macs))
    table.add_row("all", "", *_format_counts(summary.parameters, summary.trained, summary.macs))
    print_table(console, table)
    print_line(console, f"training: about {summary.training_macs:,} multiply-adds an input")


def _format_counts(*counts: int) -> list[str]:
    return [f"{count:,}" for count in counts]
