"""Weight files of safetensors, NumPy and Keras."""

import json
import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from pytorch_files import read_tensors

from jaxhash.models import _pytorch, _weight_files
from jaxhash.utils.errors import UserError

NUMBERS = np.array([[0, 1, 2], [3, 4, 100]])


def refusal(path):
    with pytest.raises(UserError) as error:
        read_tensors(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ") and said.isprintable()
    return said.removeprefix(f"{path}: ")


def safetensors(path, tensors):
    """Writes the format by hand: length of the header, header in JSON, values."""
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, array) in tensors.items():
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
        content += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


def test_safetensors(tmp_path):
    dtypes = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": jnp.bfloat16, "BOOL": "?"}
    dtypes |= {"I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1"}
    dtypes |= {"U64": "u8", "U32": "u4", "U16": "u2", "C64": "c8"}
    dtypes |= {"F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2}
    tensors = {f"module.{name}": (name, NUMBERS.astype(dtype)) for name, dtype in dtypes.items()}
    tensors["module.scalar"] = ("F32", np.array(1.5, np.float32))
    tensors["module.empty"] = ("F32", np.empty((0, 3), np.float32))
    found = read_tensors(safetensors(tmp_path / "weights", tensors))
    assert list(found) == sorted(tensors)
    for name, (_, array) in tensors.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_safetensors_that_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    monkeypatch.delitem(_weight_files._SAFETENSORS, "F16")  # as any dtype to come
    assert refusal(safetensors(path, {"a": ("F16", np.ones(1, np.float16))})) == (
        "a: in F16, which is not read"
    )
    assert refusal(safetensors(path, {})) == "holds no tensors"
    whole = safetensors(path, {"a": ("I64", NUMBERS)}).read_bytes()
    for length in range(9, len(whole)):
        path.write_bytes(whole[:length])
        assert refusal(path).startswith("broken, or cut off (")


def test_npz(tmp_path):
    path = tmp_path / "weights"
    arrays = {
        "params/head/kernel": NUMBERS.astype(np.float32).T,
        "params/head/half": NUMBERS.astype(np.float16),
        "params/head/brain": NUMBERS.astype(jnp.bfloat16),  # which NumPy does not write as such
        "step": np.array(3),
    }
    for save in (np.savez, np.savez_compressed):
        with path.open("wb") as file:
            save(file, **arrays)
        found = read_tensors(path)
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_archives_that_unpack_to_far_more_are_not_read(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        np.savez_compressed(file, a=np.zeros(10**6), b=NUMBERS)
    assert set(read_tensors(path)) == {"a", "b"}
    monkeypatch.setattr(_pytorch, "max_unpacked_bytes", lambda size: 4 * size)
    assert refusal(path).startswith("unpacks to 8,000,")


def test_npz_that_are_refused(tmp_path):
    path, marker = tmp_path / "weights", tmp_path / "run"
    with path.open("wb") as file:
        np.savez(file, a=np.array([Attack(marker)], object))
    assert refusal(path) == "a: pickled objects, not numbers; nothing of it was run"
    assert not marker.exists()
    for array in (np.array(["text"]), np.ones(2, "V5")):
        with path.open("wb") as file:
            np.savez(file, a=array)
        assert refusal(path) == f"a: its values are {array.dtype}, not numbers"
    with path.open("wb") as file:
        np.savez(file, a=NUMBERS)
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(path).startswith("broken, or cut off (")


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py", reason="h5py writes the files of this test")


def test_keras(h5py, tmp_path):
    path = tmp_path / "weights"
    kernel, bias = NUMBERS.astype(np.float32), np.ones(3, np.float16)
    layers = {"conv1/conv1/kernel:0": kernel, "conv1/conv1/bias:0": bias}
    with h5py.File(path, "w") as file:  # model.save_weights
        for name, array in layers.items():
            file[name] = array
    weights = read_tensors(path)
    with h5py.File(path, "w") as file:  # model.save
        for name, array in layers.items():
            file[f"model_weights/{name}"] = array
        file["optimizer_weights/iterations:0"] = np.array(3)
    model = read_tensors(path)
    with h5py.File(path, "w") as file:
        for name, array in layers.items():
            file.create_dataset(name, data=array, compression="gzip")
    for found, start in ((weights, ""), (read_tensors(path), ""), (model, "model_weights/")):
        assert set(found) == {f"{start}{name}" for name in layers}
        for name, array in layers.items():
            assert found[f"{start}{name}"].dtype == array.dtype
            np.testing.assert_array_equal(found[f"{start}{name}"], array)


def test_keras_files_that_are_refused(h5py, tmp_path):
    path, secret = tmp_path / "weights", tmp_path / "secret"
    secret.write_bytes(bytes(80))
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (10,), "f8", external=[(str(secret), 0, 80)])
    assert refusal(path) == "keeps values in other files, which are not read"
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource(str(secret), "b", (3,))
        file.create_virtual_dataset("a", layout)
    assert refusal(path) == "keeps values in other files, which are not read"
    with h5py.File(path, "w") as file:
        file["elsewhere"] = h5py.ExternalLink(str(secret), "b")
        file["to itself"] = h5py.SoftLink("/")
    assert refusal(path) == "holds no tensors"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (10**12,), "f8", chunks=(1024,))
    assert refusal(path) == "its datasets are far larger than the file: packed, or not stored"
    with h5py.File(path, "w") as file:
        file["a"] = "text"
    assert refusal(path) == "a: its values are object, not numbers"
    with h5py.File(path, "w") as file:
        file["a"] = NUMBERS
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(path).startswith("broken, or cut off (")


def test_keras_files_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "weights").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert refusal(tmp_path / "weights") == ('Keras files need h5py: pip install "jaxhash[keras]"')


def test_missing_files(tmp_path):
    for path in (tmp_path, tmp_path / "weights"):
        assert refusal(path) == "there is no such file"


def test_published_safetensors(shared_data):
    tensors = read_tensors(shared_data / "weights" / "mobilenet_v2.safetensors")
    assert len(tensors) == 262
    assert sum(tensor.size for tensor in tensors.values()) == 3_538_984
    assert tensors["features.0.0.weight"].shape == (32, 3, 3, 3)
    assert tensors["classifier.1.weight"].shape == (1000, 1280)


def test_published_keras_file(h5py, shared_data):
    tensors = read_tensors(shared_data / "weights" / "squeezenet1_1_notop.h5")
    assert len(tensors) == 50
    assert sum(tensor.size for tensor in tensors.values()) == 722_496
    assert tensors["conv1/uniform1"].shape == (3, 3, 3, 64)
    assert tensors["fire2/expand1x1/fire2/expand1x1_b"].shape == (64,)
