"""The command line ``jaxhash``: runs one verb, and turns its errors into a line and a status."""

import contextlib
import difflib
import importlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxhash import __version__
from jaxhash.cli import output, usage
from jaxhash.cli.flags import with_flags
from jaxhash.cli.help import fit
from jaxhash.cli.parsing import take_quiet
from jaxhash.training import guard, stop
from jaxhash.utils.console import hide_progress
from jaxhash.utils.errors import Stopped, UserError, first_line, printable

#: Status of a training that was stopped by SIGTERM: the same command goes on.
RESUME_ME = stop.EXIT_STATUS[signal.SIGTERM]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; a mistake of the user's ends in one line and status 2.

    Args:
        arguments: words after ``jaxhash``. If not given, those of this process, which then belongs to
            the command: a signal ends it at any point.
    """
    owns_process = arguments is None
    arguments = list(sys.argv[1:] if owns_process else arguments)
    if owns_process:
        guard.supervise()
        if not output.open_output():
            _exit(2, "standard output is closed")
    try:
        try:
            _dispatch(arguments)
        finally:
            output.flush_output()
    except BrokenPipeError:  # whoever read the output has seen enough
        _exit(1)
    except (UserError, OSError) as error:  # OSError: a full disk, a folder that cannot be written
        _exit(2, error if isinstance(error, UserError) else _describe(error))
    except Stopped as stopped:
        _exit(RESUME_ME, stopped)
    except KeyboardInterrupt as interrupt:
        message = interrupt if interrupt.args else stop.signal_message(signal.SIGINT)
        _exit(stop.EXIT_STATUS[signal.SIGINT], message)
    except Exception as error:
        if _is_backend_error(error):
            platforms = os.environ.get("JAX_PLATFORMS")
            reason = (
                first_line(error)
                if str(error)
                else "there is none here; leave it out, or choose cpu"
            )
            _exit(2, UserError(f"JAX_PLATFORMS is {platforms!r}: {reason}"))
        if not _is_distributed():
            raise
        from jaxhash.training import distributed

        distributed.exit_with_error(error)


def _describe(error: OSError) -> str:
    """Returns the file and the reason of an error of the system."""
    if error.filename is None or error.strerror is None:
        return first_line(error)
    return printable(f"{os.fsdecode(error.filename)}: {error.strerror}")


def _is_backend_error(error: Exception) -> bool:
    """Returns whether JAX failed to initialize a backend; some plugins fail by a bare assertion."""
    if isinstance(error, RuntimeError):
        return bool(re.search("(?i)(initialize|unknown) backend", f"{error}"))
    if not isinstance(error, AssertionError) or str(error) or "jax" not in sys.modules:
        return False
    try:
        return not (_is_distributed() or sys.modules["jax"].devices())
    except AssertionError:
        return True


def _is_distributed() -> bool:
    """Returns whether this process has joined a distributed job."""
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def _exit(status: int, message: object = None) -> NoReturn:
    """Prints a line, if there is one, and exits; a process of a distributed job leaves that first."""
    is_distributed = _is_distributed()
    if is_distributed:
        from jaxhash.training import distributed
    if is_distributed and isinstance(message, Exception):
        distributed.wait_if_peer_failed(message)
    if message is not None:
        with contextlib.suppress(OSError):
            print(f"jaxhash: {with_flags(str(message))}", file=sys.stderr, flush=True)
    if is_distributed:
        distributed.shut_down(status)
    sys.exit(status)


def _dispatch(arguments: list[str]) -> None:
    """Runs the verb named; each is imported when it is run, so that the others' imports cost nothing."""
    verb, *rest = arguments or ["--help"]
    if verb in (*usage.HELP, usage.FULL_HELP, "help"):
        print(fit(usage.COMMANDS))
        return
    if verb == "--version":
        print(f"jaxhash {__version__}")
        return
    output.hide_library_logs()
    if verb not in usage.VERBS:
        near = difflib.get_close_matches(verb, usage.VERBS, n=1)
        hint = f"did you mean jaxhash {near[0]}? " if near else ""
        raise UserError(
            f"unknown command {verb!r}; {hint}there are {', '.join(usage.VERBS)}; jaxhash --help says "
            "what each does"
        )
    if text := usage.short_help(verb, rest):
        print(fit(text))
        return
    rest, is_quiet = take_quiet(rest)
    run = importlib.import_module(f"jaxhash.cli.{verb}").run
    with hide_progress() if is_quiet else contextlib.nullcontext():
        run(rest, output.make_console(), shlex.join(["jaxhash", *arguments]))
