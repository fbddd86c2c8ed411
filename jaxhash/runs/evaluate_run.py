"""Evaluates a finished run or sweep again from its checkpoints, and compares with its results."""

from pathlib import Path
from typing import Any

import flax.linen as nn
from rich.console import Console

from jaxhash import report
from jaxhash.data.form_files import is_trained_on, read_input_form
from jaxhash.data.sources import Source
from jaxhash.objectives import Objective
from jaxhash.runs.baselines import LEARNED_FLOATS, RERANKED_FLOATS, RETIRED
from jaxhash.runs.config import Config, config_diff
from jaxhash.runs.describe import print_missing_records
from jaxhash.runs.encoding import SplitEncoder
from jaxhash.runs.evaluation import REAL_VALUES, evaluate_model
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.folder import damaged, print_results, read_finished, read_own_parts, read_results
from jaxhash.runs.members import config_of_member
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.own_parts import own_parts
from jaxhash.runs.settings import best, summarize
from jaxhash.runs.sweep_members import check_sweep, make_members
from jaxhash.runs.train_run import choose_state
from jaxhash.runs.train_sweep import unsharded
from jaxhash.training.members import Member
from jaxhash.utils.console import print_line, show_work
from jaxhash.utils.errors import UserError


def evaluate(
    folder: Path,
    console: Console | None = None,
    data_dir: Path | None = None,
    *,
    source: Source | None = None,
    model: nn.Module | None = None,
    objective: Objective | None = None,
) -> dict[str, Any]:
    """Computes the metrics of a finished run, or of all members of a sweep, again, and compares.

    What an older version did not write into ``results.json`` is named, and is no difference.

    Args:
        folder: folder of the run or the sweep.
        console: where progress and table are printed; standard output if not given.
        data_dir: folder of the data, if it has moved.
        source: the user's own data, if the run was trained on such.
        model: the user's own model, likewise.
        objective: the user's own objective, likewise.

    Raises:
        UserError: if the folder holds no finished run or sweep, a member has no folder, a part of the
            user's own is missing, or a number differs from the results.
    """
    console, folder = console or Console(), Path(folder)
    config, varied = read_finished(folder, data_dir)
    parts = {"source": source, "model": model, "objective": objective}
    own = read_own_parts(folder)
    if own_parts(**parts) != own:
        needed = "".join(f", {name}=..." for name in own)
        raise UserError(
            f"{folder} was trained with the user's own {', '.join(own) or 'nothing'}: "
            f"jaxhash.runs.evaluate(folder{needed}) evaluates it"
        )
    if varied is not None:
        return _evaluate_sweep(config, varied, console)
    experiment = open_finished(config, console, **parts)
    return compare_again(experiment, SplitEncoder(experiment), console)


def open_finished(config: Config, console: Console, **parts: Any) -> Experiment:
    """Opens the experiment of a finished run, and warns if its data have changed.

    Args:
        config: its configuration.
        console: where the warning is printed.
        parts: the user's own parts; see `Experiment.open`.
    """
    folder = config.run.run_dir
    try:
        input_form = read_input_form(folder, config.data.dataset)
        with show_work("opening data and model", console):
            experiment = Experiment.open(config, input_form=input_form, console=console, **parts)
    except UserError as error:  # a value of config.json, or data that are missing
        raise UserError(f"{folder}: {error}") from error
    if not is_trained_on(folder, experiment.findings.data_sha256):
        print_line(
            console,
            "warning: the data are not those of the training: items, labels or the split have changed "
            "since",
        )
    return experiment


def compare_again(experiment: Experiment, encode: SplitEncoder, console: Console) -> dict[str, Any]:
    """Evaluates the finished run in ``config.run.run_dir`` again, and compares with its results.

    Raises:
        UserError: if its files are damaged or missing, or a number differs.
    """
    folder, total_steps = experiment.config.run.run_dir, experiment.total_steps
    stored, records = read_results(folder), read_metrics(folder / "metrics.jsonl", 0)
    if not (folder / "checkpoints" / str(total_steps)).is_dir():
        raise UserError(
            f"{folder} has no checkpoint of its last step, {total_steps}: put it back, or remove "
            "results.json, and the same jaxhash train makes both anew"
        )
    state, choice = choose_state(experiment, console)
    _, results = evaluate_model(experiment, encode, state.variables, choice, records, console)
    report.print_run(results, console)
    if print_missing_records(records, experiment, console):
        del results["skipped_steps"], results["collapsed_at_step"]
    stored["objective"] = results["objective"]  # follows from config.json; its words may change
    retired = _take_retired(stored)
    if REAL_VALUES in results["conventions"]:
        _take_real_values(stored)  # a version before this limit computed them all the same
    different, missing = compare_results(stored, results)
    if different:
        raise UserError(f"not what {folder / 'results.json'} says: {'; '.join(different)}")
    unwritten = f" (but for {', '.join(missing)}, not in it)" if missing else ""
    print_line(
        console,
        f"every number equals that of {folder / 'results.json'}, to the last digit{unwritten}",
    )
    if retired:
        print_line(
            console,
            f"note: {' and '.join(retired)} are rows of an older version, whose vectors kept their "
            "lengths; they are not computed any more, and were not compared",
        )
    return results


