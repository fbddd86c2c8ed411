"""Arrays from .npz and .npy files; what cannot be read ends in one line. Pickles are never loaded.

Arrays that a file holds uncompressed, as ``np.savez`` and ``np.save`` write them, stay on disk: they
are read-only memory maps. Compressed ones are read into memory, if they are not too large for it.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.hardware import free_memory

#: How a .npz file begins, an empty one, and a .npy file.
_ZIP, _EMPTY_ZIP, _NPY = b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY"

#: Compressed arrays of one file that ask for more bytes than this must not be packed tighter than
#: `MOST_TO_ONE`: nothing that a model makes is, and a small file could ask for any amount.
ANY_RATIO = 2**28
MOST_TO_ONE = 200

#: Bytes that are read at a time.
_CHUNK = 2**24

#: An empty array may not be longer than this in another direction, for nothing bounds that.
_MOST_EMPTY = 2**20


class _Header(NamedTuple):
    """What stands before the numbers of a .npy file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(
    path: Path,
    *needed: str,
    optional: Sequence[str] | None = (),
    hint: str = "",
    most_bytes: int | None = None,
) -> dict[str, np.ndarray]:
    """Some arrays of a .npz file, by name; others in it are not looked at.

    The file is read once, as a whole, to see that it is sound; arrays that are not compressed are
    then mapped into memory.

    Args:
        path: the file.
        needed: arrays that it must hold.
        optional: arrays that are read where it holds them; None for all that it holds.
        hint: what to do where a needed array is missing.
        most_bytes: memory that its compressed arrays may take together; half of what is free if not
            given.

    Returns:
        Arrays of numbers, truth values or text, in the byte order of the machine.

    Raises:
        UserError: if the file is none, lacks an array, or holds one that is damaged, of another kind,
            or too large.
    """
    if _start(path, ".npz").startswith(_NPY):
        raise UserError(f"{path}: not a readable .npz file (it holds one array, a .npy)")
    with _readable(f"{path}: not a readable .npz file"):
        archive = zipfile.ZipFile(path)
    with archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        held = [info.filename.removesuffix(".npy") for info in members]
        for key in needed:
            if key not in held:
                raise UserError(f"{path}: no array {key!r}; the file holds {sorted(held)}{hint}")
        others = held if optional is None else optional
        reader = _Members(path, archive, free_memory() // 2 if most_bytes is None else most_bytes)
        arrays = {}
        for key in dict.fromkeys([*needed, *(key for key in others if key in held)]):
            if held.count(key) > 1:
                raise UserError(f"{path}: there are {held.count(key)} arrays {key!r}")
            with _readable(f"{path}: array {key!r} is not readable"):
                arrays[key] = reader.read(members[held.index(key)])
        return arrays


def read_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory.

    Raises:
        UserError: if the file is none, is damaged, or holds neither numbers nor text.
    """
    if not _start(path, ".npy").startswith(_NPY):
        raise UserError(f"{path}: not a readable .npy file (it holds several arrays, a .npz)")
    with _readable(f"{path}: not a readable .npy file"), path.open("rb") as file:
        header = _read_header(file)
        start = file.tell()
        _check_size(header, path.stat().st_size - start)
        return _map(path, header, start)


class _Members:
    """Reads the members of a .npz file, and adds up what they ask for.

    Args:
        path: the file.
        archive: it, opened.
        most_bytes: memory that compressed members may take together.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, most_bytes: int):
        self._path, self._archive, self._most = path, archive, most_bytes
        self._packed = self._unpacked = 0

    def read(self, info: zipfile.ZipInfo) -> np.ndarray:
        """An array; any error of the formats may be raised."""
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is compressed by another method than NumPy's")
        with self._archive.open(info) as file:
            header = _read_header(file)
            start = file.tell()
            _check_size(header, info.file_size - start)
            if info.compress_type == zipfile.ZIP_STORED and header.size:
                while file.read(_CHUNK):  # at the end it compares the checksum
                    pass
                return _map(self._path, header, self._offset(info) + start)
            self._account(info)
            content = np.empty(header.size, np.uint8)
            done = 0
            while chunk := file.read(_CHUNK):
                content[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
                done += len(chunk)
            if done < header.size:
                raise ValueError("it is cut short")
        order = "F" if header.fortran else "C"
        return _native(np.ndarray(header.shape, header.dtype, content, order=order))

    def _account(self, info: zipfile.ZipInfo) -> None:
        """Raise if this member, with those before it, asks for too much."""
        self._packed += info.compress_size
        self._unpacked += info.file_size
        asked = f"the compressed arrays so far ask for {self._unpacked / 2**30:.2f} GiB of memory"
        if self._unpacked > self._most:
            raise ValueError(
                f"{asked}, and may take {self._most / 2**30:.2f}; np.savez in place of "
                "np.savez_compressed leaves them on disk"
            )
        if self._unpacked > max(ANY_RATIO, MOST_TO_ONE * self._packed):
            raise ValueError(
                f"{asked}, out of {self._packed / 2**20:.1f} MiB: above {ANY_RATIO >> 20} MiB at most "
                f"{MOST_TO_ONE} to 1 is taken for sound; np.savez writes them uncompressed"
            )

    def _offset(self, info: zipfile.ZipInfo) -> int:
        """Where the content of a member begins: its own header may be longer than the directory's."""
        with self._path.open("rb") as file:
            file.seek(info.header_offset + 26)
            lengths = file.read(4)
        name, extra = (int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
        return info.header_offset + 30 + name + extra


def _start(path: Path, kind: str) -> bytes:
    """The first bytes of a file that is a .npz or a .npy."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    with path.open("rb") as file:
        start = file.read(6)
    if not start.startswith((_ZIP, _EMPTY_ZIP, _NPY)):
        raise UserError(f"{path}: not a readable {kind} file (it is neither a .npz nor a .npy)")
    return start


def _read_header(file: BufferedIOBase) -> _Header:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # of a version that NumPy writes for records alone
        raise ValueError(f"it is of version {version[0]}.{version[1]}, and 1.0 or 2.0 is expected")
    if dtype.kind not in "biufUS" or not dtype.itemsize:
        raise ValueError(f"it holds {dtype}, and numbers or text are expected")
    return _Header(dtype, shape, fortran)


def _check_size(header: _Header, found: int) -> None:
    """Raise unless the numbers take as many bytes as there are."""
    shape = f"shape {header.shape} of {header.dtype}"
    if any(length < 0 for length in header.shape):
        raise ValueError(f"its header says {shape}")
    if header.size != found:
        raise ValueError(f"its header says {shape}, {header.size:,} bytes, and {found:,} are there")
    if not header.size and max(header.shape) > _MOST_EMPTY:
        raise ValueError(f"its header says {shape}, which is empty")


def _map(path: Path, header: _Header, start: int) -> np.ndarray:
    if not header.size:  # nothing can be mapped
        return np.empty(header.shape, header.dtype)
    order = "F" if header.fortran else "C"
    return _native(np.memmap(path, header.dtype, "r", start, header.shape, order))


def _native(array: np.ndarray) -> np.ndarray:
    """In the byte order of the machine; a copy in memory if it has the other."""
    return array if array.dtype.isnative else np.array(array, array.dtype.newbyteorder("="))


@contextlib.contextmanager
def _readable(complaint: str) -> Iterator[Any]:
    """A broken file can raise anything, from the layers of a format that are in one another."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{complaint} ({first_line(error)})") from error
