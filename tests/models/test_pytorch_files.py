"""Files of torch.save, written without torch, and with torch if it is installed."""

import argparse
import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytorch_files import (
    STORAGES,
    Call,
    Global,
    Storage,
    archive,
    assert_tensors_equal,
    kinds,
    legacy,
    pickled,
    read_tensors,
    saved,
    tensor,
)

from jaxhash.utils.errors import UserError


@kinds
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_dtype(read, kind, protocol):
    numbers = np.array([[0, 1, 2], [3, 4, 100]])
    arrays = {name: numbers.astype(jnp.dtype(name)) for name in STORAGES}
    content = OrderedDict((name, tensor(array, key=name)) for name, array in arrays.items())
    assert_tensors_equal(read(saved(content, kind, protocol)), arrays)


@kinds
def test_strides_offsets_and_shared_storages(read, kind):
    numbers = np.arange(24, dtype=np.float32)
    content = {
        "rows": tensor(numbers, (4, 6), (6, 1)),
        "columns": tensor(numbers, (6, 4), (1, 6)),
        "part": tensor(numbers, (2, 3), (6, 2), offset=7),
        "scalar": tensor(numbers, (), (), offset=5),
        "none": tensor(numbers, (0, 3), (3, 1)),
        "no storage": tensor(numbers[:0], (0,), (1,), key="1"),
    }
    rows = numbers.reshape(4, 6)
    expected = {
        "rows": rows,
        "columns": rows.T,
        "part": rows[1:3, 1::2],
        "scalar": numbers[5],
        "none": np.empty((0, 3), np.float32),
        "no storage": numbers[:0],
    }
    found = read(saved(content, kind))
    assert_tensors_equal(found, expected)
    assert np.shares_memory(found["rows"], found["columns"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_strides(tmp_path_factory, data):
    """Valid strides give NumPy's view; others are refused."""
    shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=3)))
    strides = tuple(data.draw(st.integers(-2, 9)) for _ in shape)
    offset = data.draw(st.integers(-2, 12))
    numbers = np.arange(16, dtype=np.int16)
    path = tmp_path_factory.mktemp("strides") / "weights.pt"
    path.write_bytes(saved({"a": tensor(numbers, shape, strides, offset=offset)}))
    indices = [
        offset + sum(i * stride for i, stride in zip(index, strides, strict=True))
        for index in np.ndindex(shape)
    ]
    fits = min(strides, default=0) >= 0 and 0 <= offset <= 16
    if fits and max(indices, default=0) < 16:
        assert read_tensors(path)["a"].reshape(-1).tolist() == indices
    else:
        with pytest.raises(UserError):
            read_tensors(path)


def test_the_bytes_of_another_machine(read):
    numbers = {"a": np.array([1.5, -2.0], np.float32), "b": np.array([3, 4], jnp.bfloat16)}
    numbers["c"] = np.array([1 - 2j, 3j], np.complex64)
    content, _ = pickled({name: tensor(array, key=name) for name, array in numbers.items()})
    parts = {"a": "u4", "b": "u2", "c": "u4"}  # both parts of a complex number, each on its own
    swapped = {name: array.view(parts[name]).byteswap() for name, array in numbers.items()}
    assert_tensors_equal(read(archive(content, swapped, entries={"byteorder": "big"})), numbers)
    straight = {"byteorder": "little", "version": "3\n"}
    assert_tensors_equal(read(archive(content, numbers, entries=straight)), numbers)


def test_archives_that_a_zip_program_wrote(read):
    """They are compressed, hold a second pickle, or lack checksums."""
    content, storages = pickled({"a": tensor(np.arange(9.0))})
    packed = archive(content, storages, compression=zipfile.ZIP_DEFLATED)
    nested = archive(content, storages, entries={"more/data.pkl": b"N."})
    unchecked = bytearray(archive(content, storages))
    with zipfile.ZipFile(io.BytesIO(unchecked)) as opened:
        for entry in opened.infolist():
            checksum = struct.pack("<I", entry.CRC)
            while checksum in unchecked:
                start = unchecked.index(checksum)
                unchecked[start : start + 4] = bytes(4)
    for whole in (packed, nested, bytes(unchecked)):
        assert_tensors_equal(read(whole), {"a": np.arange(9.0)})


