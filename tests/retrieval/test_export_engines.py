"""The guide's lines load an export into real engines, which then measure Hamming distances.

Engines that are not installed are skipped; pip install ".[engines]" brings those that pip has, and
PostgreSQL is found where its packages put it.
"""

import csv
import importlib.metadata
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from code_stores import PATHS, Store, make_store
from postgres import postgres_server

from jaxhash.retrieval.export.export_index import export_index

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "vector-databases.md"
EXPORTS = {
    "npy": "codes.npy",
    "parquet": "codes.parquet",
    "hex": "codes.jsonl",
    "pgcopy": "codes.pgcopy",
    "faiss": "codes.faiss",
}


def lines_of(engine):
    """The code of an engine's row in the guide's table."""
    rows = [line for line in GUIDE.read_text().splitlines() if line.startswith(f"| {engine} |")]
    assert len(rows) == 1, engine
    return re.findall(r"`([^`]+)`", rows[0].split("|")[3])


@pytest.fixture(scope="module")
def store():
    """300 codes of 64 bits, with ids that have gaps."""
    rng = np.random.default_rng(1)
    ids = np.sort(rng.choice(10**6, 300, replace=False))
    codes = rng.integers(0, 256, (300, 8), np.uint8)
    codes[200:] = codes[:100]  # equal codes
    return Store(64, ids, codes, [f"{row}.jpg" for row in range(300)], [None] * 300)


