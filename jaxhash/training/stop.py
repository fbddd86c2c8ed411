"""Requests to stop: Ctrl-C, and SIGTERM, as a scheduler sends it before it takes the machine away.

Python lets a signal raise an exception between any two lines of the main thread, also of those that
JAX calls in the midst of a compilation, where it is lost or ends in a crash. So no handler here raises
one. A request is noted, and asked for where it can be followed: after a step, between two batches that
are encoded. The process of the command line, which nobody else lives in, ends at once where there is
nothing to save.

This module is imported before all that takes time, and imports no more than it needs.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from jaxhash.errors import Stopped

#: Statuses by the signal: interrupted, as shells have it; and EX_TEMPFAIL of sysexits.h, by which a
#: scheduler knows that it may start the command again.
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 75}

#: The signal that has been noted.
_noted: int | None = None

#: How many loops are under way, which end by themselves after a step.
_loops = 0

#: Whether the signals go to a thread of their own, as in the process of the command line.
_listening = False


def words(number: int, then: str) -> str:
    """What is said of a request: by which signal, and what the same command does then, if anything."""
    what = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
    return f"{what}; {then}" if then else what


def listen(then: str) -> None:
    """End this process at once, with a line, by a signal, for as long as it lives.

    While a `StopRequest` is entered the first signal is noted, and the second one ends the process.
    A thread of its own waits for them, as the main thread may be in a long compilation.

    Args:
        then: what the same command does, for `words`.
    """
    global _listening
    _listening = True
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in STATUS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup, or a shell that puts it behind
            signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reader, then), daemon=True).start()


def _listen(reader: int, then: str) -> None:
    global _noted
    while True:
        for number in os.read(reader, 1):
            if number not in STATUS:
                continue
            if _loops and _noted is None:
                _noted = number
            else:
                end_at_once(number, then)


def end_at_once(number: int, then: str) -> None:
    """End this process with a line, whatever its main thread does."""
    flush = threading.Thread(target=sys.stdout.flush, daemon=True)
    flush.start()
    flush.join(0.5)  # who should read it may not
    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # a progress bar hides it
    with contextlib.suppress(OSError):
        os.write(2, f"{cursor}jaxhash: {words(number, then)}\n".encode())
    os._exit(STATUS[number])


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Note the signals within, for `end_if_asked` and `StopRequest`, and let the program have them afterwards.

    A second one goes to the handler that the program has. Outside the main thread, where Python takes
    no signals, nothing changes; nor of several processes, for which JAX notes the SIGTERM.
    """
    import jax

    global _noted
    in_main = threading.current_thread() is threading.main_thread()
    if _listening or not in_main or jax.distributed.is_initialized():
        yield
        return
    before = {number: signal.getsignal(number) for number in STATUS}
    _before.update(before)
    try:
        for number in STATUS:
            signal.signal(number, _note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _noted = None


#: The handlers of the program that `noted` stands in for.
_before = {}


def _note(number: int, frame: FrameType | None) -> None:
    global _noted
    if _noted is None:
        _noted = number
    else:
        signal.signal(number, _before[number])
        signal.raise_signal(number)


def end_if_asked() -> None:
    """End here if that has been asked for: nothing is lost but what has come since the last checkpoint.

    Raises:
        KeyboardInterrupt: by Ctrl-C.
        Stopped: by SIGTERM.
    """
    if _noted is not None:
        raise _ending(_noted, "the same command goes on from the last checkpoint")


def _ending(number: int, then: str) -> BaseException:
    kind = KeyboardInterrupt if number == signal.SIGINT else Stopped
    return kind(words(number, then))


class StopRequest:
    """The loop ends by itself while this is entered: it asks after each step.

    Of several processes, which stop after the same step, JAX notes the SIGTERM that any of them gets.
    """

    def __enter__(self) -> "StopRequest":
        global _loops
        _loops += 1
        return self

    def __exit__(self, *_) -> None:
        global _loops
        _loops -= 1

    def made(self, step: int) -> bool:
        """Whether to stop after this step; to be asked after each step, by all processes."""
        import jax

        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return _noted is not None

    def raise_after(self, step: int) -> None:
        """End the training, of which this step is saved.

        Raises:
            KeyboardInterrupt: by Ctrl-C.
            Stopped: by SIGTERM.
        """
        then = f"step {step} is saved, and the same command goes on from there"
        raise _ending(_noted or signal.SIGTERM, then)
