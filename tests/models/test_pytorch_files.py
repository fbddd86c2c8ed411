"""Files of torch.save, written here without torch, by torch where it is there, and by attackers.

`pickle` itself is the control: what is refused here is run by it.
"""

import argparse
import copyreg
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxhash.errors import UserError
from jaxhash.models._tensors import read_tensors

DEEP = 200_000  # a tuple so deep ends the process when it is hashed

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
}


class Global(NamedTuple):
    """Pickled as a class or function of this name, which need not exist."""

    name: str

    def __call__(self):
        raise AssertionError("only its name is written")


class Call(NamedTuple):
    """Pickled as what the call would return, with a state where one is given."""

    function: Any
    arguments: tuple
    state: Any = None


class Storage(NamedTuple):
    """Pickled as a persistent id, with a view of the older format where one is given."""

    key: str
    numbers: np.ndarray
    view: tuple | None = None


class Pickler(pickle._Pickler):
    """Writes the above, and takes down the storages."""

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
    """A tensor on a storage of these numbers."""
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
    """The format since PyTorch 1.6 around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        opened.writestr("resnet/data.pkl", stream)
        for key, numbers in storages.items():
            opened.writestr(f"resnet/data/{key}", numbers.tobytes())
        for name, content in dict(entries).items():
            opened.writestr(f"resnet/{name}", content)
    return file.getvalue()


def legacy(stream, storages, protocol=2):
    """The format before that."""
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


@pytest.fixture
def read(tmp_path):
    """Reads the tensors of a file of these bytes."""

    def run(content):
        path = tmp_path / "weights.bin"
        path.write_bytes(content)
        return read_tensors(path)

    return run


@pytest.fixture
def refused(read, tmp_path):
    """Why a file of these bytes is refused: one line that names it."""

    def run(content):
        with pytest.raises(UserError) as error:
            read(content)
        said, start = str(error.value), f"{tmp_path / 'weights.bin'}: "
        assert said.startswith(start) and said.isprintable() and len(said) < len(start) + 400
        return said.removeprefix(start)

    return run


kinds = pytest.mark.parametrize("kind", ["archive", "legacy"])


def same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


# What is read.


@kinds
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_dtype(read, kind, protocol):
    numbers = np.array([[0, 1, 2], [3, 4, 100]])
    arrays = {name: numbers.astype(jnp.dtype(name)) for name in STORAGES}
    content = OrderedDict((name, tensor(array, key=name)) for name, array in arrays.items())
    same(read(saved(content, kind, protocol)), arrays)


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
    same(found, expected)
    assert np.shares_memory(found["rows"], found["columns"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_strides(tmp_path_factory, data):
    """What fits is what NumPy makes of it; the rest is refused."""
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
    fits = min(strides, default=0) >= 0 and 0 <= offset <= 16 and len(indices) <= 16
    if fits and max(indices, default=0) < 16:
        assert read_tensors(path)["a"].reshape(-1).tolist() == indices
    else:
        with pytest.raises(UserError):
            read_tensors(path)


def test_the_bytes_of_another_machine(read):
    numbers = {"a": np.array([1.5, -2.0], np.float32), "b": np.array([3, 4], jnp.bfloat16)}
    content, _ = pickled({name: tensor(array, key=name) for name, array in numbers.items()})
    swapped = {name: array.view(f"u{array.itemsize}").byteswap() for name, array in numbers.items()}
    same(read(archive(content, swapped, entries={"byteorder": "big"})), numbers)
    straight = {"byteorder": "little", "version": "3\n"}
    same(read(archive(content, numbers, entries=straight)), numbers)


def test_views_of_old_checkpoints(read):
    """A storage may be a part of another, and Python 2 gave an OrderedDict its items as a list."""
    numbers = np.arange(10, dtype=np.float32)
    old = Global("torch._utils._rebuild_tensor")
    part = Call(old, (Storage("7", numbers, ("8", 4, 6)), 1, (2, 2), (2, 1)))
    whole = Call(old, (Storage("7", numbers), 0, (10,), (1,)))
    pairs = Call(Global("collections.OrderedDict"), ([["part", part], ["whole", whole]],))
    same(
        read(saved(pairs, "legacy")),
        {"part": np.array([[5, 6], [7, 8]], np.float32), "whole": numbers},
    )


@kinds
def test_what_stands_around_the_tensors(read, kind):
    """Parameters, attributes of a state dict, sizes, arguments and scores of a training."""
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
        same(read(saved(checkpoint | {wrapper: weights}, kind)), {"fc.weight": numbers})


def test_a_prefix_of_all_names_is_taken_off(read):
    a, b = (tensor(np.ones(1, np.float32)) for _ in range(2))
    assert list(read(saved({"_orig_mod.module.a": a, "_orig_mod.module.b": b}))) == ["a", "b"]
    assert list(read(saved({"module.a": a, "b": b}))) == ["module.a", "b"]


# What is no state dict.


def test_what_is_no_state_dict(refused):
    one = tensor(np.ones(1, np.float32))
    assert refused(saved(one)) == "holds no state dict: save model.state_dict()"
    assert refused(saved({"teacher": {"a": one}, "epoch": 1})) == (
        "holds no tensors by name, nor under one of state_dict, model_state_dict, model, "
        "but 'teacher', 'epoch'"
    )
    assert refused(saved({})).endswith("but nothing")
    assert refused(saved({"model": {"a": one}, "state_dict": {"a": one}})) == (
        "holds several state dicts: state_dict, model"
    )
    itself = {}
    itself["model"] = itself
    assert "holds no tensors" in refused(saved(itself))


def test_a_whole_model(refused):
    resnet = Call(Global("torchvision.models.resnet.ResNet"), (), {"_modules": OrderedDict()})
    layers = {"model": resnet, "conv": Call(Global("torch.nn.modules.conv.Conv2d"), ())}
    assert refused(saved(layers)) == (
        "holds torchvision.models.resnet.ResNet, which weights have no need of; nothing of it was "
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


# What attacks.


def hostile(marker):
    """Pickles that make a file when `pickle` loads them."""
    command = f"Vtouch {marker}\n".encode()
    python = f"Vopen('{marker}', 'w')\n".encode()
    system = b"cos\nsystem\n"
    mapped = b"cbuiltins\nmap\n" + system + b"(" + command + b"l\x86\x81"  # map(system, [command])
    in_dict = b"\x80\x02ccollections\nOrderedDict\n)R"
    return {
        "os.system": b"cos\nsystem\n(" + command + b"tR.",
        "posix.system": b"\x80\x02cposix\nsystem\n" + command + b"\x85R.",
        "builtins.eval": b"\x80\x03cbuiltins\neval\n" + python + b"\x85R.",
        "builtins.exec": b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93" + python + b"\x85R.",
        "builtins.getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vos\ntRVsystem\ntR("
        + command
        + b"tR.",
        "shutil.os.system": b"\x80\x04\x8c\x06shutil\x8c\x09os.system\x93" + command + b"\x85R.",
        "builtins.tuple": b"\x80\x02cbuiltins\ntuple\n" + mapped + b"\x85\x81.",
        "newobj_ex": b"\x80\x04cbuiltins\ntuple\n" + mapped + b"\x85}\x92.",
        "inst": b"(" + command + b"ios\nsystem\n.",
        "obj": b"(" + system + command + b"o.",
        "extension": b"\x80\x02\x82\xee" + command + b"\x85R.",
        "in a state dict": in_dict + b"Va\n" + system + command + b"\x85Rs.",
        "in the state of an object": in_dict + b"}Va\n" + system + command + b"\x85Rsb.",
    }


@kinds
@pytest.mark.parametrize("attack", hostile(None))
def test_nothing_of_a_pickle_is_run(refused, tmp_path, kind, attack):
    marker = tmp_path / "run"
    stream = hostile(marker)[attack]
    copyreg.add_extension("posix", "system", 0xEE)
    try:
        said = refused(archive(stream, {}) if kind == "archive" else legacy(stream, {}))
        assert not marker.exists()
        pickle.loads(stream)
        assert marker.exists()  # the attack is one
    finally:
        copyreg.remove_extension("posix", "system", 0xEE)
        copyreg.clear_extension_cache()
    if attack not in ("inst", "obj", "extension"):
        assert said.startswith("holds ") and said.endswith("nothing of it was run")
    if "." in attack:
        assert f"holds {attack}, which" in said


@kinds
@pytest.mark.parametrize("part", range(5))
def test_no_pickle_of_the_older_format_is_run(refused, tmp_path, kind, part):
    """Magic number, version, machine, object and keys are pickles each."""
    attack = hostile(tmp_path / "run")["os.system"]
    parts = [pickle.dumps(found, 2) for found in (0x1950A86A20F9469CFC6C, 1001, {}, {}, [])]
    parts[part] = attack
    refused(b"".join(parts))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name",
    [
        "torch._utils.os.system",
        "torch._utils._rebuild_tensor_v2.__globals__",
        "collections.OrderedDict.__init__",
        "torch.FloatStorage.__class__",
        "torch.storage._load_from_bytes",
        "jaxhash.models._pytorch._tensor",
    ],
)
def test_only_listed_names_are_known(refused, name):
    assert f"holds {name}, which" in refused(saved({"a": Global(name)}))
    assert f"holds {name}, which" in refused(saved({"a": Global(name)}, protocol=4))


def test_names_cannot_write_to_the_terminal(refused):
    assert "\\x1b[2J" in refused(saved({"a": Global("os.\x1b[2J")}, protocol=4))
    assert refused(saved({"a": Global("os." + "x" * 9999)}, protocol=4)).endswith("...")


def test_a_pickle_leaves_nothing_behind(read, refused):
    """It may give state to what is listed; none of it stays for the next file."""
    good = {"a": tensor(np.arange(4, dtype=np.float32), (2, 2), (2, 1))}
    defaults = pickled((None, {"__defaults__": (1, 2), "__dict__": {}}))[0][2:-1]
    for name in (b"torch._utils\n_rebuild_tensor_v2", b"collections\nOrderedDict"):
        stream = b"\x80\x02c" + name + b"\n" + defaults + b"b0}."
        assert "holds no tensors" in refused(archive(stream, {}))
        same(read(saved(good)), {"a": np.array([[0, 1], [2, 3]], np.float32)})


def bombs():
    """Small pickles that end a process, fill the memory, or break rules, by what they do."""
    return {
        "deep tuple as a key": b"})" + b"\x85" * DEEP + b"K\x01s.",
        "memo": b"}r\xff\xff\xff\xff.",
        "text": b"\x8d" + struct.pack("<Q", 2**60) + b"a.",
        "integer": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"a.",
        "digits": b"L" + b"9" * 100_000 + b"L\n.",
        "frame": b"\x95" + struct.pack("<Q", 2**60) + b"}.",
        "no stack": b"R.",
        "no mark": b"}u.",
        "no end": b"}",
        "no memo": b"h\x07.",
        "call of a number": b"K\x01)R.",
        "call of a dtype": b"ctorch\nFloatStorage\n)R.",
        "items of a tuple": b")K\x01a.",
        "a list as a key": b"}]K\x01s.",
        "odd number of items": b"}(K\x01u.",
        "persistent id of a number": b"K\x01Q.",
        "storage of another kind": b"(Vstorage\nVfloat32\nV0\nVcpu\nK\x01tQ.",
        "persistent id in protocol 0": b"Pstorage\n.",
        "buffer of elsewhere": b"\x97.",
        "set": b"\x8f.",
    }


@pytest.mark.parametrize("bomb", bombs())
def test_bombs(refused, bomb):
    refused(archive(b"\x80\x02" + bombs()[bomb], {}))


def test_keys_are_plain(refused):
    """A tuple is none, however deep: in each way to make a dict, and in the list of storages."""
    call = b"ccollections\nOrderedDict\n]()K\x01\x86e\x85R."
    for stream in (b"})K\x01s.", b"}()K\x01u.", b"()K\x01d.", call):
        assert "a dict with a key of type tuple" in refused(archive(b"\x80\x02" + stream, {}))
    parts = [pickle.dumps(found, 2) for found in (0x1950A86A20F9469CFC6C, 1001, {}, {}, [()])]
    assert "a key of a storage that is no string" in refused(b"".join(parts))


@pytest.mark.parametrize("part", range(5))
def test_bombs_in_each_pickle_of_the_older_format(refused, part):
    """An object with a text longer than the memory."""
    parts = [pickle.dumps(found, 2) for found in (0x1950A86A20F9469CFC6C, 1001, {}, {}, [])]
    parts[part] = b"\x80\x02)" + b"2\x86" * 60 + b"."
    refused(b"".join(parts))


NUMBERS = np.arange(6, dtype=np.float32)


@kinds
@pytest.mark.parametrize(
    "shape, strides, offset",
    [
        ((7,), (1,), 0),
        ((6,), (1,), 1),
        ((2, 2), (4, 2), 0),
        ((2**40,), (0,), 0),
        ((7,), (0,), 0),
        ((2,), (-1,), 3),
        ((2,), (1,), -1),
        ((-1,), (1,), 0),
        ((2**70, 0), (1, 1), 0),
        ((2**32, 2**32), (0, 0), 0),
        ((2**3_000_000,) * 32, (0,) * 32, 0),  # whose product would take hours
        ((2,), (2**62,), 0),
        ((2,), (1, 1), 0),
        ((1,) * 65, (1,) * 65, 0),
        ((2.0,), (1,), 0),
        ("ab", (1, 1), 0),
        (2, 1, 0),
        ((2,), (1,), None),
    ],
)
def test_tensors_stay_within_their_storage(refused, kind, shape, strides, offset):
    content = {"a": tensor(NUMBERS, shape, strides, offset=offset)}
    assert refused(saved(content, kind)).startswith("broken")


@pytest.mark.parametrize("view", [("8", 6, 2), ("8", -1, 2), ("8", 2**62, 1), ("8",), 3])
def test_views_stay_within_their_storage(refused, view):
    content = {"a": tensor(NUMBERS, (2,), (1,), view=view)}
    assert refused(saved(content, "legacy")).startswith("broken")


def test_storages_that_are_not_there(refused):
    content, storages = pickled({"a": tensor(NUMBERS)})
    older, _ = pickled({"a": tensor(NUMBERS)}, legacy=True)
    for wrong in ({}, {"0": NUMBERS[:-1]}, {"0": np.append(NUMBERS, 0)}, {"1": NUMBERS}):
        assert refused(archive(content, wrong)).startswith("broken")
        assert refused(legacy(older, wrong)).startswith("broken")
    twice = {"a": tensor(NUMBERS), "b": tensor(NUMBERS.astype(np.int32))}
    assert "two sizes" in refused(saved(twice))
    whole = legacy(older, storages)
    assert refused(whole.replace(struct.pack("<q", 6), struct.pack("<q", 5))).startswith("broken")
    negative, _ = pickled({"a": tensor(NUMBERS)}, legacy=True)
    negative = negative.replace(b"K\x06N", b"J\xff\xff\xff\xffN")
    assert refused(legacy(negative, storages)).startswith("broken")


def test_archives_that_lie(refused, tmp_path):
    content, storages = pickled({"a": tensor(np.zeros(1000, np.float32))})
    noise = {"0": np.random.default_rng(0).normal(size=500)}  # as many bytes
    assert "compressed" in refused(archive(content, noise, compression=zipfile.ZIP_DEFLATED))
    whole = archive(content, storages)
    start = whole.index(bytes(4000))
    assert "CRC" in refused(whole[:start] + b"\x01" + whole[start + 1 :])
    # Many names for the same bytes.
    file = io.BytesIO(whole)
    with zipfile.ZipFile(file, "a") as opened:
        entry = opened.getinfo("resnet/data/0")
        opened.filelist += [entry] * 5
        opened._didModify = True
    assert "larger than the file" in refused(file.getvalue())
    assert refused(archive(content, storages, entries={"byteorder": "middle"})).startswith("broken")
    assert refused(archive(content, storages, entries={"more/data.pkl": b"N."})).startswith(
        "broken"
    )


def test_a_storage_outside_the_archive(refused, read, tmp_path):
    """A key is a name in the archive, never a path on the disk, and nothing is written."""
    (tmp_path / "secret").write_bytes(NUMBERS.tobytes())
    outside = "../../secret"
    content, _ = pickled({"a": tensor(NUMBERS, key=outside)})
    refused(archive(content, {"0": NUMBERS}))
    before = sorted(tmp_path.rglob("*"))
    same(read(archive(content, {outside: NUMBERS + 1})), {"a": NUMBERS + 1})
    assert sorted(tmp_path.rglob("*")) == before


@kinds
def test_cut_off_or_changed_anywhere(read, refused, kind):
    whole = saved({"a": tensor(np.arange(4, dtype=np.int16), (2, 2), (1, 2))}, kind)
    for length in range(0, len(whole), 5):
        refused(whole[:length])
    if kind == "legacy":
        older = whole.replace(pickle.dumps(1001, 2), pickle.dumps(1000, 2))
        assert "another version of the format" in refused(older)
    for position in range(0, len(whole), 2):
        value = 0xFF if position % 4 else whole[position] ^ 1
        changed = whole[:position] + bytes([value]) + whole[position + 1 :]
        try:
            read(changed)
        except UserError as error:
            assert str(error).isprintable()
    if kind == "legacy":
        assert "after the last storage" in refused(whole + b"\x00")


# What PyTorch itself writes.


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
    found = read_tensors(path)
    same(found, {name: as_numpy(value) for name, value in tensors.items()})


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
        name.removeprefix("module."): value.numpy()
        for name, value in checkpoint["state_dict"].items()
    }
    same(read_tensors(path), expected)


def test_published_file(shared_data):
    """Some values and the sum of all, as torch reads them."""
    tensors = read_tensors(shared_data / "weights" / "resnet20-12fca82f.th")
    assert len(tensors) == 97
    np.testing.assert_array_equal(
        tensors["conv1.weight"].reshape(-1)[:2],
        np.array([-0.13818146288394928, -0.1624176800251007], np.float32),
    )
    assert tensors["linear.bias"][-1] == np.float32(-0.27025941014289856)
    total = sum(tensor.sum(dtype=np.float64) for tensor in tensors.values())
    np.testing.assert_allclose(total, 139.7826495598208, rtol=1e-12)
