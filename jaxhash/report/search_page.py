"""The page of a search: one HTML file with the queries and what they found, as small images."""

import base64
import contextlib
import html
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from jaxhash.data.readers.images import try_read_image
from jaxhash.utils.errors import printable
from jaxhash.utils.files import whole_file

#: Longest side of an image on the page, in pixels.
_SIDE = 96

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #d0d0d0; --soft: #666; --back: #fff; --text: #111; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --line: #444; --soft: #aaa; --back: #161616; --text: #eee; }}
}}
body {{ margin: 1.5rem; background: var(--back); color: var(--text);
  font: 14px/1.35 system-ui, sans-serif; }}
section {{ border-top: 1px solid var(--line); padding: 1rem 0; }}
h1 {{ font-size: 1.2rem; overflow-wrap: anywhere; }}
ol {{ display: flex; flex-wrap: wrap; gap: 1rem; margin: 0; padding: 0; list-style: none; }}
figure {{ margin: 0; width: 8.5rem; }}
.query figure {{ margin-bottom: 1rem; font-weight: 600; }}
img, .missing {{ display: block; box-sizing: border-box; width: 96px; height: 96px; }}
img {{ object-fit: contain; object-position: left bottom; }}
.missing {{ border: 1px dashed var(--line); color: var(--soft);
  font-size: 11px; overflow: hidden; overflow-wrap: anywhere; }}
figcaption {{ overflow-wrap: anywhere; }}
.path, p {{ color: var(--soft); font-size: 12px; }}
</style>
</head>
<body>
<h1>{title}</h1>
"""


class Hit(NamedTuple):
    """An item that a query found.

    Attributes:
        name: its name.
        path: its image file; None if it is none.
        distance: Hamming distance to the query.
        label: its label, if it has one.
        score: cosine to the query, if the items are ranked by it.
    """

    name: str
    path: Path | None
    distance: int
    label: str | None = None
    score: float | None = None


class PageQuery(NamedTuple):
    """A query and what it found.

    Attributes:
        name: its name.
        path: its image file; None if it is none.
        hits: the items, the nearest first.
        note: a sentence below them.
    """

    name: str
    path: Path | None
    hits: list[Hit]
    note: str = ""


@contextlib.contextmanager
def write_search_page(path: Path, title: str) -> Iterator[Callable[[PageQuery], None]]:
    """Opens a page, and yields a function that adds a query to it; the file is written whole.

    The page loads nothing: images are in it, as JPEG of at most 96 pixels. An image that cannot be read is
    a box with the reason.

    Args:
        path: the file.
        title: title of the page.
    """
    with whole_file(path, "wb") as file:
        file.write(_HEAD.format(title=_text(title)).encode())
        yield lambda query: file.write(_section(query).encode()) and None
        file.write(b"</body>\n</html>\n")


def _section(query: PageQuery) -> str:
    hits = "".join(f"<li>{_figure(hit.name, hit.path, *_facts(hit))}</li>\n" for hit in query.hits)
    note = f"<p>{_text(query.note)}</p>\n" if query.note else ""
    found = f"<ol>\n{hits}</ol>\n" if query.hits else "<p>nothing found</p>\n"
    shown = _figure(query.name, query.path)
    return f'<section>\n<div class="query">{shown}</div>\n{found}{note}</section>\n'


def _facts(hit: Hit) -> Iterator[str]:
    yield f"distance {hit.distance}"
    if hit.score is not None:
        yield f"cosine {hit.score:.4f}"
    if hit.label is not None:
        yield hit.label


def _figure(name: str, path: Path | None, *facts: str) -> str:
    lines = "".join(f"<div>{_text(fact)}</div>" for fact in facts)
    image = "" if path is None else _thumbnail(path)
    name = f'<div class="path">{_text(name)}</div>'
    return f"<figure>{image}<figcaption>{lines}{name}</figcaption></figure>"


def _thumbnail(path: Path) -> str:
    """Returns an image file as a small image, or a box with the reason why it cannot be read."""
    found = try_read_image(path, None) if path.exists() else "the file is missing"
    if isinstance(found, str):
        return f'<div class="missing">{_text(found)}</div>'
    image = Image.fromarray(found.pixels)
    image.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{data}">'


def _text(text: str) -> str:
    """Returns a text as HTML, which no name can leave."""
    return html.escape(printable(text))
