"""Measures what each command costs against the number of items, from ten thousand upwards.

    python experiments/scale.py --most 10000000 --folder SCRATCH

The items are synthetic: 128 features near one of 100 centers, in a .npy. Of each size a model of 64 bits
(CSQ, an MLP) is opened, trained for an epoch and evaluated with 1,000 queries; all items are encoded into
an index, which is searched with 1,000 queries and deduplicated. Each is one command of `jaxhash` in a
process of its own, whose CPU seconds (of all threads), seconds and peak of resident memory are taken from
the system. The exponent of a command is that of its CPU seconds beyond those of the least size, over the last
decade of items; the figures for 10^8 items are extrapolated by it, or linearly if it is less, and named so. What is measured is kept, so the script goes on where
it was stopped. The results are written to experiments/results/scale.json and scale.png; up to ten million
items take 15 GB on disk and about an hour on 2 CPU cores.
"""

import json
import math
import multiprocessing
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure
import numpy as np
import tyro

from jaxhash.training.devices import hardware
from jaxhash.utils.files import read_json, write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "scale.json"
LEAST, DIMENSIONS, CLASSES, QUERIES, BITS = 10**4, 128, 100, 1000, 64
#: Number of items that the costs are extrapolated to.
EXTRAPOLATED = 10**8


