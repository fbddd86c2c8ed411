"""How several systems of codes differ from query to query, as the pages of runs and sweeps show it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console

from jaxhash.report.comparison_table import Difference, difference_rows
from jaxhash.report.html.compare_page import (
    Plot,
    QueryByQuery,
    SystemRanking,
    TableText,
)
from jaxhash.report.plots import plot_differences, to_svg
from jaxhash.runs.compare_runs import (
    class_means,
    compare_precisions,
    most_different_queries,
    query_precisions,
)
from jaxhash.runs.finished_run import FinishedRun, RunItems, open_items
from jaxhash.runs.rankings import rank_queries
from jaxhash.utils.console import track_progress

#: Rankings on a page, about: the more systems, the fewer queries.
_RANKINGS = 32

#: Least and largest number of queries on a page.
_QUERIES = (2, 12)

#: Classes in the table of classes.
_CLASSES = 30


class System(NamedTuple):
    """A run, or the runs of one setting with several seeds.

    Attributes:
        runs: the runs; they have codes.
        precisions: average precision of each query for each run.
    """

    runs: Sequence[FinishedRun]
    precisions: Float[np.ndarray, "runs queries"]

    @property
    def means(self) -> Float[np.ndarray, " queries"]:
        """Average precision of each query, as the mean over the runs."""
        return self.precisions.mean(axis=0)


def score_system(runs: Sequence[FinishedRun], console: Console) -> System:
    """Computes the average precision of each query of the runs of a system."""
    return System(runs, np.stack([query_precisions(run, console) for run in runs]))


def compare_systems(systems: dict[str, System], console: Console) -> dict[str, Difference]:
    """Compares the mAP of systems with that of the first, on the same queries."""
    if not systems:
        return {}
    first, *others = systems
    return {
        name: compare_precisions(systems[name].means, systems[first].means)
        for name in track_progress(others, "comparing", len(others), console)
    }


def show_by_query(
    systems: dict[str, System], differences: dict[str, Difference], console: Console
) -> QueryByQuery:
    """Returns what a page shows of the queries.

    Args:
        systems: two or more systems.
        differences: the differences of their mAP to that of the first.
        console: where the user is told of data that are missing.
    """
    first, *others = systems
    items = open_items(systems[first].runs[0], console)
    means = np.stack([system.means for system in systems.values()])
    gains = dict(zip(others, means[1:] - means[0], strict=True))
    figure = plot_differences(first, gains)
    least, largest = _QUERIES
    rows = most_different_queries(means, min(largest, max(least, _RANKINGS // len(systems))))
    chosen = (
        "Queries whose highest and lowest average precision are farthest apart, each with the nearest "
        "items by each; ✓ shares a class with the query, ✗ does not."
    )
    notes = [
        chosen if len(rows) else "Each query has the same average precision in all.",
        items.note,
    ]
    return QueryByQuery(
        difference_rows(differences, first),
        [Plot(to_svg(figure), f"Differences of the average precision to that of {first}, sorted.")],
        _class_rows(items, means, [*systems]),
        _show_queries(systems, items, rows),
        [note for note in notes if note],
    )


def _class_rows(
    items: RunItems, means: Float[np.ndarray, "systems queries"], names: Sequence[str]
) -> TableText:
    """Returns a table of the classes, those where the systems differ most first."""
    found = class_means(items.sides["query"].labels, means)
    order = sorted(found, key=lambda number: (-np.ptp(found[number][1]), number))[:_CLASSES]
    cut = f" ({len(order)} of {len(found)})" * (len(order) < len(found))
    rows = []
    for number in order:
        queries, values = found[number]
        scores = [f"{value:.4f}" for value in values]
        rows.append([items.class_name(number), f"{queries:,}", *scores, f"{np.ptp(values):.4f}"])
    return [f"class{cut}", "queries", *names, "range"], rows


def _show_queries(
    systems: dict[str, System], items: RunItems, rows: Int[np.ndarray, " n"]
) -> list[list[SystemRanking]]:
    """Returns queries with their rankings by the first run of each system."""
    ranked = []
    for name, (runs, precisions) in systems.items():
        seed = f", seed {runs[0].results['seed']}" * (len(runs) > 1)
        found = rank_queries(items._replace(sides=runs[0].sides), rows, [()] * len(rows))
        titles = [f"{name}{seed}: average precision {each:.4f}" for each in precisions[0, rows]]
        ranked.append(map(SystemRanking, titles, found))
    return [list(rankings) for rankings in zip(*ranked, strict=True)]
