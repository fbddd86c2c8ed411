"""``jaxhash report``: one run, a sweep, or several runs side by side, as tables or as a page."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxhash.cli.parsing import parse
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output


@dataclasses.dataclass(frozen=True)
class ReportArguments:
    """Show what finished runs have come to: numbers, plots, neighbors, confusions and the code space.

    One RUN is shown by itself, a sweep by its members, and several runs side by side. Without --html the
    numbers are printed.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Folders of finished runs, or of a sweep."""
    html: Path | None = None
    """File for a page (.html), which needs no other file and no network."""
    data_dir: Path | None = None
    """Folder of the data, where it has moved since; without the data, items are shown by their names."""

    def check(self) -> None:
        """Raises a `UserError` if a value is not allowed, or the page cannot be written."""
        if not self.runs:
            raise UserError("name the folder of a run; jaxhash report --help lists what is allowed")
        if self.html is not None:
            check_output(self.html, ".html", ".htm", argument="html")


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash report``.
        console: where to print.
        command: the whole command line; not used.
    """
    parsed = parse(ReportArguments, arguments, prog="jaxhash report")
    parsed.check()
    from jaxhash.runs.folder import read_finished  # after parsing: mistakes stay quick

    options = {"html": parsed.html, "data_dir": parsed.data_dir}
    if len(parsed.runs) > 1:
        from jaxhash.runs.report_runs import report_runs

        report_runs(parsed.runs, console, **options)
        return
    (folder,) = parsed.runs
    if read_finished(folder)[1] is not None:
        from jaxhash.runs.report_sweep import report_sweep

        report_sweep(folder, console, **options)
        return
    from jaxhash.runs.report_run import report_run

    report_run(folder, console, **options)
