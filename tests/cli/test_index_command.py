"""``jaxhash index``: a summary, changes in their order, and one line for each mistake."""

import shutil

import numpy as np
import pytest
from index_samples import make_files

from jaxhash.retrieval.index import Index


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_files(folder)
    return folder


@pytest.fixture
def index(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Index.open("index")


def live(index):
    return [int(id) for ids, _ in Index.open(index.folder).blocks() for id in ids]


def test_a_summary(index, output):
    lines = output("index", "index").splitlines()
    told = dict(line.split(maxsplit=1) for line in lines[1:])
    assert told["items"] == "7 of 12 bits"
    assert told["labels"] == "2: a 3, b 3"
    assert told["kept"] == "floats as float32"
    assert told["broken"].startswith("2 ")
    assert str(index.root) in told["root"] and "../root" in told["root"]
    assert "removed" not in told
    assert "3 items" in output("index", "index", "--remove", "0", "1/2.png", "3")
    assert "removed        3" in output("index", "index")


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["0", "5"], [1, 2, 3, 4, 6]),
        (["0/0.png", "./1/1.png", "{root}/1/2.png"], [1, 2, 3, 6]),
        (["x.npy#0"], [0, 1, 2, 3, 4, 5]),
        (["label=b", "6", "3"], [0, 1, 2]),
        (["@names.txt", "5"], [2, 6]),
    ],
)
def test_removing(index, output, names, left, tmp_path):
    (tmp_path / "names.txt").write_text("0\n\n1\n./1/1.png\nlabel=b\n1\n")
    output("index", "index", "--remove", *(name.format(root=index.root) for name in names))
    assert live(index) == left
    output("index", "index", "--compact")
    assert live(index) == left and Index.open("index").manifest.counts["removed"] == 0


def test_adding(index, output, tmp_path):
    """Vectors of 4 dimensions, with a row that is not finite; and again, when there is nothing new."""
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    vectors[3] = np.nan
    np.save(tmp_path / "root" / "new.npy", vectors)
    told = output("index", "index", "--remove", "label=b", "--add", "root/new.npy", "--compact")
    assert "removed 3 items" in told and "new.npy#3" in told
    opened = Index.open("index")
    assert live(opened) == [0, 1, 2, 6, 7, 8, 9, 10]
    assert [item.path for item in opened.items([7, 10])] == ["new.npy#0", "new.npy#4"]
    codes = np.concatenate([codes for _, codes in opened.blocks()])[4:]
    np.testing.assert_array_equal(codes, index.hasher().encode(vectors[[0, 1, 2, 4]]))
    _, floats = opened.vectors([7, 8])
    np.testing.assert_array_equal(floats, index.hasher().encode_floats(vectors[:2]))
    before = opened.manifest
    output("index", "index", "--add", "root/new.npy", "--verify", "--files")
    assert Index.open("index").manifest == before


def test_several_changes_and_verification(index, output, tmp_path):
    (tmp_path / "root").rename(tmp_path / "moved")
    (tmp_path / "moved" / "0" / "0.png").unlink()
    changes = ("--verify", "--files", "--compact", "--remove", "0/0.png", "--root", "moved")
    assert "6 items" in output("index", "index", *changes)
    assert live(index) == [1, 2, 3, 4, 5, 6]


def test_problems_are_lines_and_status_1(index, capsys):
    from jaxhash.cli.main import main

    (index.root / "0" / "0.png").unlink()
    (index.root / "1" / "1.png").write_text("another")
    main(["index", "index", "--verify"])
    with pytest.raises(SystemExit) as exit:
        main(["index", "index", "--verify", "--files"])
    assert exit.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["0/0.png", "1/1.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "jaxhash index --help"),
        ("none", "no such folder"),
        ("root", "no index.json"),
        ("index --remove 17", "id 17"),
        (f"index --remove {2**70}", f"id {2**70}"),
        ("index --remove 0 1/9.png", "'1/9.png'"),
        ("index --remove label=c 0", "label 'c'"),
        ("index --remove @none.txt", "--remove @none.txt cannot be read"),
        ("index --remove @root", "--remove @root cannot be read"),
        ("index --root elsewhere", "--root elsewhere"),
        ("index --add none.npy", "none.npy"),
        ("index --add root/0", "vectors of 4 dimensions"),
        ("index --strict", "--strict needs --add"),
        ("index --files", "--files needs --verify"),
        ("index --removed 3", "did you mean --remove?"),
    ],
)
def test_mistakes(index, refusal, words, said):
    assert said in refusal("index", *words.split())


def test_files_of_a_root_that_has_moved(index, refusal, tmp_path):
    (tmp_path / "root").rename(tmp_path / "moved")
    assert "jaxhash index index --root DIR" in refusal("index", "index", "--verify", "--files")


def test_a_second_writer(index, refusal):
    with index.writing():
        assert "another process" in refusal("index", "index", "--compact")
        assert live(index)
