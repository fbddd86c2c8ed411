"""The metrics of code files: every layout and form, what is printed and written, comparisons."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from code_samples import ARRAYS, BITS, ITEMS, QUERIES, make, read_strict_json, save, save_separately

import jaxhash
from jaxhash.metrics import CONVENTIONS, code_health, evaluate_retrieval


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(output, *arguments):
    """Returns the files that a command writes."""
    before = set(Path().rglob("*"))
    output("evaluate", *arguments, "--output", "results.json")
    assert set(Path().rglob("*")) - before == {Path("results.json")}
    return read_strict_json("results.json")


def expected(**options):
    return evaluate_retrieval(*ARRAYS.values(), **options).to_json()


# Layouts


@pytest.mark.parametrize("layout", ["one file", ".npz", ".npy", ".txt", "override"])
def test_every_layout_has_the_same_results(output, layout):
    arguments = [save()] if layout == "one file" else save_separately(layout)
    found = results(output, *arguments, "--k", "5")
    for key, value in expected(k=5).items():
        assert found[key] == value, key
    assert found["codes"] == {"kind": "real-valued", "bits": BITS, "zero": "+1", "zeros": 0}
    low, high = found["interval"]
    assert low < found["scores"]["map_at_k"]["expected"] < high
    health = code_health(ARRAYS["database_codes"], ARRAYS["database_labels"])
    assert found["health"] == health.to_json()
    assert found["command"].startswith(f"jaxhash evaluate {arguments[0]} ")
    assert found["versions"].keys() == {"python", "jaxhash", "jax", "numpy"}


@pytest.mark.parametrize("form", ["bool", "0/1", "-1/+1", "packed"])
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_every_form_has_the_same_results(output, form, dtype):
    """Health as well: numbers of 0 and 1 are not cut at zero."""
    codes = {}
    for key in ("query_codes", "database_codes"):
        bits = ARRAYS[key] > 0
        codes[key] = {
            "bool": bits,
            "0/1": bits.astype(dtype),
            "-1/+1": np.where(bits, 1, -1).astype(dtype),
            "packed": np.packbits(bits, axis=1),
        }[form]
    found = results(output, save(**codes), "--bits", str(BITS))
    assert found["codes"] == {"kind": form, "bits": BITS, "zero": "+1", "zeros": 0}
    assert found["scores"] == expected()["scores"]
    signs = np.where(ARRAYS["database_codes"] > 0, 1, -1).astype(np.int8)
    health = code_health(signs, ARRAYS["database_labels"]).to_json()
    for key in ("bit_balance", "dead_bits", "buckets", "collapse", "mutual_information"):
        assert found["health"][key] == health[key], key


@pytest.mark.parametrize(
    ("labels", "relevance"),
    [
        (lambda ids: ids.astype(float), "shared"),
        (lambda ids: np.eye(4)[ids], "graded"),
        (lambda ids: np.eye(4, dtype=bool)[ids], "equal"),
    ],
)
def test_every_form_of_labels_has_the_same_results(output, labels, relevance):
    arrays = {key: labels(ARRAYS[key]) for key in ("query_labels", "database_labels")}
    found = results(output, save(**arrays), "--relevance", relevance)
    assert found["convention"]["relevance"] == relevance
    for name, score in expected()["scores"].items():
        for ties in ("expected", "worst", "best"):
            assert found["scores"][name][ties] == pytest.approx(score[ties], rel=1e-12)


def test_other_arrays_of_a_file_are_not_looked_at(output):
    name = save(paths=np.array([{"not": "numbers"}], object))
    assert results(output, name)["scores"] == expected()["scores"]


@pytest.mark.parametrize("zero", ["+1", "-1"])
def test_rule_for_zeros(output, zero):
    codes = ARRAYS["database_codes"].copy()
    codes[:, 0] = 0
    name = save(database_codes=codes)
    found = results(output, name, "--zero", zero)
    assert found["codes"]["zeros"] == ITEMS
    assert found["health"]["dead_bits"] == [0]
    arrays = {**ARRAYS, "database_codes": np.where(codes == 0, float(zero), codes)}
    assert found["scores"] == evaluate_retrieval(*arrays.values()).to_json()["scores"]
    assert f"40 exact zeros read as {zero}" in output("evaluate", name, "--zero", zero)


def test_infinite_codes(output):
    codes = ARRAYS["database_codes"].copy()
    codes[0] *= np.inf
    found = results(output, save(database_codes=codes))
    assert found["scores"] == expected()["scores"]
    assert found["health"]["quantization_error"] is None


# What is printed and written


def test_numbers_that_are_printed_are_those_that_are_written(output):
    text = output("evaluate", save(), "--k", "5", "--output", "results.json")
    assert "codes.npz: 12 queries, 40 items in the database, 10 bits, given as real-valued" in text
    found = read_strict_json("results.json")
    for name, score in found["scores"].items():
        values = "  ".join(f"{score[ties]:.4f}" for ties in ("expected", "worst", "best"))
        [line] = [line for line in text.splitlines() if line.split()[:1] == [name]]
        assert line.split()[1:4] == values.split()
    assert "empty queries count 0, relevant: a label in common" in text
    low, high = found["interval"]
    assert f"mAP@5: 95 % interval over queries {low:.4f} to {high:.4f}" in text


@pytest.mark.parametrize("options", [{}, {"k": 3}])
def test_all_conventions(output, options):
    flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    found = results(output, save(), "--convention", "all", *flags)
    assert found["conventions"] == [expected(convention=name, **options) for name in CONVENTIONS]
    text = output("evaluate", "codes.npz", "--convention", "all", *flags)
    assert all(f"\n {name} " in text for name in CONVENTIONS)
    assert text.count("relevant: a label in common") == 1, "said once for all of them"


def test_queries_that_have_nothing_to_find(output):
    """No query counts, so nothing has a mean; and nothing in the database has a label."""
    name = save(database_labels=np.full(ITEMS, -1))
    found = results(output, name, "--convention", "hashnet", "--k", "3")
    assert found["scores"]["map"]["expected"] is None and found["interval"] is None
    assert found["health"]["mutual_information"] is None


def test_collapsed_codes_are_named(output):
    name = save(database_codes=np.abs(ARRAYS["database_codes"]))
    assert "warning: all 40 codes are the same" in output("evaluate", name)


def test_one_query_and_one_item(output):
    arrays = {key: value[:1] for key, value in ARRAYS.items()}
    found = results(output, save(**arrays), "--k", "1", "--radius", "99")
    assert found["scores"]["map_at_k"]["expected"] == 1
    assert found["scores"]["precision_at_radius"]["expected"] == 1


# Comparisons


@pytest.mark.parametrize("layout", ["one file", ".npz", ".npy"])
def test_comparison(output, layout):
    other = make(seed=1, noise=3)
    np.savez("other.npz", **other)
    for side in ("query", "database"):
        np.save(f"other_{side}.npy", other[f"{side}_codes"])
        np.savez(f"o_{side}.npz", codes=other[f"{side}_codes"], labels=other[f"{side}_labels"])
    arguments = {
        "one file": ["other.npz"],
        ".npz": ["o_query.npz", "--compare-database", "o_database.npz"],
        ".npy": ["other_query.npy", "--compare-database", "other_database.npy"],
    }[layout]
    found = results(output, save(), "--k", "5", "--compare", *arguments)["compare"]
    second = evaluate_retrieval(*other.values(), k=5)
    assert found["file"] == arguments[0] and found["other"] == second.to_json()
    first = expected(k=5)["scores"]["map_at_k"]["expected"]
    difference = first - second.scores["map_at_k"].expected
    assert found["difference"] == pytest.approx(difference, rel=1e-12)
    low, high = found["interval"]
    assert low < difference < high and 0 < found["p_value"] <= 1


def test_comparison_with_itself(output):
    text = output("evaluate", save(), "--compare", "codes.npz")
    assert (
        "mAP@all minus that of codes.npz: +0.0000, 95 % interval +0.0000 to +0.0000, p = 1" in text
    )


@pytest.mark.parametrize(
    ("arrays", "arguments", "said"),
    [
        ({}, "--compare-database other.npz", "--compare-database needs --compare"),
        ({}, "--compare nowhere.npz", "nowhere.npz: there is no such file"),
        ({}, "--compare q.npy", "q.npy: --compare-database is needed"),
        ({}, "--compare other.npz --convention all", "--compare needs one --convention"),
        (
            {"query_labels": np.arange(QUERIES)},
            "--compare other.npz",
            "other.npz: its queries have other labels",
        ),
        (
            {"query_codes": np.ones((QUERIES, 3)), "query_labels": ARRAYS["query_labels"]},
            "--compare other.npz",
            "other.npz: queries have 3 bits, the database 10",
        ),
        (
            {"database_labels": ARRAYS["database_labels"] + 9},
            "--compare other.npz",
            "other.npz: its database has other items",
        ),
        (
            {
                "database_codes": ARRAYS["database_codes"][1:],
                "database_labels": ARRAYS["database_labels"][1:],
            },
            "--compare other.npz",
            "other.npz: its database has other items",
        ),
    ],
)
def test_comparison_that_is_not_possible(refusal, unchecked, arrays, arguments, said):
    save("other.npz", **arrays)
    np.save("q.npy", ARRAYS["query_codes"])
    save()
    assert said in refusal("evaluate", "codes.npz", *arguments.split(), "--output", "a.json")


def test_comparison_of_codes_that_no_query_counts_for(refusal):
    for name in ("codes.npz", "other.npz"):
        save(name, database_labels=ARRAYS["database_labels"] + 9)
    line = refusal("evaluate", "codes.npz", "--compare", "other.npz", "--convention", "hashnet")
    assert "no query counts by --convention hashnet" in line


# Without the rest of the library

BLOCKED = ("flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "grain", "matplotlib")


@pytest.mark.parametrize("labels", ["arrays", "lists"])
def test_codes_are_evaluated_without_what_learning_needs(folder, labels):
    """In a fresh interpreter, where importing any of it fails."""
    arguments = [save()] if labels == "arrays" else save_separately(".txt")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({BLOCKED}))\n"
        f"from jaxhash.cli.main import main; main(['evaluate', *{arguments}, '--output', 'a.json'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(jaxhash.__file__).parents[1]), "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert read_strict_json("a.json")["scores"]["map"]["expected"] == pytest.approx(
        expected()["scores"]["map"]["expected"], rel=1e-12
    )
