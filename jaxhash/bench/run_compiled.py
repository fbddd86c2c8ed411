"""Compiles the losses of a configuration for accelerators that are not here."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from jaxhash.bench.compare import COMPILED_FORMAT, report_results, to_machine_results
from jaxhash.bench.compile.roofline import ROUNDS
from jaxhash.bench.compile.targets import parse_target, target_devices
from jaxhash.bench.compiled_loss import compile_loss
from jaxhash.bench.config import CompiledConfig
from jaxhash.bench.losses import LOSSES
from jaxhash.bench.report import compiled_cells, describe_setting
from jaxhash.bench.run import result_header
from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.files import check_output, write_json

#: Packages of which one has the compiler of each platform.
_COMPILERS = {"tpu": ("libtpu",), "cuda": ("jax-cuda13-plugin", "jax-cuda12-plugin")}


def compile_losses(config: CompiledConfig, console: Console, command: str) -> dict[str, Any]:
    """Compiles, prints, writes the result file and its plot, and returns the file's content.

    The file is written after each program. Nothing is run, so the file holds no times but those of
    the compiler.

    Raises:
        UserError: if the configuration is invalid, or the compiler is not installed.
    """
    config.check()
    target = parse_target(config.target)
    jax.config.update("jax_platforms", "cpu")  # the accelerators of this machine stay free
    target_devices(target)  # refuses a missing compiler before anything is written
    place = target.name.replace(":", "-")
    output = config.output or Path("runs", "bench", f"{config.name}-{place}.json")
    for path in (output, output.with_suffix(".png")):
        check_output(path, path.suffix.lower(), makes_folder=True)
    output.parent.mkdir(parents=True, exist_ok=True)

    compilers = (p for p in _COMPILERS[target.platform] if find_spec(p.replace("-", "_")))
    packages = ("jaxhash", "jax", "jaxlib", *compilers)
    content = result_header(COMPILED_FORMAT, command, packages) | {
        "target": dataclasses.asdict(target),
        "settings": dataclasses.asdict(config) | {"output": config.output and str(config.output)},
        "loop_rounds": ROUNDS,
        "points": [],
        "stopped": [],
    }
    for setting in dict.fromkeys(setting for series in config.series() for setting in series):
        for which in config.passes:
            for name in config.losses:
                where = f"{describe_setting(setting)}: {name} {which}"
                try:
                    point = compile_loss(name, LOSSES[name], which, setting, target)
                except (UserError, jax.errors.JaxRuntimeError) as error:
                    stop = {"loss": name, "which": which, **setting._asdict()}
                    content["stopped"].append(stop | {"reason": first_line(error)})
                    console.print(f"{where}: {first_line(error)}", highlight=False, soft_wrap=True)
                else:
                    content["points"].append(point._asdict())
                    facts = ", ".join(
                        f"{title} {text}" for title, text in compiled_cells(point).items()
                    )
                    console.print(f"{where}: {facts}", highlight=False, soft_wrap=True)
                write_json(output, content)
    result = to_machine_results(content)
    report_results([result], result.machine, output.with_suffix(".png"), console)
    console.print(
        "numbers are those of one device; flop are those of matrix products; a loop whose rounds "
        f"depend on data counts {ROUNDS} rounds",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"results are in {output}, the plot is beside it", highlight=False)
    return content
