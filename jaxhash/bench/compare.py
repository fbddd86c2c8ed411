"""Reads result files, and shows those of several machines in one table and one plot."""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxhash.bench.compiled_loss import CompiledLoss
from jaxhash.bench.measure import Measurement
from jaxhash.bench.plot import MACHINE_DASHES, plot_points
from jaxhash.bench.report import MachineResults, print_points
from jaxhash.report.plots import write_figure
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output

#: Values of the key ``format`` of a result file: of a machine, and of a target that was compiled for.
FORMAT = "jaxhash bench 1"
COMPILED_FORMAT = "jaxhash bench compiled 1"


def compare_results(files: Sequence[Path], output: Path, console: Console) -> None:
    """Prints one table and draws one plot of several result files.

    Raises:
        UserError: if a file is no result file, or ``output`` has no image suffix.
    """
    if not files:
        raise UserError("`compare` needs a file")
    if len(files) > len(MACHINE_DASHES):
        raise UserError(
            f"`compare` takes {len(MACHINE_DASHES)} files at the most, got {len(files)}"
        )
    if output.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UserError(
            f"`output={output}` must end in .png, .pdf or .svg: `compare` writes a plot"
        )
    check_output(output, output.suffix.lower(), makes_folder=True)
    results = [to_machine_results(read_result(path)) for path in files]
    letters = string.ascii_uppercase[: len(files)]
    legend = [
        f"{letter}: {result.machine}, {file}"
        for letter, result, file in zip(letters, results, files, strict=True)
    ]
    console.print("\n".join(legend), highlight=False, markup=False)
    lettered = [b._replace(machine=a) for a, b in zip(letters, results, strict=True)]
    report_results(lettered, "\n".join(legend), output, console)
    console.print(f"the plot is {output}", highlight=False)


def read_result(path: Path) -> dict[str, Any]:
    """Reads a result file and returns its content.

    Raises:
        UserError: if the file is not a result of `run_benchmark` or `compile_losses`.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] not in (FORMAT, COMPILED_FORMAT):
            raise ValueError("another format")
        to_machine_results(content)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f": {error.strerror}" if isinstance(error, OSError) else ""
        raise UserError(f"{path} is not a result of jaxhash bench{reason}") from error
    return content


def to_machine_results(content: dict[str, Any]) -> MachineResults:
    """Returns the name of the machine, or of the target, and what a result file says of its losses."""
    if content["format"] == COMPILED_FORMAT:
        name = f"{content['target']['name']}, compiled only"
        return MachineResults(name, [CompiledLoss(**point) for point in content["points"]])
    hardware = content["hardware"]
    name = hardware["kind"]
    if hardware["platform"] == "cpu":
        cores = hardware["cpu_cores_used"]
        name = f"{hardware['cpu']}, {cores} core{'s' * (cores > 1)}"
    return MachineResults(name, [Measurement(**point) for point in content["points"]])


def report_results(
    measured: Sequence[MachineResults], title: str, plot: Path, console: Console
) -> None:
    """Prints the table and writes the plot.

    Raises:
        UserError: if there is nothing to show.
    """
    if not any(one.points for one in measured):
        raise UserError("nothing was measured: no loss fits into the memory")
    print_points(measured, console)
    plot.parent.mkdir(parents=True, exist_ok=True)
    write_figure(plot_points(measured, title), plot)
