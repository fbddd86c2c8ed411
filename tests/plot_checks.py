"""What holds for every plot."""

import io
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import PIL.Image
from matplotlib.text import Text

from jaxhash.report.plots import save_figure


def assert_can_be_saved(figure):
    """Asserts that the PNG of a figure is not blank, and that its SVG can be read."""
    with tempfile.TemporaryDirectory() as folder:
        png, svg = saved(figure, Path(folder))
    with PIL.Image.open(io.BytesIO(png)) as image:
        assert len(image.convert("L").getcolors()) > 1  # not blank
    assert ElementTree.fromstring(svg).tag.endswith("svg")


def saved(figure, folder):
    """Returns the bytes of the PNG and of the SVG of a figure."""
    save_figure(figure, folder / "plot.v1")
    return [(folder / f"plot.v1.{suffix}").read_bytes() for suffix in ("png", "svg")]


def texts(figure):
    """Returns all texts of a figure."""
    return {text.get_text() for text in figure.findobj(Text)}


def title_of(axes):
    return axes.get_title("left")
