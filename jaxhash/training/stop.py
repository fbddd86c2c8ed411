"""A request to stop, as a scheduler sends it before it takes the machine away."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """Notes a SIGTERM while it is entered, for the loop to ask for after each step.

    Outside the main thread, where Python takes no signals, nothing is noted. Of several processes,
    which stop after the same step, JAX notes the signals that any of them gets.
    """

    def __init__(self):
        self._made = False

    def __enter__(self) -> "StopRequest":
        in_main = threading.current_thread() is threading.main_thread()
        self._notes = in_main and jax.process_count() == 1
        if self._notes:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_) -> None:
        if self._notes:
            signal.signal(signal.SIGTERM, self._before)

    def made(self, step: int) -> bool:
        """Whether to stop after this step; to be asked after each step, by all processes."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._made

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._made = True
