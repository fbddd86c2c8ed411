"""Sweeps: several seeds and settings of a run, trained together in one compiled program.

The folder of a sweep holds ``config.json``, ``metrics.jsonl`` with each metric as a list over the
members, ``checkpoints/`` of all of them, the folder of a run for each of them, and, written last,
``results.json``. A member is trained and evaluated as ``jaxhash train`` would with its seed and its
numbers.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxhash import report
from jaxhash.data.form_files import read_input_form
from jaxhash.objectives import Batch, TableSharding
from jaxhash.runs.config import TRACED_HYPERPARAMS, Config
from jaxhash.runs.describe import describe, describe_unreadable, environment, print_missing_records
from jaxhash.runs.evaluation import data_facts
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.folder import (
    axes_words,
    check_same_training,
    damaged,
    print_results,
    read_results,
)
from jaxhash.runs.members import finish_members
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.scores import conventions
from jaxhash.runs.settings import SCORES, VALIDATION_CONVENTIONS, best, summarize
from jaxhash.runs.throughput import log_throughput
from jaxhash.runs.train_run import (
    check_devices,
    fit_from_checkpoint,
    training_folder,
)
from jaxhash.training.devices import device_memory
from jaxhash.training.members import (
    ALL_DIVERGED_ERROR,
    Member,
    MemberMonitor,
    StackedBatches,
    best_mapping,
    member_step,
    stack_states,
)
from jaxhash.training.parallel import DataParallel, MemberParallel
from jaxhash.training.state import TrainState
from jaxhash.training.stop import defer_signals, raise_if_stop_requested
from jaxhash.utils.console import print_line, show_work
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json

#: Names of fields of the configuration, each with its values.
Axes = Mapping[str, Sequence[float]]

#: Share of the training items that is held out where there are several settings to choose from.
DEFAULT_VALIDATION = 0.1

#: Largest number of trainings in one program: each has threads that load its data.
MAX_MEMBERS = 1000


@defer_signals()
def sweep(
    config: Config, axes: Axes, console: Console | None = None, *, seeds: int = 1
) -> dict[str, Any]:
    """Trains every setting with every seed together, evaluates each, and finds the best setting.

    The settings are all combinations of the values of the axes. The best has the highest mean mAP on
    the validation items, or mAHP@250 where similarities are known. If there are several settings and
    no validation items are asked for, a tenth of the training items is held out. A member whose loss
    is no longer finite has diverged: the others go on, and its setting is not chosen.

    The same call resumes an interrupted sweep, with the same bits at the end, and does nothing for a
    finished one.

    Args:
        config: the run that is varied, with ``run_dir`` the folder of the sweep.
        axes: fields among `jaxhash.runs.config.TRACED_HYPERPARAMS`, each with its values.
        console: where progress and table are printed; standard output if not given.
        seeds: number of seeds, counted from ``config.run.seed``.

    Returns:
        The content of results.json: ``settings`` with means over seeds, ``members``, ``best``, the
        number of a setting, and what they were made from.

    Raises:
        UserError: if the axes, the configuration, the data or the folder do not allow it, or if
            every member diverges.
    """
    console = console or Console()
    config, settings = check_sweep(config, axes, seeds)
    if not _on_own_devices(seeds * len(settings)):
        check_devices(config)
    config, folder = config.located(), config.run.run_dir
    if folder is None:
        raise UserError("`run_dir` must name the folder of the sweep")
    varied = {"seeds": seeds, "axes": {name: list(values) for name, values in axes.items()}}
    if check_same_training(folder, config, varied) and (folder / "results.json").is_file():
        results = read_results(folder)
        if not (unfinished := _unfinished(folder, results)):
            print_line(console, f"{folder} is finished, nothing is left to do")
            print_results(folder, results, console)
            return results
        print_line(
            console, f"{', '.join(unfinished)} of {folder} has no results.json, and is finished now"
        )
    input_form = read_input_form(folder, config.data.dataset)
    with show_work("opening data and model", console):
        experiment = unsharded(Experiment.open(config, input_form=input_form, console=console))
    members = make_members(settings, range(config.run.seed, config.run.seed + seeds))
    _check_memory(experiment, len(members))
    circumstances = environment(experiment)
    raise_if_stop_requested()
    with training_folder(experiment, config.to_json() | {"sweep": varied}):
        _print_description(experiment, axes, members, console)
        state, monitor = _fit_members(experiment, axes, members, console)
        raise_if_stop_requested()
        records = read_metrics(folder / "metrics.jsonl", len(members))
        log_throughput(records, console, rows=config.optimizer.batch_size * len(members))
        print_missing_records(records, experiment, console)
        finished = finish_members(
            experiment,
            members,
            state,
            records,
            circumstances | {"trained_together": len(members)},
            console,
            diverged=monitor.diverged,
        )
        results = _summarize(experiment, varied["axes"], members, finished, monitor)
        results |= {"seconds": records[-1]["seconds"] if records else None, **circumstances}
        write_json(folder / "results.json", results)
    report.print_sweep(results, console)
    print_line(console, f"results are in {folder}, and each member's in a folder there")
    return results


def check_sweep(config: Config, axes: Axes, seeds: int) -> tuple[Config, list[dict[str, float]]]:
    """Returns the configuration, with validation items where it needs them, and the settings.

    Raises:
        UserError: if axes, seeds and configuration do not go together.
    """
    for name, values in axes.items():
        if name not in TRACED_HYPERPARAMS:
            allowed = ", ".join(map(_spell, TRACED_HYPERPARAMS))
            raise UserError(f"`sweep` cannot vary {_spell(name)!r}; it can vary {allowed}")
        if not len(values):
            raise UserError(f"`sweep` {_spell(name)} has no values")
        if repeated := [value for value in values if list(values).count(value) > 1]:
            raise UserError(f"`sweep` {_spell(name)} has {repeated[0]:g} twice")
    if seeds < 1:
        raise UserError(f"`seeds` must be at least 1, got {seeds}")
    if "quantizer_weight" in axes and config.objective.quantizer == "none":
        raise UserError("`sweep` quantizer-weight needs a quantizer, and `quantizer` is none")
    if config.run.on_nan != "stop":
        raise UserError("`on_nan=skip` is not for a sweep, whose members go on without one another")
    if config.run.spread_banks == "always":
        raise UserError("`spread_banks=always` is not for a sweep, whose members share the devices")
    if config.run.shard_params:
        raise UserError("`shard_params` is not for a sweep, whose members share the devices")
    if config.run.model_parallel > 1:
        raise UserError("`model_parallel` is not for a sweep, whose members share the devices")
    if config.run.choose != "last":
        raise UserError(
            f"`choose={config.run.choose}` is not for a sweep, which takes the last epoch"
        )
    if config.run.log_to:
        raise UserError(
            "`log_to` is for a single run; a sweep leaves a metrics.jsonl in the folder of each member"
        )
    members = seeds * math.prod(map(len, axes.values()))
    if members > MAX_MEMBERS:
        raise UserError(
            f"`seeds` and `sweep` ask for {members:,} members; at most {MAX_MEMBERS:,} are trained "
            "together"
        )
    settings = _settings(axes)
    if len(settings) > 1 and not config.data.validation:
        config = config.replace(validation=DEFAULT_VALIDATION)
    for setting in settings:
        config.replace(**setting).check()
    config.replace(seed=config.run.seed + seeds - 1).check()
    return config, settings


def _spell(name: str) -> str:
    """Returns the name of a field as the axes of a command have it."""
    return name.replace("_", "-")


def _settings(axes: Axes) -> list[dict[str, float]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def make_members(settings: Sequence[dict[str, float]], seeds: Sequence[int]) -> list[Member]:
    """Returns the members of a sweep: the seeds of each setting side by side."""
    return [Member(seed, setting) for setting in settings for seed in seeds]


def _unfinished(folder: Path, results: dict[str, Any]) -> list[str]:
    """Returns the folders of members of a finished sweep whose results are gone, as after damage."""
    try:
        there = [m for m in results["members"] if m["scores"] is not None]
        names = [Member(m["seed"], m["values"]).folder for m in there]
    except Exception as error:  # it may hold anything
        raise damaged(folder, error) from error
    return [
        n for n in names if (folder / n).is_dir() and not (folder / n / "results.json").exists()
    ]


def unsharded(experiment: Experiment) -> Experiment:
    """Returns the experiment with tables that are whole on each device, as members need them.

    The states of members lie side by side. The configuration of a member says that its tables are
    not sharded, where they would be in a single run.
    """
    if experiment.sharding == TableSharding():
        return experiment
    config = experiment.config.replace(spread_banks="never")
    return dataclasses.replace(experiment, config=config, sharding=TableSharding())


def _on_own_devices(members: int) -> bool:
    """Returns whether each member is on one device: with fewer members all devices share the rows."""
    return members >= len(jax.devices()) > 1


def _check_memory(experiment: Experiment, members: int) -> None:
    """Raises unless two states of all members fit into a device's memory, as a step needs them."""
    leaves = jax.tree.leaves(experiment.abstract_state())
    size, free = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves), device_memory()
    if 2 * members * size > free:
        raise UserError(
            f"{members:,} members of {size / 2**20:,.1f} MiB each, twice in a step, do not fit into the "
            f"{free / 2**30:,.1f} GiB that a device has; fewer `seeds` or values, in several sweeps"
        )


