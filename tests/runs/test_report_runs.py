"""Runs side by side, and sweeps: what the command prints, refuses and writes, read by an HTML parser."""

import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from run_samples import change_arrays, change_json, write_run, write_sweep

from jaxhash.runs.report_sweep import group_members

#: The axis of the sweep; member 3 has diverged.
AXES = {"quantizer_weight": [0.1, 1.0, 10.0]}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "good", noise=0.1, seed=1)
    write_run(folder / "bad", noise=0.4, seed=1)
    write_run(folder / "long", bits=24, seed=2)
    write_run(folder / "drawn", split_seed=3)
    write_sweep(folder / "sweep", AXES, diverged=[3])
    write_sweep(folder / "seeds", {}, seeds=3)
    return folder


@pytest.fixture
def runs(written, tmp_path):
    return shutil.copytree(written, tmp_path / "runs")


class Page(HTMLParser):
    """The texts, headings, tables, figures and addresses of a page."""

    def __init__(self, path):
        super().__init__()
        self.headings, self.rows, self.addresses, self.tags = [], [], [], []
        self.texts = []
        self._open = []
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.addresses += [value for name, value in attributes if name in ("src", "href", "data")]
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, text):
        where = self._open[-1] if self._open else ""
        if where in ("td", "th"):
            self.rows[-1][-1] += text
        if where in ("h1", "h2", "h3"):
            self.headings.append(text)
        if where == "p" or where == "div":
            self.texts.append(text)

    def row(self, name):
        return next(row for row in self.rows if row[0] == name)


def page_of(output, folder, *names, html="page.html"):
    path = folder / html
    said = output("report", *(str(folder / name) for name in names), "--html", str(path))
    return said, Page(path)


def test_page_of_runs(runs, output):
    said, page = page_of(output, runs, "good", "bad", "long")
    assert all(name in said for name in ("good", "bad", "long"))
    assert page.row("run")[:4] == ["run", "objective", "bits", "seed"]
    assert page.row("long")[2] == "24"
    settings = next(row for row in page.rows if row[0] == "run" and "objective" not in row)
    assert settings == ["run", "bits", "seed"]
    worse = next(row for row in page.rows if row[0] == "bad" and row[1].startswith("-"))
    assert sum(int(count) for count in worse[4:]) == 200
    assert int(worse[6]) > 150  # queries that are worse
    assert len([row for row in page.rows if row[1:2] == ["20"]]) == 10  # classes of 20 queries
    assert sum(tag == "svg" for tag, _ in page.tags) == 4  # bits, precision, training, differences


def test_page_shows_queries_with_the_rankings_of_all_runs(runs, output):
    _, page = page_of(output, runs, "good", "bad")
    ranked = [each for each in page.headings if "average precision " in each]
    assert len(ranked) == 24  # twelve queries by two runs
    precisions = [float(each.rsplit(" ", 1)[1]) for each in ranked]
    gaps = np.abs(np.subtract(precisions[::2], precisions[1::2]))
    assert np.all(gaps > 0) and np.all(np.diff(gaps) < 1e-3)
    assert [each.split(":")[0] for each in ranked] == ["good", "bad"] * 12
    assert len(set(precisions[1::2])) > 6  # of single queries
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 12 * (1 + 2 * 10)
    assert all(address.startswith("data:image/jpeg;base64,") for address in images)
    marks = [text for text in page.texts if text.startswith(("✓", "✗"))]
    assert len(marks) == 240


def test_page_needs_nothing_but_itself_and_is_the_same_again(runs, output):
    _, page = page_of(output, runs, "good", "bad")
    assert "http:" not in page.source and "https:" not in page.source
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    _, again = page_of(output, runs, "good", "bad", html="again.html")
    assert page.source == again.source


def test_names_of_folders_are_text(runs, output):
    hostile = "<img src=x onerror=alert(1)>$x$"
    (runs / "good").rename(runs / hostile)
    _, page = page_of(output, runs, hostile, "bad")
    assert page.row(hostile)
    assert not any(attributes.get("src") == "x" for _, attributes in page.tags)


def test_runs_of_one_name_are_told_apart_by_their_folders(runs, output):
    (runs / "old").mkdir()
    shutil.copytree(runs / "good", runs / "old" / "bad")
    said = output("report", str(runs / "bad"), str(runs / "old" / "bad"))
    assert "runs/bad" in said and "old/bad" in said


def test_copies_do_not_differ(runs, output):
    shutil.copytree(runs / "good", runs / "copy")
    said, page = page_of(output, runs, "good", "copy")
    copied = next(row for row in page.rows if row[0] == "copy" and row[4:] == ["0", "200", "0"])
    assert float(copied[1]) == 0 and float(copied[3]) == 1
    assert not any("average precision " in each for each in page.headings)


