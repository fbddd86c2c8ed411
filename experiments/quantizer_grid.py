"""Compares the quantizer that each newer method was published with, L2, HSWD and KL, on its own data.

    python experiments/quantizer_grid.py --data-dirs FEATURE_FOLDER TEXT_FOLDER ...

A row of `GRID` is a method on the data of its preset. It trains as published, and with each quantizer,
at weight 0.1, in the place of its own penalty. Each cell is a sweep over seeds under
runs/quantizer_grid, so an interrupted comparison goes on where it stopped. The results,
experiments/results/quantizer_grid.json, are written after each cell; a cell of other methods or lengths
that the file has stays in it. On an idle CPU core a cell of three seeds takes about a minute.
"""

import dataclasses
import json
import re
import sys
from pathlib import Path

import jax
import tyro
from rich.console import Console

from jaxhash.objectives import METHODS
from jaxhash.runs.presets import PRESETS, preset_of_method
from jaxhash.runs.train_sweep import sweep
from jaxhash.training.members import Member
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json

#: What makes the whole file; parts of it may be made one after the other.
COMMAND = "python experiments/quantizer_grid.py --data-dirs DIR ..."

PATH = Path(__file__).parent / "results" / "quantizer_grid.json"


@dataclasses.dataclass(frozen=True)
class Row:
    """A method on its own data, and how it is measured there."""

    method: str
    metric: str = "map"
    """Key of results.json."""
    bits: tuple[int, ...] = (32,)


#: The rows of the table.
GRID = (
    Row("cimon", bits=(16, 32, 64, 128)),
    Row("class-anchor-margin"),
    Row("icnn"),
    Row("proto-triplet"),
    Row("dsah"),
    Row("rcdh"),
    Row("affinity-propagation"),
)

#: Quantizers: what a method was published with, which may be none beside its loss, and the others.
VARIANTS = ("own", "l2", "hswd", "empirical-kl")

#: Keys of the results of a cell that are stored with it.
STORED = ("dataset", "split", "split_sha256", "items", "epochs", "seconds", "versions")


def main(
    data_dirs: tuple[Path, ...],
    methods: tuple[str, ...] = tuple(row.method for row in GRID),
    variants: tuple[str, ...] = VARIANTS,
    bits: tuple[int, ...] = (),
    seeds: int = 3,
    output: Path = PATH,
) -> None:
    """Trains every cell with all seeds and collects the results.

    Args:
        data_dirs: folders of the data; a row takes the first that holds its file.
        methods: names of methods of the grid.
        variants: names of quantizers.
        bits: lengths of a code; those of each row if not given.
        seeds: number of seeds, from 0.
        output: path of the result file.
    """
    stored = json.loads(output.read_text())["cells"] if output.is_file() else []
    cells = {key(cell): cell for cell in stored}
    console = Console(width=120)
    for row in GRID:
        for length in bits or row.bits if row.method in methods else ():
            for variant in variants:
                console.rule(f"{row.method}, {variant}, {length} bits")
                cell = train(row, variant, length, data_dirs, seeds, console)
                cells[key(cell)] = cell
                ordered = [cells[each] for each in sorted(cells, key=place)]
                write_json(output, {"command": COMMAND, "cells": ordered})
                jax.clear_caches()  # the next cell cannot reuse the compiled programs


def key(cell: dict) -> tuple[str, int, str]:
    """Returns what tells a cell from the others."""
    return cell["method"], cell["bits"], cell["quantizer"]


def place(cell: tuple[str, int, str]) -> tuple[int, int, int]:
    """Returns the place of a cell in the table, by its key."""
    method, bits, variant = cell
    return [row.method for row in GRID].index(method), bits, VARIANTS.index(variant)


def train(
    row: Row,
    variant: str,
    bits: int,
    data_dirs: tuple[Path, ...],
    seeds: int,
    console: Console,
) -> dict:
    """Returns one cell: what was trained, and the metric of each seed."""
    preset = preset_of_method(row.method)
    config = PRESETS[preset]()
    as_published = "none" if METHODS[row.method].published_penalty is None else "own"
    config = config.replace(
        data_dir=find_data(config.data.dataset, data_dirs),
        quantizer=as_published if variant == "own" else variant,
        quantizer_weight=None,  # 0.1, and the published one of its own
        bits=bits,
        baselines="none",
        run_dir=Path("runs") / "quantizer_grid" / f"{row.method}-{variant}-{bits}",
    )
    cell = {"method": row.method, "quantizer": variant, "bits": bits, "preset": preset}
    cell |= {"metric": row.metric, "objective": config.objective.describe()}
    try:
        results = sweep(config, {}, console, seeds=seeds)
    except UserError as error:  # every seed diverged
        return cell | {"error": str(error)}
    cell |= {name: results[name] for name in STORED}
    folders = [config.run.run_dir / Member(seed, {}).folder for seed in range(seeds)]
    members = [folder / "results.json" for folder in folders]
    return cell | {
        "scores": [
            json.loads(path.read_text())[row.metric] if path.is_file() else None for path in members
        ]
    }


def find_data(dataset: str, folders: tuple[Path, ...]) -> Path:
    """Returns the first folder that holds the file of a data set.

    Raises:
        UserError: if none does.
    """
    name = re.search(r"[^:=]+\.npz", dataset)[0]
    for folder in folders:
        if (folder / name).exists():
            return folder
    raise UserError(f"none of `data_dirs` holds {name}")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
