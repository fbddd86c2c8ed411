"""The tensors of a published weight file, whatever program wrote it."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped
from safetensors import deserialize  # not `safetensors.numpy`, which knows no bfloat16

from jaxhash.errors import UserError
from jaxhash.models._pytorch import NotWeights, is_legacy, read_pytorch

#: What `torch.nn.DataParallel` and `torch.compile` put before every name.
_PREFIXES = ("module.", "_orig_mod.")


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Shaped[np.ndarray, "..."]]:
    """All tensors of a weight file, by their names in it.

    The format is told by the content: PyTorch (.pt, .pth, .th, .bin; both its formats),
    safetensors, Keras HDF5 (.h5), or .npz. Nothing in a file is ever run; PyTorch and Keras are not
    needed. A prefix ``module.`` or ``_orig_mod.`` that all names have is taken off. Names in an
    HDF5 file are paths of datasets, without the ``model_weights/`` of a file of a whole model.

    Args:
        path: the file.

    Returns:
        Arrays that may be read-only and may share memory.

    Raises:
        UserError: if the file cannot be read, or is none of weights.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/weights.npz", **{"params/head/bias": np.ones(3)})
        ...     tensors = read_tensors(f"{folder}/weights.npz")
        >>> {name: tensor.shape for name, tensor in tensors.items()}
        {'params/head/bias': (3,)}
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        tensors = _read(path)
    except NotWeights as error:
        raise UserError(f"{path}: {_line(error)}") from None
    except Exception as error:  # a broken file can raise anything, from the layers of a format
        raise UserError(f"{path}: broken, or cut off ({_line(error)})") from error
    if not tensors:
        raise UserError(f"{path}: holds no tensors")
    while prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _read(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_hdf5(path)
    if head[8:9] == b"{":
        return _read_safetensors(path.read_bytes())
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(path.read_bytes())
    if is_legacy(head):
        return read_pytorch(path.read_bytes())
    if head[257:262] == b"ustar":
        raise NotWeights("a tar, as PyTorch 0.1 wrote: load it there, and save it again")
    raise NotWeights("not weights of PyTorch, safetensors, Keras HDF5 or .npz")


def _read_zip(content: bytes) -> dict[str, Shaped[np.ndarray, "..."]]:
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return read_pytorch(content)
    if all(name.endswith(".npy") for name in names):
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: _bfloat16(_numbers(name, arrays[name])) for name in arrays.files}
    raise NotWeights("a zip that is neither an archive of torch.save nor a .npz")


def _bfloat16(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The array as big_vision reads it: NumPy writes a bfloat16 as two bytes of no known type."""
    return array.view(jnp.bfloat16) if array.dtype.str == "|V2" else array


def _numbers(name: str, array: Any) -> Any:
    if array.dtype.kind not in "biuf" and array.dtype.str != "|V2":
        raise NotWeights(f"holds {name}, whose values are {array.dtype}, not numbers")
    return array


def _read_safetensors(content: bytes) -> dict[str, Shaped[np.ndarray, "..."]]:
    tensors = {}
    # In an order of its own, which differs from call to call.
    for name, tensor in sorted(deserialize(content), key=lambda entry: entry[0]):
        if tensor["dtype"] not in _SAFETENSORS:
            raise NotWeights(f"holds {name} in {tensor['dtype']}, which is not read")
        dtype = np.dtype(_SAFETENSORS[tensor["dtype"]]).newbyteorder("<")
        tensors[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    return tensors


_SAFETENSORS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def _read_hdf5(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The datasets of a file of weights or of a whole model, without the optimizer's."""
    try:
        import h5py
    except ImportError:
        raise NotWeights('Keras files need h5py: pip install "jaxhash[keras]"') from None
    with h5py.File(path, "r") as file:
        datasets = {}

        def keep(name, found):  # of what lies in this file: links elsewhere are not visited
            if isinstance(found, h5py.Dataset) and not name.startswith("optimizer_weights/"):
                datasets[name.removeprefix("model_weights/")] = _numbers(name, found)

        file.visititems(keep)
        if any(dataset.external or dataset.is_virtual for dataset in datasets.values()):
            raise NotWeights("keeps values in other files, which are not read")
        # A dataset need not be stored, and then costs the file nothing.
        if sum(dataset.nbytes for dataset in datasets.values()) > path.stat().st_size:
            raise NotWeights("its datasets are larger than the file: compressed, or not stored")
        return {name: dataset[()] for name, dataset in datasets.items()}


def _line(error: Exception) -> str:
    """What an error says, in one line that a file cannot make long or put control characters in."""
    said = " ".join(str(error).split()) or type(error).__name__
    said = said if said.isprintable() else ascii(said)
    return said if len(said) <= 300 else f"{said[:300]}..."
