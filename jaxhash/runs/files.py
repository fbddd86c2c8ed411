"""What lies in the folder of a run or a sweep, and how it is read again."""

import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxhash import report
from jaxhash.runs.config import Config
from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.files import check_writable, is_number, read_json

#: What a training writes into its folder.
FILES = (
    "config.json",
    "inputs.json",
    "metrics.jsonl",
    "results.json",
    "codes.npz",
    "images.json",
    "lock",
)
FOLDERS = ("checkpoints", "broken_checkpoints", "cache", "report", "profile")

_KINDS = {
    stat.S_ISLNK: "a symbolic link",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: "a folder",
    stat.S_ISREG: "a file",
}


def check_entries(folder: Path) -> None:
    """Raise a `UserError` unless a run's own names are files and folders of its own.

    A link is not followed, for what it leads to is somebody else's, and a pipe is not waited for.
    The folder itself may be a link.
    """
    for name in FILES:
        _expect(stat.S_ISREG, folder / name, folder / f"{name}.partial")
    for name in FOLDERS:
        if _expect(stat.S_ISDIR, folder / name):
            _check_tree(folder / name)


def check_free(folder: Path, kind: str) -> bool:
    """Whether the folder is new or empty; False where it holds a config.json.

    Raises:
        UserError: if it holds something else, or nothing can be written there.
    """
    another = f"--run-dir {folder} exists and is not the folder of a {kind}; choose another"
    if folder.exists() and not folder.is_dir():
        raise UserError(another)
    check_writable(folder, f"--run-dir {folder}")
    if not folder.exists():
        return True
    check_entries(folder)
    for name in FOLDERS:
        if (folder / name).exists() and not os.access(folder / name, os.W_OK):
            raise UserError(f"--run-dir {folder}: nothing can be written into {folder / name}")
    if (folder / "config.json").is_file():
        return False
    if any(folder.iterdir()):
        raise UserError(another)
    return True


def read_config(folder: Path) -> tuple[Config, dict[str, Any] | None]:
    """The configuration of a run or a sweep, checked as that of a command, and what a sweep varies.

    Raises:
        UserError: if the file is damaged, or holds a value that is not allowed.
    """
    path = folder / "config.json"
    remedy = "put a sound copy back, or train anew into another --run-dir"
    fields = read_json(path, remedy)
    holds_sweep = "sweep" in fields
    sweep = fields.pop("sweep", None)
    try:
        config = Config.from_json(fields)
        config.check()
        if holds_sweep:
            _check_sweep(sweep)
    except (ValueError, UserError) as error:
        kind = "sweep" if holds_sweep else "run"
        raise UserError(
            f"{path} is not the configuration of a {kind}: {first_line(error)}; {remedy}"
        ) from error
    return config, sweep


def read_finished(
    folder: Path, data_dir: Path | None = None
) -> tuple[Config, dict[str, Any] | None]:
    """`read_config` of a run or a sweep that is to be evaluated again where it lies.

    Args:
        folder: the folder.
        data_dir: folder of the data, where it has moved.

    Raises:
        UserError: if it is not finished, or holds what is not its own.
    """
    check_entries(folder)
    for name, remedy in (("config.json", ""), ("results.json", "; the same jaxhash train ends it")):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no finished run: it has no {name}{remedy}")
    config, sweep = read_config(folder)
    config = dataclasses.replace(
        config,
        run_dir=folder,
        data_dir=data_dir or config.data_dir,
        weights=None,  # the checkpoint holds what training made of them
    )
    return config, sweep


def read_results(folder: Path) -> dict[str, Any]:
    """The content of results.json.

    Raises:
        UserError: if the file is damaged.
    """
    return read_json(folder / "results.json", _REMEDY)


def print_results(folder: Path, results: dict[str, Any], console: Console) -> None:
    """Print the table of a finished run or sweep, from its results.json.

    Raises:
        UserError: if it lacks what the table shows.
    """
    show = report.print_sweep if "settings" in results else report.print_run
    try:
        show(results, console)
    except Exception as error:  # the numbers may be anything
        raise damaged(folder, error) from error


def damaged(folder: Path, error: Exception) -> UserError:
    """What is said of a results.json in which something is not as it was written."""
    reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
    return UserError(f"{folder / 'results.json'} is damaged ({reason}); {_REMEDY}")


def compare_results(stored: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What differs, in words, and the names of what was not stored.

    Tables are compared entry by entry, for a newer version may have more of them; an entry that was
    stored and is gone is a difference, but not at the top, where the circumstances of a run stand.
    """
    different, missing = [], []
    for key, value in now.items():
        if key not in stored:
            missing.append(key)
        elif isinstance(value, dict) and isinstance(stored[key], dict):
            deeper, unwritten = compare_results(stored[key], value)
            deeper += [f"{name} is gone" for name in stored[key] if name not in value]
            different += [f"{key}: {words}" for words in deeper]
            missing += [f"{key}: {name}" for name in unwritten]
        elif value != stored[key]:
            different.append(f"{key} {_short(stored[key])}, now {_short(value)}")
    return different, missing


def _short(value: Any) -> str:
    """A number or a name as it is, the start of a long one; a list of them as an ellipsis."""
    return "..." if isinstance(value, list | dict) else " ".join(str(value).split())[:80]


_REMEDY = "remove it, and the same jaxhash train writes it anew from the checkpoint"


def _expect(is_right: Any, *paths: Path) -> bool:
    """Whether any of these is there; raise unless those that are have the right kind."""
    there = [path for path in paths if os.path.lexists(path)]
    for path in there:
        mode = path.lstat().st_mode
        if not is_right(mode):
            found = next((words for is_kind, words in _KINDS.items() if is_kind(mode)), "a device")
            raise UserError(
                f"{path} is {found}, where {_KINDS[is_right]} of the run's is; remove it"
            )
    return bool(there)


def _check_tree(folder: Path) -> None:
    for path in _entries(folder):
        mode = path.lstat().st_mode
        if not stat.S_ISDIR(mode):
            _expect(stat.S_ISREG, path)


def _entries(folder: Path) -> Iterator[Path]:
    """All that lies in a folder and below; links are not followed."""
    for entry in os.scandir(folder):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path))


def _check_sweep(sweep: Any) -> None:
    axes = sweep.get("axes") if isinstance(sweep, dict) else None
    seeds = sweep.get("seeds") if isinstance(sweep, dict) else None
    good = type(seeds) is int and isinstance(axes, dict)
    for values in axes.values() if good else ():
        good &= isinstance(values, list) and all(map(is_number, values))
    if not good:
        raise ValueError("'sweep' must have a number of 'seeds', and lists of numbers in 'axes'")
