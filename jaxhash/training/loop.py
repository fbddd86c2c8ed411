"""The loop: steps, logs and checkpoints, from wherever the run stopped."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Shaped

from jaxhash.objectives import Batch
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.model_selection import CandidateTracker, best_candidate
from jaxhash.training.parallel import DataParallel
from jaxhash.training.speed import Profile, StepTimer
from jaxhash.training.state import TrainState
from jaxhash.training.stop import StopRequest
from jaxhash.utils.errors import UserError

#: Updates in a row that may be skipped, less one.
MAX_CONSECUTIVE_SKIPS = 20


@runtime_checkable
class MetricsWriter(Protocol):
    """Keeps the metrics of each step."""

    def write(self, step: int, metrics: dict[str, Any]) -> None:
        """Appends the record of a step."""


@runtime_checkable
class Progress(Protocol):
    """Shows a person how far the training is."""

    def update(self, step: int, metrics: dict[str, Any]) -> None:
        """Shows the metrics of a step."""

    def print(self, line: str) -> None:
        """Prints a line of its own."""


#: Sees the step and the metrics of each record; may return a line for the log.
Monitor = Callable[[int, dict[str, Any]], str | None]


def fit(
    state: TrainState,
    batches: Iterator[Batch],
    parallel_step: DataParallel,
    *,
    start: int,
    total_steps: int,
    checkpoint_every: int,
    checkpoints: Checkpoints,
    candidates: CandidateTracker,
    monitor: Monitor,
    stop: StopRequest,
    profile: Profile,
    metrics_file: MetricsWriter | None,
    progress: Progress,
) -> TrainState:
    """Run the steps from ``start`` to ``total_steps``.

    The last step and each candidate that is better than all before it leave a checkpoint too. While
    a step runs its successor's batch is put onto the devices, and the metrics of the step before are
    fetched, so the host never waits for the step it has just launched.

    Args:
        state: state after ``start`` steps, in the form that the parallel_step maps.
        batches: this process's rows of the batches after those.
        parallel_step: from state and batch to state and metrics.
        start: steps already done.
        total_steps: steps of the whole training.
        checkpoint_every: steps between two checkpoints.
        checkpoints: where they go.
        candidates: says after which steps a model is scored, and does it.
        monitor: sees step and metrics before they are written; what it returns is printed, and what
            it raises ends the training. Checkpoints from before stay.
        stop: asks to stop after the step that is under way.
        profile: traces some of the steps.
        metrics_file: one record a step goes here, in the first process.
        progress: shows each record.

    Raises:
        KeyboardInterrupt: if Ctrl-C asked for it; the step under way has left a checkpoint.
        Stopped: if SIGTERM did.
    """
    pending, timer = None, StepTimer()
    batch = parallel_step.shard_batch(next(batches)) if start < total_steps else None
    for step in range(start + 1, total_steps + 1):
        timer.start()
        profile.before(step)
        state, metrics = parallel_step(state, batch)
        timer.launched()
        if step < total_steps:
            batch = parallel_step.shard_batch(next(batches))
            timer.ready(in_time=not metrics["loss"].is_ready())
        profile.after(step, metrics)
        if pending is not None:
            _report(*pending, monitor, metrics_file, progress)
        pending = (step, metrics, timer.times())
        stopped = stop.should_stop(step)
        saved = step % checkpoint_every == 0 or step == total_steps or stopped
        scored = candidates.should_evaluate(step)
        if saved or scored:
            _report(*pending, monitor, metrics_file, progress)
            pending = None
        if scored:
            candidate = candidates.add(step, state.variables)
            is_best = candidate == best_candidate(candidates.found)
            progress.print(
                f"epoch {candidate.epoch}: mAP {candidate.map:.4f}{', the best so far' * is_best}"
            )
            saved |= checkpoints.should_keep(candidate, candidates.found)
        if saved:
            checkpoints.save(step, parallel_step.to_global(state), candidates.found)
        if stopped:
            checkpoints.wait()
            stop.raise_stopped(step)
    return state


def check_finite(step: int, metrics: dict[str, int | float]) -> None:
    """Raise a `UserError` if the loss or another metric of a step is not finite."""
    if broken := _broken(metrics):
        raise UserError(
            f"training stopped at step {step}: {broken}; a lower --learning-rate or --clip-norm may "
            "help, and the checkpoints from before stay"
        )


class SkipCounter:
    """Tells of the updates that are dropped, and ends a training that has come to nothing else.

    Args:
        records: what is in the run's metrics.jsonl already.
    """

    def __init__(self, records: Iterable[dict[str, Any]] = ()):
        self._in_a_row = 0
        for record in records:
            self._in_a_row = self._in_a_row + 1 if record.get("skipped") else 0

    def update(self, step: int, metrics: dict[str, int | float]) -> str | None:
        """A line for the log if the update of this step is dropped, else None.

        Raises:
            UserError: if it is the last of `MAX_CONSECUTIVE_SKIPS` in a row.
        """
        if not metrics.get("skipped"):
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        if self._in_a_row >= MAX_CONSECUTIVE_SKIPS:
            raise UserError(
                f"training stopped at step {step}: {MAX_CONSECUTIVE_SKIPS} updates in a row were skipped, at "
                f"last as {_broken(metrics)}; a lower --learning-rate or --clip-norm may help"
            )
        return f"warning: step {step}: the update is skipped: {_broken(metrics)}"


def _broken(metrics: dict[str, int | float]) -> str:
    """Which metrics are not finite, in words."""
    found = (f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value))
    return ", ".join(found)


def _report(
    step: int,
    metrics: dict,
    times: dict[str, float],
    monitor: Monitor,
    metrics_file: MetricsWriter | None,
    progress: Progress,
) -> None:
    values = {name: _plain(value) for name, value in jax.device_get(metrics).items()}
    values = {"loss": values["loss"]} | values  # first in the line
    warning = monitor(step, values)
    if metrics_file is not None:
        metrics_file.write(step, values | times)
    progress.update(step, values)
    if warning:
        progress.print(warning)


def _plain(value: Shaped[np.ndarray | np.generic, "..."]) -> int | float | list[int | float | None]:
    """A number; or those of the members of a sweep, with None for what is not finite."""
    if value.ndim == 0:
        return value.item()
    return [number if math.isfinite(number) else None for number in value.tolist()]
