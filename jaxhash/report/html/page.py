"""Writes a page as one file, and makes the parts that pages share."""

import contextlib
import functools
import html
import importlib.resources
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from jaxhash.utils.errors import printable
from jaxhash.utils.files import whole_file

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
"""


@functools.cache
def read_style(name: str = "style.css") -> str:
    """Returns the style sheet of all pages, or another of this folder."""
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


@contextlib.contextmanager
def write_page(path: Path, title: str, *, style: str = "") -> Iterator[Callable[[str], None]]:
    """Opens a page, and yields a function that adds HTML to it; the file is written whole.

    Args:
        path: the file.
        title: title of the page, a plain text.
        style: rules beside those of all pages.
    """
    with whole_file(path, "wb") as file:
        head = _HEAD.format(title=escape(title), style=read_style() + style)
        file.write(head.encode())
        yield lambda part: file.write(part.encode()) and None
        file.write(b"</body>\n</html>\n")


def escape(text: object) -> str:
    """Returns a text as HTML, which no name can leave; what cannot be printed is escaped too.

    Example:
        >>> escape("<b>.jpg")
        '&lt;b&gt;.jpg'
    """
    return html.escape(printable(str(text)))


def paragraph(text: str) -> str:
    """Returns a paragraph of a plain text."""
    return f"<p>{escape(text)}</p>\n"


def section(title: str, *parts: str, anchor: str = "") -> str:
    """Returns a section of HTML elements under a heading, a plain text; links lead to its anchor."""
    name = f' id="{anchor}"' if anchor else ""
    return f"<section{name}>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n"


def item_figure(image: str, name: str, facts: Iterable[str] = (), *, kind: str = "") -> str:
    """Returns an item: its image, facts on it, and its name below.

    Args:
        image: an HTML element, or nothing; see `jaxhash.report.html.thumbnails.image_element`.
        name: name of the item, a plain text.
        facts: plain texts.
        kind: ``right`` or ``wrong`` to frame it so.
    """
    lines = "".join(f"<div>{escape(fact)}</div>" for fact in facts)
    name = f'<div class="path">{escape(name)}</div>'
    classes = f"item {kind}".strip()
    return f'<figure class="{classes}">{image}<figcaption>{lines}{name}</figcaption></figure>'


def item_list(figures: Iterable[str]) -> str:
    """Returns items side by side, from HTML elements as `item_figure` makes them."""
    parts = "".join(f"<li>{each}</li>\n" for each in figures)
    return f'<ol class="items">\n{parts}</ol>\n'


def html_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Returns a table of plain texts.

    Args:
        titles: titles of the columns.
        rows: a text for each column.
        left: number of columns that begin at the left; the others are numbers, and end at the right.
    """

    def cells(kind: str, row: Sequence[str]) -> str:
        texts = "".join(f"<{kind}>{escape(each)}</{kind}>" for each in row[:left])
        numbers = "".join(f'<{kind} class="number">{escape(each)}</{kind}>' for each in row[left:])
        return f"<tr>{texts}{numbers}</tr>\n"

    body = "".join(cells("td", row) for row in rows)
    head = cells("th", titles)
    return (
        f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>{body}</tbody></table></div>\n'
    )


def plot_element(svg: str, description: str) -> str:
    """Returns a plot as an HTML element; on a narrow screen it is scrolled, so that its text is read.

    Args:
        svg: an SVG element by `jaxhash.report.plots.style.to_svg` or `inline_svg`.
        description: what the plot shows, a plain text for who does not see it.
    """
    label = f'role="img" aria-label="{escape(description)}"'
    return (
        f'<div class="scroll plot" tabindex="0">{svg.replace("<svg", f"<svg {label}", 1)}</div>\n'
    )
