"""Tensors of a PyTorch pickle, described while unpickling and read on request.

Most tensors of a checkpoint are not needed. Replacements of PyTorch's rebuild functions therefore
return a `LazyTensor`, which reads its array later.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from jaxhash.models._tensor_paths import WeightFileError
from jaxhash.models._unpickler import DisallowedGlobal, make_dict

#: Total bytes allowed for tensors that are larger than their storage: a small file can hold any
#: number of sparse and expanded tensors.
MAX_EXPANDED_BYTES = 2**30

Array = Shaped[np.ndarray, "..."]


class TorchDtype(NamedTuple):
    """A dtype of PyTorch and its NumPy dtype, which is raw bytes if NumPy has no equivalent."""

    name: str
    numpy: np.dtype


class Storage(NamedTuple):
    """A storage of ``size`` elements in the file; a tensor uses those from ``start`` on."""

    key: str
    dtype: TorchDtype
    size: int
    start: int


class StorageBytes(NamedTuple):
    """The content of a storage and its byte order, ``"little"`` or ``"big"``."""

    content: bytes | memoryview
    order: str


class StorageReader:
    """Reads the storages of one file, and limits the memory of tensors beyond them.

    Args:
        read_storage: returns the content of a storage.
    """

    def __init__(self, read_storage: Callable[[Storage], StorageBytes]):
        self.read = read_storage
        self._remaining = MAX_EXPANDED_BYTES

    def reserve(self, shape: Sequence[int], dtype: np.dtype) -> None:
        """Counts an array of this shape against `MAX_EXPANDED_BYTES`.

        Raises:
            WeightFileError: if the limit is exceeded.
        """
        self._remaining -= math.prod(shape) * dtype.itemsize
        if self._remaining < 0:
            raise WeightFileError(
                "its sparse and expanded tensors would take more than "
                f"{MAX_EXPANDED_BYTES / 2**30:g} GiB: save them as dense tensors"
            )


@dataclass(frozen=True, eq=False)
class LazyTensor:
    """A tensor that `array` reads."""

    def array(self, reader: StorageReader) -> Array:
        """Reads the values.

        Raises:
            WeightFileError: if the file holds no values, or NumPy has no dtype for them.
            Exception: any other exception, if the file is broken.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class StridedTensor(LazyTensor):
    """A view of a storage; offset and strides count elements of ``dtype``."""

    storage: Storage
    dtype: TorchDtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conjugate: bool = False
    negative: bool = False

    def array(self, reader: StorageReader) -> Array:
        name, dtype = self.dtype
        if dtype.kind == "V" and not jnp.issubdtype(dtype, jnp.floating):
            raise WeightFileError(f"in {name}, which is not read")
        shape, start = _checked_shape(self.shape), self.storage.start
        numbers = (self.offset, start, *self.strides)
        if not all(isinstance(n, int) and 0 <= n < 2**63 for n in numbers):
            raise ValueError("a tensor with strides that are none")
        content, order = reader.read(self.storage)
        if math.prod(shape) * dtype.itemsize > len(content):
            reader.reserve(shape, dtype)
        array = np.ndarray(
            shape,
            dtype,
            content,
            start * self.storage.dtype.numpy.itemsize + self.offset * dtype.itemsize,
            tuple(stride * dtype.itemsize for stride in self.strides),
        )
        if order != sys.byteorder and dtype.itemsize > 1:
            array = array.byteswap()
        array = np.conjugate(array) if self.conjugate else array
        return np.negative(array) if self.negative else array


@dataclass(frozen=True, eq=False)
class QuantizedTensor(LazyTensor):
    """A quantized tensor, read as (integer - zero point) * scale in float32."""

    integers: StridedTensor
    scale: Any
    zero_point: Any
    axis: int | None = None

    def array(self, reader: StorageReader) -> Array:
        integers = self.integers.array(reader)
        scale, zero_point = (_to_float32(each, reader) for each in (self.scale, self.zero_point))
        if self.axis is not None:
            after = (1,) * (integers.ndim - 1 - range(integers.ndim)[self.axis])
            scale, zero_point = (each.reshape(-1, *after) for each in (scale, zero_point))
            if len(scale) != integers.shape[self.axis] or len(zero_point) != len(scale):
                raise ValueError("a quantized tensor with more or fewer scales than channels")
        return (integers.astype(np.float32) - zero_point) * scale


@dataclass(frozen=True, eq=False)
class CooTensor(LazyTensor):
    """A sparse COO tensor: value i has the coordinates in column i; equal coordinates add up."""

    indices: LazyTensor
    values: LazyTensor
    shape: tuple[int, ...]

    def array(self, reader: StorageReader) -> Array:
        indices, values = self.indices.array(reader), self.values.array(reader)
        shape = _checked_shape(self.shape)
        if (indices < 0).any():
            raise ValueError("a sparse tensor with indices below 0")
        if values.shape != (indices.shape[1], *shape[len(indices) :]):
            raise ValueError("a sparse tensor whose indices and values differ in number")
        reader.reserve(shape, values.dtype)
        dense = np.zeros((1, *shape), values.dtype)
        np.add.at(dense, (0, *indices), values)
        return dense[0]


