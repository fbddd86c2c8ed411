"""Arrays from .npz and .npy files; what cannot be read ends in one line. Pickles are never loaded."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxhash.errors import UserError

#: How a .npz file begins, an empty one, and a .npy file.
_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")


def read_npz(
    path: Path, *needed: str, optional: Sequence[str] | None = (), hint: str = ""
) -> dict[str, np.ndarray]:
    """Some arrays of a .npz file, by name; others in it are not looked at.

    Args:
        path: the file.
        needed: arrays that it must hold.
        optional: arrays that are read where it holds them; None for all that it holds.
        hint: what to do where a needed array is missing.

    Raises:
        UserError: if the file is none, lacks an array, or holds one that cannot be read.
    """
    file = _load(path, ".npz")
    if isinstance(file, np.ndarray):
        raise UserError(f"{path}: not a readable .npz file (it holds one array, a .npy)")
    with file:
        for key in needed:
            if key not in file.files:
                held = sorted(file.files)
                raise UserError(f"{path}: no array {key!r}; the file holds {held}{hint}")
        others = file.files if optional is None else optional
        arrays = {}
        for key in dict.fromkeys([*needed, *(key for key in others if key in file.files)]):
            with _readable(f"{path}: array {key!r} is not readable"):
                arrays[key] = np.asarray(file[key])
        return arrays


def read_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory.

    Raises:
        UserError: if the file is none.
    """
    array = _load(path, ".npy", mmap_mode="r")
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{path}: not a readable .npy file (it holds several arrays, a .npz)")
    return array


def check_output(path: Path) -> None:
    """Raise a `UserError` unless the file is a new .npz in a folder that is there."""
    if path.suffix != ".npz":
        raise UserError(f"--output {path}: it must end in .npz")
    if path.exists():
        raise UserError(f"--output {path} exists; remove it, or choose another")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--output {path}: there is no such folder")


def _load(path: Path, kind: str, **options: Any) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    with path.open("rb") as file:
        if not file.read(6).startswith(_MAGIC):
            raise UserError(f"{path}: not a readable {kind} file (it is neither a .npz nor a .npy)")
    with _readable(f"{path}: not a readable {kind} file"):
        return np.load(path, **options)


@contextlib.contextmanager
def _readable(complaint: str) -> Iterator[None]:
    """A broken file can raise anything, from the layers of a format that are in one another."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{complaint} ({error})") from error
