"""Arrays of files: mapped where they can be, bounded where they cannot, and one line for the rest."""

import io
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from jaxhash.data.readers import arrays
from jaxhash.data.readers.arrays import read_npy, read_npz
from jaxhash.utils.errors import UserError

ARRAYS = {
    "floats": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "foreign": np.arange(5).astype(">i4"),
    "text": np.array(["a", "Äpfel"]),
    "one": np.array(7),
    "none": np.zeros((0, 4)),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_of_numpy(path, save):
    save(path, **ARRAYS)
    found = read_npz(path, "floats", optional=None)
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=") and found[name].dtype.isnative
    assert set(read_npz(path, "text", optional=["one", "gone"])) == {"text", "one"}


@pytest.mark.parametrize("as_npz", [True, False])
def test_uncompressed_arrays_are_mapped_and_read_only(path, as_npz):
    if as_npz:
        np.savez(path, first=np.arange(9), floats=ARRAYS["floats"], columns=ARRAYS["columns"])
        found = read_npz(path, "floats", "columns")["floats"]
    else:
        np.save(path.with_suffix(".npy"), ARRAYS["floats"])
        found = read_npy(path.with_suffix(".npy"))
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, ARRAYS["floats"])
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1
    content = bytearray(path.with_suffix(".npz" if as_npz else ".npy").read_bytes())
    (start,) = [content.find(ARRAYS["floats"].tobytes())]
    assert found.offset == start


