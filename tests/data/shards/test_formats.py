"""What each format of shards takes, and the one line in which all else ends."""

import bz2
import gzip
import json
import os
import subprocess
import sys

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_writers import array_record, class_label, example, npy, png, tfrecord, write_members

from jaxhash.data.load import load_source
from jaxhash.data.shards.tfrecord import masked_crc
from jaxhash.utils.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
PNG, VECTOR = png(IMAGE), np.array([1.5, -2.0, 3.0], np.float32)


def of_tar(folder, *members):
    write_members(folder / "a.tar", members)
    return "shards:a.tar", folder


def of_table(folder, metadata=None, **columns):
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, folder / "a.parquet")
    return "shards:a.parquet", folder


def of_examples(folder, *payloads):
    (folder / "a.tfrecord").write_bytes(tfrecord(payloads))
    return "shards:a.tfrecord", folder


def hidden_number(label):
    return json.dumps(label).encode()


def test_a_sample_of_webdataset_has_members_of_one_name(tmp_path):
    """Label of .cls, or of a key of .json; other members, hidden ones and folders count for nothing."""
    members = [
        ("x/a.b.seg.png", b"-"),
        ("x/a.png", PNG),
        ("x/a.cls", b" 1\n"),
        ("x/a.json", hidden_number({"label": 7})),
        ("x/a.txt", b"a caption"),
        ("y/a.JPEG", PNG),
        ("y/a.json", hidden_number({"cls": 0, "class": 3})),
        ("y/.hidden", b""),
        ("z.webp", PNG),
        ("z.json", hidden_number([2])),
    ]
    source = load_source(*of_tar(tmp_path, *members[1:]))
    np.testing.assert_array_equal(source.labels, [1, 0, -1])
    np.testing.assert_array_equal(source.inputs[:], [IMAGE] * 3)
    source = load_source(*of_tar(tmp_path, ("a.npy", npy(VECTOR)), ("a.cls", b"cat")))
    np.testing.assert_array_equal(source.inputs[0], VECTOR)
    assert source.class_names == ("cat",)


@pytest.mark.parametrize(
    "members, expected",
    [
        ([("a.txt", b"x"), ("a.cls", b"1")], "record 0: sample a holds no input"),
        ([("a.png", PNG), ("a.jpg", PNG), ("a.cls", b"1")], "several inputs: png, jpg"),
        ([("a.png", PNG), ("a.cls", b"1"), ("b.npy", npy(VECTOR))], "record 1: it holds vectors"),
        ([("a.png", PNG), ("a.cls", b"1"), ("b.png", PNG), ("b.cls", b"cat")], "the name 'cat'"),
        ([("a.png", PNG), ("a.cls", b"cat"), ("b.png", PNG), ("b.cls", b"0")], "the number 0"),
        ([("a.png", PNG), ("a.json", b'{"label": [1, 2]}')], "class id or a name"),
        ([("a.png", PNG), ("a.json", b"{")], "a.tar: record 0: "),
        ([("a.png", PNG), ("a.cls", b"-7")], "class id or a name"),
        ([("a.npy", npy(np.eye(3))), ("a.cls", b"1")], "shape (3, 3)"),
        ([("a.npy", npy(VECTOR)), ("a.cls", b"1"), ("b.npy", npy(VECTOR[:2]))], "2 dimensions"),
        ([("a.png", b"no image"), ("a.cls", b"1")], "a.tar#0: not an image"),
        ([("a.npy", npy(VECTOR * np.nan)), ("a.cls", b"1")], "a.tar#0: a value that is not finite"),
        ([("a.cls", b"1" * 9)], "holds no input"),
        ([], "hold no records"),
    ],
)
def test_a_tar_that_is_refused(tmp_path, error_line, members, expected):
    assert expected in error_line(*of_tar(tmp_path, *members))


def test_a_compressed_tar_is_refused_with_advice(tmp_path, error_line):
    name, folder = of_tar(tmp_path, ("a.png", PNG), ("a.cls", b"1"))
    content = (folder / "a.tar").read_bytes()
    for compress in (gzip.compress, bz2.compress):
        (folder / "a.tar").write_bytes(compress(content))
        assert "unpack it to a plain .tar" in error_line(name, folder)


def test_a_damaged_member_of_a_tar_is_no_end_of_it(tmp_path, error_line):
    members = [(f"{number}.{kind}", PNG) for number in range(4) for kind in ("png", "txt")]
    name, folder = of_tar(tmp_path, *members)
    content = bytearray((folder / "a.tar").read_bytes())
    content[512 * 8 : 512 * 8 + 20] = b"?" * 20  # a header
    (folder / "a.tar").write_bytes(content)
    assert "cut or damaged after 1" in error_line(name, folder)


