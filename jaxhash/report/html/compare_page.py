"""The page of several runs side by side: their numbers, and the queries that they rank differently."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxhash.report.comparison_table import TEST_NOTE, Comparison, score_rows
from jaxhash.report.html.page import (
    escape,
    html_table,
    paragraph,
    plot_element,
    section,
    write_page,
)
from jaxhash.report.html.rankings import Ranking, item_element, neighbor_list

#: Rules beside those of all pages.
COMPARE_STYLE = """.compared h3 { font-size: 0.9rem; font-weight: normal; margin: 0.75rem 0 0.25rem; }
.compared figure.item { width: 6rem; font-size: 12px; }
"""

#: Titles and rows of a table of plain texts.
TableText = tuple[Sequence[str], Sequence[Sequence[str]]]


class Plot(NamedTuple):
    """A plot on a page.

    Attributes:
        svg: an SVG element.
        description: what it shows, in words.
    """

    svg: str
    description: str


class SystemRanking(NamedTuple):
    """How one of several systems of codes ranks a query.

    Attributes:
        title: the system, and the average precision of the query by it.
        ranking: the query and its nearest items.
    """

    title: str
    ranking: Ranking


class QueryByQuery(NamedTuple):
    """How several systems of codes differ from query to query.

    Attributes:
        differences: table of the differences of their mAP.
        plots: plots of the differences.
        classes: table of the mean average precision by class.
        queries: the queries that they rank most differently, each with its ranking by each system.
        notes: sentences on how the queries are shown.
    """

    differences: TableText
    plots: Sequence[Plot]
    classes: TableText
    queries: Sequence[Sequence[SystemRanking]]
    notes: Sequence[str]


def write_compare_page(
    path: Path,
    comparison: Comparison,
    settings: TableText,
    plots: Sequence[Plot],
    by_query: QueryByQuery | None,
) -> None:
    """Writes the page of several runs.

    Args:
        path: the file.
        comparison: their numbers.
        settings: table of the settings that differ.
        plots: plots of their numbers.
        by_query: how they differ from query to query; None if fewer than two runs have codes.
    """
    some = comparison.results[comparison.first]
    title = f"{len(comparison.results)} runs on {some['dataset']}"
    with write_page(path, title, style=COMPARE_STYLE) as write:
        items = some["items"]
        write(
            paragraph(
                f"{items['query']:,} queries, {items['database']:,} items in the database; split "
                f"{some['split']}, {some['split_sha256'][:12]}"
            )
        )
        write(section("Numbers", html_table(*score_rows(comparison.results), left=2)))
        write("".join(map(paragraph, comparison.notes)))
        if settings[1]:
            write(section("Settings that differ", html_table(*settings)))
        write(section("Plots", *map(plot_figure, plots)))
        if by_query is not None:
            write_by_query(write, by_query)


def write_by_query(write: Callable[[str], None], content: QueryByQuery) -> None:
    """Writes the sections on how systems differ from query to query."""
    plots = map(plot_figure, content.plots)
    differences = html_table(*content.differences), paragraph(TEST_NOTE)
    write(section("Differences by query", *differences, *plots))
    write(section("Average precision by class", html_table(*content.classes)))
    notes = "".join(map(paragraph, content.notes))
    write(section("Queries that differ most", notes, *map(_compared_query, content.queries)))


def plot_figure(plot: Plot) -> str:
    """Returns a plot as an HTML element."""
    return plot_element(plot.svg, plot.description)


def _compared_query(rankings: Sequence[SystemRanking]) -> str:
    """Returns a query and its rankings, one below the other."""
    parts = [f'<div class="query">{item_element(rankings[0].ranking.query)}</div>\n']
    for title, ranking in rankings:
        parts.append(f"<h3>{escape(title)}</h3>\n{neighbor_list(ranking.neighbors)}")
        if ranking.note:
            parts.append(paragraph(ranking.note))
    return f'<section class="compared">\n{"".join(parts)}</section>\n'