def write_items(folder: Path, items: int) -> None:
    """Writes items and queries with their labels; the items are the training part and the database."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((CLASSES, DIMENSIONS)).astype(np.float32)
    labels = rng.integers(CLASSES, size=items + QUERIES).astype(np.int32)
    labels[:CLASSES] = np.arange(CLASSES)
    shape = (items + QUERIES, DIMENSIONS)
    rows = np.lib.format.open_memmap(folder / "items.npy", "w+", np.float32, shape)
    for start in range(0, len(rows), 10**5):
        of_block = labels[start : start + 10**5]
        noise = rng.standard_normal((len(of_block), DIMENSIONS), np.float32)
        rows[start : start + 10**5] = centers[of_block] + 1.5 * noise
    np.save(folder / "queries.npy", rows[items:])
    rows.flush()
    split = np.repeat(np.array([0, 1], np.int8), [items, QUERIES])
    np.savez(folder / "items.labels.npz", labels=labels, split=split)


def measure(command: list[str], folder: Path) -> dict:
    """Runs a command of jaxhash; returns its CPU seconds, its seconds and its peak of memory."""
    began = time.monotonic()
    with (folder / "log.txt").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "jaxhash", *command], cwd=folder, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"jaxhash {shlex.join(command)}: {(folder / 'log.txt').read_text()[-2000:]}")
    return {
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "seconds": round(time.monotonic() - began, 2),
        "peak_bytes": 1024 * usage.ru_maxrss,
    }


def measure_size(folder: Path, items: int, keep: Callable[[str, dict], None], known: dict) -> None:
    """Measures all commands at a number of items; passes each measurement on as it is made."""
    data = ["--dataset", "features:items.npy", "--protocol", "parts", "--model", "mlp"]
    training = [*data, "--bits", str(BITS), "--objective", "csq", "--quantizer", "none"]
    training += ["--batch-size", "256", "--epochs", "1", "--baselines", "none"]
    commands = {
        "open (train --dry-run)": ["train", *training, "--dry-run"],
        "train an epoch, evaluate": ["train", *training, "--run-dir", "run"],
        "evaluate": ["evaluate", "run"],
        "encode": ["encode", "run", "items.npy", "--output", "index"],
        "search, first": ["search", "index", "queries.npy", "--k", "10", "--json"],
        "search": ["search", "index", "queries.npy", "--k", "10", "--json"],
        "dedupe": ["dedupe", "index", "--radius", "1", "--json", "--force"],
    }
    folder.mkdir(exist_ok=True)
    if known.keys() >= commands.keys():
        return
    if not (folder / "items.labels.npz").is_file():
        # In a process of its own: a command's peak of memory begins with that of the process that starts it.
        writer = multiprocessing.get_context("spawn").Process(
            target=write_items, args=(folder, items)
        )
        writer.start()
        writer.join()
    for name, command in commands.items():
        if name not in known:
            for made, ended in (("run", "train an epoch, evaluate"), ("index", "encode")):
                if ended == name:
                    shutil.rmtree(folder / made, ignore_errors=True)
            keep(name, measure(command, folder))


def exponent(costs: dict[int, float]) -> float | None:
    """Returns the exponent of the costs between the last two sizes, beyond what the least size costs.

    None if they are hardly above that: half a second or less.
    """
    (_, fixed), *_, (small, before), (large, after) = sorted(costs.items())
    if min(before, after) - fixed <= 0.5:
        return None
    return math.log((after - fixed) / (before - fixed)) / math.log(large / small)


def summarize(points: dict[str, dict[str, dict]]) -> dict:
    """Returns, of each command, its exponent and what it would take of more items."""
    found = {}
    for name in next(iter(points.values())):
        costs = {int(n): of[name]["cpu_seconds"] for n, of in points.items() if name in of}
        if len(costs) < 3:
            continue
        power, largest, fixed = exponent(costs), max(costs), costs[min(costs)]
        growth = (EXTRAPOLATED / largest) ** max(power or 1, 1)
        seconds = fixed + max(costs[largest] - fixed, 0) * growth
        found[name] = {
            "exponent": power and round(power, 3),
            f"extrapolated cpu_seconds of {EXTRAPOLATED:,} items": round(seconds),
        }
    return found


def plot(points: dict[str, dict[str, dict]], path: Path) -> None:
    """Draws CPU seconds and peak of memory against the number of items."""
    figure = matplotlib.figure.Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    sizes = sorted(map(int, points))
    for name in points[str(sizes[0])]:
        at = [size for size in sizes if name in points[str(size)]]
        of = [points[str(size)][name] for size in at]
        time_axes.loglog(at, [each["cpu_seconds"] for each in of], "o-", ms=3, label=name)
        memory_axes.loglog(at, [each["peak_bytes"] / 2**30 for each in of], "o-", ms=3)
    time_axes.set(xlabel="items", ylabel="CPU seconds")
    memory_axes.set(xlabel="items", ylabel="peak of resident memory, GiB")
    figure.legend(*time_axes.get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=150)


def main(most: int = 10**7, folder: Path | None = None, output: Path = PATH) -> None:
    """Measures every size and writes the results after each command.

    Args:
        most: largest number of items.
        folder: where items, runs and indexes are made, and stay; a temporary folder if not given.
        output: path of the result file; the plot lies beside it.
    """
    scratch = Path(tempfile.mkdtemp()) if folder is None else folder
    scratch.mkdir(parents=True, exist_ok=True)
    state = scratch / "measured.json"
    points = read_json(state, "remove it")["points"] if state.is_file() else {}
    sizes = [LEAST * 10**power for power in range(int(math.log10(most / LEAST) + 1e-9) + 1)]
    for items in sizes:
        of_size = points.setdefault(str(items), {})

        def keep(name, measured, items=items, of_size=of_size):
            of_size[name] = measured
            write_json(state, {"points": points})
            print(f"{items:,} {name}: {json.dumps(measured)}", flush=True)

        measure_size(scratch / str(items), items, keep, of_size)
    write_json(
        output,
        {
            "command": f"python experiments/scale.py --most {most}",
            "hardware": hardware(),
            "versions": versions(["jaxhash", "jax", "numpy", "faiss-cpu"]),
            "dimensions": DIMENSIONS,
            "queries": QUERIES,
            "bits": BITS,
            "points": points,
            "summary": summarize(points),
        },
    )
    plot(points, output.with_suffix(".png"))
    if folder is None:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
