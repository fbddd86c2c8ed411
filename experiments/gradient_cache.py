"""Measures the memory and time of a large batch that is encoded in chunks (GradCache).

    python experiments/gradient_cache.py

The step is one of HashNet + HSWD on digits of 16 x 16 pixels, by a ResNet-20 with frozen normalization,
on one device. Measured are the bytes that the compiled step needs beside its arguments, its time, and
the distance of its update from the update of the whole batch.
"""

import shlex
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import optax
import tyro

from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.training.devices import hardware
from jaxhash.training.timing import time_alternately
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "gradient_cache.json"


def main(batch_size: int = 128, sizes: tuple[int, ...] = (64, 32, 16, 8), calls: int = 1) -> None:
    """Compiles and runs each step, and writes memory, time and distance of the update.

    Args:
        batch_size: number of images of the batch.
        sizes: chunk sizes to try.
        calls: number of timed calls of each step.
    """
    config = digits_hashnet_hswd().replace(
        model="cifar-resnet20",
        image_size=16,
        freeze_norm=True,
        batch_size=batch_size,
        warmup_epochs=0,
    )
    experiment = Experiment.open(config)
    state, batch = experiment.initial_state(), next(experiment.batches())
    rows, whole_update = [], None
    for size in (None, *sizes):
        chunked = experiment.with_config(config.replace(chunk_size=size))
        step = jax.jit(chunked.step_function())
        compiled = step.lower(state, batch).compile()
        after, _ = compiled(state, batch)
        update = jax.tree.map(lambda new, old: new - old, after.params, state.params)
        whole_update = whole_update or update
        difference = jax.tree.map(lambda a, b: a - b, update, whole_update)
        distance = optax.global_norm(difference) / optax.global_norm(whole_update)
        rows.append(
            {
                "chunk_size": size,
                "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
                "seconds": _seconds(partial(compiled, state, batch), calls),
                "update_apart": float(distance),
            }
        )
        print(rows[-1], flush=True)
    write_json(
        PATH,
        {
            "command": shlex.join(["python", *sys.argv]),
            "batch_size": batch_size,
            "hardware": hardware(),
            "versions": versions(["jax", "jaxlib", "flax", "jaxhash"]),
            "steps": rows,
        },
    )


def _seconds(call: Callable, calls: int) -> float:
    def blocking():
        jax.block_until_ready(call())

    return statistics.median(
        time_alternately({"step": blocking}, repeats=calls, budget_seconds=60.0)["step"]
    )


if __name__ == "__main__":
    tyro.cli(main)
