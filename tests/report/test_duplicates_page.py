"""The page of near duplicates, read by a parser of HTML."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from index_samples import Item, codes_of, digests_of, make_index
from PIL import Image

from jaxhash.report.html import duplicates_page
from jaxhash.report.html.duplicates_page import write_duplicates_page
from jaxhash.retrieval.near_duplicates.find import find_near_duplicates

HOSTILE = "</figure><script>alert(1)</script>.png"


class Page(HTMLParser):
    """The tags of a page, which must be closed, the text of its figures, and its whole text."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.open, self.figures, self.text = [], [], [], []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "figure":
            self.figures.append((dict(attributes)["class"], []))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())
        if "figure" in self.open and data.strip():
            self.figures[-1][1].append(data.strip())


@pytest.fixture
def page(tmp_path):
    """A function that writes the page of an index of groups of equal codes, and parses it."""

    def write(sizes, labels="a"):
        index = make_index(tmp_path / "index")
        codes = np.repeat(codes_of(len(sizes)), sizes, axis=0)
        items = [Item(HOSTILE, 3, 0, labels[row % len(labels)]) for row in range(len(codes))]
        index.add(codes, items, digests_of(len(codes)))
        found = find_near_duplicates(index, 0)
        path = tmp_path / "page.html"
        write_duplicates_page(path, found, found.group(), ["a fact & <another>"], index)
        content = path.read_text("utf-8")
        assert not re.search(r"https?:|url\(|@import|<link", re.sub('base64,[^"]*', "", content))
        return Page(content)

    return write


def test_items_and_their_roles(page):
    found = page([2, 1, 3], labels=["a", "b"])
    assert not any(tag == "script" for tag, _ in found.tags)
    assert "a fact & <another>" in found.text
    groups = found.figures[4:]  # after two pairs at the boundary
    assert [words[:2] for _, words in groups] == [
        ["kept", "id 3"], ["distance 0", "id 4"], ["distance 0", "id 5"],
        ["kept", "id 0"], ["distance 0", "id 1"],
    ]  # fmt: skip
    assert [classes for classes, _ in groups] == [
        "item right", "item wrong", "item", "item right", "item wrong",
    ]  # fmt: skip
    assert [words[2] for _, words in groups] == [
        "b",
        "a (another label)",
        "b",
        "a",
        "b (another label)",
    ]
    assert all(words[-1] == HOSTILE for _, words in groups)
    assert [text for text in found.text if text.startswith("Group ")] == [
        "Group 2: 2 duplicates",
        "Group 1: 1 duplicate",
    ]


def test_large_groups_and_many_of_them_are_cut(page, monkeypatch):
    monkeypatch.setattr(duplicates_page, "MAX_DUPLICATES", 3)
    monkeypatch.setattr(duplicates_page, "MAX_GROUPS", 2)
    monkeypatch.setattr(duplicates_page, "MAX_PAIRS", 1)
    found = page([2, 2_000, 2, 3])
    assert len(found.figures) == 2 + 4 + 3
    assert "and 1,996 more" in found.text
    assert any("the 2 largest of 4" in text for text in found.text)


def test_no_groups(page):
    found = page([1, 1])
    assert not found.figures and "Groups" not in found.text


def test_a_page_of_another_index(tmp_path):
    """Kept items are those of the other index, with its files."""
    index, other = make_index(tmp_path / "one"), make_index(tmp_path / "other")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    index.add(codes_of(2), [Item("gone.png"), Item("b#1", 3, 0)], digests_of(2))
    other.add(codes_of(2)[::-1], [Item("c#0", 3, 0), Item("a.png")], digests_of(2))
    found = find_near_duplicates(index, 0, against=other)
    write_duplicates_page(tmp_path / "page.html", found, found.group(), [], index, other)
    page = Page((tmp_path / "page.html").read_text())
    assert [words[-1] for _, words in page.figures[4:]] == ["c#0", "b#1", "a.png", "gone.png"]
    assert sum(tag == "img" for tag, _ in page.tags) == 2  # a.png as a pair and in a group
