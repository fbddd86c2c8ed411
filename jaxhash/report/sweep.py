"""The table at the end of a sweep."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxhash.report.table import COLUMNS
from jaxhash.training.members import Member, setting_name
from jaxhash.utils.console import print_line

#: The columns of a setting: a key of its scores, and the title.
SHOWN = {
    "validation_map": "validation mAP",
    "validation_mahp_at_250": "validation mAHP@250",
    **{
        key: title
        for key, title in COLUMNS.items()
        if key not in ("map_worst_ties", "map_best_ties")
    },
}


def print_sweep(results: dict[str, Any], console: Console) -> None:
    """Print mean and standard deviation over seeds of each setting, and which is the best."""
    settings, chosen = results["settings"], results["best"]
    seeds = len(results["seeds"])
    table = Table(
        title=f"{results['dataset']}, {results['items']['database']:,} items, {results['bits']} bits, "
        f"{seeds} seed{'s' * (seeds > 1)}",
        box=None,
    )
    known = next((setting["scores"] for setting in settings if setting["scores"]), {})
    held_out = results["items"]["validation"] > 0
    columns = {
        key: title
        for key, title in SHOWN.items()
        if key in known and (held_out or not key.startswith("validation"))
    }
    for name in results["axes"] or ["objective"]:
        table.add_column(name.replace("_", "-"))
    for title in columns.values():
        table.add_column(title, justify="right")
    for number, setting in enumerate(settings):
        names = [f"{value:g}" for value in setting["values"].values()] or [results["objective"]]
        names[0] += " *" * (number == chosen)
        scores = setting["scores"]
        cells = ("-" if scores is None else _cell(scores[key]) for key in columns)
        table.add_row(*names, *cells)
    console.print(table)
    for remark in _remarks(results):
        print_line(console, remark)


def _remarks(results: dict[str, Any]) -> Iterator[str]:
    """What a reader of the numbers has to know, and at last what is best."""
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


def _cell(mean: dict[str, float | None]) -> str:
    """Mean and standard deviation over seeds; of one seed there is no deviation."""
    deviation = "n/a" if mean["deviation"] is None else f"{mean['deviation']:.4f}"
    return f"{mean['mean']:.4f} ± {deviation}"
