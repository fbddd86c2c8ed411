"""Requests to stop: Ctrl-C, and the SIGTERM that a scheduler sends before it ends a process.

Python may raise an exception from a signal handler between any two lines of the main thread, also
inside a compilation of JAX, where it is lost or crashes. Handlers here therefore raise nothing.
They record the request, and the program checks for it where it can stop: after a step, or between
two batches that are encoded. The process of the command line ends at once when there is nothing to
save.

This module is imported before everything slow, and imports no more than it needs.
"""

import contextlib
import mmap
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from jaxhash.utils.errors import Stopped

#: Exit status per signal: 130 as shells use for an interrupt, and EX_TEMPFAIL of sysexits.h, which
#: tells a scheduler that it may start the command again.
EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 75}

#: Indices into `_shared`: the number of active loops, which end by themselves after a step, and the
#: signal that was recorded. A process shares them with its worker.
_LOOPS, _SIGNAL = 0, 1
_shared = mmap.mmap(-1, 2)

#: Whether a thread handles the signals, as in the process of the command line.
_has_handler = False

#: The worker process of this process, if there is one; and whether this process is a worker.
_worker: int | None = None
_is_worker = False

#: Set when a signal is about to end this process; nothing else may end it or print a reason then.
ending = threading.Event()

#: Describes what happens to a training that was stopped without saving its last step.
_RESUME_MESSAGE = "the same command goes on from the last checkpoint"

#: What happens then, by the command that was stopped.
_RESUME_MESSAGES = {
    "train": _RESUME_MESSAGE,
    **dict.fromkeys(("encode", "fit", "index"), "the same command goes on from the last shard"),
}


def signal_message(number: int, then: str = "") -> str:
    """Returns the line to print for a signal.

    Args:
        number: the signal.
        then: what happens next; for commands that can go on it defaults to how.
    """
    what = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
    then = then or _RESUME_MESSAGES.get(sys.argv[1] if len(sys.argv) > 1 else "", "")
    return f"{what}; {then}" if then else what


def handles_signals() -> bool:
    """Returns whether this process has its signal handling set up."""
    return _has_handler


def handle_signals(worker: int | None = None) -> None:
    """Lets a signal end this process at once, with a line, from now on.

    Inside a `StopRequest` the first signal is recorded, and the second one ends the process. A
    thread of its own receives them, since the main thread may be in a long compilation.

    Args:
        worker: process that does the work and calls `ignore_signals`: it receives SIGTERM at the
            first signal, and is killed at the second.
    """
    global _has_handler, _worker
    _has_handler, _worker = True, worker
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in EXIT_STATUS:
        if signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup or in the background
            signal.signal(number, lambda *_: None)
    threading.Thread(target=_receive, args=(reader,), daemon=True).start()


def ignore_signals() -> None:
    """Makes this process a worker: its parent handles signals, which a terminal sends to both."""
    global _has_handler, _is_worker
    _has_handler = _is_worker = True
    for number in EXIT_STATUS:  # JAX handles SIGTERM once the distributed job is initialized
        signal.signal(number, signal.SIG_IGN)


def _receive(reader: int) -> None:
    while True:
        for number in os.read(reader, 1):
            if number not in EXIT_STATUS:
                continue
            if not _shared[_LOOPS] or _shared[_SIGNAL]:
                _exit_at_once(number)
            _shared[_SIGNAL] = number
            if _worker:
                os.kill(_worker, signal.SIGTERM)


def _exit_at_once(number: int) -> None:
    """Ends this process with a line, without waiting for its main thread."""
    ending.set()
    if _worker:
        os.kill(_worker, signal.SIGKILL)
    flush = threading.Thread(target=sys.stdout.flush, daemon=True)
    flush.start()
    flush.join(0.5)  # the reader of a pipe may be stuck
    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # a progress bar hides it
    with contextlib.suppress(OSError):
        os.write(2, f"{cursor}jaxhash: {signal_message(number)}\n".encode())
    os._exit(EXIT_STATUS[number])


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Records signals inside the context, for `raise_if_stop_requested` and `StopRequest`.

    A second signal goes to the handler that the program had before, which is restored on exit.
    Nothing changes outside the main thread, where Python receives no signals, or in several processes
    of a distributed job, where JAX records SIGTERM.
    """
    import jax

    in_main = threading.current_thread() is threading.main_thread()
    if (
        _has_handler
        or not in_main
        or (jax.distributed.is_initialized() and jax.process_count() > 1)
    ):
        yield
        return
    before = {number: signal.getsignal(number) for number in EXIT_STATUS}

    def record(number: int, frame: FrameType | None) -> None:
        if not _shared[_SIGNAL]:
            _shared[_SIGNAL] = number
            return
        signal.signal(number, before[number])
        signal.raise_signal(number)

    try:
        for number in EXIT_STATUS:
            signal.signal(number, record)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _shared[_SIGNAL] = 0


def raise_if_stop_requested() -> None:
    """Raises if a signal was recorded; a worker of a distributed job stops after a step only.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        Stopped: after SIGTERM.
    """
    if _shared[_SIGNAL] and not _is_worker:
        _raise(_RESUME_MESSAGE)


def _raise(then: str) -> None:
    number = _shared[_SIGNAL] or signal.SIGTERM  # another process of the job may have received it
    kind = KeyboardInterrupt if number == signal.SIGINT else Stopped
    raise kind(signal_message(number, then))


class StopRequest:
    """Context of a training loop that checks after each step whether it should stop.

    The processes of a distributed job stop after the same step: JAX records the SIGTERM that any of
    them receives.
    """

    def __enter__(self) -> "StopRequest":
        _shared[_LOOPS] += 1
        return self

    def __exit__(self, *_: object) -> None:
        _shared[_LOOPS] -= 1

    def should_stop(self, step: int) -> bool:
        """Returns whether to stop after this step; all processes call it after each step."""
        import jax

        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return bool(_shared[_SIGNAL])

    def raise_stopped(self, step: int) -> None:
        """Ends the training after a step that is saved.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            Stopped: after SIGTERM.
        """
        _raise(f"step {step} is saved, and the same command goes on from there")
