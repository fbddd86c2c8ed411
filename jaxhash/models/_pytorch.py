"""PyTorch's weight files, both formats, read without PyTorch and without running their pickles."""

import io
import math
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from jaxhash.models._pickles import NotAllowed, ordered_dict, unpickle

#: What the first pickle of the format before PyTorch 1.6 holds, and its second.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001

#: Entries of a checkpoint under which training scripts keep the state dict.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


class NotWeights(Exception):
    """The file is well formed, but is no file of weights; the argument says what it is."""


class _Storage(NamedTuple):
    """``size`` numbers of the file, of which a tensor sees those from ``start`` on."""

    key: str
    dtype: np.dtype
    size: int
    start: int


class _Tensor(NamedTuple):
    """How a tensor lies in its storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pytorch(content: bytes) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The tensors of a state dict that ``torch.save`` wrote, in either format.

    A checkpoint that keeps the state dict under ``state_dict``, ``model_state_dict`` or ``model``
    is looked into; what stands beside the tensors (epochs, scores, arguments) is dropped.

    Args:
        content: the bytes of the file.

    Raises:
        NotWeights: if the file is well formed but no state dict, or names what none needs.
        Exception: of any other kind, if the file is broken.

    Reference:
        ``torch/serialization.py`` of PyTorch 2: ``_load`` and ``_legacy_load``. A tensor with more
        elements than its storage (by stride 0) is refused, so that a small file cannot fill the
        memory. So are compressed entries of an archive, which ``torch.save`` does not write, and
        bytes after the last storage of the older format.
    """
    try:
        if content.startswith(b"PK"):
            checkpoint, storages = _read_archive(content)
        else:
            checkpoint, storages = _read_legacy(content)
    except NotAllowed as refused:
        raise NotWeights(_refusal(str(refused), content)) from None
    tensors = _state_dict(checkpoint)
    return {name: _array(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins like this is of the format before PyTorch 1.6."""
    try:
        return unpickle(io.BytesIO(head)) == _MAGIC
    except Exception:  # of any kind: whatever else it is
        return False


def _read_archive(content: bytes) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        [pickled] = (name for name in names if name.rpartition("/")[2] == "data.pkl")
        root = pickled.removesuffix("data.pkl")
        if any(name.startswith((f"{root}constants.pkl", f"{root}code/")) for name in names):
            raise NotWeights("a TorchScript archive, not a state dict: save model.state_dict()")
        # Entries that overlap could be far more than the file.
        if sum(entry.file_size for entry in archive.infolist()) > len(content):
            raise ValueError("its entries are larger than the file")

        def read(name):
            if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its entry {name} is compressed")
            return archive.read(name)

        order = read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        sizes = {}
        checkpoint = unpickle(io.BytesIO(read(pickled)), _ALLOWED, _persistent(sizes))
        storages = {}
        for key, (dtype, size) in sizes.items():
            storage = read(f"{root}data/{key}")
            if len(storage) != size * dtype.itemsize:
                raise ValueError(f"storage {key} is cut off")
            storages[key] = _native(storage, dtype, order.decode())
        return checkpoint, storages


def _read_legacy(content: bytes) -> tuple[Any, dict[str, bytes]]:
    """Pickles of a magic number, a version, the machine, the object and the keys; the storages."""
    file = io.BytesIO(content)
    magic, version, _ = (unpickle(file) for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError("another version of the format")
    sizes = {}
    checkpoint = unpickle(file, _ALLOWED, _persistent(sizes))
    storages = {}
    for key in unpickle(file):
        if not isinstance(key, str):
            raise ValueError("a key of a storage that is no string")
        dtype, size = sizes[key]
        [stored] = struct.unpack("<q", file.read(8))
        storage = file.read(size * dtype.itemsize)
        if stored != size or len(storage) != size * dtype.itemsize:
            raise ValueError(f"storage {key} is cut off")
        storages[key] = _native(storage, dtype, "little")  # whatever machine wrote it
    if file.read(1):
        raise ValueError("bytes after the last storage")
    return checkpoint, storages


def _native(storage: bytes, dtype: np.dtype, order: str) -> bytes:
    if order not in ("little", "big"):
        raise ValueError(f"byte order {order}")
    if order == sys.byteorder:
        return storage
    return np.frombuffer(storage, f"u{dtype.itemsize}").byteswap().tobytes()


def _persistent(sizes: dict[str, tuple[np.dtype, int]]) -> Callable[[Any], _Storage]:
    """Makes storages of persistent ids, and takes down how large each is."""

    def storage(identifier):
        match identifier:
            case ("module", *_):
                raise NotAllowed("a module")
            case ("storage", np.dtype() as dtype, str(key), _, int(size), *view):
                if sizes.setdefault(key, (dtype, size)) != (dtype, size):
                    raise ValueError(f"storage {key} has two sizes")
                match view:
                    case [] | [None]:
                        return _Storage(key, dtype, size, 0)
                    case [(_, int(start), int(_))]:
                        return _Storage(key, dtype, size, start)
        raise ValueError("a persistent id that is no storage")

    return storage


def _tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
    """Stands for the functions that rebuild tensors; gradients and hooks are dropped."""
    return _Tensor(storage, offset, shape, strides)


def _data(data: Any, *_: Any) -> Any:
    """Stands for the functions that make a parameter of a tensor."""
    return data


def _nothing(*_: Any) -> None:
    """Stands for what accompanies weights and is dropped."""


_STORAGES = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": jnp.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}

#: All that a pickle may name, and what takes its place.
_ALLOWED = {
    "collections.OrderedDict": ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _data,
    "torch._utils._rebuild_parameter_with_state": _data,
    "torch.Size": _data,
    **{f"torch.{name}Storage": np.dtype(dtype) for name, dtype in _STORAGES.items()},
    # Arguments and scores of the training that stand beside the weights.
    "torch.device": _nothing,
    "argparse.Namespace": _nothing,
    "numpy.dtype": _nothing,
    "numpy.core.multiarray.scalar": _nothing,
    "numpy._core.multiarray.scalar": _nothing,
    "_codecs.encode": _nothing,
}


def _refusal(name: str, content: bytes) -> str:
    said = f"holds {name}, which weights have no need of; nothing of it was run"
    if name == "a module" or b"torch.nn.modules" in content:
        return f"{said}; of a whole model, save model.state_dict() instead"
    return said


def _state_dict(checkpoint: Any) -> dict[str, _Tensor]:
    """The tensors by name: those of the checkpoint, or of the one entry that wraps them."""
    if not isinstance(checkpoint, dict):
        raise NotWeights("holds no state dict: save model.state_dict()")
    wrapped = {key: tensors for key in _WRAPPERS if (tensors := _tensors(checkpoint.get(key)))}
    if len(wrapped) > 1:
        raise NotWeights(f"holds several state dicts: {', '.join(wrapped)}")
    [tensors] = wrapped.values() or [_tensors(checkpoint)]
    if not tensors:
        held = ", ".join(map(repr, list(checkpoint)[:8])) or "nothing"
        raise NotWeights(
            f"holds no tensors by name, nor under one of {', '.join(_WRAPPERS)}, but {held}"
        )
    return tensors


def _tensors(entries: Any) -> dict[str, _Tensor]:
    if not isinstance(entries, dict):
        return {}
    return {
        name: value
        for name, value in entries.items()
        if isinstance(name, str) and isinstance(value, _Tensor)
    }


def _array(tensor: _Tensor, storage: bytes) -> Shaped[np.ndarray, "..."]:
    """The tensor as a view of its storage."""
    (_, dtype, size, start), offset, shape, strides = tensor
    numbers = (offset, start, *shape, *strides)
    if len(shape) > 32 or not all(isinstance(n, int) and 0 <= n < 2**63 for n in numbers):
        raise ValueError("a tensor with a shape that is none")
    if math.prod(shape) > size:
        raise ValueError(f"a tensor of shape {shape} on {size} stored numbers")
    return np.ndarray(
        shape,
        dtype,
        storage,
        (start + offset) * dtype.itemsize,
        tuple(stride * dtype.itemsize for stride in strides),
    )
