"""The page of a run: numbers, plots, queries, confusions, a map of the codes, and the fullest buckets."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float
from numpy import ndarray

from jaxhash.report.html.code_map import MapPoint, code_map
from jaxhash.report.html.confusion import (
    TABLE_CLASSES,
    class_table,
    confusion_matrix,
    matrix_classes,
    pair_table,
)
from jaxhash.report.html.page import (
    escape,
    html_table,
    item_list,
    paragraph,
    read_style,
    section,
    write_page,
)
from jaxhash.report.html.rankings import Ranking, ShownItem, item_element, ranking_element
from jaxhash.report.run_table import run_notes, run_rows
from jaxhash.retrieval.confusion import NEIGHBORS, ClassConfusion


class ShownBucket(NamedTuple):
    """A bucket as the page shows it.

    Attributes:
        code: the code in hexadecimal digits.
        items: number of items.
        queries: number of queries with the same code.
        classes: names of classes with their numbers of items, the most frequent first.
        examples: some of its items; none if they have neither images nor names.
    """

    code: str
    items: int
    queries: int
    classes: Sequence[tuple[str, int]]
    examples: Sequence[ShownItem]


@dataclasses.dataclass(frozen=True)
class RunPage:
    """What the page of a run shows.

    Attributes:
        title: title of the page.
        results: content of results.json.
        facts: names and values of what the run was made from.
        notes: sentences on what the page lacks.
        plots: HTML elements of the plots.
        precision: a sentence on the AP of the queries.
        worst: queries of the lowest AP, with their nearest items.
        best: queries of the highest AP.
        confusion: the neighbors of queries by class; None if no query has a relevant item.
        class_precision: mAP of the queries of each class.
        class_name: names a class.
        points: codes on the map.
        map_note: a sentence on which codes those are.
        buckets: the fullest buckets.
    """

    title: str
    results: dict[str, Any]
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    plots: Sequence[str]
    precision: str
    worst: Sequence[Ranking]
    best: Sequence[Ranking]
    confusion: ClassConfusion | None
    class_precision: Float[ndarray, " classes"]
    class_name: Callable[[int], str]
    points: Sequence[MapPoint]
    map_note: str
    buckets: Sequence[ShownBucket]


def write_run_page(path: Path, page: RunPage) -> None:
    """Writes the page of a run as one file, which loads nothing.

    Args:
        path: the file.
        page: what it shows.
    """
    sections = {
        "Numbers": _numbers(page),
        "Plots": "".join(page.plots) or paragraph("the run kept nothing to plot"),
        "Worst and best queries": _queries(page),
        "Classes that take each other's places": _confusion(page),
        "The code space": paragraph(page.map_note) + code_map(page.points, page.class_name),
        "Fullest buckets": _buckets(page),
    }
    anchors = {title: f"section-{number}" for number, title in enumerate(sections, 1)}
    links = "".join(
        f'<li><a href="#{anchors[title]}">{escape(title)}</a></li>\n' for title in sections
    )
    with write_page(path, page.title, style=read_style("run_page.css")) as write:
        write(f'<nav><ul class="links">\n{links}</ul></nav>\n')
        for note in page.notes:
            write(paragraph(note))
        for title, content in sections.items():
            write(section(title, content, anchor=anchors[title]))


def _numbers(page: RunPage) -> str:
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in page.facts
    )
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in run_notes(page.results))
    conventions = page.results.get("conventions", {})
    defined = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>\n" for name, text in conventions.items()
    )
    titles, rows = run_rows(page.results)
    return (
        html_table(titles, rows)
        + f'<ul class="notes">\n{notes}</ul>\n'
        + f'<dl class="facts">\n{facts}</dl>\n'
        + f'<details><summary>How the numbers are defined</summary><dl class="facts">\n{defined}</dl>'
        "</details>\n"
    )


def _queries(page: RunPage) -> str:
    if not page.worst:
        return paragraph("no query has a relevant item in the database")
    shown = "".join(
        f"<h3>{title}</h3>\n{''.join(map(ranking_element, rankings))}"
        for title, rankings in (("Lowest AP", page.worst), ("Highest AP", page.best))
    )
    return paragraph(page.precision) + shown


def _confusion(page: RunPage) -> str:
    found, name = page.confusion, page.class_name
    if found is None:
        return paragraph("no query has a relevant item in the database")
    asked = int((found.queries > 0).sum())
    classes = matrix_classes(found)
    shown = f": {TABLE_CLASSES} of {asked:,}" * (asked > TABLE_CLASSES)
    rule = (
        f"Neighbors of a query are as many nearest items as are relevant to it, at most {NEIGHBORS}; "
        "where they end amid items at one distance, these count by their share. "
        "Of perfect codes all are right. "
    )
    which = f"the {len(classes)} of {asked:,} classes that are confused most, " * (
        asked > len(classes)
    )
    rows = f"A row has the neighbors of the queries of a class in percent: {which}right ones on the diagonal"
    if found.is_multi_label:
        rows += "; a wrong neighbor counts for each of its classes"
    parts = [
        paragraph(rule + rows + "."),
        confusion_matrix(found, classes, name),
        "<h3>Pairs with most wrong neighbors</h3>\n",
        pair_table(found, name) if found.wrong.nnz else paragraph("no neighbor is wrong"),
        f"<h3>Classes, the lowest mAP first{shown}</h3>\n",
        class_table(found, page.class_precision, name),
    ]
    return "".join(parts)


def _buckets(page: RunPage) -> str:
    items = page.results["items"]["database"]
    parts = []
    for bucket in page.buckets:
        named = ", ".join(f"{name} ({count:,})" for name, count in bucket.classes) or "no label"
        queries = f", and {bucket.queries:,} queries" * bool(bucket.queries)
        words = f"{bucket.items:,} items ({bucket.items / items:.1%}){queries}: {named}"
        parts.append(
            f'<div class="bucket"><h3>{escape(words)}</h3>\n'
            f"<p>code <code>{escape(bucket.code)}</code></p>\n"
            f"{item_list(map(item_element, bucket.examples)) if bucket.examples else ''}</div>\n"
        )
    health = page.results.get("health") or {}
    sizes = health.get("buckets")
    note = ""
    if sizes:
        note = paragraph(
            f"{sizes['distinct']:,} distinct codes among {items:,} items; the entropy of the codes is "
            f"{sizes['entropy']:.2f} bits."
        )
    return note + "".join(parts)