def test_views_of_old_checkpoints(read):
    """A storage may be a part of another; Python 2 pickles an OrderedDict as a list of items."""
    numbers = np.arange(10, dtype=np.float32)
    old = Global("torch._utils._rebuild_tensor")
    part = Call(old, (Storage("7", numbers, ("8", 4, 6)), 1, (2, 2), (2, 1)))
    whole = Call(old, (Storage("7", numbers), 0, (10,), (1,)))
    pairs = Call(Global("collections.OrderedDict"), ([["part", part], ["whole", whole]],))
    assert_tensors_equal(
        read(saved(pairs, "legacy")),
        {"part": np.array([[5, 6], [7, 8]], np.float32), "whole": numbers},
    )


@kinds
def test_values_beside_tensors_are_dropped(read, kind):
    """Covers parameters, attributes of a state dict, sizes, arguments and scores."""
    numbers = np.arange(3, dtype=np.float32)
    parameter = Call(
        Global("torch._utils._rebuild_parameter"), (tensor(numbers), True, OrderedDict())
    )
    weights = OrderedDict({"module.fc.weight": parameter, "module.fc._extra_state": None})
    weights._metadata = OrderedDict({"": {"version": 1}})  # is written as the state of an object
    checkpoint = {
        "epoch": 3,
        "arch": "resnet",
        "best_prec1": np.float64(91.7),
        "args": argparse.Namespace(lr=0.1),
        "device": Call(Global("torch.device"), ("cuda", 0)),
        "shape": Call(Global("torch.Size"), ((3, 4),)),
        "optimizer": {"state": {0: {"momentum_buffer": tensor(numbers)}}},
        "ema_decay": tensor(np.float32(0.9), key="1"),
    }
    for wrapper in ("state_dict", "model_state_dict", "model"):
        expected = {
            "ema_decay": np.array(0.9, np.float32),
            "optimizer.state.0.momentum_buffer": numbers,
            f"{wrapper}.module.fc.weight": numbers,
        }
        assert_tensors_equal(read(saved(checkpoint | {wrapper: weights}, kind)), expected)


def test_names_are_paths(read):
    """Paths pass through dicts and lists in order, by strings and integers."""
    numbers = iter(np.arange(9, dtype=np.float32)[:, None])
    a, b, c, d = (tensor(next(numbers), key=str(key)) for key in range(4))
    content = {"net": {"deep": {"b": b}}, "a": a, 3: [c, {"d": d}], ("no", "name"): a, b"no": b}
    found = read(saved(content))
    assert {name: array.item() for name, array in found.items()} == {
        "a": 0,
        "net.deep.b": 1,
        "3.0": 2,
        "3.1.d": 3,
    }


def test_files_without_a_state_dict(refused):
    one = tensor(np.ones(1, np.float32))
    assert refused(saved(one)) == "holds no state dict: save model.state_dict()"
    assert refused(saved({"teacher": {"a": 1}, "epoch": 1})) == (
        "holds no tensors by name, but 'teacher', 'epoch'"
    )
    assert refused(saved({})).endswith("but nothing")
    assert refused(saved({"a.b": {"c": one}, "a": {"b.c": one}})) == (
        "holds two tensors of one name, a.b.c"
    )
    itself = {}
    itself["model"] = itself
    assert "holds no tensors" in refused(saved(itself))


def test_a_whole_model(refused):
    resnet = Call(Global("torchvision.models.resnet.ResNet"), (), {"_modules": OrderedDict()})
    layers = {"model": resnet, "conv": Call(Global("torch.nn.modules.conv.Conv2d"), ())}
    assert refused(saved(layers)) == (
        "holds torchvision.models.resnet.ResNet, which weights do not need; nothing of it was "
        "run; of a whole model, save model.state_dict() instead"
    )
    # The older format wraps classes in a persistent id, with their source code.
    stream = b"\x80\x02(X\x06\x00\x00\x00moduleNX\x01\x00\x00\x00aX\x01\x00\x00\x00btQ."
    assert "save model.state_dict() instead" in refused(legacy(stream, {}))


