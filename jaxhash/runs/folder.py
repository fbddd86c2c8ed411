"""The folder of a run or a sweep: what lies in it, who may write there, and how it is read again."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxhash.runs.config import Config, config_diff
from jaxhash.training.distributed import broadcast_from_host0
from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.files import (
    check_kind,
    check_writable,
    is_number,
    lock_file,
    read_json,
    write_json,
)

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
#: Folders likewise; but for that of W&B, which has links while it runs, and is never written to twice.
FOLDERS = (
    "checkpoints",
    "broken_checkpoints",
    "cache",
    "report",
    "profile",
    "tensorboard",
)

#: Key of config.json for the parts that are the user's own; it is there only if some are.
_OWN = "own"

#: Name of the folder of a process in that of a sweep which it shares with others.
_PROCESS = "process{}"


def check_entries(folder: Path) -> None:
    """Raise a `UserError` unless a run's own names are files and folders of its own.

    A link is not followed, since its target belongs to others, and a pipe is not waited for.
    The folder itself may be a link.
    """
    for name in FILES:
        check_kind(folder / name, stat.S_ISREG, "run")
        check_kind(folder / f"{name}.partial", stat.S_ISREG, "run")
    for name in FOLDERS:
        if check_kind(folder / name, stat.S_ISDIR, "run"):
            _check_tree(folder / name)


def check_free(folder: Path, kind: str) -> bool:
    """Returns whether the folder is new or empty; False if it holds a config.json.

    Raises:
        UserError: if it holds something else, or nothing can be written there.
    """
    another = f"`run_dir={folder}` exists and is not the folder of a {kind}; choose another"
    if folder.exists() and not folder.is_dir():
        raise UserError(another)
    check_writable(folder, f"`run_dir={folder}`")
    if not folder.exists():
        return True
    check_entries(folder)
    for name in FOLDERS:
        if (folder / name).exists() and not os.access(folder / name, os.W_OK):
            raise UserError(f"`run_dir={folder}`: nothing can be written into {folder / name}")
    if (folder / "config.json").is_file():
        return False
    process = _PROCESS.format(r"\d+") if kind == "sweep" else ""
    if not all(re.fullmatch(process, path.name) for path in folder.iterdir()):
        raise UserError(another)
    return True


def process_folder(sweep: Path, index: int) -> Path:
    """Returns the folder of a process of a sweep that processes share."""
    return sweep / _PROCESS.format(index)


def check_same_training(
    folder: Path,
    config: Config,
    sweep: Mapping[str, Any] | None = None,
    own: tuple[str, ...] = (),
) -> bool:
    """Returns whether the folder holds this training already; False where it is new or empty.

    Args:
        folder: the folder.
        config: configuration of the training.
        sweep: seeds and axes of a sweep, and its processes if there are several; None for a single run.
        own: names of the parts that are the user's own.

    Raises:
        UserError: if the folder holds something else, or nothing can be written there.
    """
    kind = "run" if sweep is None else "sweep"
    if check_free(folder, kind):
        return False
    stored, varied = read_config(folder)
    if sweep is None and varied is not None:
        raise UserError(f"{folder} holds a sweep, not a single run")
    if sweep is not None and varied is None:
        raise UserError(f"{folder} holds a single run, not a sweep; choose another `run_dir`")
    found = config_diff(stored, config)
    arguments = {"seeds": "seeds", "axes": "sweep", "processes": "processes"}
    for name, argument in arguments.items() if sweep is not None else ():
        there, here = (axes_words(one.get(name, 1)) for one in (varied, sweep))
        if there != here:
            found.append(f"`{argument}` is {there} there and {here} here")
    if (there := read_own_parts(folder)) != own:
        there, here = (", ".join(names) or "none" for names in (there, own))
        found.append(f"the user's own parts are {there} there and {here} here")
    if found:
        raise UserError(
            f"{folder} holds another {kind}: {'; '.join(found)}; choose another `run_dir`"
        )
    return True


def axes_words(axes: Any) -> str:
    """Returns axes as the command line has them; anything else as text."""
    if not isinstance(axes, Mapping):
        return str(axes)
    words = [
        f"{name.replace('_', '-')}={','.join(f'{v:g}' for v in values)}"
        for name, values in axes.items()
    ]
    return " ".join(words) or "not given"


@contextlib.contextmanager
def open_folder(folder: Path, content: dict[str, Any]) -> Iterator[None]:
    """Makes the folder, with its config.json, and locks it against other trainings until the end.

    Args:
        folder: the folder; it may exist, with the same content.
        content: content of config.json.

    Raises:
        UserError: in all processes, if another training is writing there.
    """

    def enter() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        message = f"another training is writing into {folder}; choose another `run_dir`, or wait"
        held.enter_context(lock_file(folder / "lock", message))
        write_json(folder / "config.json", content)

    with contextlib.ExitStack() as held:
        broadcast_from_host0(enter)
        yield


def read_config(folder: Path) -> tuple[Config, dict[str, Any] | None]:
    """The configuration of a run or a sweep, checked as that of a command, and what a sweep varies.

    Raises:
        UserError: if the file is damaged, or holds a value that is not allowed.
    """
    path = folder / "config.json"
    fields = read_json(path, _REPLACE)
    holds_sweep = "sweep" in fields
    sweep = fields.pop("sweep", None)
    fields.pop(_OWN, None)
    try:
        config = Config.from_json(fields)
        config.check()
        if holds_sweep:
            _check_sweep(sweep)
    except (ValueError, UserError) as error:
        kind = "sweep" if holds_sweep else "run"
        raise UserError(
            f"{path} is not the configuration of a {kind}: {first_line(error)}; {_REPLACE}"
        ) from error
    return config, sweep


def read_own_parts(folder: Path) -> tuple[str, ...]:
    """Returns the names of the parts of a run that are the user's own, from its config.json.

    Raises:
        UserError: if the file is damaged.
    """
    path = folder / "config.json"
    own = read_json(path, _REPLACE).get(_OWN, [])
    if not isinstance(own, list) or not set(own) <= {"source", "model", "objective"}:
        raise UserError(f"{path} is damaged ({_OWN!r} names no parts); {_REPLACE}")
    return tuple(own)


def with_own_parts(content: dict[str, Any], own: tuple[str, ...]) -> dict[str, Any]:
    """Returns the content of config.json with the names of the user's own parts, if there are any."""
    return content | {_OWN: list(own)} if own else content


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
    for name, remedy in (
        ("config.json", "; one that jaxhash train made has it"),
        ("results.json", "; the same jaxhash train ends it"),
    ):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no finished run: it has no {name}{remedy}")
    config, sweep = read_config(folder)
    config = config.replace(
        run_dir=folder,
        data_dir=data_dir or config.data.data_dir,
        weights=None,  # the checkpoint holds what training made of them
        image_size=config.model.input_size,  # which may be that of the weights
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
    from jaxhash import report  # matplotlib takes a second to load

    show = report.print_sweep if "settings" in results else report.print_run
    try:
        show(results, console)
    except Exception as error:  # the numbers may be anything
        raise damaged(folder, error) from error


def damaged(folder: Path, error: Exception) -> UserError:
    """Returns the error for a results.json that was changed after it was written."""
    reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
    return UserError(f"{folder / 'results.json'} is damaged ({reason}); {_REMEDY}")


_REPLACE = "put a sound copy back, or train anew into another `run_dir`"
_REMEDY = "remove it, and the same jaxhash train writes it anew from the checkpoint"


def _check_tree(folder: Path) -> None:
    for path in _entries(folder):
        if not stat.S_ISDIR(path.lstat().st_mode):
            check_kind(path, stat.S_ISREG, "run")


def _entries(folder: Path) -> Iterator[Path]:
    """Yields every path in a folder and below; links are not followed."""
    for entry in os.scandir(folder):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path))


def _check_sweep(sweep: Any) -> None:
    axes = sweep.get("axes") if isinstance(sweep, dict) else None
    seeds = sweep.get("seeds") if isinstance(sweep, dict) else None
    good = type(seeds) is int and isinstance(axes, dict)
    good &= type(sweep.get("processes", 1)) is int if good else False
    for values in axes.values() if good else ():
        good &= isinstance(values, list) and all(map(is_number, values))
    if not good:
        raise ValueError("'sweep' must have a number of 'seeds', and lists of numbers in 'axes'")