@pytest.fixture(scope="module")
def folder(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    for to, name in EXPORTS.items():
        export_index(store, to, folder / name)
    return folder


@pytest.fixture
def query(store):
    return store.all_codes[7] ^ np.uint8(1)


@pytest.fixture
def load(folder, query, monkeypatch):
    """Runs an engine's lines from the guide in the folder of the exports, and returns their names."""
    monkeypatch.chdir(folder)

    def run(engine, **names):
        names |= {"np": np, "pa": pa, "pq": pq, "query": query}
        for line in lines_of(engine):
            exec(line, names)
        return names

    return run


def distances_to(store, query):
    """Hamming distance of each item to a query, by id."""
    differing = np.unpackbits(store.all_codes ^ query, axis=1).sum(axis=1)
    return dict(zip(store.ids.tolist(), differing.tolist(), strict=True))


def assert_nearest(found, store, query, k=10):
    """Checks pairs of id and distance: the nearest k, in order; equal distances in any."""
    expected = distances_to(store, query)
    assert [expected[number] for number, _ in found] == [int(distance) for _, distance in found]
    assert [int(distance) for _, distance in found] == sorted(expected.values())[:k]
    assert len({number for number, _ in found}) == k


def test_faiss(load, store, query):
    import faiss

    names = load("faiss", faiss=faiss)
    found = zip(names["ids"][0].tolist(), names["distances"][0].tolist(), strict=True)
    assert_nearest([*found], store, query)


def test_usearch(load, store, query):
    usearch = pytest.importorskip("usearch.index", reason='needs the extra "engines"')
    names = load("usearch", Index=usearch.Index)
    found = names["index"].search(query, 10, exact=True)
    assert_nearest([*zip(found.keys.tolist(), found.distances.tolist(), strict=True)], store, query)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_lancedb(load, store, query):
    lancedb = pytest.importorskip("lancedb", reason='needs the extra "engines"')
    found = load("LanceDB", lancedb=lancedb)["found"]
    assert_nearest([*zip(found["id"], found["_distance"], strict=True)], store, query)


@pytest.mark.filterwarnings("ignore")  # of pymilvus, about its own imports
def test_milvus(load, store, query, tmp_path):
    pymilvus = pytest.importorskip("pymilvus", reason='needs the extra "engines"')
    pytest.importorskip("milvus_lite", reason='needs the extra "engines"')
    if importlib.metadata.version("milvus-lite").startswith("3."):
        pytest.skip("milvus-lite 3 has no binary vectors (2 and the server have)")
    client = pymilvus.MilvusClient(str(tmp_path / "milvus.db"))
    load("Milvus", client=client, DataType=pymilvus.DataType)
    index = client.prepare_index_params()
    index.add_index("code", index_type="BIN_FLAT", metric_type="HAMMING")
    client.create_index("codes", index)
    client.load_collection("codes")
    found = client.search("codes", data=[query.tobytes()], anns_field="code", limit=10)
    client.close()
    assert_nearest([(hit["id"], hit["distance"]) for hit in found[0]], store, query)


def test_sqlite_vec(load, store, query):
    """By apsw, since Python's own sqlite3 often loads no extensions."""
    apsw = pytest.importorskip("apsw", reason='needs the extra "test"')
    sqlite_vec = pytest.importorskip("sqlite_vec", reason='needs the extra "test"')
    db = apsw.Connection(":memory:")
    db.enable_load_extension(True)
    db.load_extension(sqlite_vec.loadable_path())
    load("sqlite-vec", db=db)
    search = "select rowid, distance from codes where code match vec_bit(?) and k = 10"
    assert_nearest([*db.execute(search, (query.tobytes(),))], store, query)
    db.close()


# PostgreSQL


@pytest.fixture(scope="module")
def psql():
    """Runs lines of SQL in a server of its own, and returns the rows."""
    with postgres_server() as command:

        def run(*lines):
            lines = "\n".join(lines)
            done = subprocess.run(command, input=lines.encode(), capture_output=True)
            assert done.returncode == 0, done.stderr.decode()
            return [*csv.reader(io.StringIO(done.stdout.decode(), newline=""))]

        yield run


def sql_bits(code, bits=64):
    return "B'" + "".join(map(str, np.unpackbits(code, count=bits))) + "'"


def test_postgresql(psql, folder, store, query, monkeypatch):
    """Without an extension: the number of bits of the exclusive or."""
    monkeypatch.chdir(folder)
    rows = psql(
        "DROP TABLE IF EXISTS codes;",
        *lines_of("PostgreSQL, pgvector"),
        f"SELECT id, bit_count(code # {sql_bits(query)}) AS d FROM codes ORDER BY d, id LIMIT 10;",
    )
    assert_nearest([(int(number), int(distance)) for number, distance in rows], store, query)


def test_pgvector(psql, folder, store, query, monkeypatch):
    [[there]] = psql("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector';")
    if there == "0":
        pytest.skip("the extension pgvector is not installed")
    monkeypatch.chdir(folder)
    rows = psql(
        "CREATE EXTENSION IF NOT EXISTS vector; DROP TABLE IF EXISTS codes;",
        *lines_of("PostgreSQL, pgvector"),
        f"SELECT id, code <~> {sql_bits(query)} AS d FROM codes ORDER BY d, id LIMIT 10;",
    )
    assert_nearest([(int(number), int(distance)) for number, distance in rows], store, query)


@pytest.mark.parametrize("bits", [1, 13, 100])
def test_postgresql_reads_names_nulls_and_any_length(psql, tmp_path, monkeypatch, bits):
    store = make_store(bits)
    export_index(store, "pgcopy", tmp_path / "codes.pgcopy")
    monkeypatch.chdir(tmp_path)
    lines = [line.replace("bit(64)", f"bit({bits})") for line in lines_of("PostgreSQL, pgvector")]
    rows = psql(
        "DROP TABLE IF EXISTS codes;",
        *lines,
        "SELECT id, path, coalesce('=' || label, 'null'), code FROM codes ORDER BY id;",
    )
    assert [int(row[0]) for row in rows] == store.ids.tolist()
    assert [row[1] for row in rows] == PATHS
    labels = ["null" if label is None else f"={label}" for label in store.labels]
    assert [row[2] for row in rows] == labels
    expected = [f"B'{row[3]}'" for row in rows]
    assert [sql_bits(code, bits) for code in store.all_codes] == expected


# Servers that are not here: what is sent to them


@pytest.mark.parametrize(("engine", "field"), [("Elasticsearch", "code"), ("Vespa", "fields")])
def test_jq_makes_what_a_server_takes(folder, store, engine, field):
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    [command] = [line for line in lines_of(engine) if line.startswith("jq ")]
    run = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    made = (folder / command.split("> ")[1]).read_text().splitlines()
    assert len(made) == len(store) * (2 if engine == "Elasticsearch" else 1)
    assert bytes(store.all_codes[0]).hex() in "".join(made[:2]) and field in "".join(made[:2])
