"""The README and the pages say what the project holds, and their tables are those of the results."""

import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path

import pytest

from jaxhash.cli.main import main
from jaxhash.cli.usage import VERBS
from jaxhash.objectives import METHODS, QUANTIZERS
from jaxhash.runs.presets import PRESETS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    spec = importlib.util.spec_from_file_location("tables", ROOT / "experiments" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def options_of():
    """The flags that the help of a command names; of commands with others below, of that one."""
    texts = {}

    def find(verb, rest):
        words = [verb, *rest.split()[:1]] if verb == "data" else [verb]
        if verb == "bench":
            words += [word for word in ("--for=v5e", "--compare", "--data") if word[:6] in rest][:1]
        if tuple(words) not in texts:
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
                main([*words, "--help-all" if verb in ("train", "compile") else "--help"])
            texts[tuple(words)] = {
                "--help",
                "--help-all",
                "--quiet",
                *re.findall(r"--[a-z][\w-]*", out.getvalue()),
            }
        return texts[tuple(words)]

    return find


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_TABLES = [page for page in PAGES if "<!-- table " in page.read_text()]


@pytest.mark.parametrize("page", WITH_TABLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_those_of_the_results(tables, page):
    text = page.read_text()
    bare = re.sub(r"(<!-- table .*? -->\n).*?(<!-- end -->)", r"\1\2", text, flags=re.S)
    assert bare != text
    assert tables.render(bare) == text


def test_every_table_is_found(tables):
    assert sorted(tables.PAGES) == sorted(WITH_TABLES) and len(WITH_TABLES) > 20


@pytest.mark.parametrize("name", ["why_your_map_differs", "costs"])
def test_the_page_shows_every_table_of_its_results(name):
    page = (ROOT / "docs" / "results" / f"{name}.md").read_text()
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


def test_every_preset_is_named():
    start = (ROOT / "docs" / "getting-started.md").read_text()
    methods = (ROOT / "docs" / "methods" / "index.md").read_text()
    assert all(f"`{name}`" in start for name in list(PRESETS)[:4])
    assert all(f" {name} |" in methods for name in list(PRESETS)[4:])


def test_every_method_and_quantizer_has_its_place():
    """Each is described on the page of its family, once."""
    folder = ROOT / "docs" / "methods"
    for method in METHODS.values():
        page = (folder / f"{method.kind.replace(' ', '_')}.md").read_text()
        assert page.splitlines().count(f"::: jaxhash.objectives.{method.make.__name__}") == 1
    quantizers = (folder / "quantizers.md").read_text().splitlines()
    for make in QUANTIZERS.values():
        assert quantizers.count(f"::: jaxhash.objectives.{make.__name__}") == 1


def test_the_readme_can_be_read():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Also those that the site does not check: of the README, and into experiments/."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


COMMAND = re.compile(r"^\$? ?(?:pip [^&]*&& )?jaxhash ([a-z]+)(.*)$", re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_these_flags(page, options_of):
    """Every flag of every command in a fence of the shell is one that the command knows."""
    for fence in re.findall(r"^```(?:sh|console)\n(.*?)^```", page.read_text(), re.M | re.S):
        for verb, rest in COMMAND.findall(fence.replace("\\\n", " ")):
            assert verb in VERBS, verb
            flags = re.findall(r"(?<=\s)--[a-z][\w-]*", rest.partition("  #")[0])
            unknown = [flag for flag in flags if flag not in options_of(verb, rest)]
            assert not unknown, f"jaxhash {verb}{rest}"
