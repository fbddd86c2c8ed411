"""Draws the tables and the sentences with figures of the README and of docs/ from the results.

    python experiments/tables.py

Each table stands between a pair of comments. The first names the file under experiments/results/ and,
after a dot, the table, if the file holds several. The tables of methods are drawn from the code as well.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import compiled_tables
import cross_modal_tables
import family_tables
import few_labels_tables
import grid_tables
import hierarchy_tables
import methods_tables
import protocol_tables
import scale_tables
import search_balance_tables
import speed_tables
import where_hswd_pays_tables

HERE = Path(__file__).parent
ROOT = HERE.parent

#: The pages that hold tables.
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "<!-- table " in page.read_text()
]


def named_table(content: dict, name: str) -> str:
    """Draws one table of a file that holds several, columns and rows as stored."""
    columns, rows = (content["tables"][name][part] for part in ("columns", "rows"))
    align = "|---|" if isinstance(rows[0][0], str) else "|---:|"
    lines = [f"| {' | '.join(columns)} |", align + "---:|" * (len(columns) - 1)]
    lines += [f"| {' | '.join(map(_value, row))} |" for row in rows]
    return "\n".join(lines)


def origin_line(content: dict) -> str:
    """Returns a sentence with what made the tables of a file."""
    hardware, versions = content["hardware"], content["versions"]
    cores = hardware["cpu_cores_used"]
    return (
        f"All tables: jax {versions['jax']}, numpy {versions['numpy']}, {cores} "
        f"core{'s' * (cores > 1)} of {hardware['cpu']}, by `{content['command']}`."
    )


def _value(cell: str | int | float | dict) -> str:
    match cell:
        case {"low": low, "high": high}:
            return f"{low:.4f} to {high:.4f}"
        case {"mean": mean, "deviation": deviation}:
            return f"{mean:.4f} ± {deviation:.4f}"
        case float():
            return f"{cell:.4f}"
        case int():
            return f"{cell:,}"
    return cell


#: What draws the tables of a file of results from its content and the name of a table.
DRAWERS: dict[str, Callable[[dict, str | None], str]] = {
    "hierarchy": hierarchy_tables.draw,
    "joint_law": methods_tables.draw,
    "methods": methods_tables.draw,
    "protocol_cifar10_features": protocol_tables.draw,
    "quantizer_grid": grid_tables.draw,
    "search_balance": search_balance_tables.draw,
    "where_hswd_pays": where_hswd_pays_tables.draw,
}

#: What draws the table of a file that has a single one.
SINGLE_DRAWERS: dict[str, Callable[[dict], str]] = {
    "bench_hswd_cpu": speed_tables.bench_table,
    "bench_hswd_h200": compiled_tables.draw,
    "bench_hswd_v5e": compiled_tables.draw,
    "bench_related_cpu": speed_tables.torch_table,
    "cross_modal": cross_modal_tables.draw,
    "data_pipeline_cpu": speed_tables.input_table,
    "few_labels": few_labels_tables.draw,
    "gradient_cache": speed_tables.gradient_cache_table,
    "hashnet_hswd_cifar10_features": methods_tables.comparison_table,
    "hashnet_hswd_fashion_mnist": methods_tables.comparison_table,
    "hierarchy_search": hierarchy_tables.draw_search,
    "iterative_affinity": few_labels_tables.draw_pixels,
    "kill_and_resume": speed_tables.kill_and_resume_line,
    "learning_rates": methods_tables.rates_table,
    "retrieval_speed": speed_tables.retrieval_table,
    "scale": scale_tables.draw_scale,
    "soak": scale_tables.draw_soak,
    "sweep_speed": speed_tables.sweep_line,
    "table_sharding": speed_tables.table_sharding_table,
    "training_step": speed_tables.ratio_line,
}


def draw(file: str, name: str | None) -> str:
    """Draws the table of a file of results, or its table of that name, by default as it is stored."""
    if file == "objectives":
        return methods_tables.objectives_table()
    if file == "family":
        return family_tables.draw(name)
    content = json.loads((HERE / "results" / f"{file}.json").read_text())
    if file in DRAWERS:
        return DRAWERS[file](content, name)
    if file in SINGLE_DRAWERS:
        return SINGLE_DRAWERS[file](content)
    return origin_line(content) if name is None else named_table(content, name)


def render(text: str) -> str:
    """Returns a page with its tables drawn again."""
    return re.sub(
        r"(<!-- table (\w+)(?:\.(\w+))? -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{draw(match[2], match[3])}\n{match[4]}",
        text,
        flags=re.S,
    )


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page.read_text()))
