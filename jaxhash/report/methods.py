"""The table of methods: kind, state, rule for several labels, penalty, reference and preset."""

from rich.console import Console
from rich.table import Table

from jaxhash.objectives import METHODS, QUANTIZERS
from jaxhash.runs.presets import preset_of_method
from jaxhash.utils.console import print_table

METHOD_COLUMNS = ("method", "kind", "state", "multi-label", "own penalty", "reference", "preset")


def method_rows() -> list[tuple[str, ...]]:
    """Returns a row of `METHOD_COLUMNS` for each method."""
    return [
        (
            name,
            method.kind,
            method.state,
            method.multi_label,
            "-" if (weight := method.published_penalty) is None else f"{weight:g}",
            method.reference,
            preset_of_method(name),
        )
        for name, method in METHODS.items()
    ]


def print_methods(console: Console) -> None:
    """Prints the table, and the quantizers that any method takes, without cutting names."""
    if not console.is_terminal:
        console.width = 220
    table = Table(box=None)
    for title in METHOD_COLUMNS:
        table.add_column(title, overflow="fold")
    for row in method_rows():
        table.add_row(*row)
    print_table(console, table)
    console.print(
        f"\nquantizers of any method, by `quantizer`: none, own, {', '.join(QUANTIZERS)}",
        highlight=False,
    )
