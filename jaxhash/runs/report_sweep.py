"""Shows a finished sweep: its settings, its members, and how they differ from query to query."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from rich.console import Console

from jaxhash.report.html.compare_page import Plot
from jaxhash.report.html.sweep_page import write_sweep_page
from jaxhash.report.plots import Score, plot_settings, plot_steps, to_svg
from jaxhash.runs.by_query import System, compare_systems, score_system, show_by_query
from jaxhash.runs.compare_runs import MAX_RUNS, check_comparable
from jaxhash.runs.finished_run import FinishedRun, read_run
from jaxhash.runs.folder import damaged, print_results, read_results
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.settings import chosen_by
from jaxhash.training.members import Member, setting_name
from jaxhash.utils.console import print_line

T = TypeVar("T")

#: Settings, or seeds, that are compared query by query: the best, the worst, and some between them.
_COMPARED = 6

#: Scores of members that are plotted, and their titles.
_PLOTTED = {"validation_map": "mAP of the validation items", "map": "mAP of the queries"}


class Group(NamedTuple):
    """The members of a setting or, where there is one setting, of a seed.

    Attributes:
        name: the setting or the seed.
        numbers: numbers of the members.
        score: what the settings are ordered by, the best first; None for a setting that diverged.
    """

    name: str
    numbers: list[int]
    score: float | None


def report_sweep(
    folder: Path, console: Console, *, html: Path | None = None, data_dir: Path | None = None
) -> dict[str, Any]:
    """Prints the numbers of a finished sweep, and writes a page if one is asked for.

    Args:
        folder: its folder.
        console: where to print.
        html: the file of the page.
        data_dir: folder of the data, where it has moved.

    Returns:
        The content of its results.json.

    Raises:
        UserError: if a file is damaged.
    """
    results = read_results(folder)
    print_results(folder, results, console)
    if html is None:
        return results
    try:
        members = [Member(each["seed"], each["values"]) for each in results["members"]]
        groups = group_members(results)
        _ = [results[name] for name in ("objective", "epochs", "split", "split_sha256")]
    except Exception as error:  # it may hold anything
        raise damaged(folder, error) from error
    systems, notes = _score_groups(folder, members, groups, data_dir, console)
    by_query = None
    if len(systems) > 1:
        by_query = show_by_query(systems, compare_systems(systems, console), console)
    records = read_metrics(folder / "metrics.jsonl", len(members))
    plots = _plots(results, groups, records)
    write_sweep_page(html, results, plots, by_query, notes)
    print_line(console, f"written: {html}")
    return results


def group_members(results: dict[str, Any]) -> list[Group]:
    """Returns the members by setting, the best setting first; by seed where there is one setting.

    Example:
        >>> scores = [{"validation_map": 0.5, "map": 0.6}, {"validation_map": 0.7, "map": 0.4}]
        >>> members = [
        ...     {"seed": 3, "values": {"clip_norm": float(number)}, "scores": scores[number - 1]}
        ...     for number in (1, 2)
        ... ]
        >>> settings = [
        ...     {"scores": {name: {"mean": score} for name, score in each.items()}} for each in scores
        ... ]
        >>> [group.name for group in group_members({"members": members, "settings": settings})]
        ['clip-norm 2', 'clip-norm 1']
    """
    members, settings = results["members"], results["settings"]
    if len(settings) == 1:
        scores = [each["scores"] and each["scores"]["map"] for each in members]
        return [
            Group(f"seed {each['seed']}", [number], score)
            for number, (each, score) in enumerate(zip(members, scores, strict=True))
        ]
    numbers = [
        list(group)
        for _, group in itertools.groupby(range(len(members)), lambda n: members[n]["values"])
    ]
    values = [members[own[0]]["values"] for own in numbers]
    names = [setting_name(each) for each in values]
    if len(set(names)) < len(names):  # rounded, some are alike
        names = [", ".join(f"{name} {value!r}" for name, value in each.items()) for each in values]
    groups = []
    for name, own, setting in zip(names, numbers, settings, strict=True):
        scores = setting["scores"]
        score = None if scores is None else scores[chosen_by(scores)]["mean"]
        groups.append(Group(name, own, score))
    return sorted(groups, key=lambda group: math.inf if group.score is None else -group.score)


def _score_groups(
    folder: Path,
    members: Sequence[Member],
    groups: Sequence[Group],
    data_dir: Path | None,
    console: Console,
) -> tuple[dict[str, System], list[str]]:
    """Returns some groups with the precisions of their queries, and sentences on those left out."""
    runs: dict[str, list[FinishedRun]] = {}
    notes = []
    finished = [group for group in groups if group.score is not None]
    for name, numbers, _ in evenly_spaced(finished, _COMPARED):
        folders = [folder / members[number].folder for number in numbers]
        missing = [each.name for each in folders if not (each / "codes.npz").is_file()]
        if missing:
            notes.append(f"{name} is not compared by query: no codes.npz in {', '.join(missing)}")
            continue
        runs[name] = [read_run(each, data_dir) for each in folders]
    if len(finished) > _COMPARED:
        notes.append(
            f"{_COMPARED} of the {len(finished)} are compared by query: the best, the worst, and some "
            "between them"
        )
    check_comparable([run for each in runs.values() for run in each])
    return {name: score_system(each, console) for name, each in runs.items()}, notes


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """Returns at most some of the items, evenly spaced, the first and the last among them.

    Example:
        >>> evenly_spaced("abcdefg", 3)
        ['a', 'd', 'g']
    """
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def _plots(
    results: dict[str, Any], groups: Sequence[Group], records: Sequence[dict[str, Any]]
) -> list[Plot]:
    """Returns the plots of a sweep: its scores against its settings, and its training."""
    plots = []
    axes = results["axes"]
    if axes:
        axis = max(axes, key=lambda name: len(axes[name]))
        panels = {}
        for key, title in _PLOTTED.items():
            scores = [
                Score(
                    _other_settings(each["values"], axis), each["values"][axis], each["scores"][key]
                )
                for each in results["members"]
                if each["scores"] is not None and key in each["scores"]
            ]
            if scores:
                panels[title] = scores
        figure = plot_settings(panels, axis.replace("_", "-"))
        plots.append(
            Plot(to_svg(figure), f"{' and '.join(panels)} of each member by its settings.")
        )
    drawn = evenly_spaced(groups, MAX_RUNS)
    steps = {group.name: [_mean_record(record, group) for record in records] for group in drawn}
    plots.append(
        Plot(to_svg(plot_steps(steps)), "Loss and bit balance over the steps of training.")
    )
    return plots


def _other_settings(values: dict[str, float], axis: str) -> str:
    return setting_name({name: value for name, value in values.items() if name != axis})


def _mean_record(record: dict[str, Any], group: Group) -> dict[str, Any]:
    """Returns a record with the mean over the members of a group; None where one is not finite."""
    found = {}
    for name, values in record.items():
        own = [values[number] for number in group.numbers] if isinstance(values, list) else [values]
        found[name] = None if None in own else sum(own) / len(own)
    return found
