"""Malicious and damaged files of torch.save.

`pickle` itself is the control: it executes what is refused here.
"""

import copyreg
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from pytorch_files import (
    Global,
    archive,
    assert_tensors_equal,
    kinds,
    legacy,
    pickled,
    saved,
    tensor,
)

from jaxhash.models._unpickler import make_dict, unpickle
from jaxhash.utils.errors import UserError

DEEP = 200_000  # a tuple so deep ends the process when it is hashed


def hostile(marker):
    """Returns pickles that create a file when `pickle` loads them."""
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
def test_pickles_are_not_executed(refused, tmp_path, kind, attack):
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
def test_pickles_of_the_older_format_are_not_executed(refused, tmp_path, kind, part):
    """Magic number, version, machine, object and keys are separate pickles."""
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
def test_unlisted_globals_are_refused(refused, name):
    assert f"holds {name}, which" in refused(saved({"a": Global(name)}))
    assert f"holds {name}, which" in refused(saved({"a": Global(name)}, protocol=4))


def test_names_cannot_write_to_the_terminal(refused):
    assert "\\x1b[2J" in refused(saved({"a": Global("os.\x1b[2J")}, protocol=4))
    assert refused(saved({"a": Global("os." + "x" * 9999)}, protocol=4)).endswith("...")


def test_a_pickle_cannot_change_later_ones(read, refused):
    """A state that it sets on a listed global has no effect on the next file."""
    good = {"a": tensor(np.arange(4, dtype=np.float32), (2, 2), (2, 1))}
    defaults = pickled((None, {"__defaults__": (1, 2), "__dict__": {}}))[0][2:-1]
    for name in (b"torch._utils\n_rebuild_tensor_v2", b"collections\nOrderedDict"):
        stream = b"\x80\x02c" + name + b"\n" + defaults + b"b0}."
        assert "holds no tensors" in refused(archive(stream, {}))
        assert_tensors_equal(read(saved(good)), {"a": np.array([[0, 1], [2, 3]], np.float32)})


def bombs():
    """Returns small pickles that crash, fill the memory, or break rules, by effect."""
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


def test_keys_are_not_hashed(read, refused):
    """A key that is neither string nor number is kept unhashed, and holds no tensors."""
    deep = b")" + b"\x85" * DEEP
    call = b"ccollections\nOrderedDict\n](" + deep + b"K\x01\x86e\x85R."
    for stream in (
        b"}" + deep + b"K\x01s.",
        b"}(" + deep + b"K\x01u.",
        b"(" + deep + b"K\x01d.",
        call,
    ):
        assert "but nothing" in refused(archive(b"\x80\x02" + stream, {}))
    content = {"a": tensor(NUMBERS), (1, ("b", None)): 2, frozenset([1]): 3}
    assert_tensors_equal(read(saved(content, protocol=4)), {"a": NUMBERS})
    parts = [pickle.dumps(found, 2) for found in (0x1950A86A20F9469CFC6C, 1001, {}, {}, [()])]
    assert "a key of a storage that is no string" in refused(b"".join(parts))


def test_small_files_of_many_tensors(refused):
    """A dict holds another dict twice, which holds a third one twice, and so on."""
    one, _ = pickled(tensor(NUMBERS))
    stream = b"\x80\x02}Va\n" + one[2:-1] + b"s"
    for level in range(100, 140):
        again = b"h" + bytes([level])
        stream += b"q" + bytes([level]) + b"0}(Va\n" + again + b"Vb\n" + again + b"u"
    said = refused(archive(stream + b".", {"0": NUMBERS}))
    assert "more tensors, or dicts of them, than any model has" in said
    assert "holds no tensors" in refused(saved({"x" * 1001: tensor(NUMBERS)}))


def test_a_list_of_pairs_makes_one_dict():
    """A pickle could otherwise build it repeatedly, each time with all items."""
    pairs = b"\x80\x02](" + b"".join(b"(Vk%d\nNl" % number for number in range(50)) + b"eq\x010"
    calls = b"(" + b"cdict\ndict\nh\x01\x85R" * 3 + b"l."
    made = unpickle(io.BytesIO(pairs + calls), {"dict.dict": make_dict})
    assert [len(found) for found in made] == [50, 0, 0]


@pytest.mark.parametrize("part", range(5))
def test_bombs_in_each_pickle_of_the_older_format(refused, part):
    """The object has a text longer than the memory."""
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
        ((2,), (-1,), 3),
        ((2,), (1,), -1),
        ((-1,), (1,), 0),
        ((2**70, 0), (1, 1), 0),
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


@kinds
@pytest.mark.parametrize("shape", [(2**40,), (2**32, 2**32), (2**29,)])
def test_expanded_tensors_have_a_bound(refused, kind, shape):
    content = {"a": tensor(NUMBERS, shape, (0,) * len(shape))}
    assert "would take more than 1 GiB" in refused(saved(content, kind))
    several = {name: tensor(NUMBERS, (2**27,), (0,)) for name in "abc"}
    assert "would take more than 1 GiB" in refused(saved(several, kind))


@pytest.mark.parametrize("view", [("8", 6, 2), ("8", -1, 2), ("8", 2**62, 1), ("8",), 3])
def test_views_stay_within_their_storage(refused, view):
    content = {"a": tensor(NUMBERS, (2,), (1,), view=view)}
    assert refused(saved(content, "legacy")).startswith("broken")


def test_missing_storages(refused):
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


def test_archives_with_wrong_sizes(refused, tmp_path):
    content, storages = pickled({"a": tensor(np.zeros(1000, np.float32))})
    cut = archive(content, {"0": np.zeros(999, np.float32)}, compression=zipfile.ZIP_DEFLATED)
    assert "is cut off" in refused(cut)
    whole = archive(content, storages)
    start = whole.index(bytes(4000))
    assert "CRC" in refused(whole[:start] + b"\x01" + whole[start + 1 :])
    # Many names for the same bytes.
    file = io.BytesIO(whole)
    with zipfile.ZipFile(file, "a") as opened:
        entry = opened.getinfo("resnet/data/0")
        entry.file_size = 2**31
        opened.filelist += [entry] * 5
        opened._didModify = True
    assert "far more than the file has" in refused(file.getvalue())
    assert refused(archive(content, storages, entries={"byteorder": "middle"})).startswith("broken")


def test_a_storage_outside_the_archive(refused, read, tmp_path):
    """A key is a name in the archive, never a path on disk, and nothing is written."""
    (tmp_path / "secret").write_bytes(NUMBERS.tobytes())
    outside = "../../secret"
    content, _ = pickled({"a": tensor(NUMBERS, key=outside)})
    refused(archive(content, {"0": NUMBERS}))
    before = sorted(tmp_path.rglob("*"))
    assert_tensors_equal(read(archive(content, {outside: NUMBERS + 1})), {"a": NUMBERS + 1})
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
    if kind == "legacy":  # torch.load reads the first of several objects
        assert_tensors_equal(read(whole + b"\x00"), read(whole))
