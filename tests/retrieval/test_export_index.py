"""Codes of an index in other forms, decoded by readers that share no code with the writers."""

import errno
import json
import struct

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from code_stores import Store, make_store

from jaxhash.retrieval.export import source
from jaxhash.retrieval.export.export_index import INDEX_FORMATS, export_index
from jaxhash.utils.errors import UserError

BITS = [1, 8, 13, 64, 100]


@pytest.fixture(params=BITS)
def store(request):
    return make_store(request.param)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Pieces of a block that end inside it."""
    monkeypatch.setattr(source, "_PIECE", 3)


def export(store, to, tmp_path, name="codes"):
    path = tmp_path / name
    files = export_index(store, to, path)
    assert sorted(files) == sorted(tmp_path.iterdir()) and files[0] == path
    return path


def about(path):
    return json.loads(path.with_name(path.name + ".json").read_text())


# Arrays


@pytest.mark.parametrize(("to", "dtype"), [("npy", "u1"), ("int8", "i1"), ("offset-int8", "i1")])
def test_arrays_and_their_ids(store, tmp_path, to, dtype):
    path = export(store, to, tmp_path, "codes.npy")
    codes, ids = np.load(path), np.load(tmp_path / "codes.ids.npy")
    assert codes.dtype == dtype and ids.dtype == np.int64
    numbers = codes.astype(int)
    if to == "int8":
        numbers = numbers % 256
    if to == "offset-int8":
        numbers = numbers + 128
    np.testing.assert_array_equal(numbers, store.all_codes)
    np.testing.assert_array_equal(ids, store.ids)


def test_the_bytes_of_one_code(tmp_path):
    """The bits 1,0,0,0,0,0,0,1 and 0,1,1 of two bytes, worked by hand."""
    store = Store(11, np.array([5]), np.array([[0b10000001, 0b01100000]], np.uint8), ["a"], [None])
    found = {}
    for to in ("npy", "int8", "offset-int8"):
        export_index(store, to, tmp_path / f"{to}.npy")
        found[to] = np.load(tmp_path / f"{to}.npy").tolist()
    assert found == {"npy": [[129, 96]], "int8": [[-127, 96]], "offset-int8": [[1, -32]]}
    export_index(store, "hex", tmp_path / "codes.jsonl")
    line = '{"id": 5, "code": "8160", "path": "a", "label": null}\n'
    assert (tmp_path / "codes.jsonl").read_text() == line
    export_index(store, "pgcopy", tmp_path / "codes.pgcopy")
    fields = ["0004", "00000008", "0000000000000005", "00000001", "61", "ffffffff"]
    fields += ["00000006", "0000000b", "8160", "ffff"]
    header = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    assert (tmp_path / "codes.pgcopy").read_bytes() == header + bytes.fromhex("".join(fields))


# Tables


def test_parquet(store, tmp_path):
    path = export(store, "parquet", tmp_path)
    table = pq.read_table(path)
    # As Parquet itself has it: readers that ignore Arrow's own metadata see the same types.
    stored = json.loads(pq.ParquetFile(path).schema.column(3).logical_type.to_json())
    assert stored == {"Type": "Int", "bitWidth": 8, "isSigned": False}
    assert table.schema.field("code").type == pa.list_(pa.uint8())
    assert table.column_names == ["id", "path", "label", "code"]
    assert table["id"].to_pylist() == store.ids.tolist()
    assert table["path"].to_pylist() == store.paths
    assert table["label"].to_pylist() == store.labels
    assert table["code"].to_pylist() == store.all_codes.tolist()
    assert json.loads(table.schema.metadata[b"jaxhash"])["bits"] == store.bits


def test_hex(store, tmp_path):
    lines = export(store, "hex", tmp_path).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == store.ids.tolist()
    assert [row["path"] for row in rows] == store.paths
    assert [row["label"] for row in rows] == store.labels
    assert [bytes.fromhex(row["code"]) for row in rows] == [bytes(c) for c in store.all_codes]


def read_pgcopy(content):
    """Reads a binary COPY as PostgreSQL's documentation describes it; fields are bytes or None."""
    signature, flags, extension = struct.unpack_from(">11sII", content)
    assert (signature, flags, extension) == (b"PGCOPY\n\xff\r\n\0", 0, 0)
    at, rows = 19, []
    while True:
        (fields,) = struct.unpack_from(">h", content, at)
        at += 2
        if fields == -1:
            assert at == len(content)
            return rows
        row = []
        for _ in range(fields):
            (length,) = struct.unpack_from(">i", content, at)
            at += 4
            row.append(None if length == -1 else content[at : at + length])
            at += max(length, 0)
        rows.append(row)


