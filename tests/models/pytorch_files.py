"""Writes files of torch.save without torch."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest


def read_tensors(path):
    """Reads all tensors of a weight file, by path."""
    from jaxhash.models._weight_files import TensorFile  # not above: under type checks

    file = TensorFile(path)
    return {tensor.dotted: file.read(tensor) for tensor in file.tensors}


STORAGES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}


class Global(NamedTuple):
    """A class or function of this name, which need not exist, when pickled."""

    name: str

    def __call__(self):
        raise AssertionError("only its name is written")


class Call(NamedTuple):
    """A call of a function, optionally with a state, when pickled."""

    function: Any
    arguments: tuple
    state: Any = None


class Storage(NamedTuple):
    """A persistent id, optionally with a view of the older format, when pickled."""

    key: str
    numbers: np.ndarray
    view: tuple | None = None


class Pickler(pickle._Pickler):
    """Pickles the classes above, and records the storages."""

    def __init__(self, file, protocol, legacy):
        super().__init__(file, protocol)
        self.legacy, self.storages = legacy, {}

    def reducer_override(self, found):
        match found:
            case Global(name):
                return name
            case Call(function, arguments, None):
                return function, arguments
            case Call(function, arguments, state):
                return function, arguments, state
        return NotImplemented

    def save_global(self, found, name=None):
        if isinstance(found, Global):
            module, _, attribute = found.name.rpartition(".")
        else:
            attribute = found.__qualname__
            module = pickle.whichmodule(found, attribute)
        if self.proto >= 4:
            self.save(module)
            self.save(attribute)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(f"c{module}\n{attribute}\n".encode())
        self.memoize(found)

    def persistent_id(self, found):
        if not isinstance(found, Storage):
            return None
        self.storages[found.key] = found.numbers
        kind = Global(f"torch.{STORAGES[found.numbers.dtype.name]}Storage")
        view = (found.view,) if self.legacy else ()
        return ("storage", kind, found.key, "cpu", found.numbers.size, *view)


def tensor(numbers, shape=None, strides=None, *, offset=0, key="0", view=None):
    """Makes a tensor on a storage of these numbers."""
    numbers = np.asarray(numbers)
    if shape is None:
        shape = numbers.shape
        strides = tuple(stride // numbers.itemsize for stride in numbers.strides)
    storage = Storage(key, numbers.reshape(-1), view)
    return Call(
        Global("torch._utils._rebuild_tensor_v2"),
        (storage, offset, shape, strides, False, OrderedDict()),
    )


def pickled(found, protocol=2, legacy=False):
    file = io.BytesIO()
    pickler = Pickler(file, protocol, legacy)
    pickler.dump(found)
    return file.getvalue(), pickler.storages


def archive(stream, storages, *, entries=(), compression=zipfile.ZIP_STORED):
    """Writes the format since PyTorch 1.6 around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        opened.writestr("resnet/data.pkl", stream)
        for key, numbers in storages.items():
            opened.writestr(f"resnet/data/{key}", numbers.tobytes())
        for name, content in dict(entries).items():
            opened.writestr(f"resnet/{name}", content)
    return file.getvalue()


def legacy(stream, storages, protocol=2):
    """Writes the format before PyTorch 1.6."""
    first = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    parts = [pickle.dumps(found, protocol) for found in first]
    parts += [stream, pickle.dumps(list(storages), protocol)]
    for numbers in storages.values():
        parts += [struct.pack("<q", numbers.size), numbers.tobytes()]
    return b"".join(parts)


def saved(found, kind="archive", protocol=2):
    if kind == "archive":
        return archive(*pickled(found, protocol))
    return legacy(*pickled(found, protocol, legacy=True), protocol)


kinds = pytest.mark.parametrize("kind", ["archive", "legacy"])


def assert_tensors_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
