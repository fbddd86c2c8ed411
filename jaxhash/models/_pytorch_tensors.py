"""What a pickle of PyTorch says of its tensors, and the arrays that they are.

A tensor is described first, by the stand-ins for PyTorch's functions, and read when it is asked
for: most of a checkpoint is not wanted.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from jaxhash.models._pickles import NotAllowed, ordered_dict
from jaxhash.models._places import NotWeights

#: What tensors that are larger than their storage may take together, in bytes: sparse and expanded
#: ones, of which a small file can hold any number.
MOST_BYTES = 2**30

Array = Shaped[np.ndarray, "..."]


class Kind(NamedTuple):
    """A dtype of PyTorch; ``dtype`` is of bare bytes where NumPy has none like it."""

    name: str
    dtype: np.dtype


class Storage(NamedTuple):
    """``size`` numbers of the file, of which a tensor sees those from ``start`` on."""

    key: str
    kind: Kind
    size: int
    start: int


class Bytes(NamedTuple):
    """What a storage holds, and ``"little"`` or ``"big"``: which byte of a number is first."""

    content: bytes | memoryview
    order: str


class Reading:
    """Gives the storages of one file, and allows `MOST_BYTES` beyond them."""

    def __init__(self, storages: Callable[[Storage], Bytes]):
        self.storages = storages
        self.left = MOST_BYTES

    def allow(self, shape: Sequence[int], dtype: np.dtype) -> None:
        """Take an array of this shape from what is left.

        Raises:
            NotWeights: if no memory is left for it.
        """
        self.left -= math.prod(shape) * dtype.itemsize
        if self.left < 0:
            raise NotWeights(
                "its sparse and expanded tensors would take more than "
                f"{MOST_BYTES / 2**30:g} GiB: save them as dense tensors"
            )


@dataclass(frozen=True, eq=False)
class Tensor:
    """Stands for a tensor; `array` reads it."""

    def array(self, reading: Reading) -> Array:
        """The numbers.

        Raises:
            NotWeights: if there are none, or none that NumPy has a dtype for.
            Exception: of any other kind, if the file is broken.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Strided(Tensor):
    """Lies in a storage; offset and strides count numbers of ``kind``."""

    storage: Storage
    kind: Kind
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conjugate: bool = False
    negative: bool = False

    def array(self, reading: Reading) -> Array:
        name, dtype = self.kind
        if dtype.kind == "V" and not jnp.issubdtype(dtype, jnp.floating):
            raise NotWeights(f"in {name}, which is not read")
        shape, start = _shape(self.shape), self.storage.start
        numbers = (self.offset, start, *self.strides)
        if not all(isinstance(n, int) and 0 <= n < 2**63 for n in numbers):
            raise ValueError("a tensor with strides that are none")
        content, order = reading.storages(self.storage)
        if math.prod(shape) * dtype.itemsize > len(content):
            reading.allow(shape, dtype)
        array = np.ndarray(
            shape,
            dtype,
            content,
            start * self.storage.kind.dtype.itemsize + self.offset * dtype.itemsize,
            tuple(stride * dtype.itemsize for stride in self.strides),
        )
        if order != sys.byteorder and dtype.itemsize > 1:
            array = array.byteswap()
        array = np.conjugate(array) if self.conjugate else array
        return np.negative(array) if self.negative else array


@dataclass(frozen=True, eq=False)
class Quantized(Tensor):
    """Integers q that stand for (q - zero point) * scale, which is read in float32."""

    integers: Strided
    scale: Any
    zero_point: Any
    axis: int | None = None

    def array(self, reading: Reading) -> Array:
        integers = self.integers.array(reading)
        scale, zero_point = (_along(each, reading) for each in (self.scale, self.zero_point))
        if self.axis is not None:
            after = (1,) * (integers.ndim - 1 - range(integers.ndim)[self.axis])
            scale, zero_point = (each.reshape(-1, *after) for each in (scale, zero_point))
            if len(scale) != integers.shape[self.axis] or len(zero_point) != len(scale):
                raise ValueError("a quantized tensor with more or fewer scales than channels")
        return (integers.astype(np.float32) - zero_point) * scale


