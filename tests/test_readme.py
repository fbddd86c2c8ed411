"""The README and the pages say what the project holds."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from jaxhash.objectives import METHODS
from jaxhash.presets import PRESETS, preset_of_method

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "experiments" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page", ["README.md", "experiments/methods.md", "experiments/why_your_map_differs.md"]
)
def test_tables_are_those_of_the_results(tables, page):
    text = (ROOT / page).read_text()
    bare = re.sub(r"(<!-- table .*? -->\n).*?(<!-- end -->)", r"\1\2", text, flags=re.S)
    assert bare != text
    assert tables.render(bare) == text
    assert ROOT / page in tables.PAGES


def test_the_page_shows_every_table_of_its_results():
    name = "why_your_map_differs"
    page = (ROOT / "experiments" / f"{name}.md").read_text()
    results = json.loads((ROOT / "experiments" / "results" / f"{name}.json").read_text())
    parts = [name, *(f"{name}.{part}" for part in results["tables"])]
    assert all(f"<!-- table {part} -->" in page for part in parts)


def test_presets_have_the_rates_that_were_found():
    results = json.loads((ROOT / "experiments" / "results" / "method_rates.json").read_text())
    found = {preset_of_method(name): of["best"] for name, of in results["methods"].items()}
    assert {name: PRESETS[name]().learning_rate for name in found} == found
    others = ("hierarchy", "unsupervised")
    assert results["methods"].keys() == {n for n, m in METHODS.items() if m.kind not in others}


def test_every_preset_and_picture_is_there():
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in list(PRESETS)[:3])
    assert all(f" {name} |" in readme for name in list(PRESETS)[3:])  # in the table of the methods
    pictures = [part.split(")")[0] for part in readme.split("](")[1:]]
    assert all((ROOT / picture).is_file() for picture in pictures if picture.endswith(".png"))
