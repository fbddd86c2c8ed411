"""Randomly changed files of torch.save are read, or refused in one line, in bounded memory."""

import resource
from collections import OrderedDict

import numpy as np
import pytest
from pytorch_files import Call, Global, Storage, archive, legacy, pickled, read_tensors, tensor
from test_weights import Tiny, tensors

from jaxhash.models import load_weights
from jaxhash.utils.errors import UserError

FLOATS, INDICES = np.arange(6, dtype=np.float32), np.array([0, 1, 3, 0, 1, 1])
REBUILD = Global("torch._utils._rebuild_tensor_v2")


def layout(name):
    return Call(Global("torch.serialization._get_layout"), (f"torch.sparse_{name}",))


def rebuilt(function, *arguments):
    return Call(Global(f"torch._utils.{function}"), arguments)


def size(*shape):
    return Call(Global("torch.Size"), (shape,))


def everything():
    """Returns one tensor of each kind, and values beside them."""
    floats = tensor(FLOATS, (2, 3), (3, 1), key="f")
    indices = tensor(INDICES, (2, 3), (3, 1), key="i")
    triple = tensor(FLOATS, (3,), (1,), key="f")
    pointers = tensor(INDICES, (3,), (1,), key="i")
    integers = Storage("q", np.arange(6, dtype=np.int8))
    scheme = Global("torch.per_tensor_affine")
    weights = {name: tensor(array, key=name) for name, array in tensors().items()}
    return {
        "state_dict": OrderedDict(weights),
        "odd": {
            "expanded": tensor(FLOATS, (4, 3), (0, 1), key="f"),
            "parameter": rebuilt("_rebuild_parameter", floats, True, OrderedDict()),
            "coo": rebuilt("_rebuild_sparse_tensor", layout("coo"), (indices, triple, size(4, 2))),
            "csr": rebuilt(
                "_rebuild_sparse_tensor", layout("csr"), (pointers, pointers, triple, size(2, 4))
            ),
            "bits": rebuilt(
                "_rebuild_tensor_v2", Storage("f", FLOATS), 0, (2,), (1,), False, {}, {"neg": True}
            ),
            "quantized": rebuilt(
                "_rebuild_qtensor", integers, 0, (2, 3), (3, 1), (scheme, 0.5, 2), False, {}
            ),
            "subclass": Call(
                Global("torch._tensor._rebuild_from_type_v2"),
                (REBUILD, Global("torch.Tensor"), (Storage("f", FLOATS), 0, (2,), (1,)), {}),
            ),
            "new": rebuilt(
                "_rebuild_tensor_v3",
                *(Storage("q", integers.numbers), 0, (2,), (1,), False, {}),
                Global("torch.float8_e5m2"),
            ),
        },
        "beside": [Call(Global("collections.Counter"), ({3: 1},)), {(1, (2,)): 3.5}, {1}, b"abc"],
    }


def changed(content, rng):
    """Applies up to four changes: replaced, removed, inserted or copied bytes."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        start, other = sorted(rng.integers(0, len(content), 2))
        length = int(rng.integers(1, 12))
        match rng.integers(6):
            case 0:
                content[start] ^= 1 << rng.integers(8)
            case 1:
                content[start] = rng.integers(256)
            case 2:
                del content[start : start + length]
            case 3:
                content[start:start] = content[other : other + length]
            case 4:
                content[start : start + length] = rng.bytes(length)
            case 5:
                content[start:start] = content[start:other] if len(content) < 10**6 else b""
    return bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("seed", range(2))
def test_changed_files(tmp_path, protocol, seed):
    rng, path = np.random.default_rng([seed, protocol]), tmp_path / "weights"
    stream, storages = pickled(everything(), protocol)
    older, _ = pickled(everything(), protocol, legacy=True)
    whole = [archive(stream, storages), legacy(older, storages, protocol)]
    for content in whole:
        path.write_bytes(content)
        assert len(read_tensors(path)) == len(tensors()) + 8
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = []
    for number in range(1250):
        match number % 4:
            case 0:
                content = archive(changed(stream, rng), storages)
            case 1:
                content = legacy(changed(older, rng), storages, protocol)
            case kind:
                content = changed(whole[kind - 2], rng)
        path.write_bytes(content)
        for read in (read_tensors, lambda path: load_weights(path, Tiny(), leave_out="classifier")):
            try:
                read(path)
                outcomes.append("read")
            except UserError as error:
                assert str(error).startswith(str(path)) and str(error).isprintable()
                assert len(str(error)) < 2000
                outcomes.append("refused")
    assert {"read", "refused"} == set(outcomes)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in KiB on Linux
    assert grown < 2 * 2**20
