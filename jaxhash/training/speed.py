"""Where the time of a training goes: waiting, compiling, the step, the loss; and a trace of it."""

import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from jaxhash.training.devices import peak_bytes

#: What a record of metrics.jsonl says of time: seconds of training up to its step, of this step,
#: the share of it that the devices may have waited for the next batch, and of a process's first
#: step its compilation.
TIMING_FIELDS = ("seconds", "step_seconds", "wait_share", "compile_seconds")

#: Steps that a profile holds, after so many others in the same process.
PROFILE_STEPS, WARMUP_STEPS = 5, 5


class StepTimer:
    """Times the host's way through a step: its launch, the next batch, the metrics of the last one.

    The host runs ahead of the devices by one step, so that in the mean a step takes as long as the
    devices need. They notice that the host waits for a batch only if they have done the step before
    it comes: then the whole wait is counted, which is the most that data can have cost.
    """

    def __init__(self):
        self._first = True
        self._started = self._launched = self._ready = time.monotonic()

    def start(self) -> None:
        """A step begins."""
        self._started = time.monotonic()

    def launched(self) -> None:
        """The step is launched; the host asks for the next batch."""
        self._launched = self._ready = time.monotonic()

    def ready(self, *, in_time: bool) -> None:
        """The next batch is there; in time, if the devices are still at the step."""
        if not in_time:
            self._ready = time.monotonic()

    def times(self) -> dict[str, float]:
        """What belongs into the record of the step, which ends here."""
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
    """How fast a training ran."""

    compile_seconds: float
    """Tracing and compiling the step, the last time that a process began."""
    step_seconds: float
    """Median over the steps that did not compile."""
    examples_per_second: float
    wait_share: float
    """Share of the time of those steps that the devices may have waited for data."""
    peak_bytes: int
    """The most memory that the first device, or where it keeps no count the process, has held."""

    @classmethod
    def from_records(cls, records: Iterable[dict[str, Any]], *, rows: int) -> "Speed | None":
        """From the records of metrics.jsonl and the rows of a batch; None where they have no times."""
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
        folder: where it goes; nothing is traced if it is None.
        start: steps done before this process.
        total_steps: steps of the training.
    """

    def __init__(self, folder: Path | None, *, start: int, total_steps: int):
        self._folder, self._tracing = folder, False
        self._first = min(start + 1 + WARMUP_STEPS, max(start + 1, total_steps - PROFILE_STEPS + 1))
        self._last = min(self._first + PROFILE_STEPS - 1, total_steps)

    def before(self, step: int) -> None:
        """To be called before each step."""
        if self._folder is not None and step == self._first:
            jax.profiler.start_trace(self._folder)
            self._tracing = True

    def after(self, step: int, metrics: PyTree) -> None:
        """To be called after each step, with what it returned."""
        if self._tracing and step == self._last:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """End a trace that is under way."""
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