@dataclass(frozen=True, eq=False)
class Coordinates(Tensor):
    """Sparse: value i stands at the coordinates in column i of the indices; equal ones add up."""

    indices: Tensor
    values: Tensor
    shape: tuple[int, ...]

    def array(self, reading: Reading) -> Array:
        indices, values = self.indices.array(reading), self.values.array(reading)
        shape = _shape(self.shape)
        if (indices < 0).any():
            raise ValueError("a sparse tensor with indices below 0")
        if values.shape != (indices.shape[1], *shape[len(indices) :]):
            raise ValueError("a sparse tensor whose indices and values differ in number")
        reading.allow(shape, values.dtype)
        dense = np.zeros((1, *shape), values.dtype)
        np.add.at(dense, (0, *indices), values)
        return dense[0]


@dataclass(frozen=True, eq=False)
class Compressed(Tensor):
    """Sparse by rows or columns of numbers or of blocks (CSR, CSC, BSR, BSC), after batch axes."""

    layout: str
    pointers: Tensor
    indices: Tensor
    values: Tensor
    shape: tuple[int, ...]

    def array(self, reading: Reading) -> Array:
        pointers, indices, values = (
            each.array(reading) for each in (self.pointers, self.indices, self.values)
        )
        shape, batch = _shape(self.shape), pointers.shape[:-1]
        after = values.shape[len(batch) + 1 :]
        in_blocks = self.layout in ("sparse_bsr", "sparse_bsc")
        block, dense = (after[:2], after[2:]) if in_blocks else ((1, 1), after)
        rows, columns = shape[len(batch) : len(batch) + 2]
        if shape != (*batch, rows, columns, *dense):
            raise ValueError("a sparse tensor whose values do not fit its shape")
        reading.allow(shape, values.dtype)
        high, wide = block
        grid = (math.prod(batch), rows // high, high, columns // wide, wide, *dense)
        found = np.zeros(grid, values.dtype)
        of_blocks = found.swapaxes(2, 3)
        entries = indices.shape[-1]
        for place, counts, others, blocks in zip(
            of_blocks,
            np.diff(pointers.reshape(-1, pointers.shape[-1])),
            indices.reshape(-1, entries),
            values.reshape(-1, entries, *block, *dense),
            strict=True,
        ):
            own = np.repeat(np.arange(len(counts)), counts)
            if len(own) != entries or (others < 0).any():
                raise ValueError("a sparse tensor with indices that are none")
            by_rows = self.layout in ("sparse_csr", "sparse_bsr")
            place[(own, others) if by_rows else (others, own)] = blocks
        return found.reshape(shape)


@dataclass(frozen=True, eq=False)
class Valueless(Tensor):
    """A tensor that has no numbers in the file, or none that are read; ``why`` says so."""

    why: str

    def array(self, reading: Reading) -> Array:
        raise NotWeights(self.why)


def persistent(sizes: dict[str, tuple[Kind, int]]) -> Callable[[Any], Storage]:
    """Makes storages of persistent ids, and takes down how large each is."""

    def storage(identifier):
        match identifier:
            case ("module", *_):
                raise NotAllowed("a module")
            case ("storage", Kind() as kind, str(key), _, int(size), *view):
                if sizes.setdefault(key, (kind, size)) != (kind, size):
                    raise ValueError(f"storage {key} has two sizes")
                match view:
                    case [] | [None]:
                        return Storage(key, kind, size, 0)
                    case [(_, int(start), int(_))]:
                        return Storage(key, kind, size, start)
        raise ValueError("a persistent id that is no storage")

    return storage


def _shape(shape: Any) -> tuple[int, ...]:
    if len(shape) > 64 or not all(isinstance(n, int) and 0 <= n < 2**63 for n in shape):
        raise ValueError("a tensor with a shape that is none")
    return tuple(shape)


def _along(number: Any, reading: Reading) -> Array:
    """A scale or a zero point, or those of all channels, in float32."""
    found = number.array(reading) if isinstance(number, Tensor) else number
    return np.asarray(found, np.float32)


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *others: Any) -> Strided:
    """Stands for the functions that rebuild tensors; gradients and hooks are dropped."""
    _, _, *others = (*others, None, None)
    kind = storage.kind
    if others and isinstance(others[0], Kind):
        kind, *others = others
    bits = others[0] if others and isinstance(others[0], dict) else {}
    return Strided(
        storage, kind, offset, shape, strides, bool(bits.get("conj")), bool(bits.get("neg"))
    )


