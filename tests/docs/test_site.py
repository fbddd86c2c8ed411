"""The site is built without a warning, asks nothing of other servers, and shows what it is meant to."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason='needs the extra "docs"')
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site):
    loads = re.compile(
        r'<(?:script|img|iframe|source)[^>]*\ssrc="?(?:https?:)?//|<link[^>]*stylesheet[^>]*//'
    )
    for page in site.rglob("*.html"):
        assert not loads.search(page.read_text()), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_formulas_are_shown(site):
    """None is left as it is written in a docstring."""
    for page in [*(site / "api").rglob("*.html"), *(site / "methods").rglob("*.html")]:
        assert not re.search(r":math:|\.\. math", page.read_text()), page
    assert (site / "api" / "losses" / "index.html").read_text().count("<math") > 100


def test_every_loss_and_metric_is_there(site):
    from jaxhash import losses, metrics

    for package in (losses, metrics):
        name = package.__name__
        page = (site / "api" / name.rpartition(".")[2] / "index.html").read_text()
        public = [
            each
            for each, value in vars(package).items()
            if each[0] != "_" and (inspect.isfunction(value) or inspect.isclass(value))
        ]
        missing = [each for each in public if f'id="{name}.{each}"' not in page]
        assert len(public) > 30 and not missing, missing


def test_tutorials_are_notebooks(site):
    pages = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    for page in pages:
        notebook = json.loads((site / "tutorials" / f"{page.stem}.ipynb").read_text())
        code = [
            "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"
        ]
        fences = re.findall(r"^```(python|sh)$", page.read_text(), re.M)
        assert [source.startswith("%%sh") for source in code] == [each == "sh" for each in fences]