def test_columns_of_hugging_face(tmp_path):
    """A struct of bytes and path, or bytes; names of classes in the metadata keep their order."""
    images = pa.array([{"bytes": PNG, "path": "a.png"}] * 3)
    labels = pa.array([1, 0, -1])
    metadata = class_label(["zebra", "ant"])
    source = load_source(*of_table(tmp_path, metadata, id=labels, image=images, label=labels))
    np.testing.assert_array_equal(source.labels, [1, 0, -1])
    np.testing.assert_array_equal(source.inputs[:], [IMAGE] * 3)
    assert source.class_names == ("zebra", "ant")
    assert "the inputs are column 'image', the labels column 'label'" in source.notes
    source = load_source(*of_table(tmp_path, img=pa.array([PNG] * 2), fine_label=["b", "a"]))
    assert source.class_names == ("a", "b") and source.labels.tolist() == [1, 0]


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda value: pa.list_(value, 3)])
@pytest.mark.parametrize("value", [pa.float32(), pa.float64(), pa.int8()])
def test_vectors_of_parquet(tmp_path, kind, value):
    vectors = np.array([[1, 2, 3], [4, 5, -6]])
    column = pa.array(vectors.tolist(), kind(value))
    source = load_source(*of_table(tmp_path, embedding=column, other=column, label=[0, 1]))
    assert source.inputs.dtype == np.float32
    np.testing.assert_array_equal(source.inputs[:], vectors)


@pytest.mark.parametrize(
    "columns, expected",
    [
        ({"a": [[1.0]], "b": [[2.0]], "label": [0]}, "unclear which column holds the inputs, of a, b"),
        ({"a": [1.0], "label": [0]}, "no column holds images"),
        ({"image": [PNG, None], "label": [0, 1]}, "record 1: its input is missing"),
        ({"image": pa.array([{"bytes": None, "path": "x"}], pa.struct({"bytes": pa.binary(), "path": pa.string()})), "label": [0]}, "missing"),
        ({"features": [[1.0], [1.0, 2.0]], "label": [0, 1]}, "record 1 has 2 dimensions"),
        ({"image": [PNG], "label": [1.5]}, "class id or a name"),
        ({"image": [PNG], "label": [[1]]}, "class id or a name"),
        ({"image": [PNG], "other": [1]}, "looked for a column label"),
    ],
)  # fmt: skip
def test_a_parquet_file_that_is_refused(tmp_path, error_line, columns, expected):
    assert expected in error_line(*of_table(tmp_path, **columns))


def test_a_label_above_the_names_is_refused(tmp_path, error_line):
    line = error_line(*of_table(tmp_path, class_label(["a", "b"]), image=[PNG] * 2, label=[0, 2]))
    assert "record 1 has label 2" in line


def test_row_groups_that_are_too_large_are_refused(tmp_path, error_line, monkeypatch):
    monkeypatch.setattr("jaxhash.data.shards.parquet.MAX_GROUP_BYTES", 10)
    line = error_line(*of_table(tmp_path, image=[PNG] * 2, label=[0, 1]))
    assert "a.parquet" in line and "row_group_size" in line


def test_features_of_examples(tmp_path):
    """By the keys of TFDS, of ImageNet's TFRecords, and of vectors; labels may be names."""
    payloads = [
        example(image__encoded=PNG, image__class__label=2, other=1),
        example(image=PNG, label=0),
    ]
    source = load_source(*of_examples(tmp_path, *payloads))
    np.testing.assert_array_equal(source.labels, [2, 0])
    np.testing.assert_array_equal(source.inputs[:], [IMAGE] * 2)
    array_record(tmp_path / "b.array_record", [example(embedding=VECTOR, label="cat")])
    source = load_source("shards:b.array_record", tmp_path)
    np.testing.assert_array_equal(source.inputs[:], VECTOR[None])
    assert source.class_names == ("cat",)


@pytest.mark.parametrize(
    "payload, expected",
    [
        (example(x=1, y=PNG), "its features are x, y"),
        (example(image=3, label=0), "'image' must be the bytes"),
        (example(image=PNG, label=VECTOR), "'label' must be one number or name"),
        (b"\xff\xff\xff\xff", "no tf.train.Example"),
    ],
    ids=["keys", "image", "label", "message"],
)
def test_an_example_that_is_refused(tmp_path, error_line, payload, expected):
    line = error_line(*of_examples(tmp_path, example(image=PNG, label=0), payload))
    assert "a.tfrecord: record 1: " in line and expected in line


