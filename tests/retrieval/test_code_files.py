"""``jaxhash evaluate CODES``: every layout of files, what is written, and one line for a mistake."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

import jaxhash
from jaxhash.metrics import CONVENTIONS, code_health, retrieval

QUERIES, ITEMS, BITS = 12, 40, 10


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of the test run, which would speak before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def make(seed=0, noise=1.0):
    """Real-valued codes and ids of queries and items, of four classes."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(9).normal(size=(4, BITS))
    labels = [np.arange(n) % 4 for n in (QUERIES, ITEMS)]
    codes = [centers[some] + noise * rng.normal(size=(len(some), BITS)) for some in labels]
    return {
        "query_codes": codes[0],
        "query_labels": labels[0],
        "database_codes": codes[1],
        "database_labels": labels[1],
    }


ARRAYS = make()


def save(name="codes.npz", **arrays):
    np.savez(name, **{**ARRAYS, **arrays})
    return name


def strict(path):
    """The content of a JSON file, which has no word for NaN or infinity."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(Path(path).read_text(), parse_constant=refuse)


def results(output, *arguments):
    """What a command writes; it writes nothing else."""
    before = set(Path().rglob("*"))
    output("evaluate", *arguments, "--output", "results.json")
    assert set(Path().rglob("*")) - before == {Path("results.json")}
    return strict("results.json")


def expected(**options):
    return retrieval(*ARRAYS.values(), **options).to_json()


# Layouts


def split_files(suffix):
    """The same codes and labels in files of their own; returns the arguments that name them."""
    for side in ("query", "database"):
        codes, labels = ARRAYS[f"{side}_codes"], ARRAYS[f"{side}_labels"]
        np.save(f"{side}.npy", codes)
        np.save(f"{side}_labels.npy", labels)
        np.savez(f"{side}.npz", codes=codes, labels=labels)
        np.savez(f"{side}_wrong_labels.npz", codes=codes, labels=labels[::-1])
        lines = [f"{side}/{i}.jpg {label}\n" for i, label in enumerate(labels)]
        Path(f"{side}.txt").write_text("".join(lines))
    ends = {".npz": "{}.npz", ".npy": "{}.npy", ".txt": "{}.npy", "override": "{}_wrong_labels.npz"}
    query, database = (ends[suffix].format(side) for side in ("query", "database"))
    arguments = [query, "--database", database]
    if suffix != ".npz":
        label_file = "{}.txt" if suffix == ".txt" else "{}_labels.npy"
        arguments += ["--labels", label_file.format("query")]
        arguments += ["--database-labels", label_file.format("database")]
    return arguments


@pytest.mark.parametrize("layout", ["one file", ".npz", ".npy", ".txt", "override"])
def test_every_layout_has_the_same_results(output, layout):
    if layout == ".txt" and not importlib.util.find_spec("jaxhash.data.readers.lists"):
        pytest.skip("list files cannot be read yet")
    arguments = [save()] if layout == "one file" else split_files(layout)
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
    assert found["scores"] == retrieval(*arrays.values()).to_json()["scores"]
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
    found = strict("results.json")
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
    second = retrieval(*other.values(), k=5)
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


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nowhere.npz", "nowhere.npz: there is no such file"),
        ("q.npz --database nowhere.npy", "nowhere.npy holds no labels"),
        ("q.npz --database nowhere.npz", "nowhere.npz: there is no such file"),
        ("codes.npz --k 41", "codes.npz: k=41 is larger than the database of 40 items"),
        ("codes.npz --k 0", "k must be at least 1, got 0"),
        ("codes.npz --radius -1", "radius must be at least 0, got -1"),
        ("codes.npz --bits 12", "codes.npz: bits=12, but the codes have 10 columns"),
        ("codes.npz --zero 0", "'+1', '-1', 'error'"),
        ("codes.npz --convention mean", "'mean'"),
        ("codes.npz --relevance near", "'near'"),
        ("codes.npz --output a.txt", "--output a.txt must end in .json"),
        ("codes.npz --output nowhere/a.json", "--output nowhere/a.json: there is no such folder"),
        ("codes.npz --data-dir .", "--data-dir is for the folder of a run"),
        ("codes.npz --labels ql.npy", "codes.npz: --database is needed"),
        ("q.npy --labels ql.npy", "q.npy: --database is needed"),
        ("q.npy --database d.npy", "q.npy holds no labels: --labels names their file"),
        (
            "q.npy --database d.npy --labels ql.npy",
            "d.npy holds no labels: --database-labels names",
        ),
        (
            "q.npy --labels codes.npz --database d.npy",
            "codes.npz: labels are read from a .npy or a list file",
        ),
        (
            "q.npy --labels nowhere.npy --database d.npy",
            "nowhere.npy: there is no such file",
        ),
        (
            "codes.npz --database q.npz",
            "codes.npz: no array 'codes'; the file holds ['database_codes",
        ),
        ("q.npz", "q.npz: no array 'query_codes'; the file holds ['codes', 'labels']; or give"),
        (
            "q.npz --database q.npz --database-labels dl.npy",
            "q.npz: there are 12 database codes and 40 labels",
        ),
        ("array.npz", "array.npz: not a readable .npz file (it holds one array"),
        (
            "several.npy --database q.npz --labels ql.npy",
            "several.npy: not a readable .npy file (it holds several",
        ),
        ("text.npz", "text.npz: not a readable .npz file (it is neither"),
        ("empty.npz", "empty.npz: not a readable .npz file (it is neither"),
        ("text.txt", "text.txt is neither a file of codes (.npz, .npy) nor a run's folder"),
        ("half.npz", "half.npz: not a readable .npz file"),
        ("members.npz", "members.npz: array 'query_codes' is not readable"),
        (". --k 3", "--k is for files of codes"),
    ],
)
def test_files_and_options_that_do_not_fit(refusal, unchecked, arguments, said):
    save()
    np.savez("q.npz", codes=ARRAYS["query_codes"], labels=ARRAYS["query_labels"])
    for name, key in (("q", "query_codes"), ("d", "database_codes"), ("ql", "query_labels")):
        np.save(f"{name}.npy", ARRAYS[key])
    np.save("dl.npy", ARRAYS["database_labels"])
    Path("array.npz").write_bytes(Path("q.npy").read_bytes())
    Path("several.npy").write_bytes(Path("q.npz").read_bytes())
    for name in ("text.npz", "text.txt"):
        Path(name).write_text("im1.jpg 0 1\n")
    Path("empty.npz").touch()
    Path("half.npz").write_bytes(Path("codes.npz").read_bytes()[:1500])
    with zipfile.ZipFile("members.npz", "w") as file:
        for key in ARRAYS:
            file.writestr(f"{key}.npy", "no array")
    assert said in refusal("evaluate", *arguments.split())


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"query_codes": np.full((QUERIES, BITS), np.nan)}, "query codes hold NaN"),
        ({"database_codes": np.ones((ITEMS, 3))}, "queries have 10 bits, the database 3"),
        ({"database_codes": np.ones((0, BITS))}, "database codes must have shape"),
        ({"query_labels": np.arange(3)}, "there are 12 query codes and 3 labels"),
        ({"query_labels": np.eye(QUERIES)}, "labels must be of one kind on both sides"),
        ({"query_labels": np.full(QUERIES, "cat")}, "query labels must be numbers, got <U3"),
    ],
)
def test_arrays_that_do_not_fit(refusal, unchecked, arrays, said):
    assert f"codes.npz: {said}" in refusal("evaluate", save(**arrays), "--output", "a.json")


class Trap:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("key", ["query_codes", "database_labels"])
def test_pickles_are_not_loaded(refusal, key):
    save(**{key: np.array([Trap()], object)})
    line = refusal("evaluate", "codes.npz")  # which looks at the files too
    assert f"codes.npz: array '{key}' is not readable (it holds object" in line
    np.save("trap.npy", np.array([Trap()], object))
    assert "trap.npy: not a readable .npy file" in refusal(
        "evaluate", "trap.npy", "--database", "codes.npz", "--labels", "trap.npy"
    )


@pytest.mark.parametrize("name", ["stored.npz", "compressed.npz", "array.npy"])
def test_damaged_file_is_read_or_refused(name):
    """Every part of a file damaged, by the reader alone: nothing but `UserError` comes out."""
    from jaxhash.retrieval.code_files import read_query_and_database
    from jaxhash.utils.errors import UserError

    small = np.eye(3, dtype=np.int8)
    np.savez("stored.npz", codes=small, labels=np.arange(3))
    np.savez_compressed("compressed.npz", codes=small, labels=np.arange(3))
    np.save("array.npy", small)
    np.save("labels.npy", np.arange(3))
    content = Path(name).read_bytes()
    labels = Path("labels.npy") if name == "array.npy" else None
    bad, refused = Path(f"bad{Path(name).suffix}"), 0
    for at in range(len(content)):
        for byte in (0xFF, content[at] ^ 1):
            bad.write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
            try:
                read_query_and_database(bad, Path("stored.npz"), labels)
            except UserError as error:
                assert str(error).startswith(f"{bad}") and "\n" not in str(error)
                refused += 1
    assert refused > 50


def test_list_of_labels_with_a_malformed_line(refusal):
    split_files(".npy")
    lines = Path("query.txt").read_text().splitlines()
    lines[6] = "im.jpg cat"
    Path("query.txt").write_text("\n".join(lines))
    line = refusal("evaluate", "query.npy", "--database", "database.npz", "--labels", "query.txt")
    assert "query.txt, line 7: " in line and "'cat'" in line


# Without the rest of the library

BLOCKED = ("flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "grain", "matplotlib")


@pytest.mark.parametrize("labels", ["arrays", "lists"])
def test_codes_are_evaluated_without_what_learning_needs(folder, labels):
    """In a fresh interpreter, where importing any of it fails."""
    arguments = [save()] if labels == "arrays" else split_files(".txt")
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
    assert strict("a.json")["scores"]["map"]["expected"] == pytest.approx(
        expected()["scores"]["map"]["expected"], rel=1e-12
    )
