"""The page of a search, read by a parser of HTML: it holds its images, loads nothing, and escapes names."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from jaxhash.report.html.search_page import Hit, PageQuery, write_search_page

NAMES = [
    "<img onerror=alert(1) src=x>",
    "</div>&amp;",
    "quo\"te's",
    "new\nline",
    "写真/ゆき.png",
    "{title}",
]


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())

    def images(self):
        return [values["src"] for tag, values in self.tags if tag == "img"]


@pytest.fixture
def page(tmp_path):
    """A function that writes a page of queries, and parses it."""

    def write(*queries, title="index"):
        with write_search_page(tmp_path / "page.html", title) as add:
            for query in queries:
                add(query)
        content = (tmp_path / "page.html").read_text("utf-8")
        parsed = Page(content)
        assert parsed.open == []
        assert not re.search(
            r"https?:|//|url\(|@import|<script|<link", re.sub('base64,[^"]*', "", content)
        )
        return parsed

    return write


def test_images_are_in_the_page(page, tmp_path):
    """A wide one of 300 pixels, gray, and with transparent pixels."""
    pixels = np.zeros((50, 300, 3), np.uint8)
    pixels[:, :, 0] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels[..., 1]).save(tmp_path / "gray.png")
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / "clear.png")
    paths = [tmp_path / f"{name}.png" for name in ("wide", "gray", "clear")]
    sources = page(PageQuery("q", paths[0], [Hit("h", path, 3) for path in paths])).images()
    sizes = []
    for source in sources:
        kind, data = source.split(",")
        assert kind == "data:image/jpeg;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        sizes.append((image.format, image.mode, image.size))
    assert sizes == [("JPEG", "RGB", (96, 16))] * 3 + [("JPEG", "RGB", (8, 8))]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leaves_its_place(page, name):
    hit = Hit(name, None, 7, label=name, score=0.5)
    found = page(PageQuery(name, None, [hit], note=name), title=name)
    assert not any(tag in ("img", "script") for tag, _ in found.tags)
    assert found.text.count(name.replace("\n", "\\n")) == 6  # title twice, query, label, path, note
    assert {"distance 7", "cosine 0.5000"} <= set(found.text)


def test_what_cannot_be_shown_is_a_box_with_the_reason(page, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [tmp_path / "bad.png", tmp_path / "gone.png"]
    found = page(PageQuery("q", paths[1], [Hit("h", path, 0) for path in paths]))
    assert found.images() == []
    assert sum(values.get("class") == "missing" for _, values in found.tags) == 3
    assert "not an image of a known format" in found.text and "the file is missing" in found.text


def test_a_page_that_fails_is_not_written(tmp_path):
    with pytest.raises(ZeroDivisionError), write_search_page(tmp_path / "page.html", "index"):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())
