"""Shows a finished run: its table, or its page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console

from jaxhash import metrics
from jaxhash.report import plots
from jaxhash.report.html.code_map import MapPoint
from jaxhash.report.html.page import plot_element
from jaxhash.report.html.rankings import Ranking
from jaxhash.report.html.run_page import RunPage, ShownBucket, write_run_page
from jaxhash.report.run_table import run_title
from jaxhash.retrieval.buckets import describe_bucket, fullest_codes, place_codes, sampled_codes
from jaxhash.retrieval.confusion import class_confusion, one_hot
from jaxhash.retrieval.near_duplicates.join import DistinctCodes, distinct_codes
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.finished_run import (
    CODES_REMEDY,
    FinishedRun,
    RunItems,
    RunSide,
    open_items,
    read_run,
)
from jaxhash.runs.folder import damaged, print_results, read_finished, read_results
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.rankings import extreme_queries, rank_queries, shown_item
from jaxhash.runs.scores import Codes
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import read_json

#: The page in the folder of a run.
PAGE = Path("report", "report.html")

#: Pairs of a query and an item that are counted at most; more queries than that are sampled.
MAX_PAIRS = 2**26

#: Queries of the lowest and of the highest AP, buckets, and items of each, on the page.
_QUERIES, _BUCKETS, _EXAMPLES = 6, 8, 10

#: Classes that are named of a bucket.
_NAMED = 5


def report_run(
    folder: Path, console: Console, *, html: Path | None = None, data_dir: Path | None = None
) -> None:
    """Prints the table of a finished run, or writes its page.

    Args:
        folder: folder of the run.
        console: where to print.
        html: file of the page; None for the table.
        data_dir: folder of the data, where it has moved.

    Raises:
        UserError: if the folder holds no finished run, or a file of it is damaged or missing.
    """
    if html is None:
        read_finished(folder, data_dir)
        print_results(folder, read_results(folder), console)
        return
    run = read_run(folder, data_dir)
    if run.sides is None:
        raise UserError(f"{folder} has no codes.npz; {CODES_REMEDY}")
    records = read_metrics(folder / "metrics.jsonl", 0)
    items = open_items(run, console)
    try:
        draw_run(html, run, items, records, console)
    except (KeyError, TypeError, AttributeError) as error:  # the numbers may be anything
        raise damaged(folder, error) from error
    print_line(console, f"written: {html}")


def draw_training(
    experiment: Experiment,
    codes: Codes,
    results: dict[str, Any],
    records: list[dict[str, Any]],
    console: Console,
) -> None:
    """Writes the page of a run that has just been trained into its folder, as `PAGE`.

    Args:
        experiment: what was trained.
        codes: codes of the queries and of the database.
        results: what results.json holds.
        records: the run's metrics.jsonl.
        console: where progress is printed.
    """
    source, config = experiment.source, experiment.config
    sides = {}
    for name, part in codes.items():
        rows = getattr(experiment.split, name)
        sides[name] = RunSide(part.packed, source.labels[rows], source.names_of(rows))
    lists = experiment.split.lists
    run = FinishedRun(config.run.run_dir, config, results, sides, lists)
    items = RunItems(sides, source, experiment.split, lists=lists)
    draw_run(run.folder / PAGE, run, items, records, console)


def draw_run(
    html: Path,
    run: FinishedRun,
    items: RunItems,
    records: list[dict[str, Any]],
    console: Console,
) -> None:
    """Writes the page of a run.

    Args:
        html: file of the page.
        run: the run, with its codes.
        items: its queries and its database.
        records: its metrics.jsonl.
        console: where progress is printed.
    """
    write_run_page(html, _describe(run, items, records, console))


def _describe(
    run: FinishedRun, items: RunItems, records: list[dict[str, Any]], console: Console
) -> RunPage:
    """Computes what the page shows."""
    query, database = items.sides["query"], items.sides["database"]
    classes = _number_of_classes(items)
    rows = _sampled_queries(len(query.codes), len(database.codes))
    codes, labels = query.codes[rows], query.labels[rows]
    counts = metrics.distance_counts(
        *(codes, labels, database.codes, database.labels),
        bits=run.results["bits"],
        **items.lists.take(rows).counting,
        track=lambda blocks, total: track_progress(blocks, "counting", total, console),
    )
    precision = metrics.average_precision(counts)
    notes = [items.note] * bool(items.note)
    if len(rows) < len(query.codes):
        notes.append(
            f"queries and classes are those of {len(rows):,} of the {len(query.codes):,} queries, evenly spaced"
        )
    elif abs(precision.mean() - run.results["map"]) > 1e-6:
        notes.append(
            f"the codes have another mAP, {precision.mean():.4f}, than results.json says: one of the files is "
            "of another training"
        )
    asked = counts.relevant.sum(axis=1) > 0
    precision = np.where(asked, precision, np.nan)
    confusion = None
    if asked.any() and items.lists.relevant is None:
        confusion = class_confusion(
            *(codes, labels, database.codes, database.labels, counts), classes=classes
        )
    found = distinct_codes(database.codes)
    mapped = sampled_codes(found)
    return RunPage(
        title=run_title(run.results),
        results=run.results,
        facts=list(_facts(run)),
        notes=notes,
        plots=list(_plots(run, records)),
        precision=_describe_precision(precision),
        worst=_rank(items, rows, precision, labels, best=False),
        best=_rank(items, rows, precision, labels, best=True),
        confusion=confusion,
        class_precision=_class_precision(precision, labels, classes),
        class_name=items.class_name,
        points=_map_points(items, found, mapped),
        map_note=_describe_map(found, mapped),
        buckets=[_show_bucket(items, found, number) for number in fullest_codes(found, _BUCKETS)],
    )


def _number_of_classes(items: RunItems) -> int:
    sides = [side.labels for side in items.sides.values()]
    if sides[0].ndim == 2:
        return sides[0].shape[1]
    return max(1, *(int(labels.max()) + 1 for labels in sides))


def _sampled_queries(queries: int, items: int) -> Int[np.ndarray, " rows"]:
    """Returns all queries or, if they have too many pairs with the items, some, evenly spaced."""
    count = min(queries, max(1, MAX_PAIRS // items))
    return np.arange(count) * queries // count


def _facts(run: FinishedRun) -> Iterator[tuple[str, str]]:
    """Yields names and values of what the run was made from, as far as the results hold them."""
    results = run.results
    yield "data", str(results["dataset"])
    yield "split", f"{results['split']}, {results['split_sha256'][:12]}"
    for part, count in results["items"].items():
        if count:
            yield f"{part} items", f"{count:,}"
    yield "model", run.config.model.model
    yield "epochs", f"{results['epochs']:,}"
    yield "seed", f"{results['seed']}"
    if results.get("seconds") is not None:
        yield "training", f"{results['seconds']:,.1f} s"
    if "hardware" in results:
        hardware = results["hardware"]
        yield "hardware", f"{hardware['devices']} x {hardware['kind']}"
    if "versions" in results:
        yield "versions", ", ".join(f"{k} {v}" for k, v in results["versions"].items())
    for warning in results.get("warnings", []):
        yield "warning", warning


def _plots(run: FinishedRun, records: list[dict[str, Any]]) -> Iterator[str]:
    """Yields the plots, drawn again from numbers; those that an older version did not keep are left out."""
    if records:
        yield plot_element(plots.to_svg(plots.plot_losses(records)), "loss and its terms by step")
    curve = plots.to_svg(plots.plot_precision_recall(run.results))
    yield plot_element(curve, "precision by recall, of codes and baselines")
    path = run.folder / "report" / "code_values.json"
    if path.is_file():
        counts = read_json(path, "remove it, and the page leaves out its plot")
        figure = plots.plot_code_values(counts)
        yield plot_element(plots.to_svg(figure), "values of the codes before and after training")


def _describe_precision(precision: Float[np.ndarray, " queries"]) -> str:
    known = precision[~np.isnan(precision)]
    if not len(known):
        return ""
    least, low, median = np.quantile(known, [0, 0.1, 0.5])
    return (
        f"AP of {len(known):,} queries: the lowest is {least:.4f}, a tenth is below {low:.4f}, and half are below "
        f"{median:.4f}. Of equal AP, queries of different classes are shown."
    )


def _rank(
    items: RunItems,
    rows: Int[np.ndarray, " queries"],
    precision: Float[np.ndarray, " queries"],
    labels: Int[np.ndarray, " queries *classes"],
    *,
    best: bool,
) -> list[Ranking]:
    chosen = extreme_queries(precision, labels, _QUERIES, best=best)
    if not len(chosen):
        return []
    facts = [[f"AP {precision[each]:.4f}"] for each in chosen]
    return rank_queries(items, rows[chosen], facts)


def _class_precision(
    precision: Float[np.ndarray, " queries"], labels: Int[np.ndarray, " queries *c"], classes: int
) -> Float[np.ndarray, " classes"]:
    """Returns the mean AP of the queries of each class that have a relevant item; NaN without one."""
    known = ~np.isnan(precision)
    held = one_hot(labels[known], classes)
    with np.errstate(invalid="ignore"):
        return (held.T @ precision[known]) / held.sum(axis=0)


def _map_points(
    items: RunItems, found: DistinctCodes, mapped: Int[np.ndarray, " codes"]
) -> list[MapPoint]:
    labels = items.sides["database"].labels
    points = []
    for number, (x, y) in zip(mapped, place_codes(found.codes[mapped]).tolist(), strict=True):
        bucket = describe_bucket(found, number, labels)
        named = ", ".join(f"{name} {count:,}" for name, count in _named(items, bucket.classes))
        points.append(
            MapPoint(
                *(x, y, len(bucket.rows)),
                bucket.classes[0][0] if bucket.classes else None,
                f"{len(bucket.rows):,} items: {named or 'no label'}",
            )
        )
    return points


def _named(items: RunItems, classes: list[tuple[int, int]]) -> list[tuple[str, int]]:
    return [(items.class_name(each), count) for each, count in classes[:_NAMED]]


def _describe_map(found: DistinctCodes, mapped: Int[np.ndarray, " codes"]) -> str:
    which = f"All {len(mapped):,} distinct codes of the database"
    if len(mapped) < len(found.codes):
        share = np.diff(found.starts)[mapped].sum() / len(found.rows)
        which = (
            f"{len(mapped):,} of the {len(found.codes):,} distinct codes of the database, those of evenly "
            f"spaced items, which hold {share:.0%} of the items"
        )
    return (
        f"{which}, placed by t-SNE so that codes of a small Hamming distance lie together; the areas are numbers "
        "of items, and marks stand for the most frequent class of a code, with its items on the map. Distances "
        "between groups mean little."
    )


def _show_bucket(items: RunItems, found: DistinctCodes, number: int | np.integer) -> ShownBucket:
    bucket = describe_bucket(found, number, items.sides["database"].labels)
    same = (items.sides["query"].codes == found.codes[number]).all(axis=1)
    count = min(_EXAMPLES, len(bucket.rows))
    some = bucket.rows[np.arange(count) * len(bucket.rows) // count]
    examples = [shown_item(items, "database", row) for row in some]
    if items.sides["database"].names is None and examples[0].image is None:
        examples = []  # numbers of rows tell nothing
    return ShownBucket(
        bucket.code,
        len(bucket.rows),
        int(same.sum()),
        _named(items, bucket.classes),
        examples,
    )
