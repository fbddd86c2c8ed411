"""The page of a search: one HTML file with the queries and what they found, as small images."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from jaxhash.report.html.page import escape, item_figure, item_list, write_page
from jaxhash.report.html.thumbnails import image_element


class Hit(NamedTuple):
    """An item that a query found.

    Attributes:
        name: its name.
        image: its image file, or the bytes of a JPEG file; None if it has none.
        distance: Hamming distance to the query.
        label: its label, if it has one.
        score: cosine to the query, if the items are ranked by it.
    """

    name: str
    image: Path | bytes | None
    distance: int
    label: str | None = None
    score: float | None = None


class PageQuery(NamedTuple):
    """A query and what it found.

    Attributes:
        name: its name.
        image: its image file, or the bytes of a JPEG file; None if it has none.
        hits: the items, the nearest first.
        note: a sentence below them.
    """

    name: str
    image: Path | bytes | None
    hits: list[Hit]
    note: str = ""


@contextlib.contextmanager
def write_search_page(path: Path, title: str) -> Iterator[Callable[[PageQuery], None]]:
    """Opens a page, and yields a function that adds a query to it; the file is written whole.

    The page loads nothing: images are in it, files as JPEG of at most 96 pixels. A file that cannot be read is
    a box with the reason.

    Args:
        path: the file.
        title: title of the page.
    """
    with write_page(path, title) as write:
        yield lambda query: write(_section(query))


def _section(query: PageQuery) -> str:
    found = item_list(_figure(hit.name, hit.image, *_facts(hit)) for hit in query.hits)
    if not query.hits:
        found = "<p>nothing found</p>\n"
    note = f"<p>{escape(query.note)}</p>\n" if query.note else ""
    shown = _figure(query.name, query.image)
    return f'<section>\n<div class="query">{shown}</div>\n{found}{note}</section>\n'


def _facts(hit: Hit) -> Iterator[str]:
    yield f"distance {hit.distance}"
    if hit.score is not None:
        yield f"cosine {hit.score:.4f}"
    if hit.label is not None:
        yield hit.label


def _figure(name: str, image: Path | bytes | None, *facts: str) -> str:
    return item_figure("" if image is None else image_element(image), name, facts)
