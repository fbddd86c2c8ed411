"""A search of one index for the items of another is evaluated as the same codes in a file are."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from code_samples import read_strict_json
from index_samples import Item, MadeHasher, codes_of, digests_of, make_index

from jaxhash.data.readers import arrays
from jaxhash.metrics import _health, _values
from jaxhash.retrieval.index import Index

#: Class names of the items, None without; the two sides have classes of their own too.
LABELS = {"queries": ["b", None, "c", "z", "a", "b"], "database": [*"cabaac", None, *"dbca"]}
NAMES = sorted({name for side in LABELS.values() for name in side if name})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make(name, labels, seed=0):
    """An index of several shards, with an item in each that is removed."""
    index, codes = make_index(Path(name)), codes_of(2 * len(labels), seed)
    for rows in np.array_split(np.arange(len(labels)), 2):
        gone = len(labels) + rows[:1]
        items = [Item(f"{row}.png", label=labels[row]) for row in rows]
        items += [Item(f"{row}.png", label="gone") for row in gone]
        index.add(codes[[*rows, *gone]], items, digests_of(len(items)))
        index.remove(index.find(label="gone"))
    return codes[: len(labels)]


@pytest.fixture
def sides():
    return {name: make(name, labels, len(name)) for name, labels in LABELS.items()}


def test_results_are_those_of_the_same_codes_in_a_file(sides, output):
    ids = {
        name: np.array([NAMES.index(label) if label else -1 for label in labels])
        for name, labels in LABELS.items()
    }
    np.savez(
        "codes.npz",
        query_codes=sides["queries"],
        query_labels=ids["queries"],
        database_codes=sides["database"],
        database_labels=ids["database"],
    )
    options = ["--k", "3", "--radius", "4", "--output"]
    output("evaluate", "codes.npz", "--bits", "12", *options, "file.json")
    text = output("evaluate", "queries", "--database", "database", *options, "index.json")
    of_file, of_index = (read_strict_json(f"{name}.json") for name in ("file", "index"))
    assert of_index.pop("command") != of_file.pop("command")
    assert of_index == of_file and 0 < of_index["scores"]["map"]["expected"] < 1
    assert "queries: 6 queries, 11 items in the database, 12 bits, given as packed" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("queries", "queries is an index, of queries: --database names the index"),
        ("queries --database file.npz", "file.npz is no index, and queries is one"),
        ("file.npz --database database", "file.npz is no index, and database is one"),
        ("queries --database queries", "queries is --database too"),
        ("queries --database other", "is another hash function"),
        ("queries --database longer", "makes codes of 12 bits, and longer has 13"),
        ("queries --database unlabeled", "unlabeled has no labels"),
        ("unlabeled --database database", "unlabeled has no labels"),
        ("queries --database empty", "empty has no items"),
        ("queries --database database --bits 11", "queries has codes of 12 bits, and --bits 11"),
        ("queries --database database --labels file.npz", "--labels is for files of codes"),
        ("queries --database database --memory-bytes 99999999", "--memory-bytes is for files"),
        ("queries --database database --compare file.npz", "--compare is for files of codes"),
        (
            "queries --database database --ground-truth a.json",
            "--ground-truth is for files of codes",
        ),
        ("queries --database database --leave-one-out", "--leave-one-out is for files of codes"),
        ("queries --database database --data-dir .", "--data-dir is for the folder of a run"),
        ("file.npz --memory-bytes 1000", "--memory-bytes must be at least"),
    ],
)
def test_indexes_that_do_not_compare(sides, refusal, arguments, said):
    labels = np.arange(6)
    np.savez("file.npz", codes=sides["queries"], labels=labels)
    make("unlabeled", [None] * 4)
    make_index(Path("empty"))

    class Other(MadeHasher):
        digest = "cd" * 32

    class Longer(MadeHasher):
        bits = 13

    for name, hasher in (("other", Other()), ("longer", Longer())):
        Index.create(Path(name), hasher, root=None).add(
            codes_of(1), [Item("a", label="a")], digests_of(1)
        )
    assert said in refusal("evaluate", *arguments.split())


def test_compressed_codes_are_evaluated_within_the_memory_allowed(output, monkeypatch):
    """Numbers are the same to the last digit, from codes twice as large as the memory."""
    for module in (_health, _values):
        monkeypatch.setattr(module, "_VALUES", 2**16)
    rng = np.random.default_rng(0)
    codes = rng.normal(size=256).astype(np.float32)[rng.integers(0, 256, (2**17, 64))]
    labels = rng.integers(0, 5, len(codes))
    np.savez_compressed("queries.npz", codes=codes[:3], labels=labels[:3])
    np.savez_compressed("database.npz", codes=codes, labels=labels)
    size, unpacked, read_to_disk = codes.nbytes, [], arrays._MemberReader._read_to_disk
    del codes

    def spy(self, file, header):
        unpacked.append(header.shape)
        return read_to_disk(self, file, header)

    monkeypatch.setattr(arrays._MemberReader, "_read_to_disk", spy)
    found, peaks = [], []
    for limit in ([], ["--memory-bytes", str(2**24)]):
        tracemalloc.start()
        output(
            "evaluate", "queries.npz", "--database", "database.npz", "--output", "a.json", *limit
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        found.append(read_strict_json("a.json"))
        del found[-1]["command"]
    assert found[0] == found[1] and found[0]["health"]["quantization_error"] > 0
    assert unpacked == [(2**17, 64)]
    assert peaks[1] < peaks[0] - 0.9 * size
