"""Reads arrays from .npz and .npy files; every failure is a `UserError`. Pickles are never loaded.

Uncompressed arrays, as ``np.savez`` and ``np.save`` write them, stay on disk: they are read-only memory
maps. Compressed ones are read into memory or, where they are too large for it, into a temporary file that
is mapped in the same way.
"""

import contextlib
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.hardware import free_memory

#: First bytes of a .npz file, of an empty .npz file, and of a .npy file.
_ZIP, _EMPTY_ZIP, _NPY = b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY"

#: Bytes that the compressed arrays of one file may take, uncompressed, at any compression ratio.
UNCHECKED_BYTES = 2**28

#: Largest compression ratio above `UNCHECKED_BYTES`. No output of a model compresses better, and without
#: a limit a small file could ask for any amount of memory or disk.
MAX_RATIO = 200

#: Bytes that are read at a time.
_CHUNK_BYTES = 2**24

#: Largest length of an axis of an empty array, whose size bounds none of its axes.
_MAX_EMPTY_AXIS = 2**20


class NpyHeader(NamedTuple):
    """The header of a .npy file.

    Attributes:
        dtype: dtype of the values, in the byte order of the file.
        shape: shape of the array.
        fortran: whether the first axis varies fastest.
        start: byte of the file at which the values begin.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(
    path: Path,
    *needed: str,
    optional: Sequence[str] | None = (),
    hint: str = "",
    max_bytes: int | None = None,
) -> dict[str, np.ndarray]:
    """Reads arrays of a .npz file by name, and ignores the others.

    The arrays are read once, to compare their checksums; those that are not compressed are then mapped
    into memory. The temporary file of a large compressed array is gone when nothing uses the array.

    Args:
        path: the file.
        needed: names of arrays that it must hold.
        optional: names of arrays that are read if it holds them; None for all that it holds.
        hint: end of the message about a missing array.
        max_bytes: memory in bytes that its compressed arrays may take together, where others are in
            temporary files; by default half of the free memory.

    Returns:
        Arrays of numbers, booleans or text, by name, in the byte order of the machine.

    Raises:
        UserError: if the file is no .npz file, lacks an array, or holds one that is damaged, of another
            kind, or too large for the disk.
    """
    if _read_magic(path, ".npz").startswith(_NPY):
        raise UserError(f"{path}: not a readable .npz file (it holds one array, a .npy)")
    with _as_user_error(f"{path}: not a readable .npz file"):
        archive = zipfile.ZipFile(path)
    with archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        held = [info.filename.removesuffix(".npy") for info in members]
        for key in needed:
            if key not in held:
                raise UserError(f"{path}: no array {key!r}; the file holds {sorted(held)}{hint}")
        others = held if optional is None else optional
        reader = _MemberReader(
            path, archive, free_memory() // 2 if max_bytes is None else max_bytes
        )
        arrays = {}
        for key in dict.fromkeys([*needed, *(key for key in others if key in held)]):
            if held.count(key) > 1:
                raise UserError(f"{path}: there are {held.count(key)} arrays {key!r}")
            with _as_user_error(f"{path}: array {key!r} is not readable"):
                arrays[key] = reader.read(members[held.index(key)])
        return arrays


def read_npy(path: Path) -> np.ndarray:
    """Maps the array of a .npy file into memory.

    Raises:
        UserError: if the file is no .npy file, is damaged, or holds neither numbers nor text.
    """
    header = read_npy_header(path)
    with _as_user_error(f"{path}: not a readable .npy file"):
        return _map(path, header, header.start)


def read_npy_header(path: Path) -> NpyHeader:
    """Reads the header of a .npy file, and compares the size of the file with it.

    Raises:
        UserError: if the file is no .npy file, is damaged, or holds neither numbers nor text.
    """
    if not _read_magic(path, ".npy").startswith(_NPY):
        raise UserError(f"{path}: not a readable .npy file (it holds several arrays, a .npz)")
    with _as_user_error(f"{path}: not a readable .npy file"), path.open("rb") as file:
        header = _read_header(file)
        _check_size(header, path.stat().st_size - header.start)
        return header


class _MemberReader:
    """Reads the members of a .npz file, and limits the memory that they take together.

    Args:
        path: the file.
        archive: the opened file.
        max_bytes: memory in bytes that compressed members may take together; others go to disk.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, max_bytes: int):
        self._path, self._archive, self._max_bytes = path, archive, max_bytes
        self._compressed_bytes = self._uncompressed_bytes = self._bytes = 0

    def read(self, info: zipfile.ZipInfo) -> np.ndarray:
        """Reads an array, or maps it; may raise any error of the formats."""
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is compressed by another method than NumPy's")
        with self._archive.open(info) as file:
            header = _read_header(file)
            _check_size(header, info.file_size - header.start)
            if info.compress_type == zipfile.ZIP_STORED and header.size:
                while file.read(_CHUNK_BYTES):  # the last read compares the checksum
                    pass
                return _map(self._path, header, self._offset(info) + header.start)
            self._check_ratio(info)
            if self._bytes + header.size > self._max_bytes:
                return self._read_to_disk(file, header)
            self._bytes += header.size
            content = np.empty(header.size, np.uint8)
            done = 0
            while chunk := file.read(_CHUNK_BYTES):
                content[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
                done += len(chunk)
            _check_whole(header, done)
        order = "F" if header.fortran else "C"
        return _native(np.ndarray(header.shape, header.dtype, content, order=order))

    def _read_to_disk(self, file: BufferedIOBase, header: NpyHeader) -> np.ndarray:
        """Decompresses an array into a temporary file, which is deleted with the array; maps it."""
        folder = tempfile.gettempdir()
        if header.size > (free := shutil.disk_usage(folder).free):
            raise ValueError(
                f"it takes {header.size / 2**30:.2f} GiB uncompressed, more than the memory allowed, and "
                f"{folder} has {free / 2**30:.2f} GiB free; TMPDIR names another folder, and np.savez "
                "writes arrays uncompressed"
            )
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(file, unpacked, _CHUNK_BYTES)
            unpacked.flush()
            _check_whole(header, unpacked.tell())
            return _map(unpacked, header, 0)

    def _check_ratio(self, info: zipfile.ZipInfo) -> None:
        """Raises if this member, with those before it, is implausibly large for its compressed size."""
        self._compressed_bytes += info.compress_size
        self._uncompressed_bytes += info.file_size
        if self._uncompressed_bytes > max(UNCHECKED_BYTES, MAX_RATIO * self._compressed_bytes):
            raise ValueError(
                f"the compressed arrays so far ask for {self._uncompressed_bytes / 2**30:.2f} GiB, out of "
                f"{self._compressed_bytes / 2**20:.1f} MiB: above {UNCHECKED_BYTES >> 20} MiB at most "
                f"{MAX_RATIO} to 1 is taken for sound; np.savez writes them uncompressed"
            )

    def _offset(self, info: zipfile.ZipInfo) -> int:
        """Returns where the content of a member begins: after its own header, of its own length."""
        with self._path.open("rb") as file:
            file.seek(info.header_offset + 26)
            lengths = file.read(4)
        name, extra = (int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
        return info.header_offset + 30 + name + extra


def _read_magic(path: Path, kind: str) -> bytes:
    """Returns the first bytes of a .npz or .npy file; raises if it is neither."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    with path.open("rb") as file:
        start = file.read(6)
    if not start.startswith((_ZIP, _EMPTY_ZIP, _NPY)):
        raise UserError(f"{path}: not a readable {kind} file (it is neither a .npz nor a .npy)")
    return start


def _read_header(file: BufferedIOBase) -> NpyHeader:
    """Reads the header of a .npy file, and leaves the file at the start of the array."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # NumPy writes version 3.0 for structured arrays only
        raise ValueError(f"it is of version {version[0]}.{version[1]}, and 1.0 or 2.0 is expected")
    if dtype == np.dtype("V2"):  # so NumPy writes bfloat16, which it has no name for
        dtype = np.dtype(ml_dtypes.bfloat16)
    elif dtype.kind not in "biufUS" or not dtype.itemsize:
        raise ValueError(f"it holds {dtype}, and numbers or text are expected")
    return NpyHeader(dtype, shape, fortran, file.tell())


def _check_size(header: NpyHeader, found: int) -> None:
    """Raises unless the array takes as many bytes as the file holds."""
    shape = f"shape {header.shape} of {header.dtype}"
    if any(length < 0 for length in header.shape):
        raise ValueError(f"its header says {shape}")
    if header.size != found:
        raise ValueError(f"its header says {shape}, {header.size:,} bytes, and {found:,} are there")
    if not header.size and max(header.shape) > _MAX_EMPTY_AXIS:
        raise ValueError(f"its header says {shape}, which is empty")


def _check_whole(header: NpyHeader, found: int) -> None:
    """Raises if fewer bytes were decompressed than the array takes."""
    if found < header.size:
        raise ValueError("it is cut short")


def _map(file: Path | BufferedIOBase, header: NpyHeader, start: int) -> np.ndarray:
    """Maps an array that begins at a byte of a file into memory."""
    if not header.size:  # an empty range cannot be mapped
        return np.empty(header.shape, header.dtype)
    order = "F" if header.fortran else "C"
    return _native(np.memmap(file, header.dtype, "r", start, header.shape, order))


def _native(array: np.ndarray) -> np.ndarray:
    """Returns the array in the byte order of the machine; a copy in memory if it has the other."""
    return array if array.dtype.isnative else np.array(array, array.dtype.newbyteorder("="))


@contextlib.contextmanager
def _as_user_error(complaint: str) -> Iterator[Any]:
    """Turns any exception into a `UserError`: the nested formats of a broken file raise many types."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{complaint} ({first_line(error)})") from error