def test_a_torchscript_archive(refused):
    content, storages = pickled({"a": tensor(np.ones(1, np.float32))})
    for name in ("constants.pkl", "code/__torch__.py"):
        assert refused(archive(content, storages, entries={name: b"N."})) == (
            "a TorchScript archive, not a state dict: save model.state_dict()"
        )


def test_other_formats(refused):
    tar = bytearray(1024)
    tar[257:262] = b"ustar"
    assert refused(tar) == "a tar, as PyTorch 0.1 wrote: load it there, and save it again"
    unknown = "not weights of PyTorch, safetensors, Keras HDF5 or .npz"
    for content in (b"", b"<html>", b"\x80", pickle.dumps({"a": 1}), pickle.dumps(1, 0)):
        assert refused(content) == unknown
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("model.weights.h5", b"")
    assert refused(file.getvalue()).startswith("a zip that is neither")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch writes the files of this test")


def as_numpy(value):
    import torch

    if value.dtype == torch.bfloat16:
        return value.view(torch.int16).numpy().view(jnp.bfloat16)
    return value.detach().numpy()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_files_of_torch(torch, tmp_path, zipped, protocol):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(4, 6, generator=generator)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    network(torch.randn(2, 3, 5, 5, generator=generator))
    tensors = {
        **network.state_dict(),
        "half": numbers.half(),
        "bfloat16": numbers.bfloat16(),
        "double": numbers.double(),
        "long": (numbers * 9).long(),
        "int": (numbers * 9).int(),
        "short": (numbers * 9).short(),
        "char": (numbers * 9).to(torch.int8),
        "byte": (numbers.abs() * 9).byte(),
        "bool": numbers > 0,
        "scalar": torch.tensor(3),
        "transposed": numbers.T,
        "part": numbers[1:3, ::2],
        "shared": numbers[2:],
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(numbers),
    }
    path = tmp_path / "weights"
    content = {"state_dict": OrderedDict(tensors), "epoch": 3, "best_prec1": torch.tensor(1.0)}
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    expected = {f"state_dict.{name}": as_numpy(value) for name, value in tensors.items()}
    assert_tensors_equal(read_tensors(path), {"best_prec1": np.array(1, np.float32)} | expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_model_of_torch(torch, refused, tmp_path, zipped):
    network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    torch.save(network, tmp_path / "model", _use_new_zipfile_serialization=zipped)
    assert "save model.state_dict() instead" in refused((tmp_path / "model").read_bytes())


def test_a_torchscript_archive_of_torch(torch, refused, tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "model")
    assert refused((tmp_path / "model").read_bytes()).startswith("a TorchScript archive")


@pytest.mark.parametrize("name", ["resnet20-12fca82f.th", "resnet56-4bfd9763.th"])
def test_published_files_as_torch_reads_them(torch, shared_data, name):
    path = shared_data / "weights" / name
    checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    assert set(checkpoint) == {"state_dict", "best_prec1"}
    expected = {
        f"state_dict.{name}": value.numpy() for name, value in checkpoint["state_dict"].items()
    }
    assert_tensors_equal(read_tensors(path), expected)


def test_published_file(shared_data):
    """Compares some values and the sum with those that torch reads."""
    tensors = read_tensors(shared_data / "weights" / "resnet20-12fca82f.th")
    assert len(tensors) == 97
    np.testing.assert_array_equal(
        tensors["state_dict.module.conv1.weight"].reshape(-1)[:2],
        np.array([-0.13818146288394928, -0.1624176800251007], np.float32),
    )
    assert tensors["state_dict.module.linear.bias"][-1] == np.float32(-0.27025941014289856)
    total = sum(tensor.sum(dtype=np.float64) for tensor in tensors.values())
    np.testing.assert_allclose(total, 139.7826495598208, rtol=1e-12)