def test_a_run_without_codes_is_named_and_left_out(runs, output):
    (runs / "good" / "codes.npz").unlink()
    said, page = page_of(output, runs, "good", "bad", "long")
    assert "good has no codes.npz" in said
    assert any("good has no codes.npz" in text for text in page.texts)
    assert page.row("minus bad")
    (runs / "bad" / "codes.npz").unlink()
    _, page = page_of(output, runs, "good", "bad", "long")
    assert not any("average precision" in each for each in page.headings)


def test_items_are_named_where_the_data_are_gone(runs, output):
    for name in ("good", "bad"):
        change_json(runs / name / "config.json", dataset="features:gone.npz")
    _, page = page_of(output, runs, "good", "bad")
    assert not any(tag == "img" for tag, _ in page.tags)
    assert any("gone.npz" in text for text in page.texts)
    assert any(text.startswith("database item ") for text in page.texts)


def test_other_names_of_the_data_are_taken_for_the_same_and_said(runs, output):
    change_json(runs / "bad" / "results.json", dataset="features:digits.npz")
    said, _ = page_of(output, runs, "good", "bad")
    assert "digits, features:digits.npz" in said


def test_a_sweep_beside_a_run_stands_for_its_members(runs, output):
    said = output("report", str(runs / "good"), str(runs / "seeds"))
    assert all(f"seed{seed}" in said for seed in range(3))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["good", "drawn"], "--split-seed is 3, not 0"),
        (["good", "bad", "good"], "twice"),
        (["good", "sweep"], "--validation"),
        (["good", "nothing"], "nothing"),
        (["seeds"] * 9, "24"),
    ],
)
def test_refusals(runs, refusal, names, said):
    if names == ["good", "sweep"]:
        for path in (runs / "sweep").rglob("config.json"):
            change_json(path, validation=0.1)
        for path in (runs / "sweep").rglob("seed*/results.json"):
            change_json(path, split_sha256="0" * 64)
    line = refusal("report", *(str(runs / name) for name in names), "--html", str(runs / "a.html"))
    assert said in line


def test_codes_of_another_training_are_refused(runs, refusal):
    shutil.copy(runs / "bad" / "codes.npz", runs / "good" / "codes.npz")
    line = refusal("report", str(runs / "good"), str(runs / "bad"))
    assert "good" in line and "codes.npz" in line and "results.json" in line


def test_page_of_a_sweep(runs, output):
    said, page = page_of(output, runs, "sweep")
    assert "best by validation" in said
    assert page.row("0.1 *")[1].count("±") == 1
    assert page.row("1")[1] == "-"  # a seed of it diverged
    assert page.row("seed 1, quantizer-weight 1")[-1] == "diverged at step 3"
    assert page.row("seed 0, quantizer-weight 1")[-1] != "-"
    assert page.row("minus quantizer-weight 0.1")
    compared = [
        row[0] for row in page.rows if len(row) == 7 and row[1][:1] in "+-" and "." in row[1]
    ]
    assert compared == ["quantizer-weight 10"]
    ranked = [each for each in page.headings if "average precision " in each]
    assert ranked and all(", seed 0:" in each for each in ranked)
    _, again = page_of(output, runs, "sweep", html="again.html")
    assert page.source == again.source


def test_page_of_seeds_compares_them(runs, output):
    _, page = page_of(output, runs, "seeds")
    assert page.row("minus seed 0")
    assert {each.split(":")[0] for each in page.headings if "average precision " in each} == {
        "seed 0",
        "seed 1",
        "seed 2",
    }


def test_settings_that_round_alike_stay_apart():
    scores = {"validation_map": 0.5, "map": 0.5}
    values = [{"clip_norm": 1.00000001}, {"clip_norm": 1.00000002}]
    members = [{"seed": 0, "values": each, "scores": scores} for each in values]
    settings = [{"scores": {"validation_map": {"mean": 0.5}}}] * 2
    names = [group.name for group in group_members({"members": members, "settings": settings})]
    assert len(set(names)) == 2


def test_members_without_codes_are_named_and_left_out(runs, output):
    shutil.rmtree(runs / "seeds" / "seed1")
    (runs / "seeds" / "seed2" / "codes.npz").unlink()
    _, page = page_of(output, runs, "seeds")
    assert len([text for text in page.texts if "no codes.npz in" in text]) == 2
    assert not any("average precision " in each for each in page.headings)


def test_damaged_files_are_refused(runs, refusal):
    change_json(runs / "sweep" / "results.json", members=[{"seed": 0}])
    line = refusal("report", str(runs / "sweep"), "--html", str(runs / "a.html"))
    assert "results.json" in line
    (runs / "good" / "metrics.jsonl").write_text("no record\nnor this\n")
    line = refusal("report", *(str(runs / n) for n in ("good", "bad")), "--html", f"{runs}/a.html")
    assert "metrics.jsonl" in line
    change_arrays(runs / "good" / "codes.npz", query_codes=None)
    assert "codes.npz" in refusal("report", *(str(runs / name) for name in ("good", "bad")))
