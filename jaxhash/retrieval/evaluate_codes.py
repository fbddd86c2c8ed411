"""``jaxhash evaluate CODES``: the metrics of codes made by anything, and of indexes, without a run."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from jaxhash import metrics
from jaxhash.data.checks.relevance import check_relevance
from jaxhash.retrieval.code_files import (
    LabeledCodes,
    QueryAndDatabase,
    errors_name_files,
    read_other_codes,
    read_query_and_database,
)
from jaxhash.retrieval.ground_truth import Difficulty, read_query_lists
from jaxhash.retrieval.health import describe_health
from jaxhash.retrieval.index.manifest import is_index
from jaxhash.retrieval.indexed_codes import read_query_and_database_index
from jaxhash.similarity import has_label
from jaxhash.utils.checks import check_numbers
from jaxhash.utils.console import print_line, print_table, track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, write_json
from jaxhash.utils.hardware import versions

if TYPE_CHECKING:  # type checkers do not know what a table holds
    Convention = str
else:
    Convention = Literal[(*metrics.CONVENTIONS, "all")]


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """How codes are read, and which metrics are computed."""

    k: int | None = None
    """Rank of the metrics at k; all ranks if not given."""
    radius: int = 2
    """Hamming radius of precision, recall and the empty-bucket rate."""
    convention: Convention = next(iter(metrics.CONVENTIONS))
    """Convention of the average precision, or "all" for the mAP by each."""
    relevance: metrics.Relevance = "shared"
    """When a database item is relevant to a query."""
    ground_truth: Path | None = None
    """File of each query's relevant and excluded items, in place of labels."""
    difficulty: Difficulty = "medium"
    """Which items of a ground truth of revisited Oxford or Paris are relevant."""
    leave_one_out: bool = False
    """Whether a query that is an item of the database is no part of its own ranking."""
    ranks: tuple[int, ...] = ()
    """Further ranks of the hit rate; see `jaxhash.metrics.evaluate_counts`."""
    bits: int | None = None
    """Length of a code; needed if packed codes do not fill their last byte."""
    zero: metrics.ZeroSign = "+1"
    """Bit that an exact zero of real-valued codes becomes."""
    memory_bytes: int | None = None
    """Memory in bytes that the compressed arrays of a file may take; others are in temporary files."""

    def __post_init__(self):
        check_numbers(self, {"memory_bytes": (2**24, 2**50)})
        if self.ground_truth is None and self.difficulty != "medium":
            raise UserError("`difficulty` needs `ground_truth`")
        if self.ground_truth is not None and self.relevance != "shared":
            raise UserError(
                f"`relevance={self.relevance}` is by labels, and `ground_truth` is in their place"
            )