def _quantized(
    storage: Storage, offset: int, shape: tuple, strides: tuple, parameters: tuple, *_: Any
) -> Quantized:
    integers = Strided(storage, storage.kind, offset, shape, strides)
    return Quantized(integers, *parameters[1:])


def _sparse(layout: Any, parts: tuple) -> Tensor:
    match layout, parts:
        case "torch.sparse_coo", (Tensor() as indices, Tensor() as values, shape, *_):
            return Coordinates(indices, values, shape)
        case str(), (Tensor() as pointers, Tensor() as indices, Tensor() as values, shape):
            return Compressed(layout.removeprefix("torch."), pointers, indices, values, shape)
    raise ValueError("a sparse tensor of no known layout")


def _subclass(function: Callable, _: Any, arguments: tuple, *__: Any) -> Any:
    """Stands for what rebuilds a tensor that has attributes, or a class of its own."""
    return function(*arguments)


def _data(data: Any = None, *_: Any) -> Any:
    """Stands for the functions that make a parameter, a size or a tensor elsewhere of something."""
    return data


def _nothing(*_: Any) -> None:
    """Stands for what accompanies weights and is dropped."""


def _valueless(why: str) -> Callable[..., Valueless]:
    return lambda *_: Valueless(why)


#: PyTorch's dtypes and the classes of their storages. Those that NumPy does not have are counted in
#: bytes, and not read.
_KINDS = {
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

#: All that a pickle may name, and what takes its place: what ``torch.load(weights_only=True)``
#: reads, and what trainings keep beside it.
ALLOWED = {
    "collections.OrderedDict": ordered_dict,
    "collections.Counter": ordered_dict,
    "collections.defaultdict": lambda *_: {},
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": _valueless("a nested tensor, which is not read"),
    "torch._utils._rebuild_meta_tensor_no_storage": _valueless(
        "of the meta device, without values"
    ),
    "torch._utils._rebuild_wrapper_subclass": _valueless("a wrapper of tensors, without values"),
    "torch._utils._rebuild_parameter": _data,
    "torch._utils._rebuild_parameter_with_state": _data,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _data,
    "torch._utils._rebuild_device_tensor_from_numpy": _valueless("an array, which is not read"),
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.nn.parameter.Parameter": _data,
    "torch.serialization._get_layout": _data,
    "torch.Size": _data,
    "torch.Tensor": _valueless("of PyTorch before 0.2, which is not read"),
    **{f"torch.{name}": Kind(name, np.dtype(dtype)) for name, (dtype, _) in _KINDS.items()},
    **{
        f"{device}.{storage}Storage": Kind(name, np.dtype(dtype))
        for name, (dtype, storage) in _KINDS.items()
        if storage
        for device in _DEVICES
    },
    "torch.storage.UntypedStorage": Kind("uint8", np.dtype(np.uint8)),
    "torch.storage.TypedStorage": _nothing,
    **{
        f"{device}{sparse}.{storage}Tensor": _valueless("of PyTorch before 0.2, which is not read")
        for _, storage in _KINDS.values()
        if storage
        for device in _DEVICES
        for sparse in ("", ".sparse")
    },
    # Arguments, scores and states of the training that stand beside the weights.
    **{
        f"torch.per_{what}": _nothing
        for what in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")
    },
    "torch.per_channel_affine_float_qparams": _nothing,
    "torch.device": _nothing,
    "argparse.Namespace": _nothing,
    "_codecs.encode": _nothing,
    **{f"builtins.{name}": _nothing for name in ("set", "frozenset", "bytearray", "complex")},
    **{f"builtins.{name}": _nothing for name in ("bool", "dict", "float", "int", "list", "str")},
    "numpy.dtype": _nothing,
    "numpy.ndarray": _nothing,
    **{
        f"numpy.{core}.multiarray.{name}": _nothing
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    },
}
