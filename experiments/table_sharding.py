"""Measures what sharding the tables of a large training set over devices saves.

    python experiments/table_sharding.py

A training set of 320,000 vectors is hashed into 128 bits, each setting in a process of its own. Measured
are the bytes of the objective's tables on one device, the peak memory of the process for all of its
devices, and the seconds of a step and of the first step of an epoch, in which alternating methods
compute the codes of all images.
"""

import multiprocessing
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import cifar10_features_hashnet_hswd
from jaxhash.training.devices import hardware, peak_bytes
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "table_sharding.json"

CLASSES, QUERIES = 100, 10


def main(
    items: int = 320_000,
    bits: int = 128,
    batch_size: int = 256,
    devices: int = 8,
    steps: int = 5,
    methods: tuple[str, ...] = ("hashnet", "dsdh", "asymmetric-dsh"),
    output: Path = PATH,
) -> None:
    """Measures each method with its tables replicated and sharded, and writes the results.

    Args:
        items: number of training images, a multiple of 100.
        bits: length of a code.
        batch_size: number of rows of a step.
        devices: number of CPU devices of a process.
        steps: number of timed steps.
        methods: names of objectives; each has its own penalty and HSWD.
        output: path of the result file.
    """
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        labels = np.arange(items + 2 * CLASSES * QUERIES) % CLASSES
        features = rng.normal(size=(CLASSES, 16))[labels] + rng.normal(size=(len(labels), 16))
        np.savez(Path(folder, "made.npz"), features=features.astype(np.float32), labels=labels)
        settings = dict(
            dataset="features:made.npz",
            data_dir=Path(folder),
            bits=bits,
            batch_size=batch_size,
            train_per_class=items // CLASSES,
            queries_per_class=QUERIES,
        )
        rows = []
        for method in methods:
            for spread in ("never", "always"):
                options = settings | {"objective": method, "spread_banks": spread}
                options["keep_own"] = (
                    method != "hashnet"
                )  # without its penalty the method needs no codes
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    measured = process.apply(measure, (options, devices, steps))
                rows.append({"method": method, "spread": spread == "always"} | measured)
                print(rows[-1], flush=True)
    write_json(
        output,
        {
            "command": shlex.join(["python", *sys.argv]),
            "items": items,
            "bits": bits,
            "batch_size": batch_size,
            "devices": devices,
            "hardware": hardware(),
            "versions": versions(["jax", "jaxlib", "flax", "jaxhash"]),
            "spread": rows,
        },
    )


def measure(options: dict[str, Any], devices: int, steps: int) -> dict[str, float]:
    """Measures the steps of one setting, in this process."""
    jax.config.update("jax_num_cpu_devices", devices)
    config = cifar10_features_hashnet_hswd().replace(**options)
    experiment = Experiment.open(config)
    parallel_step = experiment.make_step()
    # By its number the first step ends an epoch, so that the second one begins the next epoch.
    state = experiment.initial_state()
    state = parallel_step.to_local(
        parallel_step.replicate(state.replace(step=state.step + experiment.steps_per_epoch - 1))
    )
    batches, seconds = experiment.batches(), []
    for _ in range(2 + steps):
        batch = parallel_step.shard_batch(next(batches))
        start = time.monotonic()
        state, metrics = parallel_step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(time.monotonic() - start)
    tables = jax.tree.leaves(parallel_step.to_global(state).objective_state)
    return {
        "table_bytes": sum(leaf.addressable_shards[0].data.nbytes for leaf in tables),
        "peak_bytes": peak_bytes(),
        "step_seconds": statistics.median(seconds[2:]),
        "epoch_step_seconds": seconds[1],
    }


if __name__ == "__main__":
    tyro.cli(main)