def _take_retired(stored: dict[str, Any]) -> list[str]:
    """Takes the rows that this version does not compute out of stored results; returns their names."""
    rows = stored.get("baselines")
    return [name for name in RETIRED if isinstance(rows, dict) and rows.pop(name, None) is not None]


def _take_real_values(stored: dict[str, Any]) -> None:
    """Takes what needs all real values of the codes out of stored results."""
    for name in (LEARNED_FLOATS, RERANKED_FLOATS):
        stored.get("float_rankings", {}).pop(name, None)
    for name in ("quantization_error", "wasserstein_to_signs"):
        stored.get("health", {})[name] = None


def compare_results(stored: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Returns what differs, in words, and the names of what was not stored.

    Tables are compared entry by entry, for a newer version may have more of them. An entry that was
    stored and is gone is a difference, but not at the top level, which holds the circumstances of a run.
    """
    different, missing = [], []
    for key, value in now.items():
        if key not in stored:
            missing.append(key)
        elif isinstance(value, dict) and isinstance(stored[key], dict):
            deeper, unwritten = compare_results(stored[key], value)
            deeper += [f"{name} is gone" for name in stored[key] if name not in value]
            different += [f"{key}: {words}" for words in deeper]
            missing += [f"{key}: {name}" for name in unwritten]
        elif value != stored[key]:
            different.append(f"{key} {_short(stored[key])}, now {_short(value)}")
    return different, missing


def _short(value: Any) -> str:
    """Returns a number or a name, cut if it is long; a list or a table as an ellipsis."""
    return "..." if isinstance(value, list | dict) else " ".join(str(value).split())[:80]


def _evaluate_sweep(config: Config, varied: dict[str, Any], console: Console) -> dict[str, Any]:
    """Evaluates all members of a finished sweep again, and compares with its results."""
    folder, axes, seeds = config.run.run_dir, varied["axes"], varied["seeds"]
    try:
        config, settings = check_sweep(config, axes, seeds)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from error
    results, path = read_results(folder), folder / "results.json"
    try:
        members = [Member(m["seed"], m["values"]) for m in results["members"]]
        stored = [m["scores"] for m in results["members"]]
        chosen = results["settings"], results["best"]
        expected = summarize(results["members"])
    except Exception as error:  # it may hold anything
        raise damaged(folder, error) from error
    if members != make_members(settings, range(config.run.seed, config.run.seed + seeds)):
        raise UserError(f"{path} is of other members than {folder / 'config.json'} says")
    if chosen != (expected, best(expected)):
        raise UserError(
            f"{path}: its settings, or the best of them, do not follow from its members"
        )
    experiment = unsharded(open_finished(config, console))
    encode = SplitEncoder(experiment)
    found = [
        None if scores is None else _evaluate_member(experiment, member, encode, console)
        for member, scores in zip(members, stored, strict=True)
    ]
    for member, scores, now in zip(members, stored, found, strict=True):
        other = [name for name in scores or () if name in now and scores[name] != now[name]]
        if other:
            raise UserError(f"not what {path} says: {member.name}: {', '.join(other)}")
    print_results(folder, results, console)
    print_line(console, f"every member's numbers equal those of {path}, to the last digit")
    return results


def _evaluate_member(
    experiment: Experiment, member: Member, encode: SplitEncoder, console: Console
) -> dict[str, Any]:
    """Evaluates a finished member of a sweep again, and compares with its own results."""
    config = experiment.config
    own = config_of_member(config, member)
    folder = own.run.run_dir
    print_line(console, f"{member.name}: {folder}")
    if not folder.is_dir():
        raise UserError(
            f"{config.run.run_dir} has no folder {folder.name} of that member; where its results "
            "are of an older version, its command trains it anew in another `run_dir`"
        )
    stored, _ = read_finished(folder, config.data.data_dir)
    if other := config_diff(stored, own):
        raise UserError(f"{folder} is another run: {'; '.join(other)}")
    return compare_again(experiment.with_config(own), encode, console)
