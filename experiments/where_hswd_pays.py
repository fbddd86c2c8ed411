"""Compares quantizers while one condition changes at a time: where does HSWD pay, and why?

    python experiments/where_hswd_pays.py --data-dir FEATURE_FOLDER

The conditions are those of `where_hswd_pays_data.py`: the length of the codes, the batch, the number of
classes, how unequal classes are, and the length of the training. In each, every quantizer has nine settings,
those of `protocol.py`, the best on validation items is trained with other seeds, and HSWD is compared with the others as there. All trainings are sweeps under runs/where_hswd_pays, so an interrupted comparison goes on where
it stopped; the results, experiments/results/where_hswd_pays.json, are written after each condition, and one of
another method that the file has stays in it.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from jaxtyping import Float
from protocol import RESULTS, adjust, axes_of, measure_member, put
from rich.console import Console
from where_hswd_pays_data import CONDITIONS, Condition, write_data
from where_hswd_pays_plot import save_plot

from jaxhash import metrics
from jaxhash.runs.config import Config
from jaxhash.runs.finished_run import member_folders
from jaxhash.runs.train_sweep import sweep
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json

FOLDER = Path("runs") / "where_hswd_pays"
OUTPUT = RESULTS / "where_hswd_pays.json"

#: What takes the place of a method's penalty. The last is the ablation: L2, which DPSH has of its own, and
#: a term that balances bits and does nothing else.
VARIANTS = {
    "none": {"quantizer": "none"},
    "l2": {"quantizer": "l2"},
    "hswd": {"quantizer": "hswd"},
    "l2 + balance": {"quantizer": "balance", "keep_own": True},
}

#: Methods whose own penalty is L2, so that the ablation can be trained.
OWN_IS_L2 = ("dpsh",)

#: Seeds of the search and of the comparison: none is in both.
SEARCH_SEED, SEEDS = 100, range(5)


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare quantizers while one condition changes at a time."""

    data_dir: Path
    """Folder of the features of CIFAR-10 and CIFAR-100."""
    methods: tuple[str, ...] = ("dpsh", "csq")
    """Methods to train. The results keep those trained before."""
    axes: tuple[str, ...] = ("bits", "imbalance", "classes", "batch", "epochs")
    """Conditions to change."""


def main(options: Options) -> None:
    """Trains and compares in every condition, and writes results and plot after each."""
    console = Console(width=120)
    content = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {}
    content |= {
        "command": "python experiments/where_hswd_pays.py --data-dir DIR",
        "seeds": len(SEEDS),
    }
    for method in options.methods:
        for condition in CONDITIONS:
            if condition.axis in options.axes:
                run_condition(method, condition, options, content, console)
                adjust(content["comparisons"])
                write_json(OUTPUT, content)
                save_plot(content, OUTPUT.with_suffix(".png"))


def run_condition(
    method: str, condition: Condition, options: Options, content: dict[str, Any], console: Console
) -> None:
    """Trains every quantizer in a condition, and puts cells and comparisons into the results."""
    place = {"method": method, "axis": condition.axis, "value": condition.value}
    write_data(condition, options.data_dir, FOLDER / "data")
    precisions, best_rate = {}, None
    for variant in VARIANTS:
        if variant == "l2 + balance" and method not in OWN_IS_L2:
            continue
        console.rule(f"{method}, {condition.axis} {condition.value}, {variant}")
        start = time.process_time()
        cell, of_queries, facts = run_cell(method, variant, best_rate, condition, console)
        best_rate = best_rate or cell.get("learning_rate")
        seconds = round(time.process_time() - start)
        put(content, "cells", place | {"quantizer": variant} | cell | {"cpu_seconds": seconds})
        content |= facts
        precisions[variant] = of_queries
        jax.clear_caches()  # the next sweep cannot reuse the compiled programs
    for against, other in precisions.items():
        if against == "hswd" or other is None or precisions["hswd"] is None:
            continue
        test = metrics.crossed_test(precisions["hswd"], other)
        found = test._asdict() | {"interval": test.interval._asdict()}
        put(content, "comparisons", place | {"against": against} | found)


def run_cell(
    method: str, variant: str, best_rate: float | None, condition: Condition, console: Console
) -> tuple[dict[str, Any], Float[np.ndarray, "seeds queries"] | None, dict[str, Any]]:
    """Searches for the best setting, and trains it with all seeds.

    Args:
        method: name of the method.
        variant: one of `VARIANTS`.
        best_rate: the best rate without a quantizer; None for that itself.
        condition: the condition.
        console: where progress is printed.

    Returns:
        The cell; the average precision of each query for each seed, None if a seed diverged; and what all
        cells share.
    """
    folder = FOLDER / method / condition.key
    name = variant.replace(" ", "")
    config = configure(method, variant, condition)
    searched = config.replace(validation=0.1, seed=SEARCH_SEED, run_dir=folder / f"{name}-search")
    try:
        found = sweep(searched, axes_of(method, variant, best_rate), console)
        best = found["settings"][found["best"]]
        chosen = config.replace(seed=SEEDS[0], run_dir=folder / name, **best["values"])
        results = sweep(chosen, {}, console, seeds=len(SEEDS))
    except UserError as error:  # every member diverged
        return {"error": str(error), "members": []}, None, {}
    measured = [measure_member(each, chosen) for each in member_folders(chosen.run.run_dir)]
    cell = dict(best["values"]) | {"members": [scores for scores, _ in measured]}
    facts = {name: results[name] for name in ("hardware", "versions")}
    whole = len(measured) == len(SEEDS)
    return cell, np.stack([of for _, of in measured]) if whole else None, facts


def configure(method: str, variant: str, condition: Condition) -> Config:
    """Returns the configuration of a method in a condition, with a quantizer of its default weight."""
    return Config().replace(
        dataset=f"features:{condition.data}.npz",
        data_dir=FOLDER / "data",
        protocol="parts",
        model="mlp",
        bits=condition.bits,
        batch_size=condition.batch,
        epochs=condition.epochs,
        objective=method,
        baselines="none",
        plots=False,
        **VARIANTS[variant],
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
