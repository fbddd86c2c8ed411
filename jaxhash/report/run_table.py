"""Prints the table at the end of a run."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxhash.retrieval.health import describe_health
from jaxhash.utils.console import print_line, print_table
from jaxhash.utils.errors import printable

#: Columns of the table: a key of the scores, and its title. Those from mAHP on are of data that have them.
COLUMNS = {
    "map": "mAP",
    "map_worst_ties": "worst ties",
    "map_best_ties": "best ties",
    "precision_at_radius_2": "P@H<=2",
    "bit_balance": "bit balance",
    "quantization_error": "quant. error",
    "mahp_at_250": "mAHP@250",
    "mahp_at_250_among_queries": "among queries",
    "mahp_at_2500": "mAHP@2500",
    "ndcg_at_100": "nDCG@100",
    "recall_at_20": "Recall@20",
    "ndcg_at_20": "nDCG@20",
    "recall_at_50": "Recall@50",
    "ndcg_at_50": "nDCG@50",
}

#: Titles of the rankings by real-valued vectors, where they differ from the names in the results.
FLOAT_RANKINGS = {
    "learned floats": "floats: network output, cosine",
    "input features": "floats: input features, cosine",
}


def run_title(results: dict[str, Any]) -> str:
    """Returns the method, the bits and the data of a run, as the title of a plot or a page.

    Example:
        >>> run_title({"objective": "hashnet + 0.1 hswd", "bits": 32, "dataset": "digits"})
        'hashnet + 0.1 hswd, 32 bits, digits'
    """
    return f"{results['objective']}, {results['bits']} bits, {printable(results['dataset'])}"


def ranking_rows(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Returns each ranking of a run with its metrics: codes first, then the float rankings."""
    bits = results["bits"]
    name = f"{results['objective']}, {bits} bits"
    return [
        *((f"{name}, {way}", scores) for way, scores in results.get("ways", {}).items()),
        *([] if "ways" in results else [(name, results)]),
        *((f"{name}, {bits} bits", scores) for name, scores in results["baselines"].items()),
        *(
            (FLOAT_RANKINGS.get(name, name), scores)
            for name, scores in results["float_rankings"].items()
        ),
    ]


def run_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns the titles of the table of a run, and its rows as texts."""
    ranked = ranking_rows(results)
    shown = {key: title for key, title in COLUMNS.items() if key in ranked[0][1]}
    rows = [
        [name, *(f"{scores[key]:.4f}" if key in scores else "-" for key in shown)]
        for name, scores in ranked
    ]
    return ["ranking by", *shown.values()], rows


def print_run(results: dict[str, Any], console: Console) -> None:
    """Prints the results of a run with its baselines and float rankings, and notes below them."""
    table = Table(title=f"{results['dataset']}, {results['items']['database']:,} items", box=None)
    (first, *others), rows = run_rows(results)
    table.add_column(first)
    for title in others:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*row)
    print_table(console, table)
    for note in run_notes(results):
        print_line(console, note)


def run_notes(results: dict[str, Any]) -> Iterator[str]:
    """Yields which model was evaluated, code health and leaks, as far as the results hold them."""
    if "model_choice" in results:
        choice = results["model_choice"]
        yield f"model of epoch {choice['epoch']}, step {choice['step']:,}: {choice['says']}"
    for name in ("baselines", *results.get("float_rankings", {})):
        if name in results.get("conventions", {}):
            yield f"{name}: {results['conventions'][name]}"
    if "query_health" in results:
        yield from describe_health(results)
    for leak in results.get("leaks", []):
        yield f"leak: {leak}"
    if results.get("collapsed_at_step") is not None:
        yield f"warning: the codes collapsed during training, at step {results['collapsed_at_step']:,}"
