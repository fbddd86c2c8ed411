"""Measures a configuration on this machine."""

import dataclasses
import datetime
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from jaxhash.bench.bandwidth import copy_bandwidth
from jaxhash.bench.benchmark import Benchmark
from jaxhash.bench.compare import FORMAT, report_results, to_machine_results
from jaxhash.bench.config import PRESETS, BenchConfig
from jaxhash.bench.losses import LOSSES, TORCH, TORCH_PREFIX, has_torch, is_torch
from jaxhash.bench.prepare import PrepareLoss, prepare_loss
from jaxhash.bench.report import describe_setting, format_seconds
from jaxhash.bench.scaling import group_into_series
from jaxhash.training.devices import hardware, peak_device_bytes
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, write_json
from jaxhash.utils.hardware import versions


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
    packages = (
        "jaxhash",
        "jax",
        "jaxlib",
        "numpy",
        *((TORCH,) if any(map(is_torch, losses)) else ()),
    )
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
    result = to_machine_results(content)
    report_results([result], result.machine, output.with_suffix(".png"), console)
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


def _losses(config: BenchConfig, console: Console) -> dict[str, PrepareLoss]:
    """Returns the function that prepares each loss; a preset omits PyTorch's if it cannot run."""
    losses: dict[str, PrepareLoss] = {
        name: partial(prepare_loss, LOSSES[name]) for name in config.losses if not is_torch(name)
    }
    of_torch = [name for name in config.losses if is_torch(name)]
    if not of_torch:
        return losses
    missing = None
    if not has_torch():
        missing = "PyTorch is not installed; pip install 'jaxhash[compare]' brings it"
    else:
        from jaxhash.bench import torch_hswd, torch_losses  # an extra

        platform = jax.local_devices()[0].platform
        if torch_hswd.torch_device(platform) is None:
            missing = f"the PyTorch installed cannot use this machine's {platform}"
        elif max(config.devices) > 1:
            missing = "it runs on one device only"
        else:
            for name in of_torch:
                form = partial(torch_losses.prepare_torch_loss, name.removeprefix(TORCH_PREFIX))
                losses[name] = torch_hswd.prepare_torch if name == TORCH else form
    if missing and config.losses != PRESETS[config.preset]().losses:
        raise UserError(f"the loss {of_torch[0]} cannot be timed: {missing}")
    if missing:
        console.print(f"left out {', '.join(of_torch)}: {missing}", highlight=False, markup=False)
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
