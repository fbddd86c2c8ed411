"""``jaxhash dedupe``: lists, a page, what is refused, and one line for each mistake."""

import csv
import json
import shutil

import numpy as np
import pytest
from duplicate_oracle import components, star
from index_samples import Item, MadeHasher, digests_of
from PIL import Image

from jaxhash.cli.main import main
from jaxhash.retrieval.index import Index

NAMES = ["a b.png", "new\nline.png", "写真.png", "<img onerror=x>.png", "`k=3`.png", "@7.png"]

#: 12 bits; at radius 2 the first four chain, and the last two are near each other.
CODES = np.array([[0, 0], [1, 0], [3, 0], [15, 0], [255, 240], [255, 224], [255, 224]], np.uint8)


class OtherHasher(MadeHasher):
    digest = "cd" * 32


def make_index(folder, codes, hasher=None):
    """An index of images, the size of whose files rises, and a row of an array as the last item."""
    items = []
    for row in range(len(codes) - 1):
        name = NAMES[row % len(NAMES)]
        path = folder.parent / "photos" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 30 * row, np.uint8)).save(path)
        items.append(Item(f"photos/{name}", 10 + row, 5, label="ab"[row % 2]))
    items.append(Item("x.npy#0", 4, 0))
    index = Index.create(folder, hasher or MadeHasher(), root=folder.parent)
    index.add(codes, items, digests_of(len(codes)))
    return index


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_index(folder / "index", CODES)
    make_index(folder / "other", CODES[[4, 1, 3]])
    make_index(folder / "foreign", CODES, OtherHasher())
    return folder


@pytest.fixture
def index(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Index.open("index")


def as_dict(groups):
    """Groups of the JSON as the oracle has them."""
    return {
        group["kept"]["id"]: sorted((each["distance"], each["id"]) for each in group["duplicates"])
        for group in groups
    }


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_json_holds_the_groups_and_nothing_else_is_printed(index, output, radius):
    found = json.loads(output("dedupe", "index", "--radius", f"{radius}", "--json"))
    assert as_dict(found) == star(range(7), CODES, radius)
    for group in found:
        assert set(group) == {"kept", "duplicates"} and group["kept"]["distance"] == 0
        for item in (group["kept"], *group["duplicates"]):
            assert tuple(item) == ("id", "path", "distance", "label")
            [expected] = index.items([item["id"]])
            assert (item["path"], item["label"]) == (expected.path, expected.label)


def test_components_and_rules(index, output):
    words = ("dedupe", "index", "--json", "--radius")
    found = json.loads(output(*words, "2", "--groups", "components", "--force"))
    assert as_dict(found) == components(range(7), CODES, 2)
    found = json.loads(output(*words, "1", "--keep", "largest"))
    expected = star([5, 4, 3, 2, 1, 0, 6], CODES[[5, 4, 3, 2, 1, 0, 6]], 1)  # 6 is no file
    assert as_dict(found) == expected and list(as_dict(found)) == list(expected)


def test_what_is_told(index, output):
    text = output("dedupe", "index", "--radius", "2")
    lines = [line.split() for line in text.splitlines()]
    assert [
        "2",
        "7",
        "20.0%",
        "2",
        "4",
        "4",
    ] in lines  # radius, pairs, same label, linked groups, largest, farthest
    assert "groups with more than one label: 2" in text
    assert r"new\nline.png" in text and "`k=3`.png" in text
    assert "4 duplicates (57.1% of 7 items)" in text


def test_lists_can_be_removed(index, output, tmp_path):
    expected = [id for group in star(range(7), CODES, 1).values() for _, id in group]
    for name in ("list.json", "list.csv", "list.txt"):
        assert f"written: {name}" in output("dedupe", "index", "--radius", "1", "--output", name)
    assert as_dict(json.loads((tmp_path / "list.json").read_text())) == star(range(7), CODES, 1)
    with open("list.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows if row["role"] == "duplicate"] == expected
    assert f"removed {len(expected)} items" in output("index", "index", "--remove", "@list.txt")
    assert json.loads(output("dedupe", "index", "--radius", "1", "--json")) == []


def test_against(index, output):
    words = ("dedupe", "index", "--against", "other", "--radius", "1", "--json")
    found = json.loads(output(*words, "--html", "page.html"))
    assert as_dict(found) == {0: [(0, 4), (1, 5), (1, 6)], 1: [(0, 1), (1, 0), (1, 2)], 2: [(0, 3)]}
    assert [group["kept"]["path"] for group in found] == [
        "photos/a b.png",
        "photos/new\nline.png",
        "x.npy#0",
    ]


def test_json_and_files_go_together(index, capsys):
    main(
        [
            "dedupe",
            "index",
            "--radius",
            "1",
            "--json",
            "--output",
            "list.json",
            "--html",
            "page.html",
        ]
    )
    printed = capsys.readouterr()
    with open("list.json") as file:
        assert json.load(file) == json.loads(printed.out)
    assert "written: page.html" in printed.err and "radius" in printed.err
    with open("page.html") as file:
        page = file.read()
    assert page.count("data:image/jpeg") > 6 and "<img onerror" not in page


def test_chains_are_refused_and_shown(index, capsys):
    with pytest.raises(SystemExit) as exit:
        main(
            ["dedupe", "index", "--radius", "2", "--groups", "components", "--output", "list.json"]
        )
    printed = capsys.readouterr()
    assert exit.value.code == 2 and printed.err.count("\n") == 1
    for figure in ("--radius 2 chain", "1 of 2 groups", "up to 4", "4 items, 57.1%", "--force"):
        assert figure in printed.err
    assert "pairs at distance 2" in printed.out and "photos/写真.png" in printed.out
    assert not (index.folder.parent / "list.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "jaxhash dedupe --help"),
        ("index", "missing: --radius"),
        ("none --radius 1", "none: there is no such folder"),
        ("photos --radius 1", "no index.json"),
        ("index --radius -1", "--radius must be from 0 to 11"),
        ("index --radius 12", "--radius must be from 0 to 11"),
        ("index --radius few", "--radius"),
        ("index --radius 1 --groups clique", "--groups: expected one of star, components"),
        ("index --radius 1 --keep best", "--keep: expected one of"),
        ("index --radius 1 --against ./index", "--against index is the index itself"),
        ("index --radius 1 --against foreign", "their codes do not compare"),
        ("index --radius 1 --against other --groups components", "--against"),
        (
            "index --radius 1 --output list.xml",
            "--output list.xml must end in .json or .csv or .txt",
        ),
        ("index --radius 1 --html photos", "--html photos must end in .html"),
        ("index --radius 1 --html gone/page.html", "no such folder"),
    ],
)
def test_mistakes(index, refusal, words, said):
    assert said in refusal("dedupe", *words.split())
