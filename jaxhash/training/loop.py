"""The training loop: steps, metrics, candidates and checkpoints."""

import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Shaped

from jaxhash.objectives import Batch
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.model_selection import CandidateTracker, best_candidate
from jaxhash.training.parallel import DataParallel, MemberParallel
from jaxhash.training.speed import Profile, StepTimer
from jaxhash.training.state import TrainState
from jaxhash.training.stop import StopRequest
from jaxhash.utils.errors import UserError

#: Number of consecutive skipped updates that ends the training.
MAX_CONSECUTIVE_SKIPS = 20


@runtime_checkable
class MetricsWriter(Protocol):
    """Writes the metrics of each step."""

    def write(self, step: int, metrics: dict[str, Any], *, required: bool = False) -> None:
        """Appends the record of one step, which may be left out where it is not required."""


@runtime_checkable
class Progress(Protocol):
    """Displays the progress of the training."""

    def update(self, step: int, metrics: dict[str, Any]) -> None:
        """Displays the metrics of a step."""

    def print(self, line: str) -> None:
        """Prints a separate line."""


@runtime_checkable
class Monitor(Protocol):
    """Watches the metrics of each step.

    Attributes:
        changed: whether the last step changed what it remembers, so that a training that is resumed
            needs the record of this step.
    """

    changed: bool

    def __call__(self, step: int, metrics: dict[str, Any]) -> str | None:
        """Returns a line for the log, or None; an exception ends the training."""


def fit(
    state: TrainState,
    batches: Iterator[Batch],
    parallel_step: DataParallel | MemberParallel,
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
    """Runs the steps from ``start`` to ``total_steps``.

    A checkpoint is also saved after the last step, after a candidate that `Checkpoints.should_keep`
    accepts, and when the training is stopped. While a step runs, the next batch is moved to the
    devices and the metrics of the previous step are fetched, so the host never waits for the step
    it has just launched.

    Args:
        state: state after ``start`` steps, in the local form of ``parallel_step``.
        batches: this process's rows of the following batches.
        parallel_step: step from a state and a batch to a state and metrics.
        start: number of steps already done.
        total_steps: number of steps of the training.
        checkpoint_every: number of steps between two checkpoints.
        checkpoints: checkpoints of the run.
        candidates: tracker that scores the model after some steps.
        monitor: called with step and metrics before they are written; a line that it returns is
            printed, and an exception that it raises ends the training. Earlier checkpoints stay.
        stop: request to stop, checked after each step.
        profile: trace of some steps.
        metrics_file: writer of the records; None in processes that write nothing.
        progress: display of each record.

    Returns:
        The state after ``total_steps`` steps, in the local form.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the last step is saved.
        Stopped: after SIGTERM; the last step is saved.
    """
    pending, timer = None, StepTimer()
    report = partial(_report, monitor=monitor, metrics_file=metrics_file, progress=progress)
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
            report(*pending)
        pending = (step, metrics, timer.times())
        stopped = stop.should_stop(step)
        saved = step % checkpoint_every == 0 or step == total_steps or stopped
        scored = candidates.should_evaluate(step)
        if saved or scored:
            report(*pending, required=True)  # a resumed training goes on from its seconds
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
    """Raises a `UserError` if the loss or another metric of a step is not finite."""
    if found := _non_finite(metrics):
        raise UserError(
            f"training stopped at step {step}: {found}; a lower `learning_rate` or `clip_norm` "
            "may help, and the checkpoints from before stay"
        )


class SkipCounter:
    """Counts consecutive skipped updates, and ends a training that skips all of them.

    Args:
        records: earlier records of the run's metrics.jsonl.

    Attributes:
        changed: whether the last update changed the count.
    """

    def __init__(self, records: Iterable[dict[str, Any]] = ()):
        self._in_a_row, self.changed = 0, False
        for record in records:
            self._in_a_row = self._in_a_row + 1 if record.get("skipped") else 0

    def update(self, step: int, metrics: dict[str, int | float]) -> str | None:
        """Returns a line for the log if the update of this step was skipped, else None.

        Raises:
            UserError: after `MAX_CONSECUTIVE_SKIPS` consecutive skips.
        """
        skipped = bool(metrics.get("skipped"))
        self.changed = skipped or self._in_a_row > 0
        if not skipped:
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        if self._in_a_row >= MAX_CONSECUTIVE_SKIPS:
            raise UserError(
                f"training stopped at step {step}: {MAX_CONSECUTIVE_SKIPS} updates in a row were "
                f"skipped, at last as {_non_finite(metrics)}; a lower `learning_rate` or `clip_norm` may help"
            )
        return f"warning: step {step}: the update is skipped: {_non_finite(metrics)}"


def _non_finite(metrics: dict[str, int | float]) -> str:
    """Lists the metrics that are not finite."""
    found = (f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value))
    return ", ".join(found)


def _report(
    step: int,
    metrics: dict,
    times: dict[str, float],
    *,
    monitor: Monitor,
    metrics_file: MetricsWriter | None,
    progress: Progress,
    required: bool = False,
) -> None:
    """Fetches the metrics of a step, and passes them to the monitor, the file and the display."""
    values = {name: _to_json(value) for name, value in jax.device_get(metrics).items()}
    values = {"loss": values["loss"]} | values  # first in the line
    warning = monitor(step, values)
    if metrics_file is not None:
        required |= monitor.changed or "compile_seconds" in times
        metrics_file.write(step, values | times, required=required)
    progress.update(step, values)
    if warning:
        progress.print(warning)


def _to_json(
    value: Shaped[np.ndarray | np.generic, "..."],
) -> int | float | list[int | float | None]:
    """Converts a metric to a number, or a metric of each member to a list, None if not finite."""
    if value.ndim == 0:
        return value.item()
    return [number if math.isfinite(number) else None for number in value.tolist()]
