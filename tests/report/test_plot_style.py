"""The style of plots: files, parts of pages, and colors that all tell apart."""

import html.parser
import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from plot_checks import saved, texts

from jaxhash.report.html.page import plot_element
from jaxhash.report.plots import (
    inline_svg,
    save_figure,
    set_log_scale,
    styled,
    to_svg,
    write_figure,
)
from jaxhash.report.plots.neighbors import IRRELEVANT, RELEVANT
from jaxhash.report.plots.panels import make_panels
from jaxhash.report.plots.style import COLORS, INK, LINE_STYLES


@styled
def draw(title="a & b <c> $d$"):
    figure, [axes] = make_panels(1, 1, title=title)
    axes.plot([1, 2, 3], [0.001, 1.0, 1000.0], label="curve", marker="o")
    set_log_scale(axes, "y")
    axes.imshow(np.arange(4.0).reshape(2, 2), extent=(1, 2, 1, 2), aspect="auto")
    axes.legend()
    return figure


def test_equal_figures_are_equal_files(tmp_path):
    first, again = saved(draw(), tmp_path), saved(draw(), tmp_path)
    assert first == again
    assert b"matplotlib v" not in first[1].lower() and b"<dc:date>" not in first[1]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_one_file_is_written_as_its_suffix_says(suffix, tmp_path):
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    for name in ("one", "other"):
        write_figure(draw(), tmp_path / f"{name}{suffix}")
    one, other = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "other"))
    assert one.startswith(start) and one == other


def test_saving_twice_gives_the_same_bytes(tmp_path):
    figure = draw()
    assert saved(figure, tmp_path) == saved(figure, tmp_path)


def test_the_settings_of_the_user_change_nothing(tmp_path):
    expected = saved(draw(), tmp_path)
    changed = {
        "font.size": 30,
        "lines.linewidth": 9,
        "axes.facecolor": "red",
        "svg.fonttype": "path",
    }
    with matplotlib.rc_context(changed):
        assert saved(draw(), tmp_path) == expected
        assert matplotlib.rcParams["font.size"] == 30  # and drawing changes no setting


class Elements(html.parser.HTMLParser):
    """The elements of HTML, with their attributes; it fails where tags do not fit."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self._open = [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self._open.append(tag)
        self.found.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_part_of_a_page_has_the_ink_of_the_page_and_loads_nothing():
    svg = to_svg(draw())
    elements = Elements(svg)
    assert elements.found[0][0] == "svg" and "a & b <c> $d$" in elements.texts
    assert "http:" not in svg and "https:" not in svg and "#ffffff" not in svg
    assert INK not in svg and "currentColor" in svg
    for _, attributes in elements.found:
        if link := attributes.get("href"):
            assert link.startswith(("#", "data:image/png"))


def test_ids_in_a_page_are_those_that_are_referred_to():
    svg = to_svg(draw()) + to_svg(draw("another"))
    ids = [attributes["id"] for _, attributes in Elements(svg).found if "id" in attributes]
    assert ids
    for name in ids:
        assert f"#{name}" in svg


def test_a_file_becomes_the_same_part_of_a_page(tmp_path):
    figure = draw()
    save_figure(figure, tmp_path / "plot")
    assert inline_svg((tmp_path / "plot.svg").read_text()) == to_svg(figure)


def test_a_plot_in_a_page_is_described_in_words():
    tag, attributes = Elements(plot_element(to_svg(draw()), 'the "loss" <b>')).found[1]
    assert tag == "svg" and attributes["role"] == "img"
    assert attributes["aria-label"] == 'the "loss" <b>'


@pytest.mark.parametrize("low, high", [(1e-6, 1e6), (0.3, 4000), (2, 9)])
def test_logarithmic_axes_have_plain_numbers(low, high):
    @styled
    def axes_from(low, high):
        axes = Figure().subplots()
        axes.plot([1, 2], [low, high])
        set_log_scale(axes, "y")
        axes.figure.draw_without_rendering()
        return axes

    axes = axes_from(low, high)
    bottom, top = axes.get_ylim()
    labels = {
        label.get_text(): place
        for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if bottom <= place <= top
    }
    assert len(labels) >= 2
    for label, place in labels.items():
        assert float(label.replace(",", "")) == pytest.approx(place)


def test_panels_do_not_overlap():
    figure, panels = make_panels(5, 3, title="title " * 60, note="note " * 90)
    boxes = [axes.get_tightbbox() for axes in panels]
    boxes += [text.get_window_extent() for text in figure.texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert len({text for text in texts(figure) if text.startswith(("title", "note"))}) == 2


# Colors

#: Machado, Oliveira and Fernandes, 2009: what people without one kind of cone see, in linear RGB.
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
VISIONS = {"all": np.eye(3), "protanopia": PROTANOPIA, "deuteranopia": DEUTERANOPIA}


def lab(colors, vision):
    """CIELAB of sRGB colors as somebody sees them."""
    rgb = np.array([matplotlib.colors.to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(vision).T, 0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = seen @ to_xyz.T / (to_xyz.sum(axis=1))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


@pytest.mark.parametrize("vision", VISIONS.values(), ids=VISIONS)
def test_colors_differ_for_all_kinds_of_color_vision(vision):
    """A difference of 10 in CIELAB is seen at a glance."""
    seen = lab((*COLORS, INK), vision)
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 10
    right, wrong = lab((RELEVANT.color, IRRELEVANT.color), vision)
    assert np.linalg.norm(right - wrong) > 50


def test_the_simulation_finds_colors_that_are_confused():
    red, green = lab(("#c0392b", "#2a7f3f"), DEUTERANOPIA)
    seen_by_all = lab(("#c0392b", "#2a7f3f"), np.eye(3))
    assert np.linalg.norm(red - green) < 0.5 * np.linalg.norm(np.subtract(*seen_by_all))


def test_lines_differ_without_color():
    assert len({(str(style["linestyle"]), style["marker"]) for style in LINE_STYLES}) == len(COLORS)
