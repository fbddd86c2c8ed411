"""The table at the end of a run."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxhash.retrieval.health import health_lines
from jaxhash.utils.console import print_line

#: A key of the scores, and the title; the last three where the run knows distances of classes.
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
}

#: What the rankings by floats are called.
FLOATS = {
    "learned floats": "floats: network output, cosine",
    "input features": "floats: input features, cosine",
}


def table_rows(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each ranking of a run with its metrics: codes first, then the float rankings."""
    bits = results["bits"]
    return [
        (f"{results['objective']}, {bits} bits", results),
        *((f"{name}, {bits} bits", scores) for name, scores in results["baselines"].items()),
        *((FLOATS[name], scores) for name, scores in results["float_rankings"].items()),
    ]


def print_table(results: dict[str, Any], console: Console) -> None:
    """Print the results of a run beside its baselines and ceilings, and which model they are of."""
    table = Table(title=f"{results['dataset']}, {results['items']['database']:,} items", box=None)
    table.add_column("ranking by")
    shown = {key: title for key, title in COLUMNS.items() if key in results}
    for title in shown.values():
        table.add_column(title, justify="right")
    for name, scores in table_rows(results):
        cells = (f"{scores[key]:.4f}" if key in scores else "-" for key in shown)
        table.add_row(name, *cells)
    console.print(table)
    for remark in _remarks(results):
        print_line(console, remark)


def _remarks(results: dict[str, Any]) -> Iterator[str]:
    """What a reader of the numbers has to know; results of older versions know less."""
    if "model_choice" in results:
        choice = results["model_choice"]
        yield f"model of epoch {choice['epoch']}, step {choice['step']:,}: {choice['says']}"
    if "baselines" in results.get("conventions", {}):
        yield f"baselines: {results['conventions']['baselines']}"
    if "query_health" in results:
        yield from health_lines(results)
    for leak in results.get("leaks", []):
        yield f"leak: {leak}"
    if results.get("collapsed_at_step") is not None:
        yield f"warning: the codes collapsed during training, at step {results['collapsed_at_step']:,}"