def test_pgcopy(store, tmp_path):
    rows = read_pgcopy(export(store, "pgcopy", tmp_path).read_bytes())
    assert [int.from_bytes(row[0], "big") for row in rows] == store.ids.tolist()
    assert [row[1].decode() for row in rows] == store.paths
    labels = [None if row[2] is None else row[2].decode() for row in rows]
    assert labels == store.labels
    for row, code in zip(rows, store.all_codes, strict=True):
        assert int.from_bytes(row[3][:4], "big") == store.bits and row[3][4:] == bytes(code)


@pytest.mark.parametrize("names", [("a\0b", None), ("a", "x\0")])
def test_pgcopy_refuses_what_postgresql_does(tmp_path, names):
    store = Store(8, np.array([3, 4]), np.zeros((2, 1), np.uint8), ["a", names[0]], ["b", names[1]])
    with pytest.raises(UserError, match="item 4.*NUL"):
        export_index(store, "pgcopy", tmp_path / "codes")
    assert not [*tmp_path.iterdir()]


# faiss


def test_faiss(store, tmp_path):
    index = faiss.read_index_binary(str(export(store, "faiss", tmp_path)))
    assert isinstance(index, faiss.IndexBinaryIDMap2)
    assert index.ntotal == len(store) and index.d == 8 * store.all_codes.shape[1]
    for number, code in zip(store.ids.tolist(), store.all_codes, strict=True):
        np.testing.assert_array_equal(index.reconstruct(number), code)
    if len(store):
        distances, ids = index.search(store.all_codes[:2], len(store))
        differing = np.unpackbits(store.all_codes[:2, None] ^ store.all_codes[None], axis=2)
        expected = dict(zip(store.ids.tolist(), differing.sum(axis=2).T, strict=True))
        for q in range(2):
            assert [expected[i][q] for i in ids[q].tolist()] == distances[q].tolist()


def test_faiss_writes_the_same_bytes(store, tmp_path):
    """Where the file format of faiss changes, this says so."""
    index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(8 * store.all_codes.shape[1]))
    index.add_with_ids(store.all_codes, store.ids)
    ours = export(store, "faiss", tmp_path).read_bytes()
    assert ours == faiss.serialize_index_binary(index).tobytes()


# All of them


@pytest.mark.parametrize("to", INDEX_FORMATS)
def test_an_empty_index(tmp_path, to):
    store = Store(13, np.zeros(0, np.int64), np.zeros((0, 2), np.uint8), [], [])
    path = export(store, to, tmp_path)
    if to in ("npy", "int8", "offset-int8"):
        assert np.load(path).shape == (0, 2)
    elif to == "parquet":
        assert pq.read_table(path).num_rows == 0
    elif to == "hex":
        assert path.read_text() == ""
    elif to == "pgcopy":
        assert read_pgcopy(path.read_bytes()) == []
    else:
        assert faiss.read_index_binary(str(path)).ntotal == 0


@pytest.mark.parametrize("to", INDEX_FORMATS)
def test_the_file_beside_it_says_what_the_codes_are(tmp_path, to):
    store = make_store(13)
    path = export(store, to, tmp_path, "my codes.npy")
    found = about(path)
    assert {name: found[name] for name in ("to", "count", "bits", "bit_order", "zero")} == {
        "to": to,
        "count": len(store),
        "bits": 13,
        "bit_order": "big",
        "zero": "+1",
    }
    assert (found["digest"], found["check_code"]) == (store.digest, store.check_code)
    others = {file.name for file in tmp_path.iterdir()} - {"my codes.npy.json"}
    assert set(found["files"]) == others


@pytest.mark.parametrize("to", INDEX_FORMATS)
@pytest.mark.parametrize("there", ["codes.npy", "codes.npy.json", "codes.ids.npy"])
def test_nothing_is_overwritten(tmp_path, to, there):
    if there == "codes.ids.npy" and not INDEX_FORMATS[to].has_ids:
        return
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match="exists"):
        export_index(make_store(8), to, tmp_path / "codes.npy")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "mine")]


class Failing(Store):
    """An index whose second block cannot be read."""

    def blocks(self):
        yield next(iter(super().blocks()))
        raise self.error


@pytest.mark.parametrize("to", INDEX_FORMATS)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_an_export_that_fails_leaves_nothing(tmp_path, to, error):
    store = make_store(8, Failing)
    store.error = error
    with pytest.raises(type(error)):
        export_index(store, to, tmp_path / "codes.npy")
    assert not [*tmp_path.iterdir()]


class Shrunk(Store):
    """An index that lost its last block after it was opened."""

    def blocks(self):
        return [*super().blocks()][:-1]

    def tables(self, columns):
        return [*super().tables(columns)][:-1]


@pytest.mark.parametrize("to", INDEX_FORMATS)
def test_an_index_that_changes_meanwhile_is_refused(tmp_path, to):
    with pytest.raises(UserError, match="changed"):
        export_index(make_store(8, Shrunk), to, tmp_path / "codes.npy")
    assert not [*tmp_path.iterdir()]
