"""Prints runs side by side: their numbers, and the differences of their mAP."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxhash.metrics import PairedTest
from jaxhash.report.run_table import COLUMNS
from jaxhash.utils.console import print_line, print_table
from jaxhash.utils.errors import printable

#: What `difference_rows` tests, for a note below it.
TEST_NOTE = (
    "95 % intervals by the bootstrap over queries, p by the paired randomization test, each for its "
    "comparison alone; neither says how much another seed of the training would change"
)


class Difference(NamedTuple):
    """The mAP of one system of codes minus that of another, on the same queries.

    Attributes:
        test: the difference, its interval and its p-value.
        better: number of queries with a higher average precision.
        equal: number of queries with the same.
        worse: number of queries with a lower one.
    """

    test: PairedTest
    better: int
    equal: int
    worse: int


class Comparison(NamedTuple):
    """Runs of one split, side by side.

    Attributes:
        results: by name of the run, the content of its results.json.
        first: name of the run that the others are compared with.
        differences: by name of the run, the difference of its mAP to that of the first.
        notes: sentences on what was guessed or left out.
    """

    results: dict[str, dict[str, Any]]
    first: str
    differences: dict[str, Difference]
    notes: tuple[str, ...]


def score_rows(results: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns the titles and the rows of a table of runs: how each was trained, and its scores.

    Args:
        results: by name of the run, the content of its results.json.
    """
    keys = [key for key in COLUMNS if any(key in each for each in results.values())]
    titles = ["run", "objective", "bits", "seed", *(COLUMNS[key] for key in keys)]
    rows = [
        [
            name,
            each["objective"],
            f"{each['bits']}",
            f"{each['seed']}",
            *(f"{each[key]:.4f}" if key in each else "-" for key in keys),
        ]
        for name, each in results.items()
    ]
    return titles, rows


def difference_rows(
    differences: dict[str, Difference], first: str
) -> tuple[list[str], list[list[str]]]:
    """Returns the titles and the rows of a table of differences of mAP.

    Args:
        differences: by name, the difference to the first.
        first: name of what all are compared with.
    """
    titles = [f"minus {first}", "mAP", "95 % interval", "p", "better", "equal", "worse"]
    rows = [
        [
            name,
            f"{test.difference:+.4f}",
            f"{test.interval.low:+.4f} to {test.interval.high:+.4f}",
            f"{test.p_value:.2g}",
            *(f"{count:,}" for count in counts),
        ]
        for name, (test, *counts) in differences.items()
    ]
    return titles, rows


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints runs of one split: their numbers, the differences to the first, and notes."""
    some = comparison.results[comparison.first]
    items = some["items"]
    title = f"{some['dataset']}, {items['query']:,} queries, {items['database']:,} items"
    _print_table(title, *score_rows(comparison.results), console, left=2)
    if comparison.differences:
        rows = difference_rows(comparison.differences, comparison.first)
        _print_table("by query", *rows, console, left=1)
        print_line(console, TEST_NOTE)
    for note in comparison.notes:
        print_line(console, note)


def _print_table(
    title: str,
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    console: Console,
    *,
    left: int,
) -> None:
    """Prints a table, some columns of it to the left and the others to the right."""
    table = Table(title=Text(printable(title)), box=None)
    for number, each in enumerate(titles):
        is_left = number < left
        table.add_column(
            Text(printable(each)), justify="left" if is_left else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    print_table(console, table)
