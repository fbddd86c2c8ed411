"""A request to stop, as a scheduler sends it before it takes the machine away."""

import signal
import threading
from types import FrameType


class StopRequest:
    """Notes a SIGTERM while it is entered, for the loop to look at after each step.

    Outside the main thread, where Python takes no signals, nothing is noted.

    Attributes:
        made: whether there was one.
    """

    def __init__(self):
        self.made = False

    def __enter__(self) -> "StopRequest":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.made = True
