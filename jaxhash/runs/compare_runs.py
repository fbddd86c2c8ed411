"""Compares finished runs on the same queries, from the codes that they stored."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console

from jaxhash import metrics
from jaxhash.report.comparison_table import Difference, score_rows
from jaxhash.retrieval.score import LIST_CONVENTIONS, SCORE_CONVENTIONS
from jaxhash.runs.finished_run import CODES_REMEDY, FinishedRun
from jaxhash.runs.folder import damaged
from jaxhash.runs.scores import QUERY_AND_DATABASE
from jaxhash.utils.console import track_progress
from jaxhash.utils.errors import UserError

#: Fields of the configuration that decide on the split.
_OF_SPLIT = (
    "dataset",
    "protocol",
    "queries_per_class",
    "train_per_class",
    "labeled_per_class",
    "split_seed",
    "validation",
)

#: Largest number of runs side by side: so many lines of a plot can be told apart.
MAX_RUNS = 24

#: Largest distance of two values of a metric that rounding explains.
_ROUNDING = 1e-9


def check_comparable(runs: Sequence[FinishedRun]) -> None:
    """Raises a `UserError` unless all runs search the same database with the same queries.

    That is so if the digests of their splits are equal and, where codes are stored, the labels and the
    names of the items too.
    """
    for run in runs:
        _check_results(run)
    for run in runs[1:]:
        first = runs[0]
        if _split_of(run) != _split_of(first):
            raise UserError(
                f"{run.folder} has another split than {first.folder}, so their queries do not pair up: "
                f"{_differences_of_split(run, first)}"
            )
    coded = [run for run in runs if run.sides is not None]
    for run in coded[1:]:
        for side in QUERY_AND_DATABASE:
            one, other = run.sides[side], coded[0].sides[side]
            for name in ("labels", "names"):
                if not np.array_equal(getattr(one, name), getattr(other, name)):
                    raise UserError(
                        f"{run.folder} has other {side} items than {coded[0].folder}: their {name} "
                        "differ, so they do not pair up"
                    )


def query_precisions(run: FinishedRun, console: Console) -> Float[np.ndarray, " queries"]:
    """Computes the average precision of each query, in expectation over ties, as the run's mAP has it.

    Args:
        run: a run that has codes.
        console: where progress is printed.

    Raises:
        UserError: if the mAP of the run is by another convention, or is not the mean of what its codes
            give.
    """
    path = run.folder / "results.json"
    stored = run.results.get("conventions", {})
    known = SCORE_CONVENTIONS if run.lists.relevant is None else LIST_CONVENTIONS
    for name in ("map", "relevance"):
        if stored.get(name) != known[name]:
            raise UserError(
                f"{path}: its convention of {name} is {stored.get(name)!r}, and this version computes "
                f"{known[name]!r}"
            )
    query, database = (run.sides[side] for side in QUERY_AND_DATABASE)
    counts = metrics.distance_counts(
        query.codes,
        query.labels,
        database.codes,
        database.labels,
        bits=run.results["bits"],
        **run.lists.counting,
        track=lambda blocks, total: track_progress(
            blocks, f"counting {run.folder.name}", total, console
        ),
    )
    values = metrics.average_precision(counts)
    if not math.isclose(values.mean(), run.results["map"], abs_tol=_ROUNDING):
        raise UserError(
            f"{run.folder}: codes.npz gives mAP {values.mean():.6f}, and results.json says "
            f"{run.results['map']:.6f}, so one of them is of another training; {CODES_REMEDY}"
        )
    return values


def compare_precisions(
    values: Float[np.ndarray, " queries"], others: Float[np.ndarray, " queries"]
) -> Difference:
    """Tests the difference of two means over the same queries, and counts the queries of each sign.

    Example:
        >>> found = compare_precisions(np.array([0.5, 1.0, 0.25]), np.array([0.25, 1.0, 0.5]))
        >>> found.test.difference, found.better, found.equal, found.worse
        (0.0, 1, 1, 1)
    """
    equal = np.abs(values - others) <= _ROUNDING
    return Difference(
        metrics.paired_test(values, others),
        better=int(np.sum((values > others) & ~equal)),
        equal=int(np.sum(equal)),
        worse=int(np.sum((values < others) & ~equal)),
    )


def most_different_queries(
    precisions: Float[np.ndarray, "systems queries"], count: int
) -> Int[np.ndarray, " n"]:
    """Returns the queries whose best and worst average precision are farthest apart, the farthest first.

    At most half of them have the same best system, as long as other queries are left, so that both
    directions show. Queries that all systems rank alike are left out.

    Args:
        precisions: average precision of each query for each system.
        count: largest number of queries.

    Example:
        >>> precisions = np.array([[0.9, 0.9, 0.1, 0.5], [0.1, 0.2, 0.4, 0.5]])
        >>> most_different_queries(precisions, 2)
        array([0, 2])
    """
    spread = precisions.max(axis=0) - precisions.min(axis=0)
    order = np.argsort(-spread, kind="stable")
    order = order[spread[order] > _ROUNDING]
    best = precisions.argmax(axis=0)[order]
    rank = np.zeros(len(order), int)  # among the queries of the same best system
    for system in np.unique(best):
        rank[best == system] = np.arange(np.sum(best == system))
    chosen = np.lexsort((np.arange(len(order)), rank >= max(1, count // 2)))[:count]
    return order[np.sort(chosen)]


def class_means(
    labels: Int[np.ndarray, " queries *classes"], values: Float[np.ndarray, "systems queries"]
) -> dict[int, tuple[int, Float[np.ndarray, " systems"]]]:
    """Returns, for each class, the number of its queries and the mean of their values for each system.

    Args:
        labels: class ids of the queries, or multi-hot rows.
        values: a value of each query for each system.

    Example:
        >>> class_means(np.array([2, 0, 2]), np.array([[0.5, 1.0, 0.0]]))
        {0: (1, array([1.])), 2: (2, array([0.25]))}
    """
    ids = np.unique(labels[labels >= 0]) if labels.ndim == 1 else np.flatnonzero(labels.any(axis=0))
    found = {}
    for number in ids.tolist():
        rows = labels == number if labels.ndim == 1 else labels[:, number] > 0
        found[number] = int(rows.sum()), values[:, rows].mean(axis=1)
    return found


def _check_results(run: FinishedRun) -> None:
    """Raises a `UserError` if the results of a run lack what a comparison shows."""
    try:
        score_rows({"": run.results})
        curve = run.results["precision_recall"]
        np.array([curve["precision"], curve["recall"]], float)
        _split_of(run), run.results["dataset"], run.results["split"]
    except Exception as error:  # they may hold anything
        raise damaged(run.folder, error) from error


def _split_of(run: FinishedRun) -> tuple[Any, ...]:
    items = run.results["items"]
    return run.results["split_sha256"], *(items[side] for side in QUERY_AND_DATABASE)


def _differences_of_split(run: FinishedRun, first: FinishedRun) -> str:
    """Returns which fields of the configuration differ, or the digests where none does."""
    pairs = {name: (run.config.get(name), first.config.get(name)) for name in _OF_SPLIT}
    found = [
        f"`{name}` is {one}, not {other}" for name, (one, other) in pairs.items() if one != other
    ]
    one, other = (str(each.results["split_sha256"])[:12] for each in (run, first))
    return "; ".join(found) or f"its digest is {one}, not {other}"
