"""The tensors of a published weight file, whatever program wrote it."""

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
from safetensors import deserialize  # not `safetensors.numpy`, which knows no bfloat16

from jaxhash.models._places import NotWeights, Place
from jaxhash.models._pytorch import check_unpacked, is_legacy, most_unpacked, read_pytorch
from jaxhash.utils.errors import UserError

#: The kinds of NumPy's dtypes that are numbers.
_NUMBERS = "biufc"

Array = Shaped[np.ndarray, "..."]
Tensors = dict[Place, Callable[[], Array]]


class TensorFile:
    """A weight file: where its tensors stand, and what they are.

    The format is told by the content: PyTorch (.pt, .pth, .th, .bin; both its formats),
    safetensors, Keras HDF5 (.h5), or .npz. Nothing in a file is ever run; PyTorch and Keras are not
    needed. Names in an HDF5 file are paths of datasets.

    Args:
        path: the file.

    Raises:
        UserError: if the file cannot be read, or is none of weights.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/weights.npz", **{"params/head/bias": np.ones(3)})
        ...     file = TensorFile(f"{folder}/weights.npz")
        >>> {place.path: file.read(place).shape for place in file.places}
        {'params/head/bias': (3,)}
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: there is no such file")
        with self._told():
            self._tensors = _read(self.path)
            if not self._tensors:
                raise NotWeights("holds no tensors")

    @property
    def places(self) -> list[Place]:
        """Where tensors stand, in the order of the file."""
        return list(self._tensors)

    def read(self, place: Place) -> Array:
        """One tensor; the array may be read-only and may share memory with others.

        Raises:
            UserError: if it cannot be read.
        """
        with self._told(f"{place.path}: "):
            return self._tensors[place]()

    @contextlib.contextmanager
    def _told(self, where: str = "") -> Iterator[None]:
        """Turn errors into one that names the file."""
        try:
            yield
        except NotWeights as error:
            raise UserError(f"{self.path}: {where}{_line(error)}") from None
        except Exception as error:  # a broken file can raise anything, from the layers of a format
            raise UserError(f"{self.path}: broken, or cut off ({where}{_line(error)})") from error


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
        raise NotWeights("a tar, as PyTorch 0.1 wrote: load it there, and save it again")
    raise NotWeights("not weights of PyTorch, safetensors, Keras HDF5 or .npz")


def _read_zip(content: bytes) -> Tensors:
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = archive.namelist()
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return read_pytorch(content)
    if all(name.endswith(".npy") for name in names):
        check_unpacked(archive, content)
        return {Place("", name[:-4]): partial(_npy, archive, name) for name in names}
    raise NotWeights("a zip that is neither an archive of torch.save nor a .npz")


def _npy(archive: zipfile.ZipFile, name: str) -> Array:
    """An array as big_vision reads it: NumPy writes a bfloat16 as two bytes of no known type."""
    with archive.open(name) as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise NotWeights("pickled objects, not numbers; nothing of it was run") from None
    return array.view(jnp.bfloat16) if array.dtype.str == "|V2" else _numbers(array)


def _numbers(array: Any) -> Any:
    if array.dtype.kind not in _NUMBERS:
        raise NotWeights(f"its values are {array.dtype}, not numbers")
    return array


def _read_safetensors(content: bytes) -> Tensors:
    # In an order of its own, which differs from call to call.
    entries = sorted(deserialize(content), key=lambda entry: entry[0])
    return {Place("", name): partial(_safetensor, tensor) for name, tensor in entries}


def _safetensor(tensor: dict[str, Any]) -> Array:
    if tensor["dtype"] not in _SAFETENSORS:
        raise NotWeights(f"in {tensor['dtype']}, which is not read")
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
    """The datasets of a file of weights or of a whole model, without the optimizer's."""
    try:
        import h5py
    except ImportError:
        raise NotWeights('Keras files need h5py: pip install "jaxhash[keras]"') from None
    with h5py.File(path, "r") as file:
        datasets = {}

        def keep(name, found):  # of what lies in this file: links elsewhere are not visited
            if isinstance(found, h5py.Dataset) and not name.startswith("optimizer_weights/"):
                datasets[name] = found

        file.visititems(keep)
        if any(dataset.external or dataset.is_virtual for dataset in datasets.values()):
            raise NotWeights("keeps values in other files, which are not read")
        # A dataset need not be stored, and then costs the file nothing.
        size = sum(dataset.nbytes for dataset in datasets.values())
        if size > most_unpacked(path.stat().st_size):
            raise NotWeights("its datasets are far larger than the file: packed, or not stored")
        # Texts are not read: many of them may be one long text of the file.
        arrays = {
            name: np.asarray(found[()])
            if found.dtype.kind in _NUMBERS
            else np.empty(0, found.dtype)
            for name, found in datasets.items()
        }
    return {Place("", name): partial(_numbers, array) for name, array in arrays.items()}


def _line(error: Exception) -> str:
    """What an error says, in one line that a file cannot make long or put control characters in."""
    said = " ".join(str(error).split()) or type(error).__name__
    said = said if said.isprintable() else ascii(said)
    return said if len(said) <= 300 else f"{said[:300]}..."
