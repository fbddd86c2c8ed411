"""The README and the pages say what the project holds."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from jaxhash.objectives import METHODS
from jaxhash.runs.presets import PRESETS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    spec = importlib.util.spec_from_file_location("tables", ROOT / "experiments" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = [ROOT / "README.md", *sorted((ROOT / "experiments").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_results(tables, page):
    text = page.read_text()
    bare = re.sub(r"(<!-- table .*? -->\n).*?(<!-- end -->)", r"\1\2", text, flags=re.S)
    assert bare != text
    assert tables.render(bare) == text
    assert page in tables.PAGES


@pytest.mark.parametrize("name", ["why_your_map_differs", "costs"])
def test_the_page_shows_every_table_of_its_results(name):
    page = (ROOT / "experiments" / f"{name}.md").read_text()
    results = json.loads((ROOT / "experiments" / "results" / f"{name}.json").read_text())
    parts = [f"{name}.{part}" for part in results["tables"]]
    assert parts and all(f"<!-- table {part} -->" in page for part in parts)


def test_presets_have_the_rates_that_a_search_found():
    """Those of the methods that were searched; a method without a search has the default rate."""
    results = json.loads((ROOT / "experiments" / "results" / "learning_rates.json").read_text())
    searched = results["methods"].keys() & METHODS.keys()
    assert searched
    for name in searched:
        assert METHODS[name].learning_rate == results["methods"][name]["best"], name


def test_presets_have_the_weights_that_a_search_found():
    results = ROOT / "experiments" / "results" / "hierarchy_search.json"
    methods = json.loads(results.read_text())["methods"]
    # The search trains other methods on these data too, for comparison.
    searched = {n: METHODS[n] for n in methods if n in METHODS and METHODS[n].data == "cifar100"}
    assert searched
    for name, method in searched.items():
        assert method.learning_rate == methods[name]["none"]["best"], name
        weight = method.settings.get("quantizer_weight")
        assert weight is None or weight == methods[name]["empirical-kl"]["best"], name


def test_every_preset_and_picture_is_there():
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in list(PRESETS)[:4])
    assert all(f" {name} |" in readme for name in list(PRESETS)[4:])  # in the table of the methods
    pictures = [part.split(")")[0] for part in readme.split("](")[1:]]
    assert all((ROOT / picture).is_file() for picture in pictures if picture.endswith(".png"))
