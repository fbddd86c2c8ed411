"""Where a run's numbers go, and are read again: JSON files, metrics.jsonl, and the screen."""

import contextlib
import json
import math
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    track,
)

from jaxhash.errors import UserError, first_line

T = TypeVar("T")

#: Of a record what is one number for all members of a sweep, and what is never None: a metric may be,
#: for it was not finite.
_OF_ALL = ("step", "seconds", "step_seconds", "wait_share", "compile_seconds")
_NUMBERS = (*_OF_ALL, "dead_bits", "skipped")


@contextlib.contextmanager
def whole_file(path: Path, mode: str) -> Iterator[IO]:
    """Open a file to be written whole or not at all: it takes its name when it is closed.

    Raises:
        OSError: with the file's name, if it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open(mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()  # a disk that is full needs the room
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def check_output(path: Path, *suffixes: str, new: bool = False, makes_folder: bool = False) -> None:
    """Raise a `UserError` unless a file can be written whole there; to be asked before the work.

    Args:
        path: the value of --output.
        suffixes: how its name may end.
        new: whether it must not be there yet.
        makes_folder: whether its folder is made where there is none.
    """
    if path.suffix.lower() not in suffixes:
        raise UserError(f"--output {path} must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"--output {path} is a folder; choose the name of a file")
    if new and os.path.lexists(path):
        raise UserError(f"--output {path} exists; remove it, or choose another")
    if not makes_folder and not path.absolute().parent.is_dir():
        raise UserError(f"--output {path}: there is no such folder")
    for name in (path, path.with_name(path.name + ".partial")):
        if os.path.lexists(name) and not stat.S_ISREG(name.lstat().st_mode):
            raise UserError(f"--output {path}: {name} is there, and is no file; remove it")
    check_writable(path.absolute().parent, f"--output {path}")


def check_writable(folder: Path, name: str) -> None:
    """Raise a `UserError` unless files can be made in a folder, or in what it is to be made in.

    Args:
        folder: it need not be there yet.
        name: of what is to be written, for what is said.
    """
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{name}: {there} is no folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"{name}: nothing can be written into {there} ({error.strerror})") from None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    with whole_file(path, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def _shown(value: int | float | list[int | float | None]) -> str:
    """A metric in the line; of the members of a sweep the least and the greatest."""
    if isinstance(value, list):
        finite = sorted(number for number in value if number is not None)
        ends = dict.fromkeys(_shown(number) for number in finite[:1] + finite[-1:])
        return "..".join(ends) or "nan"
    return f"{value}" if isinstance(value, int) else f"{value:.4f}"


def _json_number(value: Any) -> Any:
    """None for a number that is not finite, for which JSON has no word."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(console: Console, line: str) -> None:
    """Print a line as it is, whole."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def track_progress(
    items: Iterable[T], what: str, total: int, console: Console | None = None, every: float = 5.0
) -> Iterator[T]:
    """The same items: a bar where a person watches, else a line at times.

    Args:
        items: what is done, one after the other.
        what: in words.
        total: how many there are.
        console: where to print; the error stream by default.
        every: seconds between two plain lines.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        yield from track(items, what, total=total, console=console, transient=True)
        return
    start = printed = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - printed >= every and done < total:
            printed, rate = now, done / (now - start)
            left = f"{(total - done) / rate:,.0f} s left"
            say(console, f"{what}: {done:,} of {total:,}, {rate:,.1f} a second, {left}")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        path: the file.
        remedy: what to do where it is damaged.

    Raises:
        UserError: if it holds none.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object); {remedy}")
    return content


def read_metrics(path: Path, members: int | None = None) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line that was cut off by a kill is dropped.

    Args:
        path: the file; no records where there is none.
        members: how many trainings each metric is a list of, 0 where it is a number; None for either.

    Raises:
        UserError: if another line is no record of a later step than that before it.
    """
    records: list[dict[str, Any]] = []
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            record = None
        after = records[-1]["step"] if records else 0
        if not _is_record(record, members) or record["step"] <= after:
            raise UserError(
                f"{path} is damaged (line {number} is no record of a step after {after}); put a sound "
                "copy back, or remove the line, or the file: what follows from it is then left out"
            )
        records.append(record)
    return records


def _is_record(record: Any, members: int | None) -> bool:
    if not isinstance(record, dict) or not {"step", "seconds"} <= set(record):
        return False
    if type(record["step"]) is not int or ("step_seconds" in record) != ("wait_share" in record):
        return False
    for name, value in record.items():
        if isinstance(value, list) and members != 0 and name not in _OF_ALL:
            good = members in (None, len(value)) and all(n is None or is_number(n) for n in value)
        else:
            good = is_number(value) or (value is None and name not in _NUMBERS)
        if not good:
            return False
    return True


def is_number(value: Any) -> bool:
    """Whether what JSON holds is a number that is finite, also as a float."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # nan is not


class MetricsFile:
    """A metrics.jsonl, one record a line, each with its step and the seconds of training so far.

    Opened at a step, it drops what was written after it, for those steps are about to run again,
    and lets the seconds go on from there.
    """

    def __init__(self, path: Path, *, step: int, members: int = 0):
        kept = [record for record in read_metrics(path, members) if record["step"] <= step]
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
        partial.replace(path)
        self._file = path.open("a")
        self._zero = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def write(self, step: int, metrics: dict[str, Any]) -> None:
        """Append the record of a step."""
        seconds = round(time.monotonic() - self._zero, 3)
        numbers = {name: _json_number(value) for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, "seconds": seconds, **numbers}) + "\n")
        self._file.flush()


class ProgressLine:
    """Step, loss terms, images a second and time left: a bar on a terminal, else a line at times.

    Args:
        console: where to print.
        total: steps of the training.
        start: step that this process begins at.
        batch_size: images a step, for the rate.
        every: seconds between two plain lines.
    """

    def __init__(
        self, console: Console, *, total: int, start: int, batch_size: int, every: float = 5.0
    ):
        self._console, self._total, self._batch_size = console, total, batch_size
        self._every, self._printed = every, 0.0
        self._first = None  # step and time of the first update: compilation lies before it
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=total, completed=start)

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def update(self, step: int, metrics: dict[str, Any]) -> None:
        """Show the metrics of a step."""
        now = time.monotonic()
        self._first = self._first or (step, now)
        done, seconds = step - self._first[0], now - self._first[1]
        rate = done / seconds if done else 0.0
        terms = "  ".join(f"{name} {_shown(value)}" for name, value in metrics.items())
        shown = f"{terms}  {rate * self._batch_size:,.0f} images/s"
        self._bar.update(self._task, completed=step, description=shown)
        if not self._console.is_terminal and (
            now - self._printed >= self._every or step == self._total
        ):
            self._printed = now
            left = f"{(self._total - step) / rate:.0f} s left" if rate else "compiled"
            self.print(f"step {step}/{self._total}  {shown}  {left}")

    def print(self, line: str) -> None:
        """Print a line of its own, whole, above the bar where there is one."""
        say(self._console, line)