@dataclass(frozen=True, eq=False)
class CompressedTensor(LazyTensor):
    """A sparse tensor in CSR, CSC, BSR or BSC layout, after batch axes."""

    layout: str
    pointers: LazyTensor
    indices: LazyTensor
    values: LazyTensor
    shape: tuple[int, ...]

    def array(self, reader: StorageReader) -> Array:
        pointers, indices, values = (
            each.array(reader) for each in (self.pointers, self.indices, self.values)
        )
        shape, batch = _checked_shape(self.shape), pointers.shape[:-1]
        after = values.shape[len(batch) + 1 :]
        in_blocks = self.layout in ("sparse_bsr", "sparse_bsc")
        block, dense = (after[:2], after[2:]) if in_blocks else ((1, 1), after)
        rows, columns = shape[len(batch) : len(batch) + 2]
        if shape != (*batch, rows, columns, *dense):
            raise ValueError("a sparse tensor whose values do not fit its shape")
        reader.reserve(shape, values.dtype)
        high, wide = block
        grid = (math.prod(batch), rows // high, high, columns // wide, wide, *dense)
        found = np.zeros(grid, values.dtype)
        block_grid = found.swapaxes(2, 3)
        entries = indices.shape[-1]
        for matrix, counts, others, blocks in zip(
            block_grid,
            np.diff(pointers.reshape(-1, pointers.shape[-1])),
            indices.reshape(-1, entries),
            values.reshape(-1, entries, *block, *dense),
            strict=True,
        ):
            own = np.repeat(np.arange(len(counts)), counts)
            if len(own) != entries or (others < 0).any():
                raise ValueError("a sparse tensor with indices that are none")
            by_rows = self.layout in ("sparse_csr", "sparse_bsr")
            matrix[(own, others) if by_rows else (others, own)] = blocks
        return found.reshape(shape)


@dataclass(frozen=True, eq=False)
class UnreadableTensor(LazyTensor):
    """A tensor without values in the file, or without support; reading it raises ``reason``."""

    reason: str

    def array(self, reader: StorageReader) -> Array:
        raise WeightFileError(self.reason)


def persistent_loader(sizes: dict[str, tuple[TorchDtype, int]]) -> Callable[[Any], Storage]:
    """Returns a loader of persistent ids, which records the dtype and size of each storage."""

    def storage(identifier):
        match identifier:
            case ("module", *_):
                raise DisallowedGlobal("a module")
            case ("storage", TorchDtype() as dtype, str(key), _, int(size), *view):
                if sizes.setdefault(key, (dtype, size)) != (dtype, size):
                    raise ValueError(f"storage {key} has two sizes")
                match view:
                    case [] | [None]:
                        return Storage(key, dtype, size, 0)
                    case [(_, int(start), int(_))]:
                        return Storage(key, dtype, size, start)
        raise ValueError("a persistent id that is no storage")

    return storage


def _checked_shape(shape: Any) -> tuple[int, ...]:
    if len(shape) > 64 or not all(isinstance(n, int) and 0 <= n < 2**63 for n in shape):
        raise ValueError("a tensor with a shape that is none")
    return tuple(shape)


def _to_float32(value: Any, reader: StorageReader) -> Array:
    """Converts a scale or zero point, or one per channel, to float32."""
    found = value.array(reader) if isinstance(value, LazyTensor) else value
    return np.asarray(found, np.float32)


def _rebuild_tensor(
    storage: Storage, offset: int, shape: tuple, strides: tuple, *others: Any
) -> StridedTensor:
    """Replaces the functions that rebuild tensors; gradients and hooks are dropped."""
    _, _, *others = (*others, None, None)
    dtype = storage.dtype
    if others and isinstance(others[0], TorchDtype):
        dtype, *others = others
    bits = others[0] if others and isinstance(others[0], dict) else {}
    return StridedTensor(
        storage, dtype, offset, shape, strides, bool(bits.get("conj")), bool(bits.get("neg"))
    )


def _rebuild_quantized(
    storage: Storage, offset: int, shape: tuple, strides: tuple, parameters: tuple, *_: Any
) -> QuantizedTensor:
    integers = StridedTensor(storage, storage.dtype, offset, shape, strides)
    return QuantizedTensor(integers, *parameters[1:])


def _rebuild_sparse(layout: Any, parts: tuple) -> LazyTensor:
    match layout, parts:
        case "torch.sparse_coo", (LazyTensor() as indices, LazyTensor() as values, shape, *_):
            return CooTensor(indices, values, shape)
        case str(), (
            LazyTensor() as pointers,
            LazyTensor() as indices,
            LazyTensor() as values,
            shape,
        ):
            return CompressedTensor(layout.removeprefix("torch."), pointers, indices, values, shape)
    raise ValueError("a sparse tensor of no known layout")


def _rebuild_subclass(function: Callable, _: Any, arguments: tuple, *__: Any) -> Any:
    """Replaces the function that rebuilds a tensor with attributes, or of a subclass."""
    return function(*arguments)


def _first_argument(data: Any = None, *_: Any) -> Any:
    """Replaces the functions that turn a value into a parameter, a size or a tensor elsewhere."""
    return data


def _ignore(*_: Any) -> None:
    """Replaces values beside weights, which are dropped."""


def _unreadable(reason: str) -> Callable[..., UnreadableTensor]:
    return lambda *_: UnreadableTensor(reason)


#: PyTorch's dtypes and the classes of their storages. A dtype that NumPy lacks is measured in
#: bytes, and not read.
_DTYPES = {
    "float64": (np.float64, "Double"),
    "float32": (np.float32, "Float"),
    "float16": (np.float16, "Half"),
    "bfloat16": (jnp.bfloat16, "BFloat16"),
    "int64": (np.int64, "Long"),
    "int32": (np.int32, "Int"),
    "int16": (np.int16, "Short"),
    "int8": (np.int8, "Char"),
    "uint8": (np.uint8, "Byte"),
    "bool": (np.bool_, "Bool"),
    "complex128": (np.complex128, "ComplexDouble"),
    "complex64": (np.complex64, "ComplexFloat"),
    "qint32": (np.int32, "QInt32"),
    "qint8": (np.int8, "QInt8"),
    "quint8": (np.uint8, "QUInt8"),
    "quint4x2": ("V1", "QUInt4x2"),
    "quint2x4": ("V1", "QUInt2x4"),
    # Those below are described by a dtype beside a storage of bytes.
    "uint16": (np.uint16, None),
    "uint32": (np.uint32, None),
    "uint64": (np.uint64, None),
    "float8_e4m3fn": (jnp.float8_e4m3fn, None),
    "float8_e4m3fnuz": (jnp.float8_e4m3fnuz, None),
    "float8_e5m2": (jnp.float8_e5m2, None),
    "float8_e5m2fnuz": (jnp.float8_e5m2fnuz, None),
    "float8_e8m0fnu": (jnp.float8_e8m0fnu, None),
    "float4_e2m1fn_x2": ("V1", None),
    "complex32": ("V4", None),
    "bits16": ("V2", None),
    **{f"bits{name}": ("V1", None) for name in ("8", "1x8", "2x4", "4x2")},
    **{f"{sign}int{bits}": ("V1", None) for sign in ("", "u") for bits in range(1, 8)},
}

_DEVICES = ("torch", "torch.cuda")

#: Replacement of each global that a pickle may name: those that ``torch.load(weights_only=True)``
#: accepts, and those that trainings store beside weights.
ALLOWED = {
    "collections.OrderedDict": make_dict,
    "collections.Counter": make_dict,
    "collections.defaultdict": lambda *_: {},
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor,
    "torch._utils._rebuild_qtensor": _rebuild_quantized,
    "torch._utils._rebuild_sparse_tensor": _rebuild_sparse,
    "torch._utils._rebuild_nested_tensor": _unreadable("a nested tensor, which is not read"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unreadable(
        "of the meta device, without values"
    ),
    "torch._utils._rebuild_wrapper_subclass": _unreadable("a wrapper of tensors, without values"),
    "torch._utils._rebuild_parameter": _first_argument,
    "torch._utils._rebuild_parameter_with_state": _first_argument,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first_argument,
    "torch._utils._rebuild_device_tensor_from_numpy": _unreadable("an array, which is not read"),
    "torch._tensor._rebuild_from_type_v2": _rebuild_subclass,
    "torch.nn.parameter.Parameter": _first_argument,
    "torch.serialization._get_layout": _first_argument,
    "torch.Size": _first_argument,
    "torch.Tensor": _unreadable("of PyTorch before 0.2, which is not read"),
    **{f"torch.{name}": TorchDtype(name, np.dtype(dtype)) for name, (dtype, _) in _DTYPES.items()},
    **{
        f"{device}.{storage}Storage": TorchDtype(name, np.dtype(dtype))
        for name, (dtype, storage) in _DTYPES.items()
        if storage
        for device in _DEVICES
    },
    "torch.storage.UntypedStorage": TorchDtype("uint8", np.dtype(np.uint8)),
    "torch.storage.TypedStorage": _ignore,
    **{
        f"{device}{sparse}.{storage}LazyTensor": _unreadable(
            "of PyTorch before 0.2, which is not read"
        )
        for _, storage in _DTYPES.values()
        if storage
        for device in _DEVICES
        for sparse in ("", ".sparse")
    },
    # Arguments, scores and training states that are stored beside the weights.
    **{
        f"torch.per_{what}": _ignore
        for what in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")
    },
    "torch.per_channel_affine_float_qparams": _ignore,
    "torch.device": _ignore,
    "argparse.Namespace": _ignore,
    "_codecs.encode": _ignore,
    **{f"builtins.{name}": _ignore for name in ("set", "frozenset", "bytearray", "complex")},
    **{f"builtins.{name}": _ignore for name in ("bool", "dict", "float", "int", "list", "str")},
    "numpy.dtype": _ignore,
    "numpy.ndarray": _ignore,
    **{
        f"numpy.{core}.multiarray.{name}": _ignore
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    },
}
