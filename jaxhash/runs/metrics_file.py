"""metrics.jsonl: a record of each step, or of some, appended while a run trains, and read with care."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxhash.utils.errors import UserError
from jaxhash.utils.files import is_number, whole_file

#: Of a record what is one number for all members of a sweep, and what is never None: a metric may be,
#: for it was not finite.
_OF_ALL = ("step", "seconds", "step_seconds", "wait_share", "compile_seconds")
_NUMBERS = (*_OF_ALL, "dead_bits", "skipped")


#: Most records of a training whose configuration does not say how many.
MAX_RECORDS = 50_000


def record_interval(log_every: int | None, total_steps: int) -> int:
    """Returns the steps between two records: as configured, or such that there are `MAX_RECORDS` at most.

    Example:
        >>> record_interval(None, 50_000), record_interval(None, 1_000_000), record_interval(3, 100)
        (1, 20, 3)
    """
    return log_every or -(-total_steps // MAX_RECORDS)


def missing_records(records: Sequence[dict[str, Any]], interval: int, total_steps: int) -> int:
    """Returns how many of the steps that have a record in any case have none."""
    found = sum(
        record["step"] % interval == 0 or record["step"] == total_steps for record in records
    )
    return -(-total_steps // interval) - found


class MetricsFile:
    """A metrics.jsonl, one record a line, each with its step and the seconds of training so far.

    Opened at a step, it drops what was written after it, for those steps are about to run again,
    and lets the seconds go on from there.

    Args:
        path: the file; made if needed.
        step: number of steps done.
        members: as of `read_metrics`.
        interval: steps between two records; others are written where they are required.
        logs: functions that are given each record too.
    """

    def __init__(
        self,
        path: Path,
        *,
        step: int,
        members: int = 0,
        interval: int = 1,
        logs: Sequence[Callable[[dict[str, Any]], None]] = (),
    ):
        self._interval, self._logs = interval, logs
        kept = [record for record in read_metrics(path, members) if record["step"] <= step]
        write_metrics(path, kept)
        self._file = path.open("a")
        self._zero = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, step: int, metrics: dict[str, Any], *, required: bool = False) -> None:
        """Appends the record of a step, unless it lies between two records and is not required."""
        if step % self._interval and not required:
            return
        seconds = round(time.monotonic() - self._zero, 3)
        numbers = {name: _json_number(value) for name, value in metrics.items()}
        record = {"step": step, "seconds": seconds, **numbers}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for log in self._logs:
            log(record)


def write_metrics(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Writes the records of a metrics.jsonl whole or not at all."""
    with whole_file(path, "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


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


def _json_number(value: Any) -> Any:
    """None for a number that is not finite, for which JSON has no word."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
