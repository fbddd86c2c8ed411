"""Standard output, the console of the command, and the messages of other libraries."""

import io
import logging
import os
import sys
from typing import Any

from jaxhash.cli.flags import FlagConsole


def open_output() -> bool:
    """Reopens standard output so that its errors name it.

    Returns:
        Whether there is a standard output; a process may be started with it closed.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        return False
    same = {name: getattr(sys.stdout, name) for name in ("encoding", "errors", "line_buffering")}
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Output(1, "w", closefd=False)), **same)
    return True


class _Output(io.FileIO):
    """Standard output; an error of a write names it."""

    def write(self, content: bytes) -> int | None:
        try:
            return super().write(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


def flush_output() -> None:
    """Writes what has been printed.

    Raises:
        OSError: if that fails; the text is dropped, since Python would try again at its exit.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise


def make_console(*, quiet: bool = False) -> FlagConsole:
    """Makes the console of a command; names of files and classes are printed as they are.

    Args:
        quiet: whether it prints nothing.
    """
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    return FlagConsole(width=width, quiet=quiet, markup=False, emoji=False)


def hide_library_logs() -> None:
    """Silences log lines of the libraries (missing GPU, missing OpenCV) between the command's own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # the command prints errors itself
    logging.getLogger("jax").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _print_unraisable


def _print_unraisable(raised: Any) -> None:
    """Does what Python does, except for threads that still write a checkpoint after a failed write."""
    if str(raised.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(raised)