def test_members_whose_own_header_is_longer_than_the_directory_says(path):
    """As other programs write zips: the local header may have fields of its own."""
    content = _npy(np.arange(5, dtype=np.int64))
    with (
        zipfile.ZipFile(path, "w") as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        file.write(content)
    np.testing.assert_array_equal(read_npz(path, "a")["a"], np.arange(5))


def _npy(array, **header):
    """The bytes of a .npy, with some fields of its header replaced."""
    file = io.BytesIO()
    fields = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue() + array.tobytes()


def _zip(path, *members, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name, content)


EIGHT = np.arange(8, dtype=np.int64)


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_npy(EIGHT, shape=(9,)), "72 bytes, and 64 are there"),
        (_npy(EIGHT, shape=(7,)), "56 bytes, and 64 are there"),
        (_npy(EIGHT, shape=(2**62, 4)), "and 64 are there"),  # 0 in 64 bits
        (_npy(EIGHT, shape=(2**40, 2**30)), "and 64 are there"),
        (_npy(EIGHT, shape=(-1, -8)), r"\(-1, -8\)"),
        (_npy(EIGHT[:0], shape=(10**12, 0)), "which is empty"),
        (_npy(EIGHT, descr="|O"), "object"),
        (_npy(EIGHT, descr="<c8"), "complex64, and numbers or text are expected"),
        (_npy(EIGHT, descr="<M8[s]"), "numbers or text"),
        (_npy(EIGHT, descr=[("a", "<i4"), ("b", "<i4")]), "numbers or text"),
        (_npy(EIGHT, descr="|V8"), "numbers or text"),
        (_npy(EIGHT[:0], descr="<U0", shape=(10**12,)), "numbers or text"),
        (b"\x93NUMPY\x03\x00" + _npy(EIGHT)[8:], "version 3.0"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "array 'a' is not readable"),
        (_npy(EIGHT)[:40], "array 'a' is not readable"),
        (b"features", "array 'a' is not readable"),
        (b"", "array 'a' is not readable"),
    ],
)
def test_headers_that_lie(path, kind, content, said):
    _zip(path, ("a.npy", content), kind=kind)
    with pytest.raises(UserError, match=said) as raised:
        read_npz(path, "a")
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    if content.startswith(b"\x93NUMPY"):
        path.with_suffix(".npy").write_bytes(content)
        with pytest.raises(UserError, match="file.npy: not a readable .npy file"):
            read_npy(path.with_suffix(".npy"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("at", [0.5, 0.99])
def test_flipped_bits_and_cuts_are_noticed_in_mapped_arrays_too(path, save, at):
    noise = np.random.default_rng(0).integers(0, 256, 10_000).astype(np.uint8)
    save(path, a=noise)
    whole = path.read_bytes()
    cut = int(at * len(whole))
    path.write_bytes(whole[:cut])
    with pytest.raises(UserError, match="not a readable .npz file"):
        read_npz(path, "a")
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
    with pytest.raises(UserError, match="array 'a' is not readable"):
        read_npz(path, "a")


def test_two_arrays_of_one_name(path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        _zip(path, ("a.npy", _npy(EIGHT)), ("a.npy", _npy(EIGHT + 1)))
    with pytest.raises(UserError, match="there are 2 arrays 'a'"):
        read_npz(path, "a")


def test_other_methods_of_compression_are_refused(path):
    _zip(path, ("a.npy", _npy(EIGHT)), kind=zipfile.ZIP_LZMA)
    with pytest.raises(UserError, match="another method"):
        read_npz(path, "a")


def test_missing_array_names_those_that_are_there(path):
    np.savez(path, b=EIGHT, a=EIGHT)
    with pytest.raises(UserError, match=r"no array 'c'; the file holds \['a', 'b'\]; or none"):
        read_npz(path, "c", hint="; or none")


def _bomb(path, size):
    """A .npz of a few KiB whose arrays are ``size`` zeros each."""
    head = _npy(np.zeros(0, np.int8), shape=(size,))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a", "b"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(head)
                for start in range(0, size, 2**24):
                    file.write(bytes(min(2**24, size - start)))


def test_compressed_arrays_beyond_the_memory_are_mapped_from_disk(path, monkeypatch):
    """The bound is on what is held together; a dtype, an order and a byte order stay what they are."""
    some = {
        "a": np.arange(1000, dtype=np.int8),
        "b": np.asfortranarray(np.arange(1000.0, dtype=np.float32).reshape(50, 20)),
        "c": np.arange(500, dtype=">i8"),
    }
    np.savez_compressed(path, **some)

    def on_disk(**options):
        found = read_npz(path, *some, **options)
        for name, array in some.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype.newbyteorder("=")
        return [name for name in ("a", "b") if isinstance(found[name], np.memmap)]

    assert on_disk(max_bytes=5000) == [] and on_disk(max_bytes=4999) == ["b"]
    assert on_disk(max_bytes=999) == ["a", "b"]
    monkeypatch.setattr(arrays, "free_memory", lambda: 3000)
    assert on_disk() == ["b"]
    np.savez(path, **some)
    assert on_disk(max_bytes=2**30) == ["a", "b"]  # these stay where they are


def test_what_neither_memory_nor_disk_takes_is_refused(path, monkeypatch):
    np.savez_compressed(path, a=np.zeros(1000, np.int8))
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda folder: SimpleNamespace(free=999))
    with pytest.raises(UserError, match=r"array 'a' .* TMPDIR names another folder"):
        read_npz(path, "a", max_bytes=999)
    assert read_npz(path, "a", max_bytes=1000)["a"].shape == (1000,)


@pytest.mark.parametrize("max_bytes", [0, 2**20])
def test_compressed_array_that_ends_early_is_refused(path, max_bytes):
    """Its checksum is sound: the header asks for more than there is."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content := _npy(np.zeros(10, np.int8), shape=(11,)))
    said, whole = len(content), path.read_bytes()
    start = whole.index(b"PK\x01\x02")
    sizes = (said.to_bytes(4, "little"), (said + 1).to_bytes(4, "little"))
    path.write_bytes(whole[:start] + whole[start:].replace(*sizes))
    with pytest.raises(UserError, match="array 'a' .*cut short"):
        read_npz(path, "a", max_bytes=max_bytes)


def test_bomb_is_refused_however_much_memory_there_is(path, monkeypatch):
    monkeypatch.setattr(arrays, "free_memory", lambda: 2**50)
    monkeypatch.setattr(arrays, "UNCHECKED_BYTES", 2**20)
    _bomb(path, 2**19 + 2**18)
    assert not read_npz(path, "a")["a"].any()
    with pytest.raises(UserError, match="array 'b' .* at most 200 to 1"):
        read_npz(path, "a", "b")


def test_directory_that_says_less_than_the_member_unfolds_to(path):
    """Content is never read beyond what the directory says, on which the bounds stand."""
    _bomb(path, 10**6)
    whole = path.read_bytes()
    said = (10**6 + 128).to_bytes(4, "little")
    start = whole.index(b"PK\x01\x02")
    path.write_bytes(
        whole[:start] + whole[start:].replace(said, (1000 + 128).to_bytes(4, "little"))
    )
    with pytest.raises(UserError, match="array 'a' is not readable"):
        read_npz(path, "a")
