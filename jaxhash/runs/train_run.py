"""A run from its first to its last line: open the experiment, train, evaluate, write the results.

The folder of a run holds ``config.json``, ``inputs.json``, ``metrics.jsonl``, ``checkpoints/``,
``cache/`` with compiled programs, ``report/``, ``codes.npz`` and, written last, ``results.json``: a run
that has it is finished. A lock keeps other trainings out while one is running. All processes of a
distributed training train and evaluate, and the first one writes.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, PyTree
from rich.console import Console

from jaxhash import models, report
from jaxhash.data.form_files import read_input_form, write_input_form
from jaxhash.data.readers.image_files import write_index
from jaxhash.data.sources import Source
from jaxhash.objectives import Batch, Objective
from jaxhash.runs.artifacts import save_plots, write_codes
from jaxhash.runs.config import Config
from jaxhash.runs.describe import describe, describe_unreadable, environment, print_missing_records
from jaxhash.runs.encoding import SplitEncoder, encode_initial
from jaxhash.runs.evaluation import candidate_score, collapse_alarm, evaluate_model
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.folder import (
    check_same_training,
    open_folder,
    print_results,
    read_results,
    with_own_parts,
)
from jaxhash.runs.loggers import check_loggers, open_metrics
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.own_parts import own_parts
from jaxhash.runs.report_run import PAGE, draw_training
from jaxhash.runs.throughput import log_throughput, time_loss
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.compilation_cache import compilation_cache
from jaxhash.training.distributed import broadcast_from_host0, is_main_process
from jaxhash.training.loop import Monitor, SkipCounter, check_finite, fit
from jaxhash.training.model_selection import SELECTION_DESCRIPTIONS, CandidateTracker, select_model
from jaxhash.training.parallel import DataParallel, MemberParallel, check_model_parallel
from jaxhash.training.speed import Profile
from jaxhash.training.state import TrainState
from jaxhash.training.stop import StopRequest, defer_signals, raise_if_stop_requested
from jaxhash.utils.console import ProgressLine, print_line, show_work
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import peak_process_bytes

M = TypeVar("M", bound=Monitor)


@defer_signals()
def train(
    config: Config,
    console: Console | None = None,
    *,
    source: Source | None = None,
    model: nn.Module | None = None,
    objective: Objective | None = None,
    profile: bool = False,
) -> dict[str, Any]:
    """Trains, evaluates and reports into ``config.run.run_dir``, and returns the results.

    The same call resumes an interrupted run, with the same bits at the end, and does nothing for a
    finished one. The user's own source, model and objective replace those that the configuration
    names; see `Experiment.open`. The folder notes which ones do, and is resumed or evaluated with
    them alone.

    Args:
        config: configuration of the run.
        console: console for progress and table; standard output if not given.
        source: the user's own data, such as arrays.
        model: the user's own model, from inputs to codes.
        objective: the user's own objective, such as of `jaxhash.objectives.combine`.
        profile: whether to trace a few steps into ``profile/``, and to time the loss alone.

    Raises:
        KeyboardInterrupt: if Ctrl-C was pressed, at a place where nothing is broken by it.
        Stopped: if SIGTERM was sent, likewise.
        UserError: if the configuration, the data or the folder do not allow it.
    """
    console = console or Console()
    config.check()
    check_devices(config)
    check_loggers(config.run.log_to)
    config, folder = config.located(), config.run.run_dir
    if folder is None:
        raise UserError("`run_dir` must name the folder of the run")
    own = own_parts(source=source, model=model, objective=objective)
    if results := broadcast_from_host0(lambda: finished_results(folder, config, own)):
        print_line(console, f"{folder} is finished, nothing is left to do")
        if profile:
            print_line(console, "`profile`: no step is left to trace")
        print_results(folder, results, console)
        return results
    input_form = read_input_form(folder, config.data.dataset)
    with show_work("opening data and model", console):
        experiment = Experiment.open(
            config,
            source=source,
            model=model,
            objective=objective,
            input_form=input_form,
            console=console,
        )
    circumstances = environment(experiment)
    raise_if_stop_requested()
    with training_folder(experiment, with_own_parts(config.to_json(), own)):
        print_description(experiment, console)
        encode = SplitEncoder(experiment)
        last = _fit_run(experiment, encode, console, profile=profile)
        raise_if_stop_requested()
        records = broadcast_from_host0(lambda: read_metrics(folder / "metrics.jsonl", 0))
        speed = log_throughput(records, console, rows=config.optimizer.batch_size)
        state, choice = choose_state(experiment, console, last)
        results = write_results(
            experiment,
            encode,
            state.variables,
            choice,
            records,
            console,
            before=encode_initial(experiment, encode, console),
            notes=speed | circumstances,
            page=True,
        )
    report.print_run(results, console)
    drawn = f"results and plots are in {folder}; {PAGE} shows them"
    left = f"results are in {folder}; jaxhash report {folder} --html FILE draws them"
    print_line(console, drawn if config.run.plots else left)
    return results


def dry_run(config: Config, console: Console) -> None:
    """Prints what `train` would train: the data, and the model's stages with their cost.

    Nothing is written.

    Raises:
        UserError: if the configuration, the data or the weights do not allow it.
    """
    config.check()
    with show_work("opening data and model", console):
        experiment = Experiment.open(config, console=console)
    print_description(experiment, console)
    summary = models.summary(experiment.model, experiment.source.inputs[:1])
    report.print_model_summary(summary, console)


def check_devices(config: Config) -> None:
    """Raises a `UserError` if batch or classes cannot be spread over the devices of all processes."""
    devices, processes = len(jax.devices()), jax.process_count()
    if config.optimizer.batch_size < devices:
        raise UserError(
            f"`batch_size={config.optimizer.batch_size}` is smaller than the {devices} devices; each needs a "
            "row"
        )
    if config.optimizer.batch_size % processes:
        raise UserError(
            f"`batch_size={config.optimizer.batch_size}` is no multiple of the {processes} processes"
        )
    check_model_parallel(config.run.model_parallel, devices)


def finished_results(
    folder: Path, config: Config, own: tuple[str, ...] = ()
) -> dict[str, Any] | None:
    """Returns the results of a run that is finished, else None.

    Raises:
        UserError: if the folder holds something else than this run.
    """
    is_there = check_same_training(folder, config, own=own)
    return read_results(folder) if is_there and (folder / "results.json").is_file() else None


@contextlib.contextmanager
def training_folder(experiment: Experiment, content: dict[str, Any]) -> Iterator[None]:
    """Opens the folder of a run or a sweep for its training, by `open_folder`.

    Args:
        experiment: what is trained there.
        content: content of config.json.

    Raises:
        UserError: in all processes, if another training is running there, or it began with other data.
    """
    config, folder = experiment.config, experiment.config.run.run_dir
    cache = folder / "cache" if config.run.compilation_cache else None
    with open_folder(folder, content), compilation_cache(cache):
        if is_main_process():
            write_index(experiment.source, folder)
        write_input_form(folder, experiment.input_form, experiment.findings.data_sha256)
        yield


def print_description(experiment: Experiment, console: Console) -> None:
    """Prints what is trained on which data, and how the model is chosen."""
    config = experiment.config
    lines = [*describe(experiment, experiment.objective_name), *describe_unreadable(experiment)]
    if config.run.choose != "last":
        lines.append(f"the model is {SELECTION_DESCRIPTIONS[config.run.choose]}")
    if len(experiment.split.validation) and config.run.choose != "validation":
        lines.append(f"the validation items are not looked at: `choose` is {config.run.choose}")
    print_line(console, "\n".join(lines))


def _fit_run(
    experiment: Experiment, encode: SplitEncoder, console: Console, *, profile: bool
) -> TrainState:
    """Trains a single run to its last step, and returns the state there; see `fit_from_checkpoint`."""
    config, step = experiment.config, experiment.make_step()
    with show_work("initializing the model", console):
        state = experiment.initial_state()
    state, _ = fit_from_checkpoint(
        experiment,
        state,
        experiment.batches,
        step,
        make_monitor=partial(_Monitor, experiment),
        console=console,
        score=candidate_score(config.run.choose, experiment, encode),
        profile=config.run.run_dir / "profile" if profile else None,
    )
    if profile:
        time_loss(experiment, step, console)
    return state


class _Monitor:
    """Stops a run whose loss is not finite or whose codes collapse, or warns and counts.

    Args:
        experiment: what is trained.
        records: the run's metrics.jsonl so far.
    """

    def __init__(self, experiment: Experiment, records: list[dict[str, Any]]):
        self._stops, self.changed = experiment.config.run.on_collapse == "stop", False
        self._alarm, self._skips = collapse_alarm(experiment, records), SkipCounter(records)

    def __call__(self, step: int, metrics: dict[str, Any]) -> str | None:
        """Returns a line for the log, if there is a reason for one."""
        skipped = self._skips.update(step, metrics)
        self.changed = self._skips.changed
        if skipped:
            return skipped
        check_finite(step, metrics)
        collapsed = self._alarm.update(step, metrics)
        self.changed |= self._alarm.changed
        if collapsed and self._stops:
            raise UserError(
                f"training stopped at step {step}: {collapsed}; `on_collapse=warn` goes on, and the "
                "checkpoints from before stay"
            )
        return collapsed and f"warning: step {step}: {collapsed}"


def fit_from_checkpoint(
    experiment: Experiment,
    state: TrainState,
    batches: Callable[..., Iterator[Batch]],
    step: DataParallel | MemberParallel,
    *,
    make_monitor: Callable[..., M],
    console: Console,
    score: Callable[[PyTree], float] | None = None,
    members: int = 0,
    profile: Path | None = None,
) -> tuple[TrainState, M]:
    """Trains in ``config.run.run_dir`` to the last step, from the newest checkpoint if there is one.

    Args:
        experiment: what is trained.
        state: the state before the first step.
        batches: makes the batches after a number of steps, its argument ``start``.
        step: the step over the devices.
        make_monitor: makes the monitor of `fit` from the ``records`` that exist.
        console: where progress is printed.
        score: scores a model by its variables; None if the last one is taken.
        members: number of trainings in a step of a sweep; 0 for a single run.
        profile: folder of a trace of a few steps; None for no trace.

    Returns:
        The last state, in the global form of `jaxhash.training.parallel`, and the monitor.

    Raises:
        KeyboardInterrupt: if Ctrl-C asked for it; the same call goes on.
        Stopped: if SIGTERM did.
        UserError: if there are checkpoints, and none can be read or the data have changed since; or
            if one cannot be written.
    """
    config, total_steps = experiment.config, experiment.total_steps
    path, state, start = config.run.run_dir / "metrics.jsonl", step.replicate(state), 0
    with open_checkpoints(experiment, console) as checkpoints:
        if found := checkpoints.newest(state):
            start, state = found
            print_line(console, f"going on from step {start} of {total_steps}")
        candidates = CandidateTracker(
            score,
            every=config.run.evaluate_every,
            steps_per_epoch=experiment.steps_per_epoch,
            total_steps=total_steps,
            found=checkpoints.candidates,
        )
        trace = Profile(profile, start=start, total_steps=total_steps)
        with (
            contextlib.closing(trace),
            StopRequest() as stop,
            open_metrics(experiment, console, step=start, members=members) as metrics_file,
            ProgressLine(
                console,
                total=total_steps,
                start=start,
                batch_size=config.optimizer.batch_size * (members or 1),
            ) as progress,
        ):
            records = broadcast_from_host0(lambda: read_metrics(path, members))
            monitor = make_monitor(records=records)
            state = fit(
                step.to_local(state),
                batches(start=start),
                step,
                start=start,
                total_steps=total_steps,
                checkpoint_every=config.run.checkpoint_every,
                checkpoints=checkpoints,
                candidates=candidates,
                monitor=monitor,
                stop=stop,
                profile=trace,
                metrics_file=metrics_file,
                progress=progress,
            )
        if profile is not None:
            traced = f"the trace is in {profile}"
            if start == total_steps:
                traced = "`profile`: no step is left to trace"
            print_line(console, traced)
    return step.to_global(state), monitor


def open_checkpoints(experiment: Experiment, console: Console) -> Checkpoints:
    """Opens the checkpoints of a training; each holds a fingerprint of its data."""
    config, split = experiment.config, experiment.split
    fingerprint = {"items": len(experiment.source.labels), "training items": len(split.train)}
    return Checkpoints(
        config.run.run_dir / "checkpoints",
        newest=config.run.keep_newest,
        best=config.run.keep_best,
        data=fingerprint | {"split": split.sha256[:12]},
        print_line=partial(print_line, console),
    )


def choose_state(
    experiment: Experiment, console: Console, last: TrainState | None = None
) -> tuple[TrainState, dict[str, Any]]:
    """Returns the state that is evaluated, and why its rule chooses it.

    Args:
        experiment: what was trained.
        console: console that damaged checkpoints are printed to.
        last: the last state; restored from its checkpoint if not given.

    Raises:
        UserError: if its checkpoint is missing.
    """
    config, total_steps = experiment.config, experiment.total_steps
    with open_checkpoints(experiment, console) as checkpoints:
        choice = select_model(
            config.run.choose,
            checkpoints.candidates,
            epochs=config.optimizer.epochs,
            total_steps=total_steps,
        )
        step = choice["step"]
        if last is not None and step == total_steps:
            return last, choice
        like = experiment.abstract_state() if last is None else last
        if step not in checkpoints.steps:
            raise UserError(
                f"{config.run.run_dir} has no checkpoint of the model chosen, of step {step}"
            )
        return checkpoints.restore(like, step), choice


def write_results(
    experiment: Experiment,
    encode: SplitEncoder,
    variables: PyTree,
    choice: dict[str, Any],
    records: list[dict[str, Any]],
    console: Console,
    *,
    before: Float[np.ndarray, "items bits"],
    notes: dict[str, Any],
    known: dict[str, Any] | None = None,
    page: bool = False,
) -> dict[str, Any]:
    """Evaluates a trained model, and writes codes, plots, results.json and, at last, the page.

    Args:
        experiment: what was trained.
        encode: encoder of the data.
        variables: variables of the model.
        choice: why this model is evaluated, by `choose_state`.
        records: the run's metrics.jsonl.
        console: where progress is printed.
        before: codes of a sample of the database before training, by `encode_sample`.
        notes: what else the results hold.
        known: results of another run of the same data, split and bits, whose baselines are taken.
        page: whether the report has a page, where plots are drawn.

    Returns:
        The results.

    Raises:
        NotFinite: if the model's codes are not finite.
    """
    folder = experiment.config.run.run_dir
    by_way, results = evaluate_model(experiment, encode, variables, choice, records, console, known)
    (_, codes), *others = by_way.items()
    print_missing_records(records, experiment, console)
    results |= {"seconds": records[-1]["seconds"] if records else None, **notes}
    if is_main_process():
        with show_work("drawing plots and writing codes", console):
            if experiment.config.run.plots:
                save_plots(folder / "report", experiment, before, codes, results, records)
            write_codes(folder / "codes.npz", experiment, codes)
            for way, other in others:
                write_codes(folder / f"codes{way.file_suffix}.npz", experiment, other)
    peak = peak_process_bytes()
    print_line(console, f"with the evaluation at most {peak / 2**20:,.0f} MiB of main memory")
    if "speed" in results:
        results["speed"]["peak_bytes_with_evaluation"] = peak
    if is_main_process():
        write_json(folder / "results.json", results)
        if page and experiment.config.run.plots:  # jaxhash report makes it anew where it is missing
            draw_training(experiment, codes, results, records, console)
    return results
