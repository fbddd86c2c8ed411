"""Both sides of a search are inspected, and an error names the file at fault."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxhash.metrics import code_health

QUERIES, ITEMS, BITS = 20, 60, 12
RNG = np.random.default_rng(0)
CODES = {"q": RNG.normal(size=(QUERIES, BITS)), "d": RNG.normal(size=(ITEMS, BITS))}
LABELS = {"q": np.arange(QUERIES) % 4, "d": np.arange(ITEMS) % 4}
ARGUMENTS = ["q.npy", "--labels", "ql.npy", "--database", "d.npy", "--database-labels", "dl.npy"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, codes in CODES.items():
        np.save(f"{name}.npy", codes)
        np.save(f"{name}l.npy", LABELS[name])


def both(name, **changed):
    arrays = {
        "query_codes": CODES["q"],
        "query_labels": LABELS["q"],
        "database_codes": CODES["d"],
        "database_labels": LABELS["d"],
    }
    np.savez(name, **{**arrays, **changed})
    return name


def test_health_of_both_sides_is_written_and_shown(output):
    text = output("evaluate", *ARGUMENTS, "--output", "a.json")
    found = json.loads(Path("a.json").read_text())
    for key, side, words in (("query_health", "q", "query"), ("health", "d", "database")):
        health = code_health(CODES[side], LABELS[side])
        assert found[key] == health.to_json()
        assert f"{words} codes: bit balance {health.bit_balance:.4f}" in text
    assert found["warnings"] == [] and "warning" not in text


@pytest.mark.parametrize("side", ["query", "database"])
def test_side_that_is_never_negative_is_told(output, side):
    codes = {"query": CODES["q"], "database": CODES["d"]}[side]
    name = both("codes.npz", **{f"{side}_codes": 1 / (1 + np.exp(-codes))})
    text = output("evaluate", name, "--output", "a.json")
    assert f"warning: {side} codes are never negative" in text
    assert f"warning: all {len(codes)} codes are the same ({side})" in text
    assert any(
        "never negative" in line for line in json.loads(Path("a.json").read_text())["warnings"]
    )


@pytest.mark.parametrize("suffix", [".NPY", ".Npy"])
def test_capital_suffixes_of_arrays(output, suffix):
    lower = output("evaluate", *ARGUMENTS)
    capital = []
    for argument in ARGUMENTS:
        if argument.endswith(".npy"):
            Path(argument).rename(argument := argument.replace(".npy", suffix))
        capital.append(argument)
    assert output("evaluate", *capital).replace(suffix, ".npy") == lower


def test_capital_suffixes_of_several_arrays_and_of_outputs(output):
    lower = output("evaluate", both("codes.npz"), "--compare", "codes.npz")
    Path("codes.npz").rename("CODES.NPZ")
    text = output("evaluate", "CODES.NPZ", "--compare", "CODES.NPZ", "--output", "A.JSON")
    assert text.replace("CODES.NPZ", "codes.npz") == lower and Path("A.JSON").is_file()


#: A file, what it holds instead, and how the line begins.
FAULTS = {
    "query labels in a column": (
        "ql.npy",
        LABELS["q"][:, None],
        "ql.npy: query labels|ql.npy: labels",
    ),
    "labels in a column": ("dl.npy", LABELS["d"][:, None], "dl.npy: "),
    "too few labels": ("dl.npy", LABELS["d"][1:], "dl.npy beside d.npy: there are 60"),
    "too few query labels": ("ql.npy", LABELS["q"][1:], "ql.npy beside q.npy: there are 20"),
    "labels that are negative": ("dl.npy", LABELS["d"] - 3, "dl.npy: "),
    "labels of another kind": ("dl.npy", np.eye(4)[LABELS["d"]], "ql.npy beside dl.npy: labels"),
    "NaN": ("d.npy", CODES["d"] * np.nan, "d.npy: database codes hold NaN"),
    "no bits": ("d.npy", CODES["d"][:, :0], "d.npy: database codes must"),
    "words": ("d.npy", np.full((ITEMS, BITS), "a"), "d.npy: database codes must"),
    "0/1": ("d.npy", (CODES["d"] > 0) * 1.0, "d.npy: database codes are 0 and 1"),
    "0/1 queries": ("q.npy", (CODES["q"] > 0) * 1.0, "q.npy: query codes are 0 and 1"),
    "bytes": ("d.npy", (9 * CODES["d"]).astype(np.int8), "d.npy: database codes are int8"),
    "other length": ("d.npy", CODES["d"][:, 1:], "q.npy beside d.npy: queries have 12 bits"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_file_at_fault_is_named(refusal, unchecked, fault):
    name, content, line = FAULTS[fault]
    np.save(name, content)
    said = refusal("evaluate", *ARGUMENTS).removeprefix("jaxhash: ")
    assert said.startswith(tuple(line.split("|")))


@pytest.mark.parametrize(
    ("codes", "database", "line"),
    [
        (np.nan * CODES["q"], CODES["d"], "other_q.npy: query codes hold NaN"),
        (CODES["q"], np.nan * CODES["d"], "other_d.npy: database codes hold NaN"),
        (CODES["q"], CODES["d"][1:], "other_d.npy: there are 59 database codes and 60 labels"),
        (CODES["q"][:, 1:], CODES["d"], "other_q.npy beside other_d.npy: queries have 11 bits"),
    ],
)
def test_the_file_at_fault_of_those_compared(refusal, unchecked, codes, database, line):
    np.save("other_q.npy", codes)
    np.save("other_d.npy", database)
    compared = ["--compare", "other_q.npy", "--compare-database", "other_d.npy"]
    assert refusal("evaluate", *ARGUMENTS, *compared).startswith(f"jaxhash: {line}")


def test_compared_codes_are_looked_at_too(output):
    both("sigmoid.npz", query_codes=1 / (1 + np.exp(-CODES["q"])))
    text = output("evaluate", both("codes.npz"), "--compare", "sigmoid.npz")
    assert "warning: sigmoid.npz: query codes are never negative" in text


@pytest.mark.parametrize("labels", [lambda n: np.zeros(n, int), lambda n: np.ones((n, 2), int)])
def test_a_search_in_which_everything_is_relevant_is_told(output, labels):
    name = both("codes.npz", query_labels=labels(QUERIES), database_labels=labels(ITEMS))
    assert "warning: all queries and all of the database are of one class" in output(
        "evaluate", name
    )
