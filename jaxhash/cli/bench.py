"""``jaxhash bench``: time losses or the input, or merge what several machines measured."""

import dataclasses
from pathlib import Path

from rich.console import Console

from jaxhash.bench.config import PRESETS, BenchConfig, InputConfig
from jaxhash.cli.parsing import find_value, parse, preset_list


@dataclasses.dataclass(frozen=True)
class CompareArguments:
    """Merge results of jaxhash bench, from one machine or several, into one table and one plot."""

    compare: tuple[Path, ...]
    """Files that jaxhash bench wrote."""
    output: Path = Path("runs", "bench", "compare.png")
    """The plot."""


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash bench``.
        console: where to print.
        command: the whole command line, to be stored.
    """
    parsed = parse_arguments(arguments)
    from jaxhash.bench import run as bench  # after parsing: --help and mistakes stay quick

    if isinstance(parsed, CompareArguments):
        bench.compare_results(parsed.compare, parsed.output, console)
    elif isinstance(parsed, BenchConfig):
        bench.run_benchmark(parsed, console, command)
    else:
        from jaxhash.bench import input_pipeline

        input_pipeline.benchmark_input(parsed, console, command)


def parse_arguments(arguments: list[str]) -> BenchConfig | CompareArguments | InputConfig:
    """Returns the preset named, or the default one, with the values of the flags in it.

    With ``--compare`` the files to merge, and with ``--data`` the data sets to measure.
    """
    for flag, kind in (("--compare", CompareArguments), ("--data", InputConfig)):
        if any(argument.split("=")[0] == flag for argument in arguments):
            return parse(kind, arguments, prog="jaxhash bench")
    name = find_value(arguments, "--preset")
    name = name if name in PRESETS else next(iter(PRESETS))
    return parse(
        BenchConfig,
        arguments,
        prog="jaxhash bench",
        default=PRESETS[name](),
        description="Time losses on this machine, and write a JSON file, a table and a plot; or\n"
        "jaxhash bench --compare FILE ... [--output PLOT.png]: merge such files, of one machine\n"
        "or several; or\njaxhash bench --data [NAME ...]: measure the input; --data --help lists its "
        f"options.\n\npresets:\n{preset_list(PRESETS)}",
    )
