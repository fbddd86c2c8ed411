"""A finished run is read as it was written, and what no longer fits it is refused or left out."""

import io
import shutil

import numpy as np
import pytest
from rich.console import Console
from run_samples import change_arrays, change_json, write_run

from jaxhash.data.readers.digits import read_digits
from jaxhash.runs.finished_run import RunItems, open_items, read_run
from jaxhash.utils.errors import UserError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    write_run(folder, bits=12)
    return folder


@pytest.fixture
def run(written, tmp_path):
    return shutil.copytree(written, tmp_path / "run")


def console():
    return Console(file=io.StringIO(), width=200)


def test_codes_are_those_of_the_file(written):
    run = read_run(written)
    with np.load(written / "codes.npz") as held:
        for side in ("query", "database"):
            bits = np.unpackbits(run.sides[side].codes, axis=1)[:, :12]
            np.testing.assert_array_equal(bits * 2.0 - 1, held[f"{side}_codes"])
            np.testing.assert_array_equal(run.sides[side].labels, held[f"{side}_labels"])


def test_items_are_those_of_the_data(written):
    run, digits = read_run(written), read_digits()
    items = open_items(run, console())
    assert items.note == ""
    for row in (0, 7, 199):
        number = int(items.name("query", row).removeprefix("item ").replace(",", ""))
        np.testing.assert_array_equal(items.image("query", row), digits.inputs[number])
        assert items.classes("query", row) == digits.class_names[digits.labels[number]]


def test_without_codes_all_else_is_read(run):
    (run / "codes.npz").unlink()
    assert read_run(run).sides is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query_codes": np.ones((3, 12), np.int8)}, "query_codes"),
        ({"database_labels": np.zeros(5, np.int32)}, "database_labels"),
        ({"query_codes": np.zeros((200, 12), np.int8)}, "-1 and +1"),
        ({"query_codes": None}, "query_codes"),
    ],
)
def test_damaged_codes_are_refused(run, change, said):
    change_arrays(run / "codes.npz", **change)
    with pytest.raises(UserError, match="codes.npz") as refused:
        read_run(run)
    assert said in str(refused.value)


def test_other_data_leave_names_and_a_note(run):
    labels = np.load(run / "codes.npz")["query_labels"]
    change_arrays(run / "codes.npz", query_labels=(labels + 1) % 10)
    screen = console()
    items = open_items(read_run(run), screen)
    assert items.source is None and items.image("query", 0) is None
    assert items.note in screen.file.getvalue()
    assert items.name("query", 3) == "query item 3"
    assert items.classes("query", 3) == f"class {(labels[3] + 1) % 10}"


def test_data_that_are_gone_leave_a_note(run):
    change_json(run / "config.json", dataset="features:gone.npz")
    items = open_items(read_run(run), console())
    assert "gone.npz" in items.note


def test_names_of_many_classes_are_cut():
    items = RunItems({})
    assert items.class_title(np.array([0, 1, 1, 0])) == "class 1, class 2"
    assert items.class_title(np.array([1, 1, 1, 0])) == "class 0, class 1, ..."
    assert items.class_title(np.int32(-1)) == items.class_title(np.zeros(3, int)) == "no label"
