"""The README says what the project holds."""

import importlib.util
from pathlib import Path

from jaxhash.presets import PRESETS

ROOT = Path(__file__).parents[1]


def test_tables_are_those_of_the_results():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "experiments" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    readme = (ROOT / "README.md").read_text()
    assert tables.render(readme) == readme
    assert "<!-- table" in readme


def test_every_preset_and_picture_is_there():
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in PRESETS)
    pictures = [part.split(")")[0] for part in readme.split("](")[1:]]
    assert all((ROOT / picture).is_file() for picture in pictures if picture.endswith(".png"))
