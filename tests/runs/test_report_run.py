"""The page of a run, read by a parser of HTML, beside its codes counted by hand."""

import dataclasses
import io
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from pages import Page, assert_stands_alone
from rich.console import Console
from run_samples import change_arrays, change_json, write_run

from jaxhash.runs import report_run, train_run
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.utils.errors import UserError

TITLES = [
    "Numbers",
    "Plots",
    "Worst and best queries",
    "Classes that take each other's places",
    "The code space",
    "Fullest buckets",
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run on digits, whose codes have 25 of 100 bits flipped."""
    folder = tmp_path_factory.mktemp("run") / "run"
    write_run(folder, noise=0.25)
    return folder


@pytest.fixture
def copied(run_folder, tmp_path):
    return shutil.copytree(run_folder, tmp_path / "run")


def page_of(folder, **options):
    """Returns the page of a run, and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    html = folder / "page.html"
    report_run.report_run(folder, console, html=html, **options)
    page = Page(html.read_text("utf-8"))
    html.unlink()
    return page, console.file.getvalue()


@pytest.fixture(scope="module")
def page(run_folder):
    return page_of(run_folder)[0]


def test_page_stands_alone_and_links_to_its_sections(page):
    assert_stands_alone(page)
    assert list(page.sections) == TITLES
    links = [values["href"] for tag, values in page.tags if tag == "a"]
    assert len(links) == len(TITLES) == len(set(links))


def test_page_is_small_and_holds_images_of_queries_neighbors_and_buckets(page, run_folder):
    assert len(page.content) < 2**21
    sizes = [count for _, count in frequent_codes(run_folder)[:8]]
    assert len(page.images()) == 2 * 6 * 11 + sum(min(size, 10) for size in sizes)


def test_numbers_are_those_of_the_results(page, run_folder):
    results = json.loads((run_folder / "results.json").read_text())
    for key in ("map", "map_worst_ties", "precision_at_radius_2", "quantization_error"):
        assert f"{results[key]:.4f}" in page.sections["Numbers"]
    assert results["split_sha256"][:12] in " ".join(page.sections["Numbers"])


def sides_of(folder):
    with np.load(folder / "codes.npz") as held:
        return {name: held[name].astype(int) for name in held}


def frequent_codes(folder):
    codes = np.packbits(sides_of(folder)["database_codes"] > 0, axis=1)
    return Counter(code.tobytes().hex() for code in codes).most_common()


def test_queries_are_those_of_the_lowest_and_the_highest_ap(page, run_folder):
    held = sides_of(run_folder)
    precision = []
    for code, label in zip(held["query_codes"], held["query_labels"], strict=True):
        distances = (code != held["database_codes"]).sum(axis=1)
        relevant = held["database_labels"] == label
        orders = []  # the mean over orders of ties, by many of them
        for seed in range(200):
            noise = np.random.default_rng(seed).random(len(distances)) * 0.5
            hits = relevant[np.argsort(distances + noise)]
            orders.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
        precision.append(np.mean(orders))
    shown = [
        float(text.split()[1]) for text in page.sections[TITLES[2]] if text.startswith("AP 0.")
    ]
    ordered = np.sort(precision)
    np.testing.assert_allclose(shown, [*ordered[:6], *ordered[:-7:-1]], atol=0.01)


def test_signs_of_neighbors_are_those_of_their_classes(page):
    """In a ranking, the query's class follows its AP, and a neighbor's class its sign."""
    texts, own, signs = page.sections[TITLES[2]], None, Counter()
    for text, following in zip(texts, texts[1:], strict=False):
        if text.startswith("AP 0.") or text.startswith("AP 1."):
            own = following
        if text[:1] in "✓✗":
            assert (text[0] == "✓") == (following == own)
            signs[text[0]] += 1
    assert sum(signs.values()) == 120 and min(signs.values()) > 5


def test_buckets_are_the_most_frequent_codes(page, run_folder):
    frequent = frequent_codes(run_folder)
    texts = page.sections["Fullest buckets"]
    shown = [texts[n + 1] for n, text in enumerate(texts) if text == "code"]
    counts = dict(frequent)
    assert [counts[code] for code in shown] == [count for _, count in frequent[:8]]
    points = [tag for tag, values in page.tags if tag == "path" and "transform" in values]
    assert len(points) >= min(len(counts), 400)


def test_no_class_name_leaves_its_place(run_folder, copied):
    """Class names come from the data, and here from a hostile source."""
    name = '</style><img src=x onerror="alert(1)">'
    run = report_run.read_run(copied)
    items = report_run.open_items(run, Console(quiet=True))
    names = (name, *items.source.class_names[1:])
    source = dataclasses.replace(items.source, class_names=names)
    hostile = items._replace(source=source)
    report_run.draw_run(copied / "p.html", run, hostile, [], Console(quiet=True))
    page = Page((copied / "p.html").read_text("utf-8"))
    assert_stands_alone(page)
    assert page.texts.count(name) > 3


def test_items_without_their_data_are_names(copied):
    config = digits_hashnet_hswd().replace(run_dir=copied, dataset="features:gone.npz", bits=16)
    (copied / "config.json").write_text(json.dumps(config.to_json()))
    found, printed = page_of(copied)
    assert found.images() == []
    assert any("gone.npz" in text for text in found.texts) and "gone.npz" in printed
    assert list(found.sections) == TITLES and "query item 0" not in found.texts[:1]


def test_page_without_optional_files(copied):
    """A run of an older version: no metrics, no counts of code values, fewer results."""
    (copied / "metrics.jsonl").unlink()
    found, _ = page_of(copied)
    assert list(found.sections) == TITLES


def test_codes_of_another_training_are_noticed(copied):
    codes = sides_of(copied)["query_codes"].astype(np.int8)
    change_arrays(copied / "codes.npz", query_codes=codes[::-1].copy())
    assert any("of another training" in text for text in page_of(copied)[0].texts)


def test_many_queries_are_sampled(copied, monkeypatch):
    monkeypatch.setattr(report_run, "MAX_PAIRS", 50 * 797)
    found, _ = page_of(copied)
    assert any("50 of the 200 queries" in text for text in found.texts)
    assert not any("of another training" in text for text in found.texts)


@pytest.mark.parametrize("damage", ["codes gone", "codes", "results", "metrics"])
def test_what_is_missing_or_damaged_is_one_line_and_no_page(copied, damage):
    if damage == "codes gone":
        (copied / "codes.npz").unlink()
    elif damage == "codes":
        (copied / "codes.npz").write_bytes((copied / "codes.npz").read_bytes()[:500])
    elif damage == "results":
        change_json(copied / "results.json", baselines=3)
    else:
        (copied / "metrics.jsonl").write_text("{}\n{}\n")
    with pytest.raises(UserError, match={"codes gone": "codes.npz"}.get(damage, damage)):
        page_of(copied)
    assert not (copied / "page.html").exists()


def test_command_checks_its_arguments_before_it_works(refusal, run_folder, tmp_path):
    assert "--html" in refusal("report", str(run_folder), "--html", "page.pdf")
    assert "--html" in refusal("report", str(run_folder), "--html", str(tmp_path / "no" / "p.html"))
    assert "config.json" in refusal("report", str(tmp_path / "none"))
    assert "name the folder" in refusal("report")


def test_command_prints_the_table_without_a_page(output, run_folder):
    results = json.loads((run_folder / "results.json").read_text())
    assert f"{results['map']:.4f}" in output("report", str(run_folder))


def test_a_run_that_draws_nothing_gets_its_page_from_jaxhash_report(tmp_path):
    folder, console = tmp_path / "run", Console(file=io.StringIO(), width=200)
    config = digits_hashnet_hswd().replace(run_dir=folder, epochs=1, baselines="none", plots=False)
    train_run.train(config, console)
    assert not (folder / "report").exists()
    assert f"jaxhash report {folder} --html " in console.file.getvalue()
    page, _ = page_of(folder)
    assert list(page.sections) == TITLES
