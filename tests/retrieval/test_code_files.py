"""Code files: one line for a mistake that begins with the file at fault, and nothing executed."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from code_samples import ARRAYS, BITS, ITEMS, QUERIES, save, save_separately

from jaxhash.retrieval.code_files import read_query_and_database
from jaxhash.utils.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
        ("codes.npz --zero 0", "+1, -1, error"),
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
    save_separately(".npy")
    lines = Path("query.txt").read_text().splitlines()
    lines[6] = "im.jpg cat"
    Path("query.txt").write_text("\n".join(lines))
    line = refusal("evaluate", "query.npy", "--database", "database.npz", "--labels", "query.txt")
    assert "query.txt, line 7: " in line and "'cat'" in line