def _print_description(
    experiment: Experiment, axes: Axes, members: Sequence[Member], console: Console
) -> None:
    """Prints what is trained on which data, and what the setting is chosen on."""
    config, split = experiment.config, experiment.split
    seeds = len({member.seed for member in members})
    over = f"{len(members)} members: {seeds} seed{'s' * (seeds > 1)} from {config.run.seed}"
    if axes:
        over += f", {axes_words(axes)}"
    if _on_own_devices(len(members)):
        devices = len(jax.devices())
        over += f"; {-(-len(members) // devices)} on each of {devices} devices"
    lines = [
        *describe(experiment, _objective_name(config, axes)),
        over,
        *describe_unreadable(experiment),
    ]
    if len(members) > seeds:
        held_out = f"{config.data.validation:g} of the training items, which are held out"
        own = f"the {len(split.validation):,} items of the part validation"
        chosen_on = held_out if "-validation" in split.name else own
        lines.append(f"the setting is chosen on {chosen_on}; the queries are touched once")
    print_line(console, "\n".join(lines))


def _fit_members(
    experiment: Experiment, axes: Axes, members: Sequence[Member], console: Console
) -> tuple[TrainState, MemberMonitor]:
    """Trains all members to the last step, from the newest checkpoint if there is one."""
    seeds = list(dict.fromkeys(member.seed for member in members))

    def batches(start: int) -> Iterator[Batch]:
        return StackedBatches([experiment.batches(start=start, seed=seed) for seed in seeds])

    values = {
        name: np.array([member.setting[name] for member in members], np.float32) for name in axes
    }
    # A weight of 0 leaves a penalty out, with its state; a weight that is varied is never left out.
    first = experiment.with_hyperparams(**{name: jnp.float32(values[name][0]) for name in axes})
    state = stack_states(first.initial_states(seeds), len(members) // len(seeds))
    mapping = best_mapping(jax.local_devices()[0].platform, state.params)

    def make_step(numbers, devices=None) -> DataParallel:
        step = member_step(
            lambda traced: experiment.with_hyperparams(**traced).step_function(),
            {name: of_members[numbers] for name, of_members in values.items()},
            mapping=mapping,
        )
        return experiment.over_devices(step, devices)

    own_devices = _on_own_devices(len(members))
    return fit_from_checkpoint(
        experiment,
        state,
        batches,
        MemberParallel(make_step, len(members), len(seeds))
        if own_devices
        else make_step(slice(None)),
        make_monitor=partial(
            MemberMonitor, members, bits=experiment.config.model.bits, rows=experiment.batch_rows
        ),
        console=console,
        members=len(members),
    )


def _summarize(
    experiment: Experiment,
    axes: dict[str, list[float]],
    members: Sequence[Member],
    finished: Sequence[dict[str, Any] | None],
    monitor: MemberMonitor,
) -> dict[str, Any]:
    """Returns the results of the sweep, without its circumstances."""
    found = []
    for number, (member, results) in enumerate(zip(members, finished, strict=True)):
        diverged = monitor.diverged[number]
        if results is None and diverged is None:
            diverged = experiment.total_steps
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
        raise UserError(ALL_DIVERGED_ERROR.format(experiment.total_steps))
    config, settings = experiment.config, summarize(found)
    return {
        "bits": config.model.bits,
        **data_facts(experiment),
        "objective": _objective_name(config, axes),
        "epochs": config.optimizer.epochs,
        "axes": axes,
        "seeds": list(dict.fromkeys(member.seed for member in members)),
        "settings": settings,
        "best": best(settings),
        "members": found,
        "conventions": conventions(experiment) | VALIDATION_CONVENTIONS,
    }


def _objective_name(config: Config, axes: Axes) -> str:
    """Returns the objective in words, without a weight that is varied."""
    return config.objective.describe(with_weight="quantizer_weight" not in axes)
