"""The names that ``import jaxhash`` offers."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import jaxhash

ROOT = Path(__file__).parents[1]


def test_import_loads_nothing_heavy():
    """In a fresh interpreter: names are imported when they are used."""
    code = "import sys, jaxhash; dir(jaxhash); print(*sys.modules, sep='\\n')"
    root = Path(jaxhash.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert not loaded & {"jax", "numpy", "flax", "rich"}
    assert {name for name in loaded if name.startswith("jaxhash")} == {"jaxhash"}


@pytest.mark.parametrize("name", jaxhash.__all__)
def test_a_name_is_there_and_listed(name):
    assert getattr(jaxhash, name) is not None
    assert name in dir(jaxhash)


@pytest.mark.parametrize("package", [jaxhash, jaxhash.retrieval, jaxhash.runs])
def test_editors_see_the_same_names(package):
    """The imports under TYPE_CHECKING give what is imported at run time."""
    tree = ast.parse(Path(package.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for node in block.body:
        [alias] = node.names
        assert alias.asname == alias.name  # an explicit export
        module = importlib.import_module(node.module)
        seen[alias.name] = getattr(module, alias.name)
    assert seen.keys() == set(package.__all__)
    assert all(getattr(package, name) is value for name, value in seen.items())


def test_a_name_that_is_not_there_is_pythons_error():
    with pytest.raises(
        AttributeError, match="^module 'jaxhash' has no attribute 'loses'$"
    ) as error:
        jaxhash.loses  # noqa: B018
    assert (error.value.name, error.value.obj) == ("loses", jaxhash)  # "Did you mean: 'losses'?"
    with pytest.raises(ImportError, match="cannot import name 'loses' from 'jaxhash'"):
        exec("from jaxhash import loses")


def test_citation_and_changelog_are_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation.keys() >= {"cff-version", "message", "title", "authors", "version"}  # required
    [version, date] = re.search(
        r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    ).groups()
    assert citation["version"] == jaxhash.__version__ == version
    assert str(citation["date-released"]) == date
    assert (
        citation["license"]
        == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    )
