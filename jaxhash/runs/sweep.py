"""Sweeps: several seeds and settings of a run, trained together in one compiled program.

The folder of a sweep holds ``config.json``, ``metrics.jsonl`` with each metric as a list over the
members, ``checkpoints/`` of all of them, a folder for each, which is that of a run, and, written last,
``results.json``. A member is trained and evaluated as ``jaxhash train`` would with its seed and its
numbers.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxhash import report
from jaxhash.data.input_form import keep_form, stored_form
from jaxhash.data.readers.image_files import keep_index
from jaxhash.objectives import TableSharding
from jaxhash.runs import train as run
from jaxhash.runs.composition import objective_words
from jaxhash.runs.config import Config, differences, word
from jaxhash.runs.describe import describe, left_out, tell_missing
from jaxhash.runs.evaluation import conventions
from jaxhash.runs.experiment import (
    NUMBERS,
    Parts,
    build,
    initial_states,
    make_batches,
    make_data_parallel,
    make_step,
    state_bytes,
    with_hyperparams,
)
from jaxhash.runs.files import (
    check_free,
    damaged,
    print_results,
    read_config,
    read_finished,
    read_results,
)
from jaxhash.runs.fitting import fit_from_checkpoint, log_throughput
from jaxhash.runs.folder import open_folder
from jaxhash.runs.members import evaluate_members, finish_members
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.settings import SCORES, VALIDATION_CONVENTIONS, best, summarize
from jaxhash.training.compilation_cache import compilation_cache
from jaxhash.training.devices import device_memory
from jaxhash.training.distributed import is_main_process
from jaxhash.training.members import (
    ALL_DIVERGED_ERROR,
    Member,
    MemberMonitor,
    StackedBatches,
    best_mapping,
    member_step,
    stack_states,
)
from jaxhash.training.state import TrainState
from jaxhash.training.stop import defer_signals, raise_if_stop_requested
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json

#: Names of fields of the configuration, each with the values that it takes.
Axes = Mapping[str, Sequence[float]]

#: Share of the training items that chooses among settings where nothing else is said.
VALIDATION = 0.1

#: Trainings that one program may hold: each has threads that load its data.
MOST_MEMBERS = 1000


@defer_signals()
def train(config: Config, axes: Axes, console: Console, *, seeds: int = 1) -> dict[str, Any]:
    """Train every setting with every seed together, evaluate each, and name the best setting.

    The settings are all combinations of the values of the axes. The best is that of the highest
    mean mAP on the validation items, or mAHP@250 where the run knows what is similar; where none are
    asked for and there are several settings, a tenth of the training items is held out. A member
    whose loss is no longer finite has diverged: the others go on, and its setting is not chosen.

    The same call goes on after an interruption, with the same bits at the end, and does nothing
    for a finished sweep.

    Args:
        config: the run that is varied, with ``run_dir`` the folder of the sweep.
        axes: fields among `jaxhash.runs.experiment.NUMBERS`, each with its values.
        console: where progress and table are printed.
        seeds: how many, ``config.seed`` the first of them.

    Returns:
        The content of results.json: ``settings`` with means over seeds, ``members``, ``best``, the
        number of a setting, and what they were made from.

    Raises:
        UserError: if the axes, the configuration, the data or the folder do not allow it, or if
            every member diverges.
    """
    config, settings = _checked(config, axes, seeds)
    run.check_devices(config)
    config, folder = config.located(), config.run_dir
    content = config.to_json() | {"sweep": {"seeds": seeds, "axes": _lists(axes)}}
    _check_folder(folder, config, content)
    if (folder / "results.json").is_file():
        results = read_results(folder)
        if not (unfinished := _unfinished(folder, results)):
            print_line(console, f"{folder} is finished, nothing is left to do")
            print_results(folder, results, console)
            return results
        print_line(
            console, f"{', '.join(unfinished)} of {folder} has no results.json, and is finished now"
        )
    form = stored_form(folder, config.dataset)
    parts, banks = _whole(config, build(config, form=form, console=console))
    members = _members(settings, range(config.seed, config.seed + seeds))
    _check_memory(config, parts, len(members))
    made_on = run.environment(parts)
    raise_if_stop_requested()
    with (
        open_folder(folder, content),
        compilation_cache(folder / "cache" if config.compilation_cache else None),
    ):
        if is_main_process():
            keep_index(parts.source, folder)
        keep_form(folder, parts.form, parts.data_sha256)
        _describe(config, axes, parts, members, console)
        state, monitor = _fit(config, axes, parts, members, console)
        raise_if_stop_requested()
        records = read_metrics(folder / "metrics.jsonl", len(members))
        log_throughput(records, console, rows=config.batch_size * len(members))
        tell_missing(records, parts.total_steps, console)
        finished = finish_members(
            dataclasses.replace(config, spread_banks=banks),
            parts,
            members,
            state,
            records,
            made_on | {"trained_together": len(members)},
            console,
            diverged=monitor.diverged,
        )
        results = _results(config, axes, parts, members, finished, monitor)
        results |= {"seconds": records[-1]["seconds"] if records else None, **made_on}
        write_json(folder / "results.json", results)
    report.print_sweep(results, console)
    print_line(console, f"results are in {folder}, and each member's in a folder there")
    return results


def evaluate(folder: Path, console: Console, data_dir: Path | None = None) -> dict[str, Any]:
    """Compute the metrics of all members of a finished sweep again, and compare.

    Raises:
        UserError: if the folder holds no finished sweep, a member has no folder, or a number differs.
    """
    config, varied = read_finished(folder, data_dir)
    axes, seeds = varied["axes"], varied["seeds"]
    try:
        config, settings = _checked(config, axes, seeds)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from error
    results, path = read_results(folder), folder / "results.json"
    try:
        members = [Member(m["seed"], m["values"]) for m in results["members"]]
        stored = [m["scores"] for m in results["members"]]
        there = [m for m, scores in zip(members, stored, strict=True) if scores is not None]
        chosen = results["settings"], results["best"]
        expected = summarize(results["members"])
    except Exception as error:  # it may hold anything
        raise damaged(folder, error) from error
    if members != _members(settings, range(config.seed, config.seed + seeds)):
        raise UserError(f"{path} is of other members than {folder / 'config.json'} says")
    if chosen != (expected, best(expected)):
        raise UserError(
            f"{path}: its settings, or the best of them, do not follow from its members"
        )
    parts, banks = _whole(config, run.build_again(config, console))
    config = dataclasses.replace(config, spread_banks=banks)
    found = iter(evaluate_members(config, parts, there, console))
    for member, scores in zip(members, stored, strict=True):
        if scores is None:
            continue
        now = next(found)
        other = [name for name in scores if name in now and scores[name] != now[name]]
        if other:
            raise UserError(f"not what {path} says: {member.name}: {', '.join(other)}")
    print_results(folder, results, console)
    print_line(console, f"every member's numbers equal those of {path}, to the last digit")
    return results


def _unfinished(folder: Path, results: dict[str, Any]) -> list[str]:
    """Folders of members of a finished sweep whose results are gone, as after damage."""
    try:
        there = [m for m in results["members"] if m["scores"] is not None]
        names = [Member(m["seed"], m["values"]).folder for m in there]
    except Exception as error:  # it may hold anything
        raise damaged(folder, error) from error
    return [
        n for n in names if (folder / n).is_dir() and not (folder / n / "results.json").exists()
    ]


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds a sweep, as far as its config.json can be read."""
    path = folder / "config.json"
    try:
        return path.is_file() and "sweep" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _whole(config: Config, parts: Parts) -> tuple[Parts, str]:
    """The parts with whole tables, and what a member's configuration says of them.

    The states of members are side by side: their banks stay whole on each device.
    """
    banks = config.spread_banks if parts.table_sharding == TableSharding() else "never"
    return parts._replace(table_sharding=TableSharding()), banks


