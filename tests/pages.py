"""A page as a parser of HTML sees it."""

import re
from html.parser import HTMLParser

#: Elements without an end.
_VOID = {"img", "meta"}


class Page(HTMLParser):
    """The tags of a page with their attributes, its texts, and those of each section by its heading."""

    def __init__(self, content):
        super().__init__()
        self.content, self.tags, self.open, self.texts = content, [], [], []
        self.sections, self._section = {}, None
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not data.strip() or self.open[-1:] == ["style"]:
            return
        self.texts.append(data.strip())
        if self.open[-1:] == ["h2"]:
            self._section = self.sections.setdefault(data.strip(), [])
        elif self._section is not None:
            self._section.append(data.strip())

    def images(self):
        return [values["src"] for tag, values in self.tags if tag == "img"]


def assert_stands_alone(page):
    """Asserts that a page loads nothing, runs nothing, and that its links lead to one place of it each."""
    ids = [values["id"] for _, values in page.tags if "id" in values]
    assert not any(tag in ("script", "link", "iframe", "object", "base") for tag, _ in page.tags)
    for _, values in page.tags:
        assert not any(name.startswith("on") for name in values)
        assert values.get("src", "data:").startswith("data:")
        for name in ("href", "xlink:href"):
            if name in values:
                assert values[name].startswith("#") and ids.count(values[name][1:]) >= 1
        for text in values.values():
            for reference in re.findall(r"url\(([^)]*)\)", text or ""):
                assert reference.startswith("#") and ids.count(reference[1:]) >= 1
    linked = {values["href"][1:] for tag, values in page.tags if tag == "a"}
    assert all(ids.count(each) == 1 for each in linked)
    without_images = re.sub(r'base64,[^"]*', "", page.content)
    assert not re.search(r"https?:|@import|url\((?!#)", without_images)
