"""Estimates what trainings cost on large machines, and checks the byte counts of the estimate.

    python experiments/costs.py

Compiles the losses and whole training steps for 8 CPU devices, compares the bytes of their
collectives with the formulas of `costs_traffic.py`, counts the rounds of the selection on random
codes, and writes the results, with the arithmetic of `costs_model.py`, to
experiments/results/costs.json. `tables.py` draws the tables of experiments/costs.md from that file. It
takes a few minutes on 2 CPU cores. Nothing in it is a measurement of an accelerator.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import costs_model
import costs_traffic as traffic
import jax
import numpy as np
from costs_model import H100, V5E, Training
from hlo_traffic import BRANCH, RING_FACTORS, ROUND, total_bytes

from jaxhash.data import pipeline
from jaxhash.models import Encoder, resnet50, summary, vit_b16
from jaxhash.objectives import combine, hashnet, hswd, weighted
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "costs.json"
DEVICES = 8
SIZE = 224
BACKBONES = {"resnet50": resnet50, "vit-b16": vit_b16}
MACHINES = (V5E, H100)

#: Fraction of the peak in bfloat16: ViTs reach some 40 %, the fastest published ResNet-50 on 8 H100 17 %.
SHARES = {"resnet50": 0.15, "vit-b16": 0.4}

TRAININGS = (
    Training("ImageNet-100", "resnet50", 128_503, 100, 1_024, 64, False, SHARES["resnet50"]),
    Training("100M images", "resnet50", 10**8, 1, 8_192, 64, True, SHARES["resnet50"]),
    Training("100M images", "vit-b16", 10**8, 1, 8_192, 64, True, SHARES["vit-b16"]),
    Training("100M images", "vit-b16", 10**8, 1, 32_768, 128, True, SHARES["vit-b16"]),
)

#: Items, bits and batch size of losses against a bank.
BANKS = ((128_503, 64, 1_024), (1_281_167, 128, 1_024), (10**8, 64, 8_192), (10**8, 128, 32_768))

#: Images a second that a vCPU decodes and crops, bytes of a JPEG file and of its decoded crop.
INPUT = {"decode_rate": 400.0, "jpeg_bytes": 110e3, "image_bytes": 3 * SIZE**2}

#: Batch size, bits and devices for which rounds are counted.
SEARCHES = ((1_024, 64, 8), (1_024, 64, 256), (8_192, 64, 256), (32_768, 128, 256))
SEEDS = 3


def main() -> None:
    """Counts bytes and rounds, estimates the trainings, and writes the results."""
    jax.config.update("jax_num_cpu_devices", DEVICES)
    counts = [*loss_counts(), *step_counts()]
    wrong = [row["name"] for row in counts if row["formula"] != row["counted"]]
    if wrong:
        raise ValueError(f"formula and program differ: {wrong}")
    searches = [count_rounds(*size) for size in SEARCHES]
    rounds = max(most for row in searches for most in row["most"].values())
    models = {name: model(name) for name in BACKBONES}
    threads = pipeline._in_background().num_threads
    write_json(
        PATH,
        {
            "command": "python experiments/costs.py",
            "hardware": hardware(),
            "versions": versions(["jax", "jaxlib", "flax", "jaxhash"]),
            "machines": [dataclasses.asdict(machine) for machine in MACHINES],
            "input": {**INPUT, "threads": threads},
            "models": models,
            "counts": counts,
            "searches": searches,
            "rounds": rounds,
            "crossings": [
                {
                    "machine": machine.name,
                    "bits": bits,
                    **costs_model.crossings(bits, machine, rounds),
                }
                for machine in MACHINES
                for bits in (64, 128)
            ],
            "trainings": [
                {
                    **costs_model.estimate(
                        training,
                        machine,
                        models[training.backbone],
                        rounds=rounds,
                        threads=threads,
                        **INPUT,
                    ),
                    "epochs": training.epochs,
                    "images": training.images,
                    "share": training.share,
                    "remat": training.remat,
                }
                for training in TRAININGS
                for machine in MACHINES
            ],
            "banks": [
                costs_model.bank(*size, machine, SHARES["vit-b16"])
                for size in BANKS
                for machine in MACHINES
            ],
        },
    )


def loss_counts() -> list[dict[str, Any]]:
    """Returns the bytes of the losses, by formula and as compiled."""
    rows = []
    for batch, bits in ((1_024, 64), (8_192, 128)):
        compiled = partial(traffic.compiled_hswd, batch, bits, masked=True, devices=DEVICES)
        of_size = {"batch": batch, "bits": bits}
        found, formula = compiled("select"), partial(traffic.hswd_by_selection, bits)
        per_round = formula(1).all_reduce - formula(0).all_reduce
        for_ties = formula(0, ties=0).all_reduce - formula(0).all_reduce
        for name, expected, scope in (
            ("HSWD by selection, once", formula(0), ()),
            ("... a round", traffic.Traffic(per_round, rounds=1), (ROUND,)),
            ("... ties, once", traffic.Traffic(for_ties, rounds=2), (BRANCH,)),
            (
                "... ties, a round of each search",
                traffic.Traffic(2 * per_round, rounds=2),
                (BRANCH, ROUND),
            ),
        ):
            rows.append({"name": name, **of_size, **_both(expected, found, scope)})
        formula = traffic.hswd_by_gather(batch, bits)
        rows.append(
            {"name": "HSWD by gather and sort", **of_size, **_both(formula, compiled("sort"))}
        )
        for name, formula in (("batch", traffic.pairs_in_batch), ("bank", traffic.bank)):
            found = traffic.compiled_pairs(batch, bits, name, devices=DEVICES)
            row = {"name": f"HashNet, pairs with the {name}", **of_size}
            rows.append({**row, **_both(formula(batch, bits), found)})
    return rows


def step_counts() -> list[dict[str, Any]]:
    """Returns the bytes of training steps at full image size, by formula and as compiled."""
    rows, batch, bits = [], 16, 64
    objective = combine(hashnet(pairs="batch"), weighted(0.1, hswd()))
    for name, backbone in BACKBONES.items():
        step = traffic.compiled_step(
            backbone, objective, size=SIZE, batch=batch, bits=bits, devices=DEVICES
        )
        pairs, quantizer = traffic.pairs_in_batch(batch, bits), traffic.hswd_by_selection(bits, 0)
        formula = traffic.step(pairs, quantizer, *step[1:], bits=bits)
        if name == "resnet50":  # four projections; 112, 56, 28, 14 and 7 pixels
            formula = formula.plus(traffic.shared_by_xla(256 + 512 + 1024 + 2048, step.layers, 5))
        row = {"name": f"training step of {name}", "batch": batch, "bits": bits}
        rows.append({**row, **_both(formula, step.found)})
    return rows


def count_rounds(batch: int, bits: int, devices: int) -> dict[str, Any]:
    """Returns the most rounds over the seeds, before and after training, for both dtypes."""
    return {
        "batch": batch,
        "bits": bits,
        "devices": devices,
        "seeds": SEEDS,
        "most": {
            f"{'±1' if tight else 'normal'}, {dtype}": max(
                traffic.search_rounds(batch, bits, devices, tight=tight, dtype=dtype, seed=seed)
                for seed in range(SEEDS)
            )
            for tight in (False, True)
            for dtype in ("float32", "bfloat16")
        },
    }


def model(name: str) -> dict[str, Any]:
    """Returns the sizes of a backbone with a hash head of 64 bits."""
    image = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    plain, remat = (
        summary(Encoder(partial(BACKBONES[name], remat=remat), 64), image)
        for remat in (False, True)
    )
    parameters, channels, layers = traffic.sizes(Encoder(BACKBONES[name], 64), SIZE)
    return {
        "parameters": parameters,
        "channels": channels,
        "layers": layers,
        "macs": plain.macs,
        "training_macs": {"plain": plain.training_macs, "remat": remat.training_macs},
    }


def _both(formula: traffic.Traffic, found: list, scope: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the bytes of arrays by formula and as counted, and the bytes that a device sends."""
    return {
        "formula": dict(zip(RING_FACTORS, formula[:3], strict=True)),
        "counted": {kind: total_bytes(found, kind, scope) for kind in RING_FACTORS},
        "sent": formula.sent(DEVICES),
        "devices": DEVICES,
        "rounds": formula.rounds,
        "collectives": sum(each.scope == scope for each in found),
    }


if __name__ == "__main__":
    main()
