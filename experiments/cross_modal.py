"""Compares methods on search from the title of a document to the body of others, and back.

    python experiments/cross_modal.py --data FOLDER/reuters21578.npz

The documents of Reuters-21578 that have both, 6,509 for training and as the database and 2,495 as
queries. Each field is its own modality: tf-idf rows by the words of the training documents, projected on
256 principal directions of the training documents, which stand in feature files under runs/cross_modal;
`--words` trains on the words themselves, which takes many times as long. Each cell is a sweep over seeds
there, so an interrupted comparison goes on where it stopped. The results,
experiments/results/cross_modal.json, are written after each cell; cells that are there with the same options,
epochs and seeds are not trained again.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
import scipy.sparse
import tyro
from rich.console import Console
from sklearn.decomposition import TruncatedSVD

from jaxhash.data.load import load_source
from jaxhash.data.rows import row_blocks
from jaxhash.data.tree_form import measure_rows
from jaxhash.objectives import METHODS
from jaxhash.runs.config import Config
from jaxhash.runs.train_sweep import sweep
from jaxhash.training.members import Member
from jaxhash.utils.files import write_json

#: What makes the whole file; parts of it may be made one after the other.
COMMAND = "python experiments/cross_modal.py --data reuters21578.npz --epochs 10"

PATH = Path(__file__).parent / "results" / "cross_modal.json"
FOLDER = Path("runs") / "cross_modal"

#: The fields of a document, in the order of the codes.
MODALITIES = ("body", "title")

METHOD_NAMES = ("robust-multilevel", "dch", "hashnet", "csq")

#: Options of methods; HashNet's bank of 13,018 rows would take most of the time.
METHOD_OPTIONS = {
    "hashnet": ("pairs=batch",),
    "robust-multilevel": ("form=triplets", "radius=4"),  # as in its preset
}

#: Without a quantizer, with the penalty that the method was published with, and with others.
VARIANTS = ("none", "own", "l2", "hswd", "empirical-kl")

#: Keys of the scores of each way that are stored.
METRICS = ("map", "ndcg_at_100")

#: Keys of the results of a cell that are stored with it.
STORED = ("dataset", "split", "split_sha256", "items", "epochs", "seconds", "versions")


@dataclasses.dataclass(frozen=True)
class Options:
    """How all cells are trained."""

    data: Path
    """File of word counts with the fields title and body."""
    words: bool = False
    """Train on the words instead of their principal directions."""
    dimensions: int = 256
    """Number of principal directions."""
    bits: int = 32
    """Length of a code."""
    epochs: int = 20
    """Epochs of each training."""
    seeds: int = 3
    """Number of seeds, from 0."""

    @property
    def inputs(self) -> str:
        """What the encoders see."""
        return "words" if self.words else f"{self.dimensions} directions"


def main(
    options: tyro.conf.OmitArgPrefixes[Options],
    methods: tuple[str, ...] = METHOD_NAMES,
    variants: tuple[str, ...] = VARIANTS,
    output: Path = PATH,
) -> None:
    """Trains every cell with all seeds and collects the results.

    Args:
        options: how they are trained.
        methods: names of methods.
        variants: names of quantizers; a method without a penalty of its own has no cell for ``own``.
        output: path of the result file.
    """
    stored = json.loads(output.read_text())["cells"] if output.is_file() else []
    cells = {key(cell): cell for cell in stored}
    console = Console(width=120)
    config = base(options)
    for variant in variants:
        for method in methods:
            if variant == "own" and METHODS[method].published_penalty is None:
                continue
            done = cells.get((method, options.bits, variant, options.inputs))
            of_cell = config.replace(
                objective=method,
                objective_options=METHOD_OPTIONS.get(method, ()),
                quantizer=variant,
            )
            if done is not None and is_same(done, of_cell, options):
                continue
            console.rule(f"{method}, {variant}, {options.bits} bits")
            cell = train(of_cell, options, console)
            cells[key(cell)] = cell
            ordered = [cells[each] for each in sorted(cells, key=place)]
            write_json(output, {"command": COMMAND, "cells": ordered})
            jax.clear_caches()  # the next cell cannot reuse the compiled programs


def key(cell: dict) -> tuple[str, int, str, str]:
    """Returns what tells a cell from the others."""
    return cell["method"], cell["bits"], cell["quantizer"], cell["inputs"]


def place(cell: tuple[str, int, str, str]) -> tuple[str, int, int, int]:
    """Returns the place of a cell in the table, by its key."""
    method, bits, variant, inputs = cell
    return inputs, bits, METHOD_NAMES.index(method), VARIANTS.index(variant)


def base(options: Options) -> Config:
    """Returns the configuration that all cells have, after the files of features are made."""
    config = Config().replace(
        bits=options.bits,
        epochs=options.epochs,
        batch_size=128,
        learning_rate=1e-3,
        baselines="none",
    )
    if options.words:
        parts = (f"{name}=counts:{options.data.name}:{name}" for name in MODALITIES)
        folder, model = options.data.absolute().parent, "text-mlp"
    else:
        files = {name: project(options, name) for name in MODALITIES}
        parts = (f"{name}=features:{path.name}" for name, path in files.items())
        folder, model = FOLDER.absolute(), "mlp"
    return config.replace(dataset=f"modalities:{','.join(parts)}", data_dir=folder, model=model)


def project(options: Options, field: str) -> Path:
    """Writes a field as principal directions of its tf-idf rows, and returns the file.

    The documents without words are rows of zeros, which a reader of modalities leaves out.
    """
    path = FOLDER / f"{field}-{options.dimensions}.npz"
    if path.is_file():
        return path
    source = load_source(f"counts:{options.data.name}:{field}", options.data.absolute().parent)
    train = np.setdiff1d(source.items_by_part["train"], source.inputs.empty)
    rows = measure_rows(source.inputs, train).prepare(source.inputs)
    blocks = row_blocks(len(rows), 4 * source.inputs.shape[1])
    sparse = scipy.sparse.vstack([scipy.sparse.csr_matrix(rows[block]) for block in blocks]).tocsr()
    directions = TruncatedSVD(options.dimensions, random_state=0).fit(sparse[train])
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        features=directions.transform(sparse).astype(np.float32),
        labels=source.labels,
        class_names=np.array(source.class_names),
        split=source.is_test,
    )
    return path


def is_same(cell: dict, config: Config, options: Options) -> bool:
    """Returns whether a stored cell was trained by this configuration, as long and as often."""
    seeds = {len(scores["map"]) for scores in cell["scores"].values()}
    found = cell["objective"], cell["epochs"], seeds
    return found == (config.objective.describe(), options.epochs, {options.seeds})


def train(config: Config, options: Options, console: Console) -> dict:
    """Returns one cell: what was trained, and the metrics of each way and seed."""
    method, variant = config.objective.objective, config.objective.quantizer
    name = f"{method}-{variant}-{options.bits}-{options.inputs.replace(' ', '-')}-{options.epochs}"
    config = config.replace(run_dir=FOLDER / name)
    results = sweep(config, {}, console, seeds=options.seeds)
    folders = [config.run.run_dir / Member(seed, {}).folder for seed in range(options.seeds)]
    ways = [json.loads((folder / "results.json").read_text())["ways"] for folder in folders]
    return {
        "method": method,
        "quantizer": variant,
        "bits": options.bits,
        "inputs": options.inputs,
        "objective": config.objective.describe(),
        **{name: results[name] for name in STORED},
        "scores": {
            way: {metric: [each[way][metric] for each in ways] for metric in METRICS}
            for way in ways[0]
        },
    }


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
