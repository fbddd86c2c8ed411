"""``jaxhash evaluate CODES``: the metrics of codes made by anything, without a model or a run."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxhash import metrics
from jaxhash.data.checks.relevance import tell_relevance
from jaxhash.data.readers.arrays import read_npy, read_npz
from jaxhash.data.readers.labels import read_labels
from jaxhash.data.readers.lists import read_list
from jaxhash.retrieval.health import describe_health
from jaxhash.similarity import has_label
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, write_json
from jaxhash.utils.hardware import versions

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
    bits: int | None = None
    """Length of a code, where packed codes do not fill their last byte."""
    zero: metrics.Zero = "+1"
    """What an exact zero of real-valued codes counts as."""


class LabeledCodes(NamedTuple):
    """One side of a search, and the files that it is from."""

    codes: np.ndarray
    labels: np.ndarray
    codes_file: Path
    labels_file: Path


def evaluate(
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
    """Evaluates a file of codes; prints, writes and returns the results.

    Args:
        path: file of both sides, or of the queries.
        console: where to print.
        database: file of the database's codes.
        labels: file of the queries' labels.
        database_labels: file of the database's labels.
        compare: another file of codes of the same items, whose mAP is tested against.
        compare_database: file of the database's codes beside ``compare``.
        options: how codes are read, and which metrics are computed.
        output: JSON file for the results.
        command: the command line, to be stored.

    Raises:
        UserError: if the files cannot be read, or hold what cannot be evaluated.
    """
    options = options or EvaluationOptions()
    if output is not None:
        check_output(output, ".json")
    if compare is None and compare_database is not None:
        raise UserError("`compare_database` needs `compare`")
    query, base = read_query_and_database(path, database, labels, database_labels)
    results = _results(options, query, base, (compare, compare_database), console)
    if output is not None:
        packages = ("jaxhash", "jax", "numpy")
        write_json(output, {"command": command, **results, "versions": versions(packages)})
    return results


def read_query_and_database(
    path: Path,
    database: Path | None = None,
    labels: Path | None = None,
    database_labels: Path | None = None,
    *,
    flag: str = "--database",
) -> tuple[LabeledCodes, LabeledCodes]:
    """Queries and database from one file that holds both, or from a file each.

    Args:
        path: file of both, or of the queries.
        database: file of the database.
        labels: file of the queries' labels, where the codes' file is not to be asked.
        database_labels: likewise of the database.
        flag: what the command calls the file of the database.

    Raises:
        UserError: if a file is missing, cannot be read, or lacks an array.
    """
    if database is None:
        if _is_npy(path) or labels is not None or database_labels is not None:
            raise UserError(f"{path}: {flag} is needed for the other side of the search")
        keys = ("query_codes", "query_labels", "database_codes", "database_labels")
        hint = f"; or give codes and labels, and {flag}"
        arrays = read_npz(path, *keys, hint=hint)
        return tuple(
            LabeledCodes(
                arrays[f"{side}_codes"],
                read_labels(arrays[f"{side}_labels"], path, f"{side} "),
                path,
                path,
            )
            for side in ("query", "database")
        )
    return _read_side(path, labels, "--labels"), _read_side(
        database, database_labels, "--database-labels"
    )


def _read_side(path: Path, labels: Path | None, flag: str) -> LabeledCodes:
    if labels is None:
        if _is_npy(path):
            raise UserError(f"{path} holds no labels: {flag} names their file")
        arrays = read_npz(path, "codes", "labels")
        return LabeledCodes(arrays["codes"], read_labels(arrays["labels"], path), path, path)
    codes = read_npy(path) if _is_npy(path) else read_npz(path, "codes")["codes"]
    return LabeledCodes(codes, _read_labels(labels), path, labels)


def _is_npy(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _read_labels(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".npz":
        raise UserError(f"{path}: labels are read from a .npy or a list file")
    return read_labels(read_npy(path), path) if _is_npy(path) else read_list(path).labels


@contextlib.contextmanager
def _named(query: LabeledCodes, database: LabeledCodes) -> Iterator[None]:
    """What cannot be evaluated, in a line that begins with the file at fault.

    That is the file of the queries' codes where an argument does not fit them.
    """
    files = {
        "query codes": [query.codes_file],
        "query labels": [query.labels_file],
        "database codes": [database.codes_file],
        "database labels": [database.labels_file],
        "codes": [query.codes_file, database.codes_file],
        "labels": [query.labels_file, database.labels_file],
        "query labels and codes": [query.labels_file, query.codes_file],
        "database labels and codes": [database.labels_file, database.codes_file],
    }
    try:
        yield
    except (ValueError, TypeError) as error:
        at_fault = files[getattr(error, "of", "query codes")]
        raise UserError(f"{' beside '.join(map(str, dict.fromkeys(at_fault)))}: {error}") from error


def _results(
    options: EvaluationOptions,
    query: LabeledCodes,
    database: LabeledCodes,
    compare: tuple[Path | None, Path | None],
    console: Console,
) -> dict[str, Any]:
    names = list(metrics.CONVENTIONS) if options.convention == "all" else [options.convention]
    other, _ = compare
    if other is not None and len(names) > 1:
        raise UserError("`compare` needs one `convention`")
    every = _summaries(options, names, query, database, console)
    first, *_ = every
    others, second = None, None
    if other is not None:
        others = _others(*compare, query, database)
        second = _second(options, first, others, console)
    results = _look(options, query, database, console)
    if first.without_relevant:
        print_line(
            console,
            f"{first.without_relevant:,} of {first.queries:,} queries have nothing relevant in the "
            "database",
        )
    elif options.relevance == "shared":
        results["warnings"] += tell_relevance(query.labels, database.labels)[0]
    if len(every) > 1:
        key = "map" if options.k is None else "map_at_k"
        scores = {one.convention.name: one.scores[key] for one in every}
        _, relevant = first.convention.others().split(", ", 1)  # what is empty differs
        _print_scores(scores, "convention", console, relevant)
        results["conventions"] = [one.to_json() for one in every]
    else:
        _print_scores(first.scores, "metric", console, first.convention.others())
        results |= first.to_json()
        results["interval"] = _interval(first, console)
        if second is not None:
            results["compare"] = _compare(other, first, second, console)
            results["compare"] |= _look(options, *others, console)
    for line in describe_health(results):
        print_line(console, line)
    for line in describe_health(results["compare"], f"{other}: ") if others else ():
        print_line(console, line)
    return results


def _look(
    options: EvaluationOptions, query: LabeledCodes, database: LabeledCodes, console: Console
) -> dict[str, Any]:
    """How the codes are read, which is printed, and what is to be said of both sides."""
    form = metrics.code_format(query.codes, database.codes, bits=options.bits, zero=options.zero)
    print_line(
        console,
        f"{query.codes_file}: {len(query.codes):,} queries, {len(database.codes):,} items in the "
        f"database, {_describe(form)}",
    )
    return {
        "codes": form._asdict(),
        "warnings": metrics.code_warnings(query.codes, database.codes, form),
        "health": _health(form, database).to_json(),
        "query_health": _health(form, query).to_json(),
    }


def _summaries(
    options: EvaluationOptions,
    names: Sequence[str],
    query: LabeledCodes,
    database: LabeledCodes,
    console: Console,
) -> list[metrics.Retrieval]:
    """The metrics of a file by each of these conventions, from one count."""
    conventions = [
        dataclasses.replace(metrics.CONVENTIONS[name], relevance=options.relevance)
        for name in names
    ]
    with _named(query, database):
        counts = metrics.distance_counts(
            query.codes,
            query.labels,
            database.codes,
            database.labels,
            bits=options.bits,
            zero=options.zero,
            relevance=options.relevance,
            track=lambda blocks, total: track_progress(blocks, "counting", total, console),
        )
        return [
            metrics.summarize(counts, k=options.k, radius=options.radius, convention=convention)
            for convention in conventions
        ]


def _describe(codes: metrics.CodeFormat) -> str:
    zeros = f", {codes.zeros:,} exact zeros read as {codes.zero}" if codes.zeros else ""
    return f"{codes.bits} bits, given as {codes.kind}{zeros}"


def _print_scores(
    scores: dict[str, metrics.Score], title: str, console: Console, common: str
) -> None:
    """A row a score; what is common to their definitions stands below."""
    table = Table(box=None, caption=common, caption_justify="left")
    table.add_column(title)
    for name in ("expected", "worst ties", "best ties"):
        table.add_column(name, justify="right")
    table.add_column("definition")
    for name, score in scores.items():
        definition = score.definition.removesuffix(f", {common}")
        table.add_row(name, *(f"{value:.4f}" for value in score[:3]), definition)
    console.print(table)


def _rank(one: metrics.Retrieval) -> str:
    return f"mAP@{'all' if one.k is None else one.k}"


def _interval(one: metrics.Retrieval, console: Console) -> list[float] | None:
    """How far mAP may be off for other queries of the same kind; None for one query, or none that counts."""
    if one.queries < 2 or not one.weights.any():
        return None
    interval = metrics.bootstrap_interval(one.values, weights=one.weights)
    print_line(
        console,
        f"{_rank(one)}: 95 % interval over queries {interval.low:.4f} to {interval.high:.4f} "
        "(bootstrap, 10,000 resamples)",
    )
    return list(interval)


def _others(
    path: Path, its_database: Path | None, query: LabeledCodes, database: LabeledCodes
) -> tuple[LabeledCodes, LabeledCodes]:
    """The codes to compare with, which are codes of the same queries."""
    if its_database is None:
        others = read_query_and_database(path, flag="--compare-database")
    else:
        others = tuple(
            LabeledCodes(read_npy(file), mine.labels, file, file)  # the labels have been looked at
            if _is_npy(file)
            else _read_side(file, None, "")
            for file, mine in ((path, query), (its_database, database))
        )
    if not np.array_equal(query.labels, others[0].labels):
        raise UserError(f"{path}: its queries have other labels, so none pairs up")
    if not _same_rows(database.labels, others[1].labels):
        raise UserError(
            f"{others[1].codes_file}: its database has other items, so their mAP does not compare"
        )
    return others


def _second(
    options: EvaluationOptions,
    first: metrics.Retrieval,
    others: tuple[LabeledCodes, LabeledCodes],
    console: Console,
) -> metrics.Retrieval:
    """The metrics of the codes to compare with."""
    [second] = _summaries(options, [first.convention.name], *others, console)
    if not (first.weights.any() and second.weights.any()):
        raise UserError(
            f"no query counts by `convention={first.convention.name}`, nothing compares"
        )
    return second


def _same_rows(labels: np.ndarray, others: np.ndarray) -> bool:
    """Whether two sets of labels are the same but for their order."""
    if labels.shape != others.shape:
        return False
    counted = (np.unique(side, axis=0, return_counts=True) for side in (labels, others))
    return all(map(np.array_equal, *counted))


def _compare(
    path: Path, first: metrics.Retrieval, second: metrics.Retrieval, console: Console
) -> dict[str, Any]:
    """The difference of mAP to other codes, and whether chance explains it."""
    test = metrics.paired_test(
        first.values,
        second.values,
        first_weights=first.weights,
        second_weights=second.weights,
    )
    low, high = test.interval
    print_line(
        console,
        f"{_rank(first)} minus that of {path}: {test.difference:+.4f}, 95 % interval "
        f"{low:+.4f} to {high:+.4f}, p = {test.p_value:.2g} (paired randomization test)",
    )
    return {"file": str(path), **test._asdict(), "other": second.to_json()}


def _health(codes: metrics.CodeFormat, side: LabeledCodes) -> metrics.CodeHealth:
    labels = side.labels if has_label(side.labels).any() else None
    return metrics.code_health(side.codes, labels, form=codes)
