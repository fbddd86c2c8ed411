"""Speed of a training: the time of compilation, of steps and of waiting for data; and a profile."""

import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from jaxhash.training.devices import peak_bytes

#: Fields of a record of metrics.jsonl that measure time: seconds of training up to the step,
#: seconds of the step, the share of the step that the devices may have waited for the next batch,
#: and, in the first step of a process, seconds of compilation.
TIMING_FIELDS = ("seconds", "step_seconds", "wait_share", "compile_seconds")

#: Number of steps in a profile, and number of steps of the process before it.
PROFILE_STEPS, WARMUP_STEPS = 5, 5


class StepTimer:
    """Measures the host's time in a step: the launch, the next batch, and the previous metrics.

    The host runs one step ahead of the devices, so on average a step takes it as long as the
    devices need. Waiting for a batch delays the devices only if they finish the running step before
    the batch arrives. In that case the whole wait is counted, which is an upper bound of the delay.
    """

    def __init__(self):
        self._first = True
        self._started = self._launched = self._ready = time.monotonic()

    def start(self) -> None:
        """Marks the start of a step."""
        self._started = time.monotonic()

    def launched(self) -> None:
        """Marks that the step is launched and the next batch is requested."""
        self._launched = self._ready = time.monotonic()

    def ready(self, *, in_time: bool) -> None:
        """Marks that the next batch has arrived; in time, if the devices still compute the step."""
        if not in_time:
            self._ready = time.monotonic()

    def times(self) -> dict[str, float]:
        """Ends the step and returns its `TIMING_FIELDS`, without ``seconds``."""
        seconds = time.monotonic() - self._started
        times = {
            "step_seconds": round(seconds, 6),
            "wait_share": round((self._ready - self._launched) / seconds, 4) if seconds else 0.0,
        }
        if self._first:
            times["compile_seconds"] = round(self._launched - self._started, 3)
        self._first = False
        return times


class Speed(NamedTuple):
    """Speed of a training."""

    compile_seconds: float
    """Seconds to trace and compile the step in the latest process."""
    step_seconds: float
    """Median over the steps that did not compile."""
    examples_per_second: float
    wait_share: float
    """Share of the time of those steps that the devices may have waited for data."""
    peak_bytes: int
    """Peak memory of the first device, or of the process if the device does not count it."""

    @classmethod
    def from_records(cls, records: Iterable[dict[str, Any]], *, rows: int) -> "Speed | None":
        """Computes the speed from the records of metrics.jsonl; None if they hold no times.

        Args:
            records: one record per step.
            rows: rows of a batch.
        """
        timed = [record for record in records if "step_seconds" in record]
        steps = [record for record in timed if "compile_seconds" not in record]
        if not any(record["step_seconds"] for record in steps):
            return None
        median = statistics.median(record["step_seconds"] for record in steps)
        total = sum(record["step_seconds"] for record in steps)
        waited = sum(record["step_seconds"] * record["wait_share"] for record in steps)
        compiled = [r["compile_seconds"] for r in timed if "compile_seconds" in r]
        return cls(
            compile_seconds=compiled[-1] if compiled else 0.0,
            step_seconds=median,
            examples_per_second=rows / median,
            wait_share=waited / total,
            peak_bytes=peak_bytes(),
        )

    def __str__(self) -> str:
        return (
            f"step {1e3 * self.step_seconds:.2f} ms (median), {self.examples_per_second:,.0f} "
            f"examples/s, {self.wait_share:.1%} of the time waiting for data; compiled in "
            f"{self.compile_seconds:.1f} s; at most {self.peak_bytes / 2**20:,.0f} MiB"
        )


class Profile:
    """A JAX trace of a few steps, for TensorBoard or Perfetto.

    Args:
        folder: folder for the trace; None to trace nothing.
        start: number of steps done before this process.
        total_steps: number of steps of the training.
    """

    def __init__(self, folder: Path | None, *, start: int, total_steps: int):
        self._folder, self._tracing = folder, False
        self._first = min(start + 1 + WARMUP_STEPS, max(start + 1, total_steps - PROFILE_STEPS + 1))
        self._last = min(self._first + PROFILE_STEPS - 1, total_steps)

    def before(self, step: int) -> None:
        """Starts the trace at its first step; call it before each step."""
        if self._folder is not None and step == self._first:
            jax.profiler.start_trace(self._folder)
            self._tracing = True

    def after(self, step: int, metrics: PyTree) -> None:
        """Ends the trace after its last step; call it after each step, with the step's metrics."""
        if self._tracing and step == self._last:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """Ends a running trace."""
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
