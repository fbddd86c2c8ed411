"""The command: measure a configuration, or compare what several machines measured."""

import dataclasses
import datetime
import json
import os
import string
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from jaxhash.bench.config import PRESETS, BenchConfig
from jaxhash.bench.growth import collect_series
from jaxhash.bench.losses import LOSSES, TORCH, has_torch
from jaxhash.bench.measure import Point
from jaxhash.bench.prepare import Prepare, prepare
from jaxhash.bench.report import (
    LINE_STYLES,
    Measured,
    in_units,
    plot_points,
    print_points,
    say_setting,
)
from jaxhash.bench.survey import Survey
from jaxhash.bench.timing import copy_bandwidth
from jaxhash.training.devices import hardware, peak_device_bytes
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, write_json
from jaxhash.utils.hardware import versions

#: What a result file says it is.
FORMAT = "jaxhash bench 1"


def bench(config: BenchConfig, console: Console, command: str) -> dict[str, Any]:
    """Measure, print, and write the result file and the plot beside it; return the file's content.

    The file is written after each setting, so that what was measured outlives a kill.

    Raises:
        UserError: if the configuration, the machine or what is installed does not allow it.
    """
    config.check()
    # Else a call hands its work to another thread, and is charged for waking it up.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    devices = jax.local_devices()
    if max(config.devices) > len(devices):
        raise UserError(
            f"--devices {max(config.devices)} is more than the {len(devices)} of this machine; a "
            "CPU plays N devices under XLA_FLAGS=--xla_force_host_platform_device_count=N"
        )
    output = config.output or Path("runs", "bench", f"{config.name}-{devices[0].platform}.json")
    for path in (output, output.with_suffix(".png")):
        check_output(path, path.suffix.lower(), makes_folder=True)
    losses = _losses(config, console)
    output.parent.mkdir(parents=True, exist_ok=True)

    copy = copy_bandwidth(devices[0])
    packages = ("jaxhash", "jax", "jaxlib", "numpy", *((TORCH,) if TORCH in losses else ()))
    content = measured_here(FORMAT, command, packages) | {
        "settings": _settings(config, losses),
        "copy_bandwidth": copy,
    }
    survey = Survey(losses, config, copy_bandwidth=copy["bytes_per_second"])
    for walk in config.walks():
        for index, setting in enumerate(walk):
            points = survey.measure(setting, walk[:index])
            times = (f"{p.loss} {p.which} {in_units(p.median_seconds)}" for p in points)
            line = f"{say_setting(setting)}: {'; '.join(times)}"
            console.print(line, highlight=False, soft_wrap=True)
            content |= _findings(survey)
            write_json(output, content)
    for stop in survey.stops:
        console.print(
            f"{stop.loss} {stop.which} ends before {say_setting(stop.setting)}: {stop.reason}",
            highlight=False,
            soft_wrap=True,
        )
    here = _measured(content)
    _report([here], here.machine, output.with_suffix(".png"), console)
    console.print(f"results are in {output}, the plot is beside it", highlight=False)
    return content


def measured_here(format: str, command: str, packages: Sequence[str]) -> dict[str, Any]:
    """What a result file begins with: its kind, the command, the time, hardware and versions."""
    return {
        "format": format,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(packages),
    }


def compare(files: Sequence[Path], output: Path, console: Console) -> None:
    """Print one table and draw one plot of several result files.

    Raises:
        UserError: if a file is not a result of this command, or the plot's name is not a picture's.
    """
    if not files:
        raise UserError("--compare needs a file")
    if len(files) > len(LINE_STYLES):
        raise UserError(f"--compare takes {len(LINE_STYLES)} files at the most, got {len(files)}")
    if output.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UserError(
            f"--output {output} must end in .png, .pdf or .svg: --compare writes a plot"
        )
    check_output(output, output.suffix.lower(), makes_folder=True)
    measured = [_measured(read_result(path)) for path in files]
    letters = string.ascii_uppercase[: len(files)]
    legend = [f"{a}: {b.machine}, {c}" for a, b, c in zip(letters, measured, files, strict=True)]
    console.print("\n".join(legend), highlight=False, markup=False)
    lettered = [b._replace(machine=a) for a, b in zip(letters, measured, strict=True)]
    _report(lettered, "\n".join(legend), output, console)
    console.print(f"the plot is {output}", highlight=False)


def read_result(path: Path) -> dict[str, Any]:
    """The content of a result file.

    Raises:
        UserError: if it is none.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError("another format")
        _measured(content)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f": {error.strerror}" if isinstance(error, OSError) else ""
        raise UserError(f"{path} is not a result of jaxhash bench{reason}") from error
    return content


def _losses(config: BenchConfig, console: Console) -> dict[str, Prepare]:
    """What makes each loss ready; a preset goes without PyTorch's where that cannot run."""
    losses: dict[str, Prepare] = {
        name: partial(prepare, LOSSES[name]) for name in config.losses if name != TORCH
    }
    if TORCH not in config.losses:
        return losses
    missing = None
    if not has_torch():
        missing = "PyTorch is not installed; pip install 'jaxhash[compare]' brings it"
    else:
        from jaxhash.bench import torch_form  # an extra

        platform = jax.local_devices()[0].platform
        if torch_form.torch_device(platform) is None:
            missing = f"the PyTorch installed cannot use this machine's {platform}"
        elif max(config.devices) > 1:
            missing = "it runs on one device only"
        else:
            losses[TORCH] = torch_form.prepare_torch
    if missing and config.losses != PRESETS[config.preset]().losses:
        raise UserError(f"the loss torch cannot be timed: {missing}")
    if missing:
        console.print(f"left out torch: {missing}", highlight=False, markup=False)
    return losses


def _settings(config: BenchConfig, losses: dict[str, Prepare]) -> dict[str, Any]:
    """The configuration as measured, with what else decides on the times."""
    return {
        **dataclasses.asdict(config),
        "output": None if config.output is None else str(config.output),
        "losses": list(losses),
        "jax_cpu_enable_async_dispatch": False,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
    }


def _findings(survey: Survey) -> dict[str, Any]:
    series = collect_series(survey.points)
    return {
        "points": [point._asdict() for point in survey.points],
        "stopped": [
            {
                "loss": stop.loss,
                "which": stop.which,
                **stop.setting._asdict(),
                "reason": stop.reason,
            }
            for stop in survey.stops
        ],
        "exponents": [one.to_json() for one in series if one.exponent is not None],
        "peak_device_bytes": peak_device_bytes(),
    }


def _measured(content: dict[str, Any]) -> Measured:
    """The machine's name and the points of a result file."""
    hardware = content["hardware"]
    name = hardware["kind"]
    if hardware["platform"] == "cpu":
        cores = hardware["cpu_cores_used"]
        name = f"{hardware['cpu']}, {cores} core{'s' * (cores > 1)}"
    return Measured(name, [Point(**point) for point in content["points"]])


def _report(measured: Sequence[Measured], title: str, plot: Path, console: Console) -> None:
    if not any(one.points for one in measured):
        raise UserError("nothing was measured: no loss fits into the memory")
    print_points(measured, console)
    plot.parent.mkdir(parents=True, exist_ok=True)
    plot_points(measured, title).savefig(plot, dpi=150)
