"""Queries and their nearest items side by side, the right ones and the wrong ones marked."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxtyping import UInt8
from numpy import ndarray

from jaxhash.report.html.page import escape, item_figure, item_list
from jaxhash.report.html.thumbnails import image_element


class ShownItem(NamedTuple):
    """An item as a page shows it.

    Attributes:
        name: its name.
        classes: names of its classes.
        image: its pixels, if it is an image and the data are there.
    """

    name: str
    classes: str
    image: UInt8[ndarray, "h w c"] | None = None


class Neighbor(NamedTuple):
    """An item near a query.

    Attributes:
        item: the item.
        distance: Hamming distance to the query.
        is_right: whether it shares a class with the query.
    """

    item: ShownItem
    distance: int
    is_right: bool


class Ranking(NamedTuple):
    """A query and its nearest items.

    Attributes:
        query: the query.
        facts: texts below the query.
        neighbors: the items, the nearest first.
        note: a sentence below them.
    """

    query: ShownItem
    facts: Sequence[str]
    neighbors: Sequence[Neighbor]
    note: str = ""


def ranking_element(ranking: Ranking) -> str:
    """Returns a query beside its nearest items."""
    query = item_element(ranking.query, ranking.facts)
    found = neighbor_list(ranking.neighbors)
    note = f"<p>{escape(ranking.note)}</p>\n" if ranking.note else ""
    return (
        f'<div class="ranking"><div class="query">{query}</div>\n<div>{found}{note}</div></div>\n'
    )


def neighbor_list(neighbors: Iterable[Neighbor]) -> str:
    """Returns items near a query; each says whether it is right by a sign and a frame."""
    return item_list(
        item_element(
            neighbor.item,
            [f"{'✓' if neighbor.is_right else '✗'} distance {neighbor.distance}"],
            kind="right" if neighbor.is_right else "wrong",
        )
        for neighbor in neighbors
    )


def item_element(item: ShownItem, facts: Iterable[str] = (), *, kind: str = "") -> str:
    """Returns an item with its classes and facts on it; see `item_figure`."""
    image = "" if item.image is None else image_element(item.image)
    return item_figure(image, item.name, [*facts, item.classes], kind=kind)