def test_a_tfrecord_with_another_length_is_refused(tmp_path, error_line):
    name, folder = of_examples(tmp_path, *[example(image=PNG, label=0)] * 3)
    content = bytearray((folder / "a.tfrecord").read_bytes())
    content[len(content) // 3] ^= 1  # the length of the second record
    (folder / "a.tfrecord").write_bytes(content)
    assert "record 1: there is no record of TFRecord at byte" in error_line(name, folder)
    (folder / "a.tfrecord").write_bytes(gzip.compress(bytes(content)))
    assert "record 0: there is no record" in error_line(name, folder)


@pytest.mark.parametrize("place", [-1, -5, 12])
def test_a_tfrecord_with_another_payload_is_refused(tmp_path, error_line, place):
    """A byte of the payload, at either end, or of its checksum; all but the second record are whole."""
    whole = example(image=PNG, label=0)
    name, folder = of_examples(tmp_path, *[whole] * 3)
    content = bytearray((folder / "a.tfrecord").read_bytes())
    size = 12 + len(whole) + 4
    assert len(content) == 3 * size
    content[size + place % size] ^= 4
    (folder / "a.tfrecord").write_bytes(content)
    line = error_line(name, folder)
    assert "a.tfrecord: record 1: " in line and "CRC" in line


def test_the_crc_is_that_of_rfc_3720():
    """Of 32 zeros, appendix B.4, unmasked as TFRecord says."""
    stored = (masked_crc(bytes(32)) - 0xA282EAD8) & 0xFFFFFFFF
    assert (stored >> 17 | stored << 15) & 0xFFFFFFFF == 0x8A9136AA


def test_checksums_in_python_are_told_once_where_an_index_is_made(tmp_path, monkeypatch, capsys):
    """Of two shards of TFRecord, and of none of another format."""
    whole = tfrecord([example(image=PNG, label=0)] * 2)
    for name in ("a", "b"):
        (tmp_path / f"{name}.tfrecord").write_bytes(whole)
    write_members(tmp_path / "other.tar", [("a.png", PNG), ("a.cls", b"1")])
    monkeypatch.setattr(google_crc32c, "implementation", "python")
    load_source("shards:other.tar", tmp_path)
    assert "google-crc32c" not in capsys.readouterr().err
    (tmp_path / "other.tar").unlink()
    load_source("shards:.", tmp_path)
    assert capsys.readouterr().err.count("google-crc32c") == 1
    load_source("shards:.", tmp_path)  # by its index
    assert "google-crc32c" not in capsys.readouterr().err
    monkeypatch.setattr(google_crc32c, "implementation", "c")
    load_source("shards:a.tfrecord", tmp_path)
    assert "google-crc32c" not in capsys.readouterr().err


def test_a_missing_part_in_c_is_no_warning_of_every_command():
    """The package warns as it is imported, also where no TFRecord is read."""
    code = (
        "import sys; sys.modules['google_crc32c.cext'] = None; import jaxhash.data.shards.formats"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == ""


def test_a_tar_that_goes_on_after_its_end_is_refused(tmp_path, error_line):
    """Two tar files that were joined, or one with a block of zeros where a member was."""
    members = [
        (f"{n}.{kind}", content)
        for n in range(4)
        for kind, content in (("png", PNG), ("cls", b"0"))
    ]
    name, folder = of_tar(tmp_path, *members)
    content = (folder / "a.tar").read_bytes()
    (folder / "a.tar").write_bytes(content + content)
    assert "a.tar: record 3: " in (line := error_line(name, folder)) and "more follows" in line
    damaged = bytearray(content)
    damaged[2048:4096] = bytes(2048)
    (folder / "a.tar").write_bytes(damaged)
    assert "a.tar: record " in error_line(name, folder)
    (folder / "a.tar").write_bytes(content + bytes(5120))  # padding is none of its members
    assert len(load_source(name, folder).inputs) == 4


def test_two_members_of_one_name_are_refused(tmp_path, error_line):
    name, folder = of_tar(
        tmp_path, ("a.png", PNG), ("a.cls", b"0"), ("a.png", PNG), ("a.cls", b"1")
    )
    assert "two members are called a.png" in error_line(name, folder)


def test_a_damaged_record_of_array_record_is_named(tmp_path, error_line):
    payloads = [example(image=PNG, label=number) for number in range(40)]
    array_record(tmp_path / "a.array_record", payloads)
    content = bytearray((tmp_path / "a.array_record").read_bytes())
    found = set()
    for place in np.flatnonzero(np.frombuffer(content, np.uint8))[::97]:
        (tmp_path / "a.array_record").write_bytes(
            content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
        )
        try:
            load_source("shards:a.array_record", tmp_path)
        except UserError as error:
            found.add(str(error).partition("record ")[2].partition(":")[0])
    assert len(found) > 10


def test_the_order_of_bytes_is_part_of_what_was_indexed(tmp_path, error_line):
    """A bit of the header of a .npy turns the bytes of each number."""
    name, folder = of_tar(tmp_path, ("a.npy", npy(VECTOR)), ("a.cls", b"0"))
    load_source(name, folder)
    state, content = (folder / "a.tar").stat(), (folder / "a.tar").read_bytes()
    (folder / "a.tar").write_bytes(content.replace(b"'<f4'", b"'>f4'"))
    os.utime(folder / "a.tar", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "a.tar: record 0: its bytes are not those" in error_line(name, folder)
