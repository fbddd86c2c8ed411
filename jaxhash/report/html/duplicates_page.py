"""The page of near duplicates: counts by radius, pairs at the radius, and groups, as small images."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxhash.report.html.page import (
    escape,
    html_table,
    item_figure,
    item_list,
    paragraph,
    section,
    write_page,
)
from jaxhash.report.html.thumbnails import image_element
from jaxhash.retrieval.index import Index, IndexItem
from jaxhash.retrieval.item_images import item_images
from jaxhash.retrieval.near_duplicates.find import NearDuplicates
from jaxhash.retrieval.near_duplicates.groups import Groups
from jaxhash.retrieval.near_duplicates.overview import radius_table

#: Pairs, groups, and duplicates of each group that a page shows.
MAX_PAIRS = 24
MAX_GROUPS = 100
MAX_DUPLICATES = 12

_STYLE = """.cards { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.cards > div { border: 1px solid var(--line); border-radius: 4px; padding: 0.6rem;
  box-sizing: border-box; max-width: 100%; }
h3 { font-size: 0.9rem; margin: 0 0 0.5rem; }
"""


class _Card(NamedTuple):
    """An item, and some of those that are near it, by their ids.

    Attributes:
        title: title of the card; none for a pair.
        first: the item that is kept, or one of a pair.
        others: the others.
        distances: distance of each to it.
        note: a sentence below them.
    """

    title: str
    first: int
    others: Sequence[int]
    distances: Sequence[int]
    note: str = ""


def write_duplicates_page(
    path: Path,
    found: NearDuplicates,
    groups: Groups,
    facts: Iterable[str],
    index: Index,
    against: Index | None = None,
) -> None:
    """Writes the page, whole or not at all; it shows the largest groups, and says what it leaves out.

    It loads nothing: images are in it, as JPEG of at most 96 pixels.

    Args:
        path: the file.
        found: the pairs.
        groups: their groups.
        facts: sentences at its beginning.
        index: the index of the duplicates.
        against: the index of the kept items, if it is another one.
    """
    sides = against or index, index
    pairs = found.boundary(MAX_PAIRS)
    pair_cards = [_Card("", pair.first, [pair.second], [pair.distance]) for pair in pairs]
    which = "the largest first"
    if len(groups.kept) > MAX_GROUPS:
        which = f"the {MAX_GROUPS} largest of {len(groups.kept):,}; a list has all of them"
    with write_page(path, f"Near duplicates in {index.folder}", style=_STYLE) as write:
        write("".join(map(paragraph, facts)))
        write(section("Counts by radius", html_table(*radius_table(found))))
        if pairs:
            title = f"Pairs at distance {pairs[0].distance}"
            note = paragraph("the least similar pairs that count as near duplicates")
            write(section(title, note, _cards(pair_cards, sides)))
        if len(groups.kept):
            write(section("Groups", paragraph(which), _cards(_group_cards(groups), sides)))


def _group_cards(groups: Groups) -> list[_Card]:
    """Returns the largest groups, the first ones of equal size."""
    largest = np.argsort(-groups.sizes, kind="stable")[:MAX_GROUPS]
    shown = groups.take(largest, MAX_DUPLICATES)
    cards = []
    for place, (number, size) in enumerate(zip(largest, groups.sizes[largest], strict=True)):
        some = slice(*shown.starts[place : place + 2])
        cards.append(
            _Card(
                f"Group {number + 1}: {size:,} duplicate{'' if size == 1 else 's'}",
                int(shown.kept[place]),
                shown.duplicates[some].tolist(),
                shown.distances[some].tolist(),
                f"and {size - MAX_DUPLICATES:,} more" if size > MAX_DUPLICATES else "",
            )
        )
    return cards


def _cards(cards: Sequence[_Card], sides: tuple[Index, Index]) -> str:
    """Returns cards side by side; ``sides`` are the indexes of their first items and of the others."""
    ids = [{card.first for card in cards}, {id for card in cards for id in card.others}]
    firsts, others = (_with_images(*side) for side in zip(sides, ids, strict=True))
    parts = []
    for card in cards:
        first, image = firsts[card.first]
        role = ("kept", "right") if card.title else ("", "")
        figures = [_figure(first, image, *role)]
        for id, distance in zip(card.others, card.distances, strict=True):
            item, image = others[id]
            differs = None not in (item.label, first.label) and item.label != first.label
            figures.append(_figure(item, image, f"distance {distance}", "wrong" if differs else ""))
        title = f"<h3>{escape(card.title)}</h3>\n" if card.title else ""
        note = paragraph(card.note) if card.note else ""
        parts.append(f"<div>\n{title}{item_list(figures)}{note}</div>\n")
    return f'<div class="cards">\n{"".join(parts)}</div>\n'


def _with_images(
    index: Index, ids: Iterable[int]
) -> dict[int, tuple[IndexItem, bytes | Path | None]]:
    """Returns items of an index by id, each with its image."""
    items = index.items(sorted(ids))
    images = item_images(index, items)
    return {item.id: (item, image) for item, image in zip(items, images, strict=True)}


def _figure(item: IndexItem, image: bytes | Path | None, fact: str, kind: str) -> str:
    """Returns an item; one of another label than that of the kept item is framed, and says so."""
    facts = [*([fact] if fact else []), f"id {item.id}"]
    if item.label is not None:
        facts.append(f"{item.label} (another label)" if kind == "wrong" else item.label)
    return item_figure("" if image is None else image_element(image), item.path, facts, kind=kind)
