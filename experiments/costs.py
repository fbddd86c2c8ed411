"""Compiles trainings of ImageNet-100 and of 100 million images for machines that are not here.

    python experiments/costs.py v5e:16x16    # with jaxhash[tpu]
    python experiments/costs.py h200:8       # with jaxhash[cuda]
    python experiments/costs.py rounds       # on the CPU

Each command compiles the programs of its target that experiments/results/costs.json does not hold yet,
and adds what they need, read and send. The two compilers need not be installed together. An image network
takes minutes. `tables.py` draws the tables of docs/results/costs.md. No accelerator is used or timed.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from jaxhash.bench.compile.targets import hide_accelerators

if __name__ == "__main__":
    hide_accelerators()  # before JAX is imported

import costs_tables
import jax
import jax.numpy as jnp

from jaxhash import losses
from jaxhash.bench.compile.analysis import analyze
from jaxhash.bench.compile.program import DoesNotFitError, compile_lowered, compile_step
from jaxhash.bench.compile.targets import Target, parse_target, target_devices
from jaxhash.ops import selection
from jaxhash.runs.config import Config
from jaxhash.runs.outline import DataShape, outline_experiment
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "costs.json"
AXIS = "devices"

#: Training items, classes and epochs of the data.
DATA = {"ImageNet-100": (128_503, 100, 100), "100M images": (10**8, 1_000, 1)}

IMAGES = {"input_shape": (224, 224, 3), "dtype": "bfloat16", "objective_options": ("pairs=batch",)}
FEATURES = {"input_shape": (512,), "model": "linear", "objective_options": ("pairs=bank",)}

#: Training steps: HashNet and 0.1 HSWD of 64 bits by AdamW; see `compile_training`.
TRAININGS = (
    {"data": "ImageNet-100", "model": "resnet50", "batch_size": 1_024, **IMAGES},
    {"data": "100M images", "model": "vit-b16", "batch_size": 8_192, "remat": True, **IMAGES},
    {"data": "100M images", "model": "resnet50", "batch_size": 8_192, "remat": True, **IMAGES},
    {"data": "ImageNet-100", "model": "vit-b16", "batch_size": 1_024, **IMAGES},
    {"data": "100M images", "batch_size": 8_192, "spread_banks": "never", **FEATURES},
    {"data": "100M images", "batch_size": 8_192, "spread_banks": "always", **FEATURES},
    {"data": "ImageNet-100", "batch_size": 1_024, "spread_banks": "never", **FEATURES},
)

#: Batch size and method of HSWD by itself, value and gradient, 64 bits.
LOSSES = tuple((batch, method) for batch in (1_024, 32_768) for method in ("select", "sort"))

#: Batch size, bits and devices for which the rounds of HSWD's search are counted, on random codes.
SEARCHES = ((1_024, 64, 8), (1_024, 64, 256), (8_192, 64, 256), (32_768, 128, 256))
SEEDS = 3


def main(name: str) -> None:
    """Adds the programs of a target, or the rounds of the search, to the results."""
    content = json.loads(PATH.read_text()) if PATH.exists() else {"programs": [], "searches": []}
    content["command"] = "python experiments/costs.py TARGET"

    def save() -> None:
        content["tables"] = costs_tables.make_tables(content)
        write_json(PATH, content)

    if name == "rounds":
        content["searches"] = [count_rounds(*size) for size in SEARCHES]
        return save()
    target = parse_target(name)
    works = [("training", settings, compile_training) for settings in TRAININGS]
    works += [("loss", {"batch_size": loss[0], "method": loss[1]}, compile_loss) for loss in LOSSES]
    for kind, settings, compile_one in works:
        key = {"kind": kind, "target": target.name, "settings": _plain(settings)}
        if not any(key.items() <= row.items() for row in content["programs"]):
            print(f"{target.name}: {kind} {settings}", flush=True)
            content["programs"].append({**key, **compile_one(target, **settings)})
            save()
    return save()


def compile_training(
    target: Target, data: str, input_shape: tuple[int, ...], **fields: Any
) -> dict[str, Any]:
    """Compiles a training step, and returns what it needs."""
    items, classes, epochs = DATA[data]
    config = Config().replace(bits=64, epochs=epochs, quantizer="hswd", **fields)
    described = DataShape(items, classes, input_shape).make_source()
    experiment = outline_experiment(config, *described)
    return _describe(
        partial(compile_step, experiment, target), target, items=config.optimizer.batch_size
    ) | {"steps": experiment.total_steps}


def compile_loss(target: Target, batch_size: int, method: str) -> dict[str, Any]:
    """Compiles value and gradient of HSWD, the rows spread over the devices of a target."""
    devices = target_devices(target)

    def loss(codes: jax.Array) -> jax.Array:
        return losses.hswd(codes, key=jax.random.key(0), method=method, axis_name=AXIS)

    mapped = jax.pmap(jax.value_and_grad(loss), axis_name=AXIS, devices=devices)
    rows = batch_size // target.devices
    codes = jax.ShapeDtypeStruct((target.devices, rows, 64), jnp.float32)
    compiled = partial(
        compile_lowered, partial(mapped.lower, codes), target, name=f"HSWD, {method}"
    )
    return _describe(compiled, target, items=batch_size)


def _describe(compiled: Any, target: Target, items: int) -> dict[str, Any]:
    """Returns what a program needs, or that it does not fit, with the versions that compiled it."""
    compilers = versions(["jax", "jaxlib", "jaxhash"])
    chip = {"chip": target.chip.name, "available": target.chip.memory_bytes, "versions": compilers}
    chip |= {"devices": target.devices, "hosts": target.hosts}
    try:
        program = analyze(compiled(), items)
    except DoesNotFitError as error:
        return {**chip, "fits": False, "needed": error.needed}
    kinds: dict[str, dict[str, float]] = {}
    for row in program.pop("collectives"):
        kind = kinds.setdefault(row["kind"], {"count": 0, "sent_bytes": 0.0})
        kind["count"] += row["count"]
        kind["sent_bytes"] += row["sent_bytes"] * row["times"] * row["count"]
    slow = sorted({row["kind"] for row in program.pop("slow_operations")})
    needed = program["memory"]["total"]
    return {**chip, **program, "needed": needed, "collectives": kinds, "slow_operations": slow}


def count_rounds(batch: int, bits: int, devices: int) -> dict[str, Any]:
    """Returns the most rounds over the seeds, before and after training, for both dtypes."""
    return {
        "batch": batch,
        "bits": bits,
        "devices": devices,
        "seeds": SEEDS,
        "most": {
            f"{'±1' if tight else 'normal'}, {dtype}": max(
                search_rounds(batch, bits, devices, tight=tight, dtype=dtype, seed=seed)
                for seed in range(SEEDS)
            )
            for tight in (False, True)
            for dtype in ("float32", "bfloat16")
        },
    }


def search_rounds(
    batch: int, bits: int, devices: int, *, tight: bool, dtype: str, seed: int
) -> int:
    """Counts the rounds that the selection takes on random codes, including rounds for ties.

    Args:
        batch: number of rows over all devices.
        bits: length of a code.
        devices: number of devices that share the batch; emulated by `jax.vmap`.
        tight: whether codes are normal around -1 and +1 with deviation 0.1, as after training;
            otherwise around 0 with deviation 1.
        dtype: dtype of the codes; in bfloat16 many are equal.
        seed: seed of the codes and of the targets.
    """
    noise, signs, target = jax.random.split(jax.random.key(seed), 3)
    codes = jax.random.normal(noise, (devices, batch // devices, bits))
    if tight:
        codes = 0.1 * codes + jax.random.rademacher(signs, codes.shape, codes.dtype)
    counted, count = [], selection._count_above

    def counting(thresholds, keys, axis_name):
        jax.debug.callback(lambda _: counted.append(1), thresholds[0, 0])
        return count(thresholds, keys, axis_name)

    with patch.object(selection, "_count_above", counting):
        loss = partial(losses.hswd, key=target, axis_name=AXIS)
        jax.block_until_ready(jax.jit(jax.vmap(loss, axis_name=AXIS))(codes.astype(dtype)))
    jax.effects_barrier()
    return len(counted)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings as JSON gives them back."""
    return json.loads(json.dumps(settings))


if __name__ == "__main__":
    main(sys.argv[1])
