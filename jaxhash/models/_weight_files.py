"""Reads tensors from weight files of PyTorch, safetensors, Keras and NumPy."""

import contextlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped
from safetensors import deserialize  # `safetensors.numpy` lacks bfloat16

from jaxhash.models._pytorch import check_unpacked_size, is_legacy, max_unpacked_bytes, read_pytorch
from jaxhash.models._tensor_paths import TensorPath, WeightFileError
from jaxhash.utils.errors import UserError

#: Kinds of NumPy dtypes that are numbers.
_NUMERIC_KINDS = "biufc"

Array = Shaped[np.ndarray, "..."]
Tensors = dict[TensorPath, Callable[[], Array]]


class TensorFile:
    """The tensors of a weight file.

    The content determines the format: PyTorch (.pt, .pth, .th, .bin; both its formats),
    safetensors, Keras HDF5 (.h5), or .npz. Nothing in a file is executed; PyTorch and Keras are not
    required. Names in an HDF5 file are paths of datasets.

    Args:
        path: path of the file.

    Raises:
        UserError: if the file cannot be read, or holds no weights.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/weights.npz", **{"params/head/bias": np.ones(3)})
        ...     file = TensorFile(f"{folder}/weights.npz")
        >>> {tensor.dotted: file.read(tensor).shape for tensor in file.tensors}
        {'params/head/bias': (3,)}
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: there is no such file")
        with self._named_errors():
            self._tensors = _read(self.path)
            if not self._tensors:
                raise WeightFileError("holds no tensors")

    @property
    def tensors(self) -> list[TensorPath]:
        """Paths of the tensors, in the order of the file."""
        return list(self._tensors)

    def read(self, tensor: TensorPath) -> Array:
        """Reads a tensor; the array may be read-only and may share memory with others.

        Raises:
            UserError: if it cannot be read.
        """
        with self._named_errors(f"{tensor.dotted}: "):
            return self._tensors[tensor]()

    @contextlib.contextmanager
    def _named_errors(self, where: str = "") -> Iterator[None]:
        """Turns any error into a `UserError` that names the file."""
        try:
            yield
        except WeightFileError as error:
            raise UserError(f"{self.path}: {where}{_one_line(error)}") from None
        except Exception as error:  # a broken file can raise any exception
            raise UserError(
                f"{self.path}: broken, or cut off ({where}{_one_line(error)})"
            ) from error


def _read(path: Path) -> Tensors:
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
        raise WeightFileError("a tar, as PyTorch 0.1 wrote: load it there, and save it again")
    raise WeightFileError("not weights of PyTorch, safetensors, Keras HDF5 or .npz")


def _read_zip(content: bytes) -> Tensors:
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = archive.namelist()
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return read_pytorch(content)
    if all(name.endswith(".npy") for name in names):
        check_unpacked_size(archive, content)
        return {TensorPath("", name[:-4]): partial(_npy, archive, name) for name in names}
    raise WeightFileError("a zip that is neither an archive of torch.save nor a .npz")


def _npy(archive: zipfile.ZipFile, name: str) -> Array:
    """Reads an array; bfloat16, which NumPy stores as untyped pairs of bytes, is restored."""
    with archive.open(name) as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise WeightFileError("pickled objects, not numbers; nothing of it was run") from None
    return array.view(jnp.bfloat16) if array.dtype.str == "|V2" else _check_numeric(array)


def _check_numeric(array: Any) -> Any:
    if array.dtype.kind not in _NUMERIC_KINDS:
        raise WeightFileError(f"its values are {array.dtype}, not numbers")
    return array


def _read_safetensors(content: bytes) -> Tensors:
    # `deserialize` returns tensors in an order that differs between calls.
    entries = sorted(deserialize(content), key=lambda entry: entry[0])
    return {TensorPath("", name): partial(_safetensor, tensor) for name, tensor in entries}


def _safetensor(tensor: dict[str, Any]) -> Array:
    if tensor["dtype"] not in _SAFETENSORS:
        raise WeightFileError(f"in {tensor['dtype']}, which is not read")
    dtype = np.dtype(_SAFETENSORS[tensor["dtype"]]).newbyteorder("<")
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])


_SAFETENSORS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E4M3FNUZ": jnp.float8_e4m3fnuz,
    "F8_E5M2": jnp.float8_e5m2,
    "F8_E5M2FNUZ": jnp.float8_e5m2fnuz,
    "F8_E8M0": jnp.float8_e8m0fnu,
    "C64": np.complex64,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def _read_hdf5(path: Path) -> Tensors:
    """Reads the datasets of a weight file or of a whole model, without those of the optimizer."""
    try:
        import h5py
    except ImportError:
        raise WeightFileError('Keras files need h5py: pip install "jaxhash[keras]"') from None
    with h5py.File(path, "r") as file:
        datasets = {}

        def collect(name, found):  # external links are not visited
            if isinstance(found, h5py.Dataset) and not name.startswith("optimizer_weights/"):
                datasets[name] = found

        file.visititems(collect)
        if any(dataset.external or dataset.is_virtual for dataset in datasets.values()):
            raise WeightFileError("keeps values in other files, which are not read")
        # A dataset without stored chunks takes no space in the file.
        size = sum(dataset.nbytes for dataset in datasets.values())
        if size > max_unpacked_bytes(path.stat().st_size):
            raise WeightFileError(
                "its datasets are far larger than the file: packed, or not stored"
            )
        # Strings are not read: many of them may refer to one long string of the file.
        arrays = {
            name: np.asarray(found[()])
            if found.dtype.kind in _NUMERIC_KINDS
            else np.empty(0, found.dtype)
            for name, found in datasets.items()
        }
    return {TensorPath("", name): partial(_check_numeric, array) for name, array in arrays.items()}


def _one_line(error: Exception) -> str:
    """Returns the message of an error as one short line without control characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 300 else f"{text[:300]}..."