def evaluate_codes(
    path: Path,
    console: Console,
    *,
    database: Path | None = None,
    labels: Path | None = None,
    database_labels: Path | None = None,
    compare: Path | None = None,
    compare_database: Path | None = None,
    options: EvaluationOptions | None = None,
    output: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Evaluates a file of codes, or two indexes; prints, writes and returns the results.

    Files are read block by block: beside the arrays that `EvaluationOptions.memory_bytes` bounds, an item
    takes its label and its packed code, and real-valued codes a column of all items in float64.

    Args:
        path: file of both sides, or of the queries; or the index of the queries.
        console: where to print.
        database: file of the database's codes, or its index.
        labels: file of the queries' labels.
        database_labels: file of the database's labels.
        compare: file of other codes of the same items; a test compares their mAP.
        compare_database: file of the database's codes beside ``compare``.
        options: how codes are read, and which metrics are computed.
        output: JSON file for the results.
        command: command line, stored in the results.

    Raises:
        UserError: if a file cannot be read, or holds codes that cannot be evaluated.
    """
    options = options or EvaluationOptions()
    if output is not None:
        check_output(output, ".json")
    if compare is None and compare_database is not None:
        raise UserError("`compare_database` needs `compare`")
    if compare is not None and options.convention == "all":
        raise UserError("`compare` needs one `convention`")
    codes = _read(path, database, labels, database_labels, compare, options)
    if (bits := codes.query.bits) is not None:
        if options.bits not in (None, bits):
            raise UserError(f"{path} has codes of {bits} bits, and `bits={options.bits}` is given")
        options = dataclasses.replace(options, bits=bits)
    listing = (options.ground_truth, options.difficulty, options.leave_one_out)
    lists, lines = read_query_lists(codes, *listing)
    summaries = _summarize(codes, lists, options, console)
    if compare is not None:
        other_codes = read_other_codes(
            compare,
            compare_database,
            codes,
            labeled=options.ground_truth is None,
            memory_bytes=options.memory_bytes,
        )
        other_lists, _ = read_query_lists(other_codes, *listing)
        [other] = _summarize(other_codes, other_lists, options, console)
        if not (summaries[0].weights.any() and other.weights.any()):
            raise UserError(
                f"no query counts by `convention={options.convention}`, nothing compares"
            )
    results = _inspect(codes, options, console)
    for line in lines:
        print_line(console, line)
    results["warnings"] += _check_relevance(codes, summaries[0], options, console)
    if options.convention == "all":
        results |= _report_conventions(summaries, options, console)
    else:
        results |= _report_metrics(summaries[0], console)
    if compare is not None:
        results["compare"] = _compare(compare, summaries[0], other, console)
        results["compare"] |= _inspect(other_codes, options, console)
    for line in describe_health(results):
        print_line(console, line)
    if compare is not None:
        for line in describe_health(results["compare"], f"{compare}: "):
            print_line(console, line)
    if output is not None:
        packages = ("jaxhash", "jax", "numpy")
        write_json(output, {"command": command, **results, "versions": versions(packages)})
    return results


def _read(
    path: Path,
    database: Path | None,
    labels: Path | None,
    database_labels: Path | None,
    compare: Path | None,
    options: EvaluationOptions,
) -> QueryAndDatabase:
    """Reads both sides from files, or from indexes."""
    if options.ground_truth is not None:
        for name, value in (("labels", labels), ("database_labels", database_labels)):
            if value is not None:
                raise UserError(f"`{name}` is not read: `ground_truth` is in the place of labels")
    if not (is_index(path) or (database is not None and is_index(database))):
        return read_query_and_database(
            path,
            database,
            labels,
            database_labels,
            labeled=options.ground_truth is None,
            memory_bytes=options.memory_bytes,
        )
    given = {
        "labels": labels,
        "database_labels": database_labels,
        "compare": compare,
        "memory_bytes": options.memory_bytes,
        "ground_truth": options.ground_truth,
        "leave_one_out": options.leave_one_out or None,
    }
    for name, value in given.items():
        if value is not None:
            raise UserError(f"`{name}` is for files of codes, not for an index")
    if database is None:
        raise UserError(f"{path} is an index, of queries: `database` names the index to search")
    return read_query_and_database_index(path, database)


def _summarize(
    codes: QueryAndDatabase,
    lists: metrics.QueryLists,
    options: EvaluationOptions,
    console: Console,
) -> list[metrics.RetrievalResult]:
    """Computes the metrics by each convention asked for, from one count of distances."""
    every = options.convention == "all"
    conventions = metrics.CONVENTIONS if every else [options.convention]
    query, database = codes
    relevance = options.relevance if lists.relevant is None else "listed"
    with errors_name_files(codes):
        counts = metrics.distance_counts(
            query.codes,
            query.labels,
            database.codes,
            database.labels,
            bits=options.bits,
            zero=options.zero,
            track=lambda blocks, total: track_progress(blocks, "counting", total, console),
            **{"relevance": options.relevance, **lists.counting},
        )
        return [
            metrics.evaluate_counts(
                counts,
                k=options.k,
                ranks=options.ranks,
                radius=options.radius,
                convention=dataclasses.replace(metrics.CONVENTIONS[name], relevance=relevance),
            )
            for name in conventions
        ]


def _inspect(
    codes: QueryAndDatabase, options: EvaluationOptions, console: Console
) -> dict[str, Any]:
    """Prints how the codes are read; returns their format, warnings, and the health of each side."""
    query, database = codes
    form = metrics.infer_code_format(
        query.codes, database.codes, bits=options.bits, zero=options.zero
    )
    zeros = f", {form.zeros:,} exact zeros read as {form.zero}" if form.zeros else ""
    print_line(
        console,
        f"{query.codes_file}: {len(query.codes):,} queries, {len(database.codes):,} items in the "
        f"database, {form.bits} bits, given as {form.kind}{zeros}",
    )
    return {
        "codes": form._asdict(),
        "warnings": metrics.code_warnings(query.codes, database.codes, form),
        "health": _health(database, form).to_json(),
        "query_health": _health(query, form).to_json(),
    }


def _health(side: LabeledCodes, form: metrics.CodeFormat) -> metrics.CodeHealth:
    labels = side.labels if has_label(side.labels).any() else None
    return metrics.code_health(side.codes, labels, form=form)


def _check_relevance(
    codes: QueryAndDatabase,
    summary: metrics.RetrievalResult,
    options: EvaluationOptions,
    console: Console,
) -> list[str]:
    """Prints how many queries have nothing relevant; returns warnings about degenerate relevance."""
    if summary.without_relevant:
        print_line(
            console,
            f"{summary.without_relevant:,} of {summary.queries:,} queries have nothing relevant in "
            "the database",
        )
    elif options.relevance == "shared" and options.ground_truth is None:
        return check_relevance(codes.query.labels, codes.database.labels)[0]
    return []


def _report_conventions(
    summaries: list[metrics.RetrievalResult], options: EvaluationOptions, console: Console
) -> dict[str, Any]:
    """Prints mAP by each convention; returns all metrics by each."""
    key = "map" if options.k is None else "map_at_k"
    scores = {summary.convention.name: summary.scores[key] for summary in summaries}
    # Conventions differ in what an empty query counts, so the caption has the relevance only.
    _, relevance = summaries[0].convention.describe().split(", ", 1)
    _print_scores(scores, "convention", console, caption=relevance)
    return {"conventions": [summary.to_json() for summary in summaries]}


def _report_metrics(summary: metrics.RetrievalResult, console: Console) -> dict[str, Any]:
    """Prints every metric and the interval of mAP; returns them."""
    _print_scores(summary.scores, "metric", console, caption=summary.convention.describe())
    return {**summary.to_json(), "interval": _interval(summary, console)}


def _print_scores(
    scores: dict[str, metrics.Score], title: str, console: Console, *, caption: str
) -> None:
    """Prints a row for each score; the caption is the part that all definitions share."""
    table = Table(box=None, caption=caption, caption_justify="left")
    table.add_column(title)
    for name in ("expected", "worst ties", "best ties"):
        table.add_column(name, justify="right")
    table.add_column("definition")
    for name, score in scores.items():
        definition = score.definition.removesuffix(f", {caption}")
        table.add_row(name, *(f"{value:.4f}" for value in score[:3]), definition)
    print_table(console, table)


def _interval(summary: metrics.RetrievalResult, console: Console) -> list[float] | None:
    """Prints and returns the confidence interval of mAP over queries.

    There is no interval for a single query, nor if no query counts.
    """
    if summary.queries < 2 or not summary.weights.any():
        return None
    interval = metrics.bootstrap_interval(summary.values, weights=summary.weights)
    print_line(
        console,
        f"{_name_of_map(summary)}: 95 % interval over queries {interval.low:.4f} to "
        f"{interval.high:.4f} (bootstrap, 10,000 resamples)",
    )
    return list(interval)


def _compare(
    path: Path, summary: metrics.RetrievalResult, other: metrics.RetrievalResult, console: Console
) -> dict[str, Any]:
    """Prints and returns the difference of mAP to other codes, and whether chance explains it."""
    test = metrics.paired_test(
        summary.values,
        other.values,
        first_weights=summary.weights,
        second_weights=other.weights,
    )
    low, high = test.interval
    print_line(
        console,
        f"{_name_of_map(summary)} minus that of {path}: {test.difference:+.4f}, 95 % interval "
        f"{low:+.4f} to {high:+.4f}, p = {test.p_value:.2g} (paired randomization test)",
    )
    return {"file": str(path), **test._asdict(), "other": other.to_json()}


def _name_of_map(summary: metrics.RetrievalResult) -> str:
    return f"mAP@{'all' if summary.k is None else summary.k}"
