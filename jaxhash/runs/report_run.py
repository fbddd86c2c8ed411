"""Shows a finished run: its table, or its page."""

from pathlib import Path

from rich.console import Console

from jaxhash.runs.folder import print_results, read_finished, read_results


def report_run(
    folder: Path, console: Console, *, html: Path | None = None, data_dir: Path | None = None
) -> None:
    """Prints the table of a finished run.

    Args:
        folder: folder of the run.
        console: where to print.
        html: file of the page; None for the table.
        data_dir: folder of the data, where it has moved.

    Raises:
        UserError: if the folder holds no finished run, or a file of it is damaged.
    """
    read_finished(folder, data_dir)
    print_results(folder, read_results(folder), console)
