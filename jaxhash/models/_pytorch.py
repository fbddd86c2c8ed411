"""PyTorch's weight files, both formats, read without PyTorch and without running their pickles."""

import functools
import io
import itertools
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxhash.models._pickles import NotAllowed, unpickle
from jaxhash.models._places import NotWeights, Place, find_places
from jaxhash.models._pytorch_tensors import (
    ALLOWED,
    Bytes,
    Kind,
    Reading,
    Storage,
    Tensor,
    persistent,
)

#: What the first pickle of the format before PyTorch 1.6 holds, and its second.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001

Sizes = dict[str, tuple[Kind, int]]


def read_pytorch(content: bytes) -> dict[Place, Callable[[], Shaped[np.ndarray, "..."]]]:
    """All tensors of a file that ``torch.save`` wrote, in either format, each to be read.

    What ``torch.load(weights_only=True)`` reads is read, but that numbers which NumPy has no dtype
    for are refused when they are asked for, and that sparse and quantized tensors become dense
    arrays of what they stand for. What stands beside the tensors (epochs, scores, arguments) is
    dropped.

    Args:
        content: the bytes of the file.

    Raises:
        NotWeights: if the file is well formed but holds no tensors, or names what none needs.
        Exception: of any other kind, if the file is broken. Reading a tensor raises both too.

    Reference:
        ``torch/serialization.py`` and ``torch/_weights_only_unpickler.py`` of PyTorch 2.13:
        ``_load``, ``_legacy_load`` and ``_get_allowed_globals``.
    """
    try:
        if content.startswith(b"PK"):
            checkpoint, storages = _read_archive(content)
        else:
            checkpoint, storages = _read_legacy(content)
    except NotAllowed as refused:
        raise NotWeights(_refusal(str(refused), content)) from None
    if isinstance(checkpoint, Tensor) or not isinstance(checkpoint, dict | list | tuple):
        raise NotWeights("holds no state dict: save model.state_dict()")
    reading = Reading(storages)
    places = find_places(checkpoint, Tensor)
    if not places:
        raise NotWeights(f"holds no tensors by name, but {_held(checkpoint)}")
    return {place: functools.partial(tensor.array, reading) for place, tensor in places.items()}


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins like this is of the format before PyTorch 1.6."""
    try:
        return unpickle(io.BytesIO(head)) == _MAGIC
    except Exception:  # of any kind: whatever else it is
        return False


def most_unpacked(size: int) -> int:
    """How many bytes a compressed file of that many may hold."""
    return max(4 * size, 2**30)


def check_unpacked(archive: zipfile.ZipFile, content: bytes) -> None:
    """Raise `NotWeights` if the entries of an archive are far more than the file."""
    size = sum(entry.file_size for entry in archive.infolist())
    if size > most_unpacked(len(content)):
        raise NotWeights(f"unpacks to {size:,} bytes, far more than the file has: not read")


def _read_archive(content: bytes) -> tuple[Any, Callable[[Storage], Bytes]]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = archive.namelist()
    root = f"{names[0].partition('/')[0]}/"
    if f"{root}data.pkl" not in names:
        [pickled] = (name for name in names if name.rpartition("/")[2] == "data.pkl")
        root = pickled.removesuffix("data.pkl")
    if any(name.startswith((f"{root}constants.pkl", f"{root}code/")) for name in names):
        raise NotWeights("a TorchScript archive, not a state dict: save model.state_dict()")
    check_unpacked(archive, content)
    if not any(entry.CRC for entry in archive.infolist()):
        for entry in archive.infolist():  # torch.serialization.set_crc32_options(False) wrote it
            entry.CRC = None
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"byte order {order!r}")
    sizes: Sizes = {}
    stream = io.BytesIO(archive.read(f"{root}data.pkl"))
    checkpoint = unpickle(stream, ALLOWED, persistent(sizes))

    @functools.cache
    def read(key):
        return archive.read(f"{root}data/{key}")

    def storages(storage):
        found = read(storage.key)
        if len(found) != storage.size * storage.kind.dtype.itemsize:
            raise ValueError(f"storage {storage.key} is cut off")
        return Bytes(found, order.decode())

    return checkpoint, storages


def _read_legacy(content: bytes) -> tuple[Any, Callable[[Storage], Bytes]]:
    """Pickles of a magic number, a version, the machine, the object and the keys; the storages.

    Bytes after them are passed over as ``torch.load`` does: another object may follow.
    """
    file = io.BytesIO(content)
    magic, version, _ = (unpickle(file) for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError("another version of the format")
    sizes: Sizes = {}
    checkpoint = unpickle(file, ALLOWED, persistent(sizes))
    found = {}
    for key in unpickle(file):
        if not isinstance(key, str):
            raise ValueError("a key of a storage that is no string")
        kind, size = sizes[key]
        [stored] = struct.unpack("<q", file.read(8))
        start, length = file.tell(), size * kind.dtype.itemsize
        if stored != size or not 0 <= length <= len(content) - start:
            raise ValueError(f"storage {key} is cut off")
        found[key] = Bytes(memoryview(content)[start : start + length], "little")
        file.seek(length, io.SEEK_CUR)
    return checkpoint, lambda storage: found[storage.key]


def _held(checkpoint: dict | list | tuple) -> str:
    names = checkpoint if isinstance(checkpoint, dict) else range(len(checkpoint))
    first = [name for name in itertools.islice(names, 8) if isinstance(name, str | int)]
    return ", ".join(f"{name!r:.80}" for name in first) or "nothing"


def _refusal(name: str, content: bytes) -> str:
    said = f"holds {name}, which weights have no need of; nothing of it was run"
    if name == "a module" or b"torch.nn.modules" in content:
        return f"{said}; of a whole model, save model.state_dict() instead"
    return said
