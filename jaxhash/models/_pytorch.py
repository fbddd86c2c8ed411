"""Reads both formats of PyTorch weight files, without PyTorch and without executing pickles."""

import functools
import io
import itertools
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxhash.models._pytorch_tensors import (
    ALLOWED,
    LazyTensor,
    Storage,
    StorageBytes,
    StorageReader,
    TorchDtype,
    persistent_loader,
)
from jaxhash.models._tensor_paths import TensorPath, WeightFileError, find_tensors
from jaxhash.models._unpickler import DisallowedGlobal, unpickle

#: Content of the first and of the second pickle in the format before PyTorch 1.6.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001

#: dtype and number of elements of each storage.
StorageSizes = dict[str, tuple[TorchDtype, int]]


def read_pytorch(content: bytes) -> dict[TensorPath, Callable[[], Shaped[np.ndarray, "..."]]]:
    """Reads a file that ``torch.save`` wrote, in either format.

    It accepts what ``torch.load(weights_only=True)`` accepts, with two differences: reading a
    tensor fails if NumPy has no dtype for it, and sparse and quantized tensors become dense arrays
    of their values. Everything beside the tensors (epochs, scores, arguments) is dropped.

    Args:
        content: bytes of the file.

    Returns:
        A function per tensor that reads it.

    Raises:
        WeightFileError: if the file is well formed but holds no tensors, or names a global that
            weights do not need.
        Exception: any other exception, if the file is broken. The returned functions raise both
            too.

    Reference:
        ``torch/serialization.py`` and ``torch/_weights_only_unpickler.py`` of PyTorch 2.13:
        ``_load``, ``_legacy_load`` and ``_get_allowed_globals``.
    """
    try:
        if content.startswith(b"PK"):
            checkpoint, storages = _read_archive(content)
        else:
            checkpoint, storages = _read_legacy(content)
    except DisallowedGlobal as error:
        raise WeightFileError(_refusal(str(error), content)) from None
    if isinstance(checkpoint, LazyTensor) or not isinstance(checkpoint, dict | list | tuple):
        raise WeightFileError("holds no state dict: save model.state_dict()")
    reader = StorageReader(storages)
    tensors = find_tensors(checkpoint, LazyTensor)
    if not tensors:
        raise WeightFileError(f"holds no tensors by name, but {_contents(checkpoint)}")
    return {path: functools.partial(tensor.array, reader) for path, tensor in tensors.items()}


def is_legacy(head: bytes) -> bool:
    """Returns whether a file with these first bytes has the format before PyTorch 1.6."""
    try:
        return unpickle(io.BytesIO(head)) == _MAGIC
    except Exception:  # another format raises any exception
        return False


def max_unpacked_bytes(size: int) -> int:
    """Returns the largest accepted uncompressed size of a file of that size, in bytes."""
    return max(4 * size, 2**30)


def check_unpacked_size(archive: zipfile.ZipFile, content: bytes) -> None:
    """Raises `WeightFileError` if an archive unpacks to far more bytes than it has."""
    size = sum(entry.file_size for entry in archive.infolist())
    if size > max_unpacked_bytes(len(content)):
        raise WeightFileError(f"unpacks to {size:,} bytes, far more than the file has: not read")


def _read_archive(content: bytes) -> tuple[Any, Callable[[Storage], StorageBytes]]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = archive.namelist()
    root = f"{names[0].partition('/')[0]}/"
    if f"{root}data.pkl" not in names:
        [pickled] = (name for name in names if name.rpartition("/")[2] == "data.pkl")
        root = pickled.removesuffix("data.pkl")
    if any(name.startswith((f"{root}constants.pkl", f"{root}code/")) for name in names):
        raise WeightFileError("a TorchScript archive, not a state dict: save model.state_dict()")
    check_unpacked_size(archive, content)
    if not any(entry.CRC for entry in archive.infolist()):
        # torch.serialization.set_crc32_options(False) omits checksums.
        for entry in archive.infolist():
            entry.CRC = None
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"byte order {order!r}")
    sizes: StorageSizes = {}
    stream = io.BytesIO(archive.read(f"{root}data.pkl"))
    checkpoint = unpickle(stream, ALLOWED, persistent_loader(sizes))

    @functools.cache
    def read(key):
        return archive.read(f"{root}data/{key}")

    def storages(storage):
        found = read(storage.key)
        if len(found) != storage.size * storage.dtype.numpy.itemsize:
            raise ValueError(f"storage {storage.key} is cut off")
        return StorageBytes(found, order.decode())

    return checkpoint, storages


def _read_legacy(content: bytes) -> tuple[Any, Callable[[Storage], StorageBytes]]:
    """Reads the format before PyTorch 1.6.

    It consists of pickles of a magic number, a version, the machine, the object and the storage
    keys, then of the storages. Bytes after them are ignored, as ``torch.load`` does: another object
    may follow.
    """
    file = io.BytesIO(content)
    magic, version, _ = (unpickle(file) for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError("another version of the format")
    sizes: StorageSizes = {}
    checkpoint = unpickle(file, ALLOWED, persistent_loader(sizes))
    found = {}
    for key in unpickle(file):
        if not isinstance(key, str):
            raise ValueError("a key of a storage that is no string")
        dtype, size = sizes[key]
        [stored] = struct.unpack("<q", file.read(8))
        start, length = file.tell(), size * dtype.numpy.itemsize
        if stored != size or not 0 <= length <= len(content) - start:
            raise ValueError(f"storage {key} is cut off")
        found[key] = StorageBytes(memoryview(content)[start : start + length], "little")
        file.seek(length, io.SEEK_CUR)
    return checkpoint, lambda storage: found[storage.key]


def _contents(checkpoint: dict | list | tuple) -> str:
    names = checkpoint if isinstance(checkpoint, dict) else range(len(checkpoint))
    first = [name for name in itertools.islice(names, 8) if isinstance(name, str | int)]
    return ", ".join(f"{name!r:.80}" for name in first) or "nothing"


def _refusal(name: str, content: bytes) -> str:
    message = f"holds {name}, which weights do not need; nothing of it was run"
    if name == "a module" or b"torch.nn.modules" in content:
        return f"{message}; of a whole model, save model.state_dict() instead"
    return message
