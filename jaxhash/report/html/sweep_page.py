"""The page of a sweep: its settings, its members, and how settings differ from query to query."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxhash.report.html.compare_page import (
    COMPARE_STYLE,
    Plot,
    QueryByQuery,
    plot_figure,
    write_by_query,
)
from jaxhash.report.html.page import html_table, paragraph, section, write_page
from jaxhash.report.sweep_table import member_rows, setting_rows, sweep_notes, sweep_title


def write_sweep_page(
    path: Path,
    results: dict[str, Any],
    plots: Sequence[Plot],
    by_query: QueryByQuery | None,
    notes: Sequence[str] = (),
) -> None:
    """Writes the page of a sweep.

    Args:
        path: the file.
        results: the content of its results.json.
        plots: plots of its numbers.
        by_query: how its settings, or its seeds, differ from query to query; None if there are not two
            with codes.
        notes: sentences on what is left out.
    """
    title = f"{len(results['members'])} members of a sweep on {sweep_title(results)}"
    with write_page(path, title, style=COMPARE_STYLE) as write:
        write(
            paragraph(
                f"{results['objective']}, {results['epochs']} epochs; {results['items']['query']:,} "
                f"queries; split {results['split']}, {results['split_sha256'][:12]}"
            )
        )
        write(
            section(
                "Settings",
                html_table(*setting_rows(results), left=max(1, len(results["axes"]))),
                paragraph("Mean ± standard deviation over seeds; * the best by validation."),
                *map(paragraph, [*sweep_notes(results), *notes]),
            )
        )
        write(section("Plots", *map(plot_figure, plots)))
        write(section("Members", html_table(*member_rows(results))))
        if by_query is not None:
            write_by_query(write, by_query)
