"""Prints the table at the end of a sweep."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxhash.report.run_table import COLUMNS
from jaxhash.training.members import Member, setting_name
from jaxhash.utils.console import print_line, print_table

#: Columns of the table: a key of a setting's scores, and its title.
SETTING_COLUMNS = {
    "validation_map": "validation mAP",
    "validation_mahp_at_250": "validation mAHP@250",
    **{
        key: title
        for key, title in COLUMNS.items()
        if key not in ("map_worst_ties", "map_best_ties")
    },
}


def print_sweep(results: dict[str, Any], console: Console) -> None:
    """Prints mean and standard deviation over seeds of each setting, and the best setting."""
    settings, best = results["settings"], results["best"]
    seeds = len(results["seeds"])
    table = Table(
        title=f"{results['dataset']}, {results['items']['database']:,} items, {results['bits']} bits, "
        f"{seeds} seed{'s' * (seeds > 1)}",
        box=None,
    )
    scores = next((setting["scores"] for setting in settings if setting["scores"]), {})
    has_validation = results["items"]["validation"] > 0
    columns = {
        key: title
        for key, title in SETTING_COLUMNS.items()
        if key in scores and (has_validation or not key.startswith("validation"))
    }
    for name in results["axes"] or ["objective"]:
        table.add_column(name.replace("_", "-"))
    for title in columns.values():
        table.add_column(title, justify="right")
    for number, setting in enumerate(settings):
        names = [f"{value:g}" for value in setting["values"].values()] or [results["objective"]]
        names[0] += " *" * (number == best)
        scores = setting["scores"]
        cells = ("-" if scores is None else _cell(scores[key]) for key in columns)
        table.add_row(*names, *cells)
    print_table(console, table)
    for note in _notes(results):
        print_line(console, note)


def _notes(results: dict[str, Any]) -> Iterator[str]:
    """Yields leaks, members that diverged or collapsed, and the best setting."""
    for leak in results["leaks"]:
        yield f"leak: {leak}"
    for member in results["members"]:
        name = Member(member["seed"], member["values"]).name
        if member["diverged_at_step"] is not None:
            yield f"{name}: diverged at step {member['diverged_at_step']:,}"
        elif member["collapsed_at_step"] is not None:
            yield f"{name}: the codes collapsed at step {member['collapsed_at_step']:,}"
    settings = results["settings"]
    if results["best"] is not None:
        setting = settings[results["best"]]
        yield (
            f"best by validation: {setting_name(setting['values'])}, mAP "
            f"{_cell(setting['scores']['map'])} on the queries, touched once"
        )
    elif len(settings) == 1 and settings[0]["scores"] is not None:
        yield f"mAP {_cell(settings[0]['scores']['map'])} over {len(results['seeds'])} seeds"


def _cell(summary: dict[str, float | None]) -> str:
    """Formats mean and standard deviation over seeds; one seed has no deviation."""
    deviation = "n/a" if summary["deviation"] is None else f"{summary['deviation']:.4f}"
    return f"{summary['mean']:.4f} ± {deviation}"
