"""``jaxhash data check``: what it finds in planted splits, what it prints, its status."""

import io
import itertools
import json
import os
import tempfile
import tracemalloc

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from jaxhash.cli.main import main
from jaxhash.data import rows
from jaxhash.data.checks import split_report
from jaxhash.data.checks.duplicates import find_equal_inputs
from jaxhash.data.checks.split_report import LabeledSplit, examine_split, print_findings
from jaxhash.data.splits import Split
from jaxhash.utils.errors import UserError

IDS = np.array([0, 1, 0, 1, 2, 2, 0, -1])


def small_split(train=(0, 1), query=(2, 3), database=(4, 5, 6, 7), validation=()):
    return Split("small", *(np.array(part, int) for part in (train, query, database, validation)))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder: a clean folder of lists, and one that has every fault."""
    monkeypatch.chdir(tmp_path)
    clean = {
        "train.txt": "a 1 0 0\nb 0 1 0\n",
        "test.txt": "q 1 0 0\nr 0 0 0\n",
        "database.txt": "w 0 1 0\nx 1 1 0\ny 0 1 0\nz 1 0 0\n",
    }
    faulty = clean | {
        "test.txt": clean["test.txt"] + "a 1 1 0\ny 0 1 0\nx 1 1 0\n",
        "train.txt": clean["train.txt"] * 2,
    }
    for name, lists in (("clean", clean), ("faulty", faulty)):
        (tmp_path / name).mkdir()
        for file, content in lists.items():
            (tmp_path / name / file).write_text(content)
    return tmp_path


@pytest.fixture
def check(capsys):
    """A function that runs the command, and returns its status and what it prints."""

    def run(*arguments):
        try:
            main(("data", "check", *map(str, arguments)))
            status = 0
        except SystemExit as exit:
            status = exit.code
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def table(text, first_column):
    """The rows of the table whose first column has this title, by their first cell."""
    lines = [line.split() for line in text.splitlines()]
    start = next(i for i, cells in enumerate(lines) if cells[:1] == [first_column])
    return {cells[0]: cells[1:] for cells in lines[start + 1 :] if cells}


# What is found


def test_labels_of_each_part():
    found = examine_split(LabeledSplit(small_split(), IDS, "abc"))
    assert found["classes"] == [
        {"class": "a", "train": 1, "query": 1, "database": 1},
        {"class": "b", "train": 1, "query": 1, "database": 0},
        {"class": "c", "train": 0, "query": 0, "database": 2},
    ]
    assert found["unlabelled"] == {"train": 0, "query": 0, "database": 1}


def test_labels_of_items_of_several_classes():
    rows = np.array([[1, 1], [0, 1], [0, 0], [1, 0]])
    split = small_split(train=(0, 1), query=(2,), database=(3, 0))
    found = examine_split(LabeledSplit(split, rows, ("a", "b")))
    assert found["classes"] == [
        {"class": "a", "train": 1, "query": 0, "database": 2},
        {"class": "b", "train": 2, "query": 0, "database": 1},
    ]
    assert found["unlabelled"] == {"train": 0, "query": 1, "database": 0}


def test_repeated_items_count_as_often_as_they_stand_there():
    found = examine_split(LabeledSplit(small_split(database=(4, 4, 5)), IDS, "abc"))
    assert found["items"]["database"] == 3 and found["repeated"]["database"] == 1
    assert found["classes"][2]["database"] == 3


def test_findings_of_a_split_alone():
    split = small_split(validation=(3,))
    assert examine_split(LabeledSplit(split)) == {
        "split": "small",
        "sha256": split.sha256,
        "items": {"train": 2, "validation": 1, "query": 2, "database": 4},
        "repeated": {"train": 0, "validation": 0, "query": 0, "database": 0},
        "overlaps": split.overlaps(),
        "leaks": ["query and validation share 1 item"],
        "leaking_items": ["query and validation share 1 item (item 3)"],
        "conflicts": [],
        "notes": [],
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("labels", "alike", "chance", "by_class"),
    [
        ([0, 0, 0, 1, 1, 1], 4 / 5, 12 / 30, True),
        ([0, 1, 0, 1, 0, 1], 0.0, 12 / 30, False),
        ([0, 0, 1, 0, 1, 1], 2 / 5, 12 / 30, False),
        ([0, 0, 1, 1, 0, 0, 1, 1], 4 / 7, 24 / 56, False),
        ([5, 5, 5], 1.0, 1.0, False),
        ([5], 0.0, 0.0, False),
        ([[1, 0]] * 3 + [[1, 1]] * 3, 4 / 5, 12 / 30, True),
    ],
)
def test_order_of_the_database(labels, alike, chance, by_class):
    labels = np.array(labels)
    split = small_split(train=(0,), query=(0,), database=np.arange(len(labels)))
    order = examine_split(LabeledSplit(split, labels, "abcdef"[: 2 if labels.ndim == 2 else 6]))[
        "order"
    ]
    assert (order["neighbours_alike"], order["by_chance"]) == pytest.approx((alike, chance))
    assert order["class_by_class"] is by_class


def test_order_is_that_of_the_database_not_of_the_item_numbers():
    split = small_split(train=(0,), query=(0,), database=[0, 3, 1, 4, 2, 5])
    order = examine_split(LabeledSplit(split, np.array([0, 0, 0, 1, 1, 1]), "ab"))["order"]
    assert order["neighbours_alike"] == 0.0 and not order["class_by_class"]


def test_order_of_long_databases():
    """Training part and test part, each class by class, are found; a shuffled database is not."""
    twice = np.concatenate([np.repeat(np.arange(10), 50), np.repeat(np.arange(10), 10)])
    for labels, by_class in ((twice, True), (np.random.default_rng(0).permutation(twice), False)):
        split = small_split(train=(0,), query=(0,), database=np.arange(600))
        order = examine_split(LabeledSplit(split, labels, "abcdefghij"))["order"]
        assert order["class_by_class"] is by_class


def test_equal_inputs_of_different_items():
    """Items 1, 4 and 5 have one input, 2 and 3 another, 0 and 6 a third."""
    inputs = np.array([7, 1, 5, 5, 1, 1, 7])[:, None] * np.ones(3, np.float32)
    split = small_split(train=(0, 1), query=(2, 4), database=(0, 1, 3, 5, 6))
    assert examine_split(LabeledSplit(split, inputs=inputs))["same_content"] == {
        "train": {"query": 1, "database": 2},
        "query": {"train": 1, "database": 2},
        "database": {"train": 2, "query": 3},
    }
    named = examine_split(LabeledSplit(split, inputs=inputs, name_of="{}.png".format))[
        "leaking_items"
    ]
    assert named == [
        "equal inputs: query 4.png and train 1.png; query 2.png and database 3.png; "
        "query 4.png and database 1.png"
    ]
    alone = small_split(train=(0, 1), query=(2,), database=(0, 1))
    assert examine_split(LabeledSplit(alone, inputs=inputs))["same_content"] == {
        "train": {"query": 0, "database": 0},
        "query": {"train": 0, "database": 0},
        "database": {"train": 0, "query": 0},
    }


def test_near_duplicates_that_memory_does_not_hold_are_left_out(monkeypatch):
    items, order = 20_000, np.random.default_rng(0).permutation(20_000)
    inputs = np.random.default_rng(1).normal(size=(items, 4)).astype(np.float32)
    split = Split("some", order[500:], order[:500], order[500:])
    limit = items * split_report.NEAR_BYTES_PER_ITEM
    monkeypatch.setattr(split_report, "free_memory", lambda: limit)
    tracemalloc.start()
    found = examine_split(LabeledSplit(split, inputs=inputs))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert limit / 2 < peak < limit and not found["notes"]
    monkeypatch.setattr(split_report, "free_memory", lambda: limit - 1)
    less = examine_split(LabeledSplit(split, inputs=inputs))
    assert less["near_duplicates"]["counts"] == {}
    assert len(less["notes"]) == 1 and "20,000 items take about" in less["notes"][0]
    console = Console(file=io.StringIO(), width=300)
    print_findings(less, console)
    assert less["notes"][0] in console.file.getvalue()


class KnownDigests:
    """Inputs whose digests are known, as those of a folder of images that was opened before."""

    def __init__(self, digests):
        self.digests = digests

    def __len__(self):
        return len(self.digests)

    def __getitem__(self, rows):
        return self.digests[rows, None]


@pytest.mark.parametrize("equal", [1, 10, 20_000])
def test_equal_inputs_do_not_depend_on_the_memory_and_keep_within_it(equal):
    """Of many contents; of few, of which a remainder has more items than fit; and of one."""
    rng, items = np.random.default_rng(equal), 20_000
    inputs = KnownDigests(rng.integers(0, items // equal, items).astype(np.uint64) * 2**40 + 7)
    parts = np.split(rng.permutation(items), [8_000, 9_000, 10_000])
    train, query, validation, database = parts
    split = Split("some", train, query, np.append(database, train), validation)
    whole = find_equal_inputs(split, inputs)
    assert len(whole.examples) == 12
    for memory_bytes in (2**20, 2**18):
        tracemalloc.start()
        assert find_equal_inputs(split, inputs, memory_bytes=memory_bytes) == whole
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < memory_bytes + 9 * items


def test_a_full_folder_of_temporary_files_is_named(monkeypatch):
    full = lambda max_size: open("/dev/full", "r+b")  # noqa: E731, SIM115
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", full)
    with pytest.raises(UserError, match=rf"2 inputs .* {tempfile.gettempdir()} .*TMPDIR"):
        find_equal_inputs(Split("some", *np.eye(3, dtype=int)[:, :1]), np.zeros((4, 1)))


def test_a_split_is_examined_within_the_memory():
    """Twice the items take item numbers more, in several copies, and no more for what is compared."""
    rng, peaks = np.random.default_rng(0), []
    for items in (20_000, 40_000):
        inputs = KnownDigests(rng.integers(1, 2**60, items).astype(np.uint64))
        order = rng.permutation(items)
        split = Split("some", order[500:], order[:500], order[500:])
        labels = rng.integers(0, 10, items)
        tracemalloc.start()
        found = examine_split(LabeledSplit(split, labels, "abcdefghij", inputs), memory_bytes=2**18)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found["same_content"]["query"]["train"] == 0
        assert found["classes"][3]["query"] == (labels[split.query] == 3).sum()
    assert peaks[1] - peaks[0] < 60 * 20_000


def test_order_and_classes_are_counted_over_blocks(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 2, (300, 3)) * np.array([1, 1, 0])
    labels = labels[np.lexsort(labels.T)]
    split = small_split(train=(0,), query=(0,), database=np.arange(300))
    whole = examine_split(LabeledSplit(split, labels, "abc"))
    assert whole["order"]["neighbours_alike"] == 296 / 299 and whole["order"]["class_by_class"]
    assert whole["order"]["by_chance"] < 0.3
    monkeypatch.setattr(rows, "BLOCK_BYTES", 7 * 32)
    assert len(list(split_report._label_blocks(split.database, labels))) == 43
    assert examine_split(LabeledSplit(split, labels, "abc")) == whole


def test_equal_inputs_by_brute_force():
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 900, (2_000, 1)).astype(np.uint8).repeat(3, 1)
    inputs[:, 1:] = rng.integers(0, 3, (2_000, 2))
    names = ("train", "query", "database")
    parts = dict(zip(names, np.split(rng.permutation(2_000)[:1_500], [600, 700]), strict=True))
    parts["database"] = np.append(parts["database"], parts["train"][:50])
    found = examine_split(LabeledSplit(Split("some", **parts), inputs=inputs))["same_content"]
    for first, second in itertools.permutations(parts, 2):
        mine, theirs = parts[first], parts[second]
        equal = (inputs[mine][:, None] == inputs[theirs]).all(-1) & (mine[:, None] != theirs)
        assert found[first][second] == equal.any(axis=1).sum()


def test_images_that_cannot_be_read_are_told(check, folder):
    """Images of several sizes, of which one is none."""
    for number in range(12):
        path = folder / "pets" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((4 + number, 5, 3), number, np.uint8)
        PIL.Image.fromarray(image).save(path)
    path.write_bytes(b"")
    options = ("--queries-per-class", 1, "--train-per-class", 2, "--json", "found.json")
    status, text = check("--dataset", "folder:pets", "--image-size", 4, *options)
    assert status == 0
    assert "warning: unreadable images, left out: 1 (dog/11.png: an empty file)" in text
    found = json.loads((folder / "found.json").read_text())
    assert found["left_out"] == ["dog/11.png: an empty file"]
    assert found["items"] == {"train": 4, "query": 2, "database": 5}


# What is printed


def test_clean_lists(check):
    status, text = check("--lists", "clean")
    assert status == 0 and text.splitlines()[-1] == "no leak"
    rows = table(text, "part")
    assert rows["train"][:6] == ["2", "0", "0", "-", "0", "0"]
    assert rows["query"][:6] == ["2", "0", "1", "0", "-", "0"]
    rows = table(text, "class")
    assert [rows[name] for name in "012"] == [["1", "1", "2"], ["1", "0", "3"], ["0", "0", "0"]]
    assert "classes without any train item: 2\n" in text
    assert "classes without any query item: 1, 2\n" in text
    assert "queries with nothing relevant in the database: 1 of 2\n" in text
    assert "warning" not in text


def test_faulty_lists(check):
    status, text = check("--lists", "faulty")
    assert status == 1
    assert text.splitlines()[-1] == (
        "leak: query and train share 1 item; query and database share 2 items; train holds 2 items "
        "more than once"
    )
    assert table(text, "part")["query"][:6] == ["5", "0", "1", "1", "-", "2"]
    assert "warning: lines with other labels than their path has before: 1 (a has other" in text


def test_the_same_lists_by_their_names(check):
    files = [f"--{part}=clean/{name}.txt" for part, name in FILES.items()]
    assert check(*files) == check("--lists", "clean")


FILES = {"train": "train", "query": "test", "database": "database"}


def test_findings_as_json(check, folder):
    status, _ = check("--lists", "faulty", "--json", "found.json")
    found = json.loads((folder / "found.json").read_text())
    assert status == 1
    assert found["overlaps"]["query"] == {"train": 1, "query": 5, "database": 2}
    assert found["leaks"][0] == "query and train share 1 item" and len(found["conflicts"]) == 1


def test_split_file(check):
    np.savez("mine.npz", train=[0, 1], query=[2], database=[3, 2])
    status, text = check("--split", "mine.npz")
    assert status == 1 and text.splitlines()[-1] == "leak: query and database share 1 item"
    assert table(text, "part")["query"] == ["1", "0", "0", "-", "1"]
    assert "no label" not in text and "class" not in text


def test_feature_file(check):
    """Four of ten queries hold the vectors of training items; the file is sorted by class."""
    labels = np.repeat(np.arange(30), 10)
    features = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    features[10:14] = features[:4]
    np.savez("some.npz", features=features, labels=labels)
    np.savez("mine.npz", train=range(5), query=range(10, 20), database=range(100, 300))
    status, text = check("--dataset", "features:some.npz", "--protocol", "mine.npz")
    assert status == 1 and text.splitlines()[-1] == (
        "leak: 4 of 10 query items (40 %) have an equal input in train"
    )
    assert "in database: " not in text
    assert "the database is stored class by class: 90.5% of neighbors" in text
    assert table(text, "class")["fewest"] == ["0", "(1)", "0", "(0)", "0", "(0)"]
    assert table(text, "class")["most"] == ["5", "(0)", "10", "(1)", "10", "(29)"]
    assert "classes without any train item: 1, 2, 3, 4, 5, 6, 7, 8 and 21 more\n" in text


@pytest.mark.parametrize(("equal", "status"), [(0, 0), (1, 0), (2, 1)])
def test_equal_inputs_from_one_percent_on_are_a_leak(check, equal, status):
    """The limit for 200 queries; below it there is a warning."""
    features = np.random.default_rng(0).normal(size=(600, 4))
    features[600 - equal :] = features[:equal]
    np.savez("some.npz", features=features, labels=np.arange(600) % 3)
    np.savez("mine.npz", train=range(200), query=range(400, 600), database=range(200, 400))
    found, text = check("--dataset", "features:some.npz", "--protocol", "mine.npz")
    sentence = f"{equal} of 200 query items ({equal / 2:g} %) have an equal input in train"
    said = {(0, 0): "no leak", (1, 0): f"warning: {sentence}\nno leak", (2, 1): f"leak: {sentence}"}
    assert found == status and text.endswith(said[equal, status] + "\n")


def test_data_set_with_its_default_protocol(check):
    arguments = ("--dataset", "digits", "--queries-per-class", 20, "--train-per-class", 80)
    status, text = check(*arguments)
    assert status == 0 and "per-class-20-80-rest-seed0, split 1dba155209b1" in text
    assert "warning" not in text
    assert "per-class-20-80-rest-seed3" in check(*arguments, "--split-seed", 3)[1]


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "name one split: by --lists, by --train, --query and --database, by --dataset, or by"),
        ("--lists clean --dataset digits", "got --lists and --dataset"),
        (
            "--lists clean --train clean/train.txt",
            "got --lists and --train, --query and --database",
        ),
        ("--train clean/train.txt --query clean/test.txt", "--database is missing: a split has"),
        ("--lists nowhere", "nowhere: there is no such folder of lists"),
        ("--lists clean --protocol coco", "--protocol needs --dataset"),
        ("--split a.npz --split-seed 1", "--split-seed needs --dataset"),
        ("--split a.npz --image-size 8", "--image-size needs --dataset"),
        ("--split a.npz", "a.npz: there is no such split file"),
        ("--dataset digits --protocol cocoo", "did you mean coco?"),
        ("--dataset digits --protocol a.npz", "a.npz: there is no such split file"),
        ("--list clean", "did you mean --lists?"),
    ],
)
def test_mistake(check, arguments, said):
    status, line = check(*arguments.split())
    assert status == 2 and line.startswith("jaxhash: ") and line.index("\n") == len(line) - 1
    assert said in line


# Real lists


def test_mirflickr(check, shared_data):
    status, text = check("--lists", shared_data / "lists" / "mirflickr")
    assert status == 0 and text.splitlines()[-1] == "no leak" and "warning" not in text
    assert table(text, "part")["database"] == ["20,000", "0", "328", "0", "0", "-"]


def test_mirflickr_with_queries_in_the_database(check, shared_data, folder):
    for part in ("train", "test", "database"):
        content = (shared_data / "lists" / "mirflickr" / f"{part}.txt").read_text()
        (folder / f"{part}.txt").write_text(content)
    planted = (folder / "test.txt").read_text().splitlines(True)[:12]
    with open(folder / "database.txt", "a") as file:
        file.writelines(planted)
    status, text = check("--lists", folder)
    assert status == 1
    assert text.splitlines()[-1] == "leak: query and database share 12 items"
    names = sorted(line.split()[0] for line in planted)
    assert f"by name: query and database share 12 items ({', '.join(names[:3])} and 9 more)" in text


def test_names_are_printed_as_they_are(check):
    """Markup, codes of emojis and ends of lines in the names of classes and files stay in their line."""
    for class_name in ("[red]x", ":cat:", "new\nline"):
        for number in range(4):
            os.makedirs(f"set/{class_name}", exist_ok=True)
            PIL.Image.new("L", (4, 4), 9).save(f"set/{class_name}/[b] {number}\n.png")
    counts = ("--queries-per-class", "1", "--train-per-class", "1")
    status, text = check("--dataset", "folder:set", *counts)
    assert status == 1 and r"query :cat:/[b]" in text and r"\n.png and" in text
    assert [name in table(text, "class") for name in ("[red]x", ":cat:", r"new\nline")] == [
        True
    ] * 3
    status, text = check("--dataset", "folder:set", *counts[:2], "--train-per-class", "4")
    assert status == 2 and text.count("\n") == 1 and "class :cat: (0)" in text


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--queries-per-class", "0"),
        ("--train-per-class", "-1"),
        ("--split-seed", "-1"),
        ("--image-size", "100000"),
    ],
)
def test_values_that_train_refuses_are_refused(check, flag, value):
    status, text = check("--dataset", "digits", flag, value)
    assert status == 2 and f"{flag} must be at" in text and value in text