def _settings(axes: Axes) -> list[dict[str, float]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _members(settings: Sequence[dict[str, float]], seeds: Sequence[int]) -> list[Member]:
    return [Member(seed, setting) for setting in settings for seed in seeds]


def _check_memory(config: Config, parts: Parts, members: int) -> None:
    """Raise unless the states of all members have room, beside what the step makes of them."""
    one, free = state_bytes(parts), device_memory()
    if 2 * members * one > free:
        raise UserError(
            f"{members:,} members of {one / 2**20:,.1f} MiB each, twice in a step, do not fit into the "
            f"{free / 2**30:,.1f} GiB that a device has; fewer --seeds or values, in several sweeps"
        )


def _checked(config: Config, axes: Axes, seeds: int) -> tuple[Config, list[dict[str, float]]]:
    """The configuration with validation items where it needs them, and the settings."""
    for name, values in axes.items():
        if name not in NUMBERS:
            allowed = ", ".join(map(word, NUMBERS))
            raise UserError(f"--sweep cannot vary {word(name)!r}; it can vary {allowed}")
        if not len(values):
            raise UserError(f"--sweep {word(name)} has no values")
        if repeated := [value for value in values if list(values).count(value) > 1]:
            raise UserError(f"--sweep {word(name)} has {repeated[0]:g} twice")
    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    if "quantizer_weight" in axes and config.quantizer == "none":
        raise UserError("--sweep quantizer-weight needs a quantizer, and --quantizer is none")
    if config.on_nan != "stop":
        raise UserError("--on-nan skip is not for a sweep, whose members go on without one another")
    if config.spread_banks == "always":
        raise UserError("--spread-banks always is not for a sweep, whose members share the devices")
    if config.choose != "last":
        raise UserError(f"--choose {config.choose} is not for a sweep, which takes the last epoch")
    members = seeds * math.prod(map(len, axes.values()))
    if members > MOST_MEMBERS:
        raise UserError(
            f"--seeds and --sweep ask for {members:,} members; at most {MOST_MEMBERS:,} are trained "
            "together"
        )
    settings = _settings(axes)
    if len(settings) > 1 and not config.validation:
        config = dataclasses.replace(config, validation=VALIDATION)
    for setting in settings:
        dataclasses.replace(config, **setting).check()
    dataclasses.replace(config, seed=config.seed + seeds - 1).check()
    return config, settings


def _check_folder(folder: Path, config: Config, content: dict[str, Any]) -> None:
    """Raise unless the folder is new, empty, or holds this sweep."""
    if check_free(folder, "sweep"):
        return
    stored, sweep = read_config(folder)
    if sweep is None:
        raise UserError(f"{folder} holds a single run, not a sweep; choose another --run-dir")
    found = differences(stored, config)
    for name, words in (("seeds", "--seeds"), ("axes", "--sweep")):
        there, here = (_axes_words(one[name]) for one in (sweep, content["sweep"]))
        if there != here:
            found.append(f"{words} is {there} there and {here} here")
    if found:
        raise UserError(
            f"{folder} holds another sweep: {'; '.join(found)}; choose another --run-dir"
        )


def _describe(
    config: Config, axes: Axes, parts: Parts, members: Sequence[Member], console: Console
) -> None:
    seeds = len({member.seed for member in members})
    over = f"{len(members)} members: {seeds} seed{'s' * (seeds > 1)} from {config.seed}"
    if axes:
        over += f", {_axes_words(axes)}"
    lines = [
        *describe(config, parts, _objective_name(config, axes)),
        over,
        *left_out(parts),
    ]
    if len(members) > seeds:
        held_out = f"{config.validation:g} of the training items, which are held out"
        own = f"the {len(parts.split.validation):,} items of the part validation"
        chosen_on = held_out if "-validation" in parts.split.name else own
        lines.append(f"the setting is chosen on {chosen_on}; the queries are touched once")
    print_line(console, "\n".join(lines))


def _fit(
    config: Config, axes: Axes, parts: Parts, members: Sequence[Member], console: Console
) -> tuple[TrainState, MemberMonitor]:
    """Bring the sweep to its last step, from the newest checkpoint if there is one."""
    seeds = list(dict.fromkeys(member.seed for member in members))

    def batches(start: int) -> StackedBatches:
        of_seed = (dataclasses.replace(config, seed=seed) for seed in seeds)
        return StackedBatches([make_batches(each, parts, start=start) for each in of_seed])

    numbers = {
        name: np.array([member.setting[name] for member in members], np.float32) for name in axes
    }
    # A weight of 0 leaves a penalty out, with its state; a weight that is varied is never left out.
    varied = with_hyperparams(config, parts, {name: jnp.float32(numbers[name][0]) for name in axes})
    state = stack_states(initial_states(config, varied, seeds), len(members) // len(seeds))
    step = member_step(
        lambda numbers: make_step(config, with_hyperparams(config, parts, numbers)),
        numbers,
        mapping=best_mapping(jax.local_devices()[0].platform, state.params),
    )
    return fit_from_checkpoint(
        config,
        parts,
        state,
        batches,
        make_data_parallel(config, parts, step),
        make_monitor=partial(
            MemberMonitor, members, bits=config.bits, rows=run.batch_rows(config, parts)
        ),
        console=console,
        members=len(members),
    )


def _results(
    config: Config,
    axes: Axes,
    parts: Parts,
    members: Sequence[Member],
    finished: Sequence[dict[str, Any] | None],
    monitor: MemberMonitor,
) -> dict[str, Any]:
    """All numbers of the sweep, but for its circumstances."""
    split, found = parts.split, []
    for number, (member, results) in enumerate(zip(members, finished, strict=True)):
        diverged = monitor.diverged[number]
        if results is None and diverged is None:
            diverged = parts.total_steps
        scores = results and {name: results[name] for name in SCORES if name in results}
        found.append(
            {
                "seed": member.seed,
                "values": dict(member.setting),
                "scores": scores,
                "diverged_at_step": diverged,
                "collapsed_at_step": next(iter(monitor.alarms[number].steps), None),
            }
        )
    if all(member["scores"] is None for member in found):
        raise UserError(ALL_DIVERGED_ERROR.format(parts.total_steps))
    settings = summarize(found)
    return {
        "bits": config.bits,
        "dataset": config.dataset,
        "split": split.name,
        "split_sha256": split.sha256,
        "items": {
            name: len(getattr(split, name)) for name in ("train", "validation", "query", "database")
        },
        "leaks": list(parts.leaks),
        "equal_inputs": dict(parts.equal_inputs),
        "notes": list(parts.notes),
        "warnings": list(parts.warnings),
        "left_out": list(parts.source.left_out),
        "objective": _objective_name(config, axes),
        "epochs": config.epochs,
        "axes": _lists(axes),
        "seeds": list(dict.fromkeys(member.seed for member in members)),
        "settings": settings,
        "best": best(settings),
        "members": found,
        "conventions": conventions(parts) | VALIDATION_CONVENTIONS,
    }


def _objective_name(config: Config, axes: Axes) -> str:
    """The loss in words, without a weight that is varied."""
    return objective_words(config, without_weight="quantizer_weight" in axes)


def _lists(axes: Axes) -> dict[str, list[float]]:
    return {name: list(values) for name, values in axes.items()}


def _axes_words(axes: Any) -> str:
    """Axes as the command line has them; a number as it is."""
    if not isinstance(axes, Mapping):
        return str(axes)
    words = [f"{word(name)}={','.join(f'{v:g}' for v in values)}" for name, values in axes.items()]
    return " ".join(words) or "not given"
