"""Requests to stop: Ctrl-C, and SIGTERM, as a scheduler sends it before it takes the machine away.

Python lets a signal raise an exception between any two lines of the main thread, also of those that
JAX calls in the midst of a compilation, where it is lost or ends in a crash. So no handler here raises
one. A request is noted, and asked for where it can be followed: after a step, between two batches that
are encoded. The process of the command line, which nobody else lives in, ends at once where there is
nothing to save.

This module is imported before all that takes time, and imports no more than it needs.
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

#: Statuses by the signal: interrupted, as shells have it; and EX_TEMPFAIL of sysexits.h, by which a
#: scheduler knows that it may start the command again.
EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 75}

#: How many loops are under way, which end by themselves after a step, and the signal that has been
#: noted. A process and its worker share them.
_LOOPS, _NOTED = 0, 1
_shared = mmap.mmap(-1, 2)

#: Whether the signals go to a thread of their own, as in the process of the command line.
_listening = False

#: The process that does this one's work, if another does; and whether this one is such a one.
_worker: int | None = None
_is_worker = False

#: Set where a signal is about to end this process: nothing else is to end it, or to say why it ends.
ending = threading.Event()

#: What a training that is stopped does when it is started again, unless its step is saved.
_RESUME_MESSAGE = "the same command goes on from the last checkpoint"


def signal_message(number: int, then: str = "") -> str:
    """What is said of a request: by which signal, and what happens then; of a training it goes on."""
    what = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
    then = then or _RESUME_MESSAGE * (sys.argv[1:2] == ["train"])
    return f"{what}; {then}" if then else what


def handles_signals() -> bool:
    """Whether the signals of this process are taken care of."""
    return _listening


def handle_signals(worker: int | None = None) -> None:
    """End this process at once, with a line, by a signal, for as long as it lives.

    While a `StopRequest` is entered the first signal is noted, and the second one ends the process.
    A thread of its own waits for them, as the main thread may be in a long compilation.

    Args:
        worker: the process that does the work, by `ignore_signals`: it is told of the first signal, and killed
            by the second.
    """
    global _listening, _worker
    _listening, _worker = True, worker
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in EXIT_STATUS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup, or a shell that puts it behind
            signal.signal(number, lambda *_: None)
    threading.Thread(target=_listen, args=(reader,), daemon=True).start()


def ignore_signals() -> None:
    """Take signals from the process that this one works for alone: those of a terminal go to both."""
    global _listening, _is_worker
    _listening = _is_worker = True
    for number in EXIT_STATUS:  # JAX takes SIGTERM when it joins the others
        signal.signal(number, signal.SIG_IGN)


def _listen(reader: int) -> None:
    while True:
        for number in os.read(reader, 1):
            if number not in EXIT_STATUS:
                continue
            if not _shared[_LOOPS] or _shared[_NOTED]:
                _end_at_once(number)
            _shared[_NOTED] = number
            if _worker:
                os.kill(_worker, signal.SIGTERM)


def _end_at_once(number: int) -> None:
    """End this process with a line, whatever its main thread does."""
    ending.set()
    if _worker:
        os.kill(_worker, signal.SIGKILL)
    flush = threading.Thread(target=sys.stdout.flush, daemon=True)
    flush.start()
    flush.join(0.5)  # who should read it may not
    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # a progress bar hides it
    with contextlib.suppress(OSError):
        os.write(2, f"{cursor}jaxhash: {signal_message(number)}\n".encode())
    os._exit(EXIT_STATUS[number])


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Note the signals within, for `raise_if_stop_requested` and `StopRequest`; the program has them afterwards.

    A second one goes to the handler that the program has. Outside the main thread, where Python takes
    no signals, nothing changes; nor of several processes, for which JAX notes the SIGTERM.
    """
    import jax

    in_main = threading.current_thread() is threading.main_thread()
    if _listening or not in_main or jax.distributed.is_initialized():
        yield
        return
    before = {number: signal.getsignal(number) for number in EXIT_STATUS}

    def note(number: int, frame: FrameType | None) -> None:
        if not _shared[_NOTED]:
            _shared[_NOTED] = number
            return
        signal.signal(number, before[number])
        signal.raise_signal(number)

    try:
        for number in EXIT_STATUS:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _shared[_NOTED] = 0


def raise_if_stop_requested() -> None:
    """End here if that was asked for; several processes end after a step alone.

    Raises:
        KeyboardInterrupt: by Ctrl-C.
        Stopped: by SIGTERM.
    """
    if _shared[_NOTED] and not _is_worker:
        _end(_RESUME_MESSAGE)


def _end(then: str) -> None:
    number = _shared[_NOTED] or signal.SIGTERM  # of several processes another may have got it
    kind = KeyboardInterrupt if number == signal.SIGINT else Stopped
    raise kind(signal_message(number, then))


class StopRequest:
    """While this is entered, the loop ends by itself when that is asked for: it asks after each step.

    Of several processes, which stop after the same step, JAX notes the SIGTERM that any of them gets.
    """

    def __enter__(self) -> "StopRequest":
        _shared[_LOOPS] += 1
        return self

    def __exit__(self, *_) -> None:
        _shared[_LOOPS] -= 1

    def should_stop(self, step: int) -> bool:
        """Whether to stop after this step; to be asked after each step, by all processes."""
        import jax

        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return bool(_shared[_NOTED])

    def raise_stopped(self, step: int) -> None:
        """End the training, of which this step is saved.

        Raises:
            KeyboardInterrupt: by Ctrl-C.
            Stopped: by SIGTERM.
        """
        _end(f"step {step} is saved, and the same command goes on from there")
