"""Bring a training to its last step, from wherever it stopped, and time it.

A run and a sweep are brought there alike: what differs is the state and the step.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
from jaxtyping import PyTree
from rich.console import Console

from jaxhash.objectives import Batch
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Parts, make_data_parallel, make_loss_step
from jaxhash.runs.metrics_file import MetricsFile, read_metrics
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.distributed import broadcast_from_host0, is_main_process
from jaxhash.training.loop import Monitor, fit
from jaxhash.training.model_selection import CandidateTracker
from jaxhash.training.parallel import DataParallel
from jaxhash.training.speed import Profile, Speed
from jaxhash.training.state import TrainState
from jaxhash.training.stop import StopRequest
from jaxhash.training.timing import time_alternately
from jaxhash.utils.console import ProgressLine, print_line
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import peak_process_bytes

W = TypeVar("W", bound=Monitor)


def fit_from_checkpoint(
    config: Config,
    parts: Parts,
    state: TrainState,
    batches: Callable[..., Iterator[Batch]],
    parallel_step: DataParallel,
    *,
    make_monitor: Callable[..., W],
    console: Console,
    score: Callable[[PyTree], float] | None = None,
    members: int = 0,
    profile: Path | None = None,
) -> tuple[TrainState, W]:
    """Train in ``config.run_dir``, from its newest checkpoint if there is one.

    Args:
        config: where, and how often a checkpoint is left.
        parts: the lengths of an epoch and of the training.
        state: the state before the first step.
        batches: from ``start``, a number of steps, to the batches after them.
        parallel_step: one step over the devices.
        make_monitor: from ``records``, those that are there, to the ``monitor`` of `fit`.
        console: where progress is printed.
        score: from a model's variables to what it is chosen by; None if none is.
        members: trainings of a sweep that a step is a step of; 0 where it is a run's.
        profile: where a trace of a few steps goes, if anywhere.

    Returns:
        The last state, as the parallel_step leaves it, and what watched over it.

    Raises:
        KeyboardInterrupt: if Ctrl-C asked for it; the same call goes on.
        Stopped: if SIGTERM did.
        UserError: if there are checkpoints, and none can be read or the data have changed since; or
            if one cannot be written.
    """
    state = parallel_step.replicate(state)
    path = config.run_dir / "metrics.jsonl"
    kept = Checkpoints(
        config.run_dir / "checkpoints",
        newest=config.keep_newest,
        best=config.keep_best,
        data=data_fingerprint(parts),
        print_line=partial(print_line, console),
    )
    with kept as checkpoints:
        start = 0
        if found := checkpoints.newest(state):
            start, state = found
            print_line(console, f"going on from step {start} of {parts.total_steps}")
        trace = Profile(profile, start=start, total_steps=parts.total_steps)
        with (
            contextlib.closing(trace),
            StopRequest() as stop,
            MetricsFile(path, step=start, members=members)
            if is_main_process()
            else contextlib.nullcontext() as metrics_file,
            ProgressLine(
                console,
                total=parts.total_steps,
                start=start,
                batch_size=config.batch_size * (members or 1),
            ) as progress,
        ):
            monitor = make_monitor(
                records=broadcast_from_host0(lambda: read_metrics(path, members))
            )
            state = fit(
                parallel_step.to_local(state),
                batches(start=start),
                parallel_step,
                start=start,
                total_steps=parts.total_steps,
                checkpoint_every=config.checkpoint_every,
                checkpoints=checkpoints,
                candidates=CandidateTracker(
                    score,
                    every=config.evaluate_every,
                    steps_per_epoch=parts.steps_per_epoch,
                    total_steps=parts.total_steps,
                    found=checkpoints.candidates,
                ),
                monitor=monitor,
                stop=stop,
                profile=trace,
                metrics_file=metrics_file,
                progress=progress,
            )
        if profile is not None:
            left = start < parts.total_steps
            traced = f"the trace is in {profile}" if left else "--profile: no step is left to trace"
            print_line(console, traced)
    return state, monitor


def data_fingerprint(parts: Parts) -> dict[str, Any]:
    """What a checkpoint knows of the data it was made with."""
    facts = {"items": len(parts.source.labels), "training items": len(parts.split.train)}
    return facts | {"split": parts.split.sha256[:12]}


def time_loss(
    config: Config,
    parts: Parts,
    parallel_step: DataParallel,
    state: TrainState,
    batch: Batch,
    console: Console,
) -> None:
    """Time the step as it is, and the loss with its gradient in the codes alone."""
    alone = make_data_parallel(config, parts, make_loss_step(config, parts))
    held, rows = [state], parallel_step.shard_batch(batch)

    def call(timed_step):
        held[0], metrics = timed_step(held[0], rows)
        jax.block_until_ready(metrics)

    calls = {"loss": partial(call, alone), "step": partial(call, parallel_step)}
    seconds = time_alternately(calls, repeats=20, budget_seconds=20.0)
    loss, step = (statistics.median(seconds[name]) for name in ("loss", "step"))
    found = {"step_seconds": step, "loss_seconds": loss, "loss_share": loss / step}
    if is_main_process():
        folder = config.run_dir / "profile"
        folder.mkdir(exist_ok=True)
        write_json(folder / "loss.json", found)
    print_line(
        console,
        f"the loss and its gradient in the codes take {1e3 * loss:.2f} of {1e3 * step:.2f} ms, "
        f"{loss / step:.0%} of a step",
    )


def log_throughput(
    records: list[dict[str, Any]], console: Console, *, rows: int
) -> dict[str, dict[str, float]]:
    """Print how fast a training ran, and return it as results hold it; nothing where no step tells.

    Args:
        records: the run's metrics.jsonl.
        console: where it is printed.
        rows: examples of a step.
    """
    speed = Speed.from_records(records, rows=rows)
    if speed is None:
        return {}
    print_line(console, f"{speed}")
    return {"speed": speed._asdict()}


def tell_memory(console: Console) -> int:
    """Print the most main memory that the process has held, evaluation included, and return it."""
    peak = peak_process_bytes()
    print_line(console, f"with the evaluation at most {peak / 2**20:,.0f} MiB of main memory")
    return peak
