"""What a large batch costs in memory and time when it goes through the network in chunks.

    python experiments/chunks.py

One step of HashNet + HSWD on digits of 16 x 16 pixels by a ResNet-20 with frozen normalization, on one
device, whole and in chunks: bytes that the compiled step needs beside its arguments, its time, and how
far the update is from that of the whole batch.
"""

import dataclasses
import shlex
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import optax
import tyro

from jaxhash.bench.timing import alternate
from jaxhash.runs.experiment import build, initial_state, make_batches, make_step
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "chunks.json"


def main(batch_size: int = 128, sizes: tuple[int, ...] = (64, 32, 16, 8), calls: int = 1) -> None:
    """Compile and run each step, and write what it needs.

    Args:
        batch_size: images of the batch.
        sizes: chunks to try.
        calls: timed calls of each.
    """
    config = dataclasses.replace(
        digits_hashnet_hswd(),
        model="cifar-resnet20",
        image_size=16,
        freeze_norm=True,
        batch_size=batch_size,
        warmup_epochs=0,
    )
    parts = build(config)
    state, batch = initial_state(config, parts), next(make_batches(config, parts))
    rows, whole = [], None
    for size in (None, *sizes):
        step = jax.jit(make_step(dataclasses.replace(config, chunk_size=size), parts))
        compiled = step.lower(state, batch).compile()
        after, _ = compiled(state, batch)
        update = jax.tree.map(lambda new, old: new - old, after.params, state.params)
        whole = whole or update
        apart = optax.global_norm(jax.tree.map(lambda a, b: a - b, update, whole))
        rows.append(
            {
                "chunk_size": size,
                "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
                "seconds": _seconds(partial(compiled, state, batch), calls),
                "update_apart": float(apart / optax.global_norm(whole)),
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
    def whole():
        jax.block_until_ready(call())

    return statistics.median(alternate({"step": whole}, repeats=calls, budget_seconds=60.0)["step"])


if __name__ == "__main__":
    tyro.cli(main)
