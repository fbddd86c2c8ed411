"""``jaxhash compile``: compiles a run's step and encoder for hardware that is not here, and reports."""

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxhash.bench.compile.analysis import analyze
from jaxhash.bench.compile.program import (
    CompiledProgram,
    DoesNotFitError,
    compile_encoder,
    compile_step,
    encoder_rows,
)
from jaxhash.bench.compile.remedies import find_remedies
from jaxhash.bench.compile.table import print_report
from jaxhash.bench.compile.targets import Target, installed_compilers, target_devices
from jaxhash.bench.report import format_bytes
from jaxhash.data.rows import map_rows
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.outline import DataShape, open_data, outline_experiment
from jaxhash.utils.console import print_line, show_work
from jaxhash.utils.files import check_output, write_json
from jaxhash.utils.hardware import versions

#: Value of the key ``format`` of a result file.
FORMAT = "jaxhash compile 1"

#: Packages whose versions decide what a program looks like, beside the compiler's.
_PACKAGES = ("jaxhash", "jax", "jaxlib", "flax", "optax")


def compile_run(
    config: Config,
    target: Target,
    console: Console,
    command: str,
    *,
    data: DataShape | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Compiles the training step and the encoder of a run, prints what they need, and returns it.

    The encoder is that of an evaluation, with the rows that one device has of its batches.

    Args:
        config: configuration of the run.
        target: what to compile for.
        console: where to print.
        command: the whole command line, to be stored.
        data: shape of data that are not here; if not given the data are opened.
        output: JSON file to write.

    Raises:
        UserError: if the compiler or the data are missing, or the batch cannot be spread.
    """
    if output is not None:
        check_output(output, ".json", makes_folder=True)
    target_devices(target)  # before the data: a missing compiler is told at once
    with show_work("opening the data", console):
        source, split = open_data(config, data)
    experiment = outline_experiment(config, source, split)
    print_line(console, _describe(experiment, target))
    batch, encoded = config.optimizer.batch_size, encoder_rows(target) * target.devices
    content = {
        "format": FORMAT,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions((*_PACKAGES, *installed_compilers(target))),
        "target": dataclasses.asdict(target),
        "config": config.to_json(),
        "data": {
            "items": len(split.train),
            "classes": len(source.class_names),
            "input_shape": map_rows(lambda part: list(part.shape[1:]), source.inputs[:1]),
        },
        "programs": [
            _compile("training step", compile_step, experiment, target, batch, console),
            _compile("encoder", compile_encoder, experiment, target, encoded, console),
        ],
    }
    if not content["programs"][0]["fits"]:
        memory = content["programs"][0].get("memory", {})
        needed = memory.get("total") or content["programs"][0]["needed_bytes"]
        print_line(
            console,
            f"the step needs {format_bytes(needed)} of {format_bytes(target.chip.memory_bytes)} a "
            "chip: trying what saves memory",
        )
        with show_work("compiling the step with other options", console):
            remedies = find_remedies(
                experiment,
                target,
                lambda changed: outline_experiment(changed, source, split),
                lambda line: print_line(console, line),
            )
        content["remedies"] = [dataclasses.asdict(remedy) for remedy in remedies]
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, content)
    print_report(content, console)
    if _exceeds_default(content["programs"], target):
        print_line(
            console,
            "JAX takes three quarters of a GPU's memory by default: this run needs more, by "
            "XLA_PYTHON_CLIENT_MEM_FRACTION=0.95",
        )
    if output is not None:
        print_line(console, f"all of it is in {output}")
    return content


def _compile(
    name: str,
    compile_program: Callable[[Experiment, Target], CompiledProgram],
    experiment: Experiment,
    target: Target,
    items: int,
    console: Console,
) -> dict[str, Any]:
    """Compiles a program; returns what it needs, or how much memory a device lacks."""
    with show_work(f"compiling the {name} for {target.name}, which can take minutes", console):
        try:
            return analyze(compile_program(experiment, target), items)
        except DoesNotFitError as error:
            message = str(error)
            return {
                "name": name,
                "fits": False,
                "needed_bytes": error.needed,
                "message": message.partition(": ")[2],
            }


def _exceeds_default(programs: Sequence[Mapping[str, Any]], target: Target) -> bool:
    """Returns whether a program fits a GPU, but not the part of its memory that JAX takes by default."""
    limit = 0.75 * target.chip.memory_bytes
    return target.platform == "cuda" and any(
        program["fits"] and program["memory"]["total"] > limit for program in programs
    )


def _describe(experiment: Experiment, target: Target) -> str:
    """Returns a line on what is compiled."""
    config = experiment.config
    return (
        f"{config.model.model}, {experiment.objective_name}, {config.model.bits} bits, batch "
        f"{config.optimizer.batch_size:,}, {len(experiment.split.train):,} items, by "
        f"{config.run.parallel}, for {target.devices} x {target.chip.name} on {target.hosts} "
        f"host{'s' * (target.hosts > 1)}"
    )
