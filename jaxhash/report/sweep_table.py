"""Prints the table at the end of a sweep."""

from collections.abc import Iterator, Sequence
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
    titles, rows = setting_rows(results)
    table = Table(title=sweep_title(results), box=None)
    axes = max(1, len(results["axes"]))
    for number, title in enumerate(titles):
        table.add_column(title, justify="left" if number < axes else "right")
    for row in rows:
        table.add_row(*row)
    print_table(console, table)
    for note in sweep_notes(results):
        print_line(console, note)


def sweep_title(results: dict[str, Any]) -> str:
    """Returns the data, the length of the codes and the number of seeds of a sweep."""
    seeds = len(results["seeds"])
    return (
        f"{results['dataset']}, {results['items']['database']:,} items, {results['bits']} bits, "
        f"{seeds} seed{'s' * (seeds > 1)}"
    )


def setting_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns the titles and the rows of a table of the settings of a sweep; the best has a star."""
    columns = _shown_scores(results, results["settings"])
    axes = [name.replace("_", "-") for name in results["axes"] or ["objective"]]
    rows = []
    for number, setting in enumerate(results["settings"]):
        names = [f"{value:g}" for value in setting["values"].values()] or [results["objective"]]
        names[0] += " *" * (number == results["best"])
        scores = setting["scores"]
        rows.append([*names, *("-" if scores is None else _cell(scores[key]) for key in columns)])
    return [*axes, *columns.values()], rows


def member_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns the titles and the rows of a table of the members of a sweep."""
    columns = _shown_scores(results, results["members"])
    rows = []
    for member in results["members"]:
        scores = member["scores"]
        name = Member(member["seed"], member["values"]).name
        cells = ("-" if scores is None else f"{scores[key]:.4f}" for key in columns)
        rows.append([name, *cells, _fate(member) or "finished"])
    return ["member", *columns.values(), "training"], rows


def _shown_scores(results: dict[str, Any], scored: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Returns the scores that settings or members of a sweep have, each with its title."""
    scores = next((each["scores"] for each in scored if each["scores"]), {})
    has_validation = results["items"]["validation"] > 0
    return {
        key: title
        for key, title in SETTING_COLUMNS.items()
        if key in scores and (has_validation or not key.startswith("validation"))
    }


def sweep_notes(results: dict[str, Any]) -> Iterator[str]:
    """Yields leaks, members that diverged or collapsed, and the best setting."""
    for leak in results["leaks"]:
        yield f"leak: {leak}"
    for member in results["members"]:
        if fate := _fate(member):
            yield f"{Member(member['seed'], member['values']).name}: {fate}"
    settings = results["settings"]
    if results["best"] is not None:
        setting = settings[results["best"]]
        yield (
            f"best by validation: {setting_name(setting['values'])}, mAP "
            f"{_cell(setting['scores']['map'])} on the queries, touched once"
        )
    elif len(settings) == 1 and settings[0]["scores"] is not None:
        yield f"mAP {_cell(settings[0]['scores']['map'])} over {len(results['seeds'])} seeds"


def _fate(member: dict[str, Any]) -> str:
    """Returns at which step a member diverged or its codes collapsed; empty if neither."""
    if member["diverged_at_step"] is not None:
        return f"diverged at step {member['diverged_at_step']:,}"
    if member["collapsed_at_step"] is not None:
        return f"the codes collapsed at step {member['collapsed_at_step']:,}"
    return ""


def _cell(summary: dict[str, float | None]) -> str:
    """Formats mean and standard deviation over seeds; one seed has no deviation."""
    deviation = "n/a" if summary["deviation"] is None else f"{summary['deviation']:.4f}"
    return f"{summary['mean']:.4f} ± {deviation}"
