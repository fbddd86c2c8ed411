"""Sweeps: several seeds and settings of a run, trained together in one compiled program.

The folder of a sweep holds ``config.json``, ``metrics.jsonl`` with each metric as a list over the
members, ``checkpoints/`` of all of them, the folder of a run for each of them, and, written last,
``results.json``. A member is trained and evaluated as ``jaxhash train`` would with its seed and its
numbers. Where several processes share the sweep, each has its checkpoints and metrics in a folder of its
own there, ``process0/`` and so on; see `jaxhash.runs.sweep_process`.
"""

import dataclasses
from collections.abc import Iterator, Sequence
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
from jaxhash.runs.config import Config
from jaxhash.runs.describe import describe, describe_unreadable, environment, print_missing_records
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
from jaxhash.runs.sweep_members import Axes, check_sweep, make_members
from jaxhash.runs.sweep_process import SweepProcess
from jaxhash.runs.sweep_results import member_results, objective_name, sweep_results
from jaxhash.runs.throughput import log_throughput
from jaxhash.runs.train_run import (
    check_devices,
    fit_from_checkpoint,
    training_folder,
)
from jaxhash.training.devices import device_memory
from jaxhash.training.distributed import as_single_process
from jaxhash.training.members import (
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


def sweep(
    config: Config,
    axes: Axes,
    console: Console | None = None,
    *,
    seeds: int = 1,
    processes: int = 1,
    process: int = 0,
) -> dict[str, Any] | None:
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
        processes: number of processes that share the sweep, as on several hosts, each with members of its
            own on its own devices, also where JAX has joined those of all; all see the same ``run_dir``.
        process: number of this process, from 0.

    Returns:
        The content of results.json: ``settings`` with means over seeds, ``members``, ``best``, the
        number of a setting, and what they were made from. None if members of other processes are not
        finished: the last process to finish writes it.

    Raises:
        UserError: if the axes, the configuration, the data or the folder do not allow it, or if
            every member diverges.
    """
    console = console or Console()
    config, settings = check_sweep(config, axes, seeds)
    members = make_members(settings, range(config.run.seed, config.run.seed + seeds))
    _check_processes(processes)
    varied = {"seeds": seeds, "axes": {name: list(values) for name, values in axes.items()}}
    varied |= {"processes": processes} if processes > 1 else {}
    with as_single_process(), defer_signals():
        return _train_members(config, members, SweepProcess(process, processes), varied, console)


def _train_members(
    config: Config,
    members: Sequence[Member],
    this: SweepProcess,
    varied: dict[str, Any],
    console: Console,
) -> dict[str, Any] | None:
    """Trains and evaluates the members of a process, and joins those of all if it is the last; see `sweep`."""
    own, axes = this.share(members), varied["axes"]
    if not _on_own_devices(len(own)):
        check_devices(config)
    config, folder = config.located(), config.run.run_dir
    if folder is None:
        raise UserError("`run_dir` must name the folder of the sweep")
    if check_same_training(folder, config, varied) and (folder / "results.json").is_file():
        results = read_results(folder)
        if not (unfinished := _unfinished(folder, results)):
            print_line(console, f"{folder} is finished, nothing is left to do")
            print_results(folder, results, console)
            return results
        print_line(
            console, f"{', '.join(unfinished)} of {folder} has no results.json, and is finished now"
        )
    own_folder, content = this.folder(folder), config.to_json() | {"sweep": varied}
    check_same_training(own_folder, config, varied)
    input_form = read_input_form(own_folder, config.data.dataset)
    with show_work("opening data and model", console):
        experiment = Experiment.open(
            config.replace(run_dir=own_folder), input_form=input_form, console=console
        )
    experiment = unsharded(experiment)
    _check_memory(experiment, len(own))
    circumstances = environment(experiment)
    raise_if_stop_requested()
    with training_folder(experiment, content):
        if not (folder / "config.json").exists():
            this.publish(folder, "config.json", lambda path: write_json(path, content))
        check_same_training(folder, config, varied)  # another process may have been quicker
        _print_description(experiment, axes, members, this, console)
        state, monitor = _fit_members(experiment, axes, own, this, console)
        raise_if_stop_requested()
        records = read_metrics(own_folder / "metrics.jsonl", len(own))
        log_throughput(records, console, rows=config.optimizer.batch_size * len(own))
        print_missing_records(records, experiment, console)
        finished = finish_members(
            experiment,
            own,
            state,
            records,
            circumstances | {"trained_together": len(own)},
            console,
            folder=folder,
            diverged=monitor.diverged,
        )
        found = {
            "members": member_results(own, finished, monitor, experiment.total_steps),
            "seconds": records[-1]["seconds"] if records else None,
        }
        if others := this.finish(folder, found):
            print_line(
                console,
                f"the {len(own)} members of process {this.index} are finished; those of process "
                f"{', '.join(map(str, others))} are not, or not in this {folder}: the last process to finish "
                "writes the results of the sweep",
            )
            return None
        found = this.join(folder, found, members, experiment.findings.data_sha256)
        results = sweep_results(experiment, axes, members, found["members"])
        results |= {"seconds": found["seconds"], **circumstances}
        this.publish(folder, "results.json", lambda path: write_json(path, results))
    report.print_sweep(results, console)
    print_line(console, f"results are in {folder}, and each member's in a folder there")
    return results


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


def _per_device(members: int) -> int:
    """Returns how many members the state on a device is of."""
    return -(-members // len(jax.devices())) if _on_own_devices(members) else members


def _check_processes(processes: int) -> None:
    """Raises if some of the processes whose devices JAX has joined would not have members of their own."""
    if (joined := jax.process_count()) > max(processes, 1):
        raise UserError(
            f"`processes={processes}` is fewer than the {joined} processes whose devices JAX has joined "
            f"here, and each trains members of its own: number all of them by `processes={joined}` and "
            "`process`"
        )


def _check_memory(experiment: Experiment, members: int) -> None:
    """Raises unless two states of a device's members fit into its memory, as a step needs them."""
    leaves = jax.tree.leaves(experiment.abstract_state())
    size, free = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves), device_memory()
    held = _per_device(members)
    if 2 * held * size > free:
        raise UserError(
            f"{held:,} members of {size / 2**20:,.1f} MiB each, twice in a step, do not fit into the "
            f"{free / 2**30:,.1f} GiB that a device has; fewer `seeds` or values, in several sweeps"
        )


def _print_description(
    experiment: Experiment,
    axes: Axes,
    members: Sequence[Member],
    process: SweepProcess,
    console: Console,
) -> None:
    """Prints what is trained on which data, and what the setting is chosen on."""
    config, split = experiment.config, experiment.split
    seeds = len({member.seed for member in members})
    over = f"{len(members)} members: {seeds} seed{'s' * (seeds > 1)} from {config.run.seed}"
    if axes:
        over += f", {axes_words(axes)}"
    own = process.share(members)
    if process.count > 1:
        over += f"; process {process.index} (of 0 to {process.count - 1}) trains {len(own)} of them"
    if _on_own_devices(len(own)):
        over += f"; {_per_device(len(own))} on each of {len(jax.devices())} devices"
    lines = [
        *describe(experiment, objective_name(config, axes)),
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
    experiment: Experiment,
    axes: Axes,
    members: Sequence[Member],
    process: SweepProcess,
    console: Console,
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
    state = stack_states(first.initial_states(seeds), len(members))
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
            MemberMonitor,
            members,
            bits=experiment.config.model.bits,
            rows=experiment.batch_rows,
            stops=process.count == 1,  # else another process may have members left
        ),
        console=console,
        members=len(members),
    )
