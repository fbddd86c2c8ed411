"""``jaxhash bench``: time losses or the input, compile losses, or merge results of several machines."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxhash.bench.config import PRESETS, BenchConfig, CompiledConfig, InputConfig
from jaxhash.cli.parsing import find_value, parse, preset_list


@dataclasses.dataclass(frozen=True)
class CompiledArguments(CompiledConfig):
    """Compile losses for accelerators that are not here: operations, bytes, memory, and no time."""

    target: Annotated[str, tyro.conf.arg(name="for")] = ""
    """The accelerators, such as v5e:2x4 or h200:8."""


@dataclasses.dataclass(frozen=True)
class CompareArguments:
    """Merge results of jaxhash bench, of machines and of targets, into one table and one plot."""

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
    # Imports after parsing: --help and mistakes stay quick.
    if isinstance(parsed, CompareArguments):
        from jaxhash.bench import compare

        compare.compare_results(parsed.compare, parsed.output, console)
    elif isinstance(parsed, CompiledConfig):
        from jaxhash.bench import run_compiled

        run_compiled.compile_losses(parsed, console, command)
    elif isinstance(parsed, BenchConfig):
        from jaxhash.bench import run as bench

        bench.run_benchmark(parsed, console, command)
    else:
        from jaxhash.bench import input_pipeline

        input_pipeline.benchmark_input(parsed, console, command)


def parse_arguments(
    arguments: list[str],
) -> BenchConfig | CompiledConfig | CompareArguments | InputConfig:
    """Returns the preset named, or the default one, with the values of the flags in it.

    With ``--for`` they are compiled only, with ``--compare`` it returns the files to merge, and with
    ``--data`` the data sets to measure.
    """
    prog = "jaxhash bench"
    flags = {argument.split("=")[0] for argument in arguments}
    for flag, kind in (("--compare", CompareArguments), ("--data", InputConfig)):
        if flag in flags:
            return parse(kind, arguments, prog=prog)
    name = find_value(arguments, "--preset")
    name = name if name in PRESETS else next(iter(PRESETS))
    if "--for" in flags:
        default = CompiledArguments.of_preset(name, find_value(arguments, "--for") or "")
        return parse(CompiledArguments, arguments, prog=prog, default=default)
    return parse(
        BenchConfig,
        arguments,
        prog=prog,
        default=PRESETS[name](),
        about="Time losses on this machine, and write a JSON file, a table and a plot; or\n"
        "jaxhash bench --for TARGET: compile them for v5e:2x4, h200:8 or others that are not here; "
        "or\njaxhash bench --compare FILE ... [--output PLOT.png]: merge such files; or\n"
        "jaxhash bench --data [NAME ...]: measure the input; --data --help lists its "
        f"options.\n\npresets:\n{preset_list(PRESETS)}",
    )
