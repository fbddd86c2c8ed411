"""Files that are written whole, JSON that is read with care, kinds of files, and locks."""

import contextlib
import fcntl
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from jaxhash.utils.errors import UserError, first_line

_KINDS = {
    stat.S_ISLNK: "a symbolic link",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: "a folder",
    stat.S_ISREG: "a file",
}


def check_kind(path: Path, is_kind: Callable[[int], bool], owner: str) -> bool:
    """Returns whether a path exists; a link is not followed, since its target belongs to others.

    Args:
        path: a file or folder that jaxhash writes.
        is_kind: `stat.S_ISREG` for a file, `stat.S_ISDIR` for a folder.
        owner: what it belongs to, for the message.

    Raises:
        UserError: if it exists and is of another kind.
    """
    if not os.path.lexists(path):
        return False
    mode = path.lstat().st_mode
    if not is_kind(mode):
        found = next((words for is_other, words in _KINDS.items() if is_other(mode)), "a device")
        raise UserError(
            f"{path} is {found}, where {_KINDS[is_kind]} of the {owner}'s is; remove it"
        )
    return True


@contextlib.contextmanager
def lock_file(path: Path, message: str) -> Iterator[None]:
    """Locks a file, made if needed, against other processes until the end.

    The lock of a process that is killed is released by the system. File systems without locks, as
    some that hosts share, lock nobody out.

    Args:
        path: the file; its folder exists.
        message: what to do if another process holds the lock.

    Raises:
        UserError: with the message, if another process holds the lock.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(message) from None
        except OSError:
            pass  # no locks here
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def whole_file(path: Path, mode: str) -> Iterator[IO]:
    """Opens a file that is written whole or not at all: it takes its name when it is closed.

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
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()  # a disk that is full needs the room
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Makes a folder that is written whole or not at all: it takes its name at the end.

    Args:
        path: the folder, which does not exist.

    Yields:
        The folder to write into.

    Raises:
        UserError: if a process that was killed has left such a folder.
    """
    partial = path.with_name(path.name + ".partial")
    if os.path.lexists(partial):
        raise UserError(f"{partial} is there, left by a process that was killed; remove it")
    partial.mkdir()
    try:
        yield partial
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_output(
    path: Path,
    *suffixes: str,
    new: bool = False,
    makes_folder: bool = False,
    argument: str = "output",
) -> None:
    """Raises `UserError` unless a file can be written whole there; to be called before the work.

    Args:
        path: value of the argument.
        suffixes: allowed suffixes of its name; any if not given.
        new: whether it must not exist yet.
        makes_folder: whether its folder is made if it does not exist.
        argument: name of the argument.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"`{argument}={path}` must end in {' or '.join(suffixes)}")
    if new and os.path.lexists(path):
        raise UserError(f"`{argument}={path}` exists; remove it, or choose another")
    if path.is_dir():
        raise UserError(f"`{argument}={path}` is a folder; choose the name of a file")
    if not makes_folder and not path.absolute().parent.is_dir():
        raise UserError(f"`{argument}={path}`: there is no such folder")
    for name in (path, path.with_name(path.name + ".partial")):
        if os.path.lexists(name) and not stat.S_ISREG(name.lstat().st_mode):
            raise UserError(f"`{argument}={path}`: {name} is there, and is no file; remove it")
    check_writable(path.absolute().parent, f"`{argument}={path}`")


def check_writable(folder: Path, name: str) -> None:
    """Raises `UserError` unless files can be made in a folder, or in what it is to be made in.

    Args:
        folder: it may not exist yet.
        name: what is to be written, for the message.
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
    """Writes a JSON file whole or not at all."""
    with whole_file(path, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Args:
        path: the file.
        remedy: what to do if it is damaged.

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


def is_number(value: Any) -> bool:
    """Returns whether a value from JSON is a number that is finite, also as a float."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # nan is not
