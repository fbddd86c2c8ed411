"""Measures a configuration, or compares the results of several machines."""

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

from jaxhash.bench.bandwidth import copy_bandwidth
from jaxhash.bench.benchmark import Benchmark
from jaxhash.bench.config import PRESETS, BenchConfig
from jaxhash.bench.losses import LOSSES, TORCH, has_torch
from jaxhash.bench.measure import Measurement
from jaxhash.bench.prepare import PrepareLoss, prepare_loss
from jaxhash.bench.report import (
    MACHINE_DASHES,
    MachineResults,
    describe_setting,
    format_seconds,
    plot_points,
    print_points,
)
from jaxhash.bench.scaling import group_into_series
from jaxhash.report.plots import write_figure
from jaxhash.training.devices import hardware, peak_device_bytes
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, write_json
from jaxhash.utils.hardware import versions

#: Value of the key ``format`` of a result file.
FORMAT = "jaxhash bench 1"


def run_benchmark(config: BenchConfig, console: Console, command: str) -> dict[str, Any]:
    """Measures, prints, writes the result file and its plot, and returns the file's content.

    The file is written after each setting, so that a killed benchmark keeps its measurements.

    Raises:
        UserError: if the configuration is invalid, or asks for devices or packages that are missing.
    """
    config.check()
    # Otherwise a call starts another thread, and its time includes the start.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    devices = jax.local_devices()
    if max(config.devices) > len(devices):
        raise UserError(
            f"`devices={max(config.devices)}` is more than the {len(devices)} of this machine; a "
            "CPU has N devices under XLA_FLAGS=--xla_force_host_platform_device_count=N"
        )
    output = config.output or Path("runs", "bench", f"{config.name}-{devices[0].platform}.json")
    for path in (output, output.with_suffix(".png")):
        check_output(path, path.suffix.lower(), makes_folder=True)
    losses = _losses(config, console)
    output.parent.mkdir(parents=True, exist_ok=True)

    copy = copy_bandwidth(devices[0])
    packages = ("jaxhash", "jax", "jaxlib", "numpy", *((TORCH,) if TORCH in losses else ()))
    content = result_header(FORMAT, command, packages) | {
        "settings": _settings(config, losses),
        "copy_bandwidth": copy,
    }
    benchmark = Benchmark(losses, config, copy_bandwidth=copy["bytes_per_second"])
    for series in config.series():
        for index, setting in enumerate(series):
            points = benchmark.measure(setting, series[:index])
            times = (f"{p.loss} {p.which} {format_seconds(p.median_seconds)}" for p in points)
            line = f"{describe_setting(setting)}: {'; '.join(times)}"
            console.print(line, highlight=False, soft_wrap=True)
            content |= _findings(benchmark)
            write_json(output, content)
    for stop in benchmark.stops:
        console.print(
            f"{stop.loss} {stop.which} ends before {describe_setting(stop.setting)}: {stop.reason}",
            highlight=False,
            soft_wrap=True,
        )
    result = _machine_results(content)
    _report([result], result.machine, output.with_suffix(".png"), console)
    console.print(f"results are in {output}, the plot is beside it", highlight=False)
    return content


def result_header(format: str, command: str, packages: Sequence[str]) -> dict[str, Any]:
    """Returns the first keys of a result file: format, command, date, hardware and versions."""
    return {
        "format": format,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(packages),
    }


def compare_results(files: Sequence[Path], output: Path, console: Console) -> None:
    """Prints one table and draws one plot of several result files.

    Raises:
        UserError: if a file is not a result of `run_benchmark`, or ``output`` has no image suffix.
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
    results = [_machine_results(read_result(path)) for path in files]
    letters = string.ascii_uppercase[: len(files)]
    legend = [
        f"{letter}: {result.machine}, {file}"
        for letter, result, file in zip(letters, results, files, strict=True)
    ]
    console.print("\n".join(legend), highlight=False, markup=False)
    lettered = [b._replace(machine=a) for a, b in zip(letters, results, strict=True)]
    _report(lettered, "\n".join(legend), output, console)
    console.print(f"the plot is {output}", highlight=False)


def read_result(path: Path) -> dict[str, Any]:
    """Reads a result file and returns its content.

    Raises:
        UserError: if the file is not a result of `run_benchmark`.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError("another format")
        _machine_results(content)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f": {error.strerror}" if isinstance(error, OSError) else ""
        raise UserError(f"{path} is not a result of jaxhash bench{reason}") from error
    return content


def _losses(config: BenchConfig, console: Console) -> dict[str, PrepareLoss]:
    """Returns the function that prepares each loss; a preset omits PyTorch's if it cannot run."""
    losses: dict[str, PrepareLoss] = {
        name: partial(prepare_loss, LOSSES[name]) for name in config.losses if name != TORCH
    }
    if TORCH not in config.losses:
        return losses
    missing = None
    if not has_torch():
        missing = "PyTorch is not installed; pip install 'jaxhash[compare]' brings it"
    else:
        from jaxhash.bench import torch_hswd  # an extra

        platform = jax.local_devices()[0].platform
        if torch_hswd.torch_device(platform) is None:
            missing = f"the PyTorch installed cannot use this machine's {platform}"
        elif max(config.devices) > 1:
            missing = "it runs on one device only"
        else:
            losses[TORCH] = torch_hswd.prepare_torch
    if missing and config.losses != PRESETS[config.preset]().losses:
        raise UserError(f"the loss torch cannot be timed: {missing}")
    if missing:
        console.print(f"left out torch: {missing}", highlight=False, markup=False)
    return losses


def _settings(config: BenchConfig, losses: dict[str, PrepareLoss]) -> dict[str, Any]:
    """Returns the configuration as measured, and the JAX settings that affect the times."""
    return {
        **dataclasses.asdict(config),
        "output": None if config.output is None else str(config.output),
        "losses": list(losses),
        "jax_cpu_enable_async_dispatch": False,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
    }


def _findings(benchmark: Benchmark) -> dict[str, Any]:
    series = group_into_series(benchmark.points)
    return {
        "points": [point._asdict() for point in benchmark.points],
        "stopped": [
            {
                "loss": stop.loss,
                "which": stop.which,
                **stop.setting._asdict(),
                "reason": stop.reason,
            }
            for stop in benchmark.stops
        ],
        "exponents": [one.to_json() for one in series if one.exponent is not None],
        "peak_device_bytes": peak_device_bytes(),
    }


def _machine_results(content: dict[str, Any]) -> MachineResults:
    """Returns the machine's name and the measurements of a result file."""
    hardware = content["hardware"]
    name = hardware["kind"]
    if hardware["platform"] == "cpu":
        cores = hardware["cpu_cores_used"]
        name = f"{hardware['cpu']}, {cores} core{'s' * (cores > 1)}"
    return MachineResults(name, [Measurement(**point) for point in content["points"]])


def _report(measured: Sequence[MachineResults], title: str, plot: Path, console: Console) -> None:
    if not any(one.points for one in measured):
        raise UserError("nothing was measured: no loss fits into the memory")
    print_points(measured, console)
    plot.parent.mkdir(parents=True, exist_ok=True)
    write_figure(plot_points(measured, title), plot)
