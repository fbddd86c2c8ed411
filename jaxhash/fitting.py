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

from jaxhash import machine
from jaxhash.bench.timing import alternate
from jaxhash.build import Parts, make_lift, make_loss_step
from jaxhash.config import Config
from jaxhash.objectives import Batch
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.choice import Candidates
from jaxhash.training.loop import Watcher, fit
from jaxhash.training.parallel import Lift
from jaxhash.training.processes import agreed, is_first
from jaxhash.training.speed import Profile, Speed
from jaxhash.training.state import TrainState
from jaxhash.training.stop import StopRequest
from jaxhash.training.writers import MetricsFile, ProgressLine, read_metrics, say, write_json

W = TypeVar("W", bound=Watcher)


def fit_from_checkpoint(
    config: Config,
    parts: Parts,
    state: TrainState,
    batches: Callable[..., Iterator[Batch]],
    lift: Lift,
    *,
    make_watch: Callable[..., W],
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
        lift: one step over the devices.
        make_watch: from ``records``, those that are there, to the ``watch`` of `fit`.
        console: where progress is printed.
        score: from a model's variables to what it is chosen by; None if none is.
        members: trainings of a sweep that a step is a step of; 0 where it is a run's.
        profile: where a trace of a few steps goes, if anywhere.

    Returns:
        The last state, as the lift leaves it, and what watched over it.

    Raises:
        KeyboardInterrupt: if Ctrl-C asked for it; the same call goes on.
        Stopped: if SIGTERM did.
        UserError: if there are checkpoints, and none can be read or the data have changed since; or
            if one cannot be written.
    """
    state = lift.place(state)
    path = config.run_dir / "metrics.jsonl"
    kept = Checkpoints(
        config.run_dir / "checkpoints",
        newest=config.keep_newest,
        best=config.keep_best,
        data=data_facts(parts),
        say=partial(say, console),
    )
    with kept as checkpoints:
        start = 0
        if found := checkpoints.newest(state):
            start, state = found
            say(console, f"going on from step {start} of {parts.total_steps}")
        trace = Profile(profile, start=start, total_steps=parts.total_steps)
        with (
            contextlib.closing(trace),
            StopRequest() as stop,
            MetricsFile(path, step=start, members=members)
            if is_first()
            else contextlib.nullcontext() as metrics_file,
            ProgressLine(
                console,
                total=parts.total_steps,
                start=start,
                batch_size=config.batch_size * (members or 1),
            ) as progress,
        ):
            watch = make_watch(records=agreed(lambda: read_metrics(path, members)))
            state = fit(
                lift.enter(state),
                batches(start=start),
                lift,
                start=start,
                total_steps=parts.total_steps,
                checkpoint_every=config.checkpoint_every,
                checkpoints=checkpoints,
                candidates=Candidates(
                    score,
                    every=config.evaluate_every,
                    steps_per_epoch=parts.steps_per_epoch,
                    total_steps=parts.total_steps,
                    found=checkpoints.candidates,
                ),
                watch=watch,
                stop=stop,
                profile=trace,
                metrics_file=metrics_file,
                progress=progress,
            )
        if profile is not None:
            left = start < parts.total_steps
            traced = f"the trace is in {profile}" if left else "--profile: no step is left to trace"
            say(console, traced)
    return state, watch


def data_facts(parts: Parts) -> dict[str, Any]:
    """What a checkpoint knows of the data it was made with."""
    facts = {"items": len(parts.source.labels), "training items": len(parts.split.train)}
    return facts | {"split": parts.split.sha256[:12]}


def time_loss(
    config: Config, parts: Parts, lift: Lift, state: TrainState, batch: Batch, console: Console
) -> None:
    """Time the step as it is, and the loss with its gradient in the codes alone."""
    alone = make_lift(config, parts, make_loss_step(config, parts))
    held, rows = [state], lift.put(batch)

    def call(lifted):
        held[0], metrics = lifted(held[0], rows)
        jax.block_until_ready(metrics)

    calls = {"loss": partial(call, alone), "step": partial(call, lift)}
    seconds = alternate(calls, repeats=20, budget_seconds=20.0)
    loss, step = (statistics.median(seconds[name]) for name in ("loss", "step"))
    found = {"step_seconds": step, "loss_seconds": loss, "loss_share": loss / step}
    if is_first():
        folder = config.run_dir / "profile"
        folder.mkdir(exist_ok=True)
        write_json(folder / "loss.json", found)
    say(
        console,
        f"the loss and its gradient in the codes take {1e3 * loss:.2f} of {1e3 * step:.2f} ms, "
        f"{loss / step:.0%} of a step",
    )


def tell_speed(
    records: list[dict[str, Any]], console: Console, *, rows: int
) -> dict[str, dict[str, float]]:
    """Print how fast a training ran, and return it as results hold it; nothing where no step tells.

    Args:
        records: the run's metrics.jsonl.
        console: where it is printed.
        rows: examples of a step.
    """
    speed = Speed.of(records, rows=rows)
    if speed is None:
        return {}
    say(console, f"{speed}")
    return {"speed": speed._asdict()}


def tell_memory(console: Console) -> int:
    """Print the most main memory that the process has held, evaluation included, and return it."""
    peak = machine.peak_process_bytes()
    say(console, f"with the evaluation at most {peak / 2**20:,.0f} MiB of main memory")
    return peak
