"""Shows several finished runs of one split side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from jaxhash.report.comparison_table import Comparison, print_comparison
from jaxhash.report.html.compare_page import Plot, write_compare_page
from jaxhash.report.plots import (
    Score,
    plot_bits,
    plot_precision_recall_of_runs,
    plot_steps,
    to_svg,
)
from jaxhash.runs.by_query import compare_systems, score_system, show_by_query
from jaxhash.runs.compare_runs import MAX_RUNS, check_comparable
from jaxhash.runs.config import RESUME_MUTABLE_FIELDS
from jaxhash.runs.finished_run import CODES_REMEDY, FinishedRun, member_folders, read_run
from jaxhash.runs.folder import read_finished
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError


def report_runs(
    folders: Sequence[Path],
    console: Console,
    *,
    html: Path | None = None,
    data_dir: Path | None = None,
) -> Comparison:
    """Compares runs of one split, prints their numbers, and writes a page if one is asked for.

    Args:
        folders: folders of finished runs, the first of which the others are compared with; a sweep stands
            for its members.
        console: where to print.
        html: the file of the page.
        data_dir: folder of the data, where it has moved.

    Raises:
        UserError: if a folder holds no finished run, a file is damaged, or the runs do not compare.
    """
    runs = name_runs(_read_runs(folders, data_dir))
    check_comparable(list(runs.values()))
    systems = {
        name: score_system([run], console) for name, run in runs.items() if run.sides is not None
    }
    comparison = Comparison(
        {name: run.results for name, run in runs.items()},
        next(iter(systems or runs)),
        compare_systems(systems, console),
        tuple(_notes(runs)),
    )
    print_comparison(comparison, console)
    if html is not None:
        by_query = None
        if len(systems) > 1:
            by_query = show_by_query(systems, comparison.differences, console)
        write_compare_page(html, comparison, varied_settings(runs), list(_plots(runs)), by_query)
        print_line(console, f"written: {html}")
    return comparison


def name_runs(runs: Sequence[FinishedRun]) -> dict[str, FinishedRun]:
    """Returns runs by the shortest names that tell their folders apart: the ends of their paths.

    Raises:
        UserError: if a run is there twice.
    """
    paths = [run.folder.resolve() for run in runs]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise UserError(
                f"{runs[number].folder} is named twice; it would be compared with itself"
            )
    names = [path.name for path in paths]
    parts = 1
    while len(set(names)) < len(names):
        parts += 1
        names = ["/".join(path.parts[-parts:]) for path in paths]
    return dict(zip(names, runs, strict=True))


def varied_settings(runs: dict[str, FinishedRun]) -> tuple[list[str], list[list[str]]]:
    """Returns a table of the settings that are not the same in all runs: titles, and a row for each run."""
    fields = {
        name: {k: v for k, v in run.config.to_json().items() if k not in RESUME_MUTABLE_FIELDS}
        for name, run in runs.items()
    }
    first, *others = fields.values()
    varied = [name for name in first if any(each[name] != first[name] for each in others)]
    rows = [[name, *(_spell(each[key]) for key in varied)] for name, each in fields.items()]
    return ["run", *(name.replace("_", "-") for name in varied)], rows if varied else []


def _plots(runs: dict[str, FinishedRun]) -> Iterator[Plot]:
    """Yields the plots of runs: mAP by bits where these differ, precision and recall, and training."""
    results = {name: run.results for name, run in runs.items()}
    if len({each["bits"] for each in results.values()}) > 1:
        scores = [Score(each["objective"], each["bits"], each["map"]) for each in results.values()]
        yield Plot(to_svg(plot_bits(scores)), "mAP of each run by the length of its codes.")
    figure = plot_precision_recall_of_runs(results)
    yield Plot(to_svg(figure), "Precision against recall within each Hamming radius.")
    records = {name: read_metrics(run.folder / "metrics.jsonl", 0) for name, run in runs.items()}
    yield Plot(to_svg(plot_steps(records)), "Loss and bit balance over the steps of training.")


def _spell(value: object) -> str:
    """Returns a value of a setting as the command line has it, or a dash for none."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def _read_runs(folders: Sequence[Path], data_dir: Path | None) -> list[FinishedRun]:
    """Reads runs, and the members of sweeps among them."""
    found = []
    for folder in folders:
        found += [folder] if read_finished(folder)[1] is None else member_folders(folder)
    if len(found) > MAX_RUNS:
        raise UserError(
            f"{len(found)} runs are named, and at most {MAX_RUNS} can be told apart side by side"
        )
    return [read_run(folder, data_dir) for folder in found]


def _notes(runs: dict[str, FinishedRun]) -> Iterator[str]:
    """Yields what was assumed of the runs, and whose codes are missing."""
    datasets = dict.fromkeys(str(run.results["dataset"]) for run in runs.values())
    if len(datasets) > 1:
        yield (
            f"the data sets are {', '.join(datasets)}: their splits and labels are the same, so their "
            "items are taken to be the same"
        )
    for name, run in runs.items():
        if run.sides is None:
            yield f"{name} has no codes.npz, so it is not compared by query; {CODES_REMEDY}"
