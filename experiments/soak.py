"""Trains a small model for a million steps, with preemptions, and follows its memory and its folder.

    python experiments/soak.py --steps 1000000

The training of the digits is stopped by SIGTERM at each quarter and started again by the same command.
Every few seconds the step, the resident memory of the process and its children, and the bytes of the
run's folder are noted. How long a start takes until a new step is recorded, and how much longer steps
take because they are saved every 200, are measured too; the latter on shorter trainings, in turns.
Linux only, as it reads /proc. The results are written to experiments/results/soak.json and soak.png; a
million steps take half an hour to an hour on 2 CPU cores.
"""

import contextlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib.figure
import numpy as np
import tyro

from jaxhash.runs.metrics_file import read_metrics
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "soak.json"

#: Steps of an epoch of the digits at the batch size below.
EPOCH_STEPS = 13
FLAGS = ("--bits", "16", "--batch-size", "64", "--baselines", "none", "--quiet")
#: Seconds between two samples.
INTERVAL = 5.0


def start(folder: Path, steps: int, *flags: str) -> subprocess.Popen:
    """Starts a training of about as many steps."""
    epochs = str(max(steps // EPOCH_STEPS, 1))
    command = ["-m", "jaxhash", "train", "--run-dir", str(folder), "--epochs", epochs]
    return subprocess.Popen([sys.executable, *command, *FLAGS, *flags], stdout=subprocess.DEVNULL)


def processes(pid: int) -> Iterator[int]:
    """Yields a process and all its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from processes(int(child))


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process and its descendants."""
    statuses = (Path(f"/proc/{each}/status").read_text() for each in processes(pid))
    lines = (line for status in statuses for line in status.splitlines())
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def folder_bytes(folder: Path) -> int:
    """Returns the bytes of all files in a folder; some may vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total


def newest_record(path: Path) -> dict:
    """Returns the last whole record of a metrics.jsonl without reading all of it; empty if none."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 4096, 0))
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1]) if lines else {}


def follow(folder: Path, steps: int) -> tuple[list[dict], list[float]]:
    """Trains to the last step, with a stop at each quarter.

    Returns:
        The samples; and the seconds of each start until a new step was recorded.
    """
    path, samples, starts = folder / "metrics.jsonl", [], []
    stops = [steps * quarter // 4 for quarter in (1, 2, 3)]
    while True:
        began, before = time.monotonic(), newest_record(path).get("step", 0)
        process, next_sample, recorded = start(folder, steps), began, None
        while process.poll() is None:
            time.sleep(0.05)
            step = newest_record(path).get("step", 0)
            if recorded is None and step > before:
                recorded = time.monotonic() - began
            if recorded is not None and time.monotonic() >= next_sample:
                next_sample = time.monotonic() + INTERVAL
                memory, size = resident_bytes(process.pid), folder_bytes(folder)
                samples.append({"step": step, "memory": memory, "folder": size, "run": len(starts)})
                print(samples[-1], flush=True)
            if stops and step >= stops[0]:
                del stops[0]
                process.send_signal(signal.SIGTERM)
                process.wait()
        starts.append(recorded)
        if process.returncode == 0:
            return samples, starts
        if process.returncode != 75:
            sys.exit(f"the training ended with status {process.returncode}")


def checkpoint_share(scratch: Path, rounds: int = 3, steps: int = 20_000) -> dict[str, float]:
    """Measures seconds a step with a checkpoint every 200 steps and with almost none, in turns."""
    found: dict[str, list[float]] = {"200": [], "1000000": []}
    for number in range(rounds):
        for every, seconds in found.items():
            folder = scratch / f"{every}-{number}"
            start(folder, steps, "--checkpoint-every", every).wait()
            first, *_, last = read_metrics(folder / "metrics.jsonl", 0)
            seconds.append((last["seconds"] - first["seconds"]) / (last["step"] - first["step"]))
    often, rarely = (statistics.median(seconds) for seconds in found.values())
    return {"seconds a step": often, "without checkpoints": rarely, "share": 1 - rarely / often}


def summarize(samples: list[dict]) -> dict:
    """Returns by how much memory grows in the last process, in bytes a million steps, and extremes."""
    last = [sample for sample in samples if sample["run"] == samples[-1]["run"]]
    # After the first steps have filled the caches, and before the evaluation.
    later = [sample for sample in last[len(last) // 4 :] if sample["step"] < samples[-1]["step"]]
    steps, memory = ([sample[name] for sample in later] for name in ("step", "memory"))
    slope = float(np.polyfit(steps, memory, 1)[0]) if len(later) > 2 else None
    return {
        "memory_bytes": {"least": min(memory), "most": max(memory)},
        "memory growth, bytes a million steps": slope and slope * 1e6,
        "folder_bytes": samples[-1]["folder"],
    }


def plot(samples: list[dict], path: Path) -> None:
    """Draws memory and folder against the step."""
    figure = matplotlib.figure.Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    steps = [sample["step"] / 1e6 for sample in samples]
    for name, label in (("memory", "resident memory"), ("folder", "folder of the run")):
        axes.plot(steps, [sample[name] / 2**20 for sample in samples], ".", ms=2, label=label)
    axes.set(xlabel="million steps", ylabel="MiB", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=150)


def main(steps: int = 1_000_000, output: Path = PATH) -> None:
    """Runs the soak and writes the results.

    Args:
        steps: steps of the training.
        output: path of the result file; the plot lies beside it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "run")
        samples, starts = follow(folder, steps)
        lines = len(read_metrics(folder / "metrics.jsonl", 0))
        share = checkpoint_share(Path(scratch))
    found = {
        "command": shlex.join(["python", "experiments/soak.py", "--steps", str(steps)]),
        "hardware": hardware(),
        "versions": versions(["jaxhash", "jax", "orbax-checkpoint"]),
        "steps": samples[-1]["step"],
        "records": lines,
        "seconds from start to the first new record": starts,
        "checkpoints": share,
        **summarize(samples),
        "samples": samples[:: max(len(samples) // 400, 1)],
    }
    write_json(output, found)
    plot(samples, output.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
