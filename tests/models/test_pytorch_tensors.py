"""Everything that ``torch.load(weights_only=True)`` reads is read, with torch as oracle."""

import collections

import jax.numpy as jnp
import numpy as np
import pytest
from pytorch_files import read_tensors

from jaxhash.utils.errors import UserError

torch = pytest.importorskip("torch", reason="torch writes the files of these tests")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

#: Those that NumPy or ml_dtypes have, and torch can make of numbers.
DTYPES = [
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"),
    *("bool", "complex64", "complex128", "uint16", "uint32", "uint64"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def as_numpy(value):
    """Returns the dense values of a tensor, in its own dtype."""
    value = value.detach()
    if value.is_quantized:
        value = value.dequantize()
    if value.layout != torch.strided:
        value = value.to_dense()
    value = value.resolve_conj().resolve_neg()
    name = str(value.dtype).removeprefix("torch.")
    if name == "bfloat16" or name.startswith("float8"):
        bits = torch.int16 if name == "bfloat16" else torch.uint8
        return value.contiguous().view(bits).numpy().view(jnp.dtype(name))
    return value.numpy()


def check(path, content, **options):
    """Checks that the file is read as torch reads it."""
    torch.save(content, path, **options)
    newer = options.get("pickle_protocol", 2) > 2  # which torch.load(weights_only=True) refuses
    expected = torch.load(path, weights_only=not newer)
    found = read_tensors(path)
    assert list(found) == [name for name, value in expected.items() if torch.is_tensor(value)]
    for name, array in found.items():
        wanted = as_numpy(expected[name])
        assert array.dtype == wanted.dtype and array.shape == wanted.shape, name
        np.testing.assert_array_equal(array, wanted, err_msg=name)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_dtypes(tmp_path, protocol):
    numbers = random(4, 6).abs() * 20
    content = {}
    for name in filter(lambda name: hasattr(torch, name), DTYPES):
        whole = numbers.to(getattr(torch, name))
        content |= {name: whole, f"{name} part": whole[1:3, ::2], f"{name} turned": whole.T}
        content |= {f"{name} row": whole[0].expand(3, 6), f"{name} scalar": whole[2, 3]}
    check(tmp_path / "weights", content, pickle_protocol=protocol)


def test_views_that_overlap_or_repeat(tmp_path):
    numbers = random(12)
    content = {
        "expanded": numbers[:3].expand(5, 3),
        "expanded scalar": numbers[0].expand(2, 2),
        "windows": numbers.unfold(0, 4, 2),
        "diagonal": numbers[:9].reshape(3, 3).diagonal(),
        "empty": numbers[:0].reshape(0, 7),
        "expanded empty": torch.empty(1, 0).expand(4, 0),
        "many axes": numbers.reshape((1,) * 30 + (12,) + (1,) * 30),
    }
    check(tmp_path / "weights", content)
    check(tmp_path / "weights", content, _use_new_zipfile_serialization=False)


def test_conjugate_and_negative_bits(tmp_path):
    """These bits are not part of the storage."""
    numbers = torch.complex(random(3, 4), random(3, 4, seed=1))
    check(tmp_path / "weights", {"a": numbers.conj(), "turned": numbers.T.conj()})
    assert numbers.conj().is_conj() and numbers.conj().imag.is_neg()
    for zipped in (True, False):
        content = {"a": numbers.conj().imag, "part": numbers[:2].conj().imag, "real": numbers.real}
        check(tmp_path / "weights", content, _use_new_zipfile_serialization=zipped)


def test_parameters_buffers_and_attributes(tmp_path):
    parameter, tensor = torch.nn.Parameter(random(3)), random(4)
    parameter.note, tensor.note = "kept by PyTorch", {"depth": 3}
    content = {
        "parameter": torch.nn.Parameter(random(2, 2)),
        "with attributes": parameter,
        "tensor with attributes": tensor,
        "buffer": getattr(torch.nn, "Buffer", torch.nn.Parameter)(random(3)),
        "frozen": torch.nn.Parameter(random(2), requires_grad=False),
    }
    check(tmp_path / "weights", content)


def test_sparse_tensors(tmp_path):
    dense = random(4, 6) * (random(4, 6, seed=1) > 0.5)
    batch = torch.stack([torch.eye(4), torch.eye(4).flip(0) * 2, 3 * torch.eye(4).roll(1, 0)])
    indices = torch.tensor([[0, 2, 0], [1, 0, 1]])
    content = {
        "coo": dense.to_sparse(),
        "coo of one axis": dense.to_sparse(1),
        "added up": torch.sparse_coo_tensor(indices, torch.tensor([1.0, 2.0, 4.0]), (3, 2)),
        "hybrid": torch.sparse_coo_tensor(indices[:1], random(3, 5), (4, 5)),
        "none": torch.sparse_coo_tensor(torch.empty(2, 0, dtype=int), torch.empty(0), (2, 3)),
        "half": dense.bfloat16().to_sparse(),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((2, 3)),
        "bsc": dense.to_sparse_bsc((2, 3)),
        "batch csr": batch.to_sparse_csr(),
        "batch csc": batch.to_sparse_csc(),
    }
    check(tmp_path / "weights", content)
    check(tmp_path / "weights", content, _use_new_zipfile_serialization=False)


def test_quantized_tensors(tmp_path):
    numbers, scales, zeros = random(3, 4), torch.tensor([0.1, 0.2, 0.7]), torch.tensor([0, 3, -2])
    whole = torch.quantize_per_tensor(numbers, 0.05, 7, torch.quint8)
    content = {
        "whole": whole,
        "signed": torch.quantize_per_tensor(numbers, 0.03, -1, torch.qint8),
        "wide": torch.quantize_per_tensor(numbers, 1e-3, 0, torch.qint32),
        "part": whole[1:, 2:],
        "channels": torch.quantize_per_channel(numbers, scales, zeros, 0, torch.qint8),
        "columns": torch.quantize_per_channel(numbers.T, scales, zeros, 1, torch.qint8),
    }
    torch.save(content, tmp_path / "weights")
    found = read_tensors(tmp_path / "weights")
    for name, value in content.items():
        np.testing.assert_allclose(found[name], value.dequantize().numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("zipped", [True, False])
def test_values_beside_tensors(tmp_path, zipped):
    optimizer = torch.optim.SGD([torch.nn.Parameter(random(2))], lr=0.1, momentum=0.9)
    optimizer.param_groups[0]["params"][0].sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5, 5])
    beside = {
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "keys": {(1, ("a", 2)): 3.0, None: 1, True: 2, 1.5: 3, b"k": 4, complex(1, 2): 5},
        "more keys": {torch.float32: 1, torch.device("cpu"): 2, torch.Size([1]): random(2)},
        "a tensor as a key": {random(1): 2},
        "containers": [{1, 2}, set(), (), [], bytearray(b"abc"), b"abc", collections.Counter("ab")],
        "torch": [torch.float16, torch.strided, torch.device("cuda", 1), torch.per_tensor_affine],
        "numbers": [2**80, -(2**70), float("nan"), 1 + 2j, "é" * 70_000, b"\xff" * 300],
        "storages": [torch.FloatStorage([1.0])] + [torch.UntypedStorage(4)] * zipped,
        "generator": torch.Generator().get_state(),
    }
    path = tmp_path / "weights"
    torch.save(
        beside | {"state_dict": {"a": random(2)}}, path, _use_new_zipfile_serialization=zipped
    )
    torch.load(path, weights_only=True)
    np.testing.assert_array_equal(read_tensors(path)["state_dict.a"], random(2).numpy())


@pytest.mark.parametrize("name", ["complex32", "float4_e2m1fn_x2", "bits16", "quint4x2"])
def test_numbers_that_no_array_can_hold(tmp_path, name):
    """They are refused by name when read, and do not affect other tensors."""
    if not hasattr(torch, name):
        pytest.skip(f"this torch has no {name}")
    if name == "quint4x2":
        numbers = torch.quantize_per_channel(
            random(2, 4), torch.ones(2), torch.zeros(2), 0, torch.quint4x2
        )
    else:
        numbers = torch.zeros(2, 4, dtype=torch.int64).view(getattr(torch, name))
    path = tmp_path / "weights"
    torch.save({"odd": numbers, "a": random(2)}, path)
    torch.load(path, weights_only=True)
    with pytest.raises(UserError, match=f"weights: odd: in {name}, which is not read$"):
        read_tensors(path)


def test_tensors_without_numbers(tmp_path):
    path = tmp_path / "weights"
    for value, why in {
        "meta": (torch.empty(2, device="meta"), "without values"),
        "nested": (torch.nested.nested_tensor([random(2), random(3)]), "nested tensor"),
    }.values():
        torch.save({"odd": value}, path)
        torch.load(path, weights_only=True)
        with pytest.raises(UserError, match=f"weights: odd: .*{why}"):
            read_tensors(path)


def test_archives_of_other_programs(tmp_path):
    """Archives without checksums, repacked, or with trailing bytes; torch reads them all."""
    import zipfile

    path, content = tmp_path / "weights", {"a": random(50)}
    if hasattr(torch.serialization, "set_crc32_options"):
        torch.serialization.set_crc32_options(False)
        try:
            check(path, content)
        finally:
            torch.serialization.set_crc32_options(True)
    torch.save(content, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "p", "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    for raw in ((tmp_path / "p").read_bytes(), whole + b"more"):
        path.write_bytes(raw)
        expected = torch.load(path, weights_only=True)["a"].numpy()
        np.testing.assert_array_equal(read_tensors(path)["a"], expected)
