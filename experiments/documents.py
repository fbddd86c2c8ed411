"""Compares hashing of documents: PSH and the Bernoulli VAE, their estimators, and other quantizers.

    python experiments/documents.py --data-dir TEXT_FOLDER

Measured is precision@100 of the test documents in the training documents by Hamming distance, the mean
over all orders of ties, where documents are relevant that share a label, as in PSH's paper. Its table
stands beside: it has other preprocessing, 10,000 (Reuters) and 7,164 words (20 Newsgroups) of files that
are not at hand, so the order of the rows is what compares, not the digits. `words` are the most frequent
words that are kept. The results, experiments/results/documents.json, are written after each row, and rows
that are there are not trained again. A row of three seeds takes one to three minutes on a CPU core.
"""

import dataclasses
import itertools
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

from jaxhash import metrics
from jaxhash.data.load import load_source
from jaxhash.data.readers.counts import CountRows
from jaxhash.data.sources import Source
from jaxhash.metrics import mean_over_seeds
from jaxhash.ops.codes import binarize
from jaxhash.retrieval.baselines.linear_hashes import fit_linear_hashes
from jaxhash.runs.encoding import SplitEncoder
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import PRESETS, preset_of_method
from jaxhash.runs.scores import QUERY_AND_DATABASE, Codes, of_both_parts
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "documents.json"

#: Files of the data sets by the names of the paper.
SETS = {"Reuters": "reuters21578.npz", "20 Newsgroups": "newsgroups20.npz"}

#: Precision@100 in the paper at 8, 16, 32, 64 and 128 bits.
PUBLISHED = {
    ("Reuters", "PSH"): (0.9268, 0.9458, 0.9451, 0.9543, 0.9569),
    ("Reuters", "Bernoulli VAE"): (0.6549, 0.7455, 0.8086, 0.8237, 0.8230),
    ("Reuters", "NASH"): (0.7113, 0.7624, 0.7993, 0.7812, 0.7559),
    ("Reuters", "LSH"): (0.2802, 0.3215, 0.3862, 0.4667, 0.5194),
    ("20 Newsgroups", "PSH"): (0.7507, 0.8212, 0.8376, 0.8404, 0.8432),
    ("20 Newsgroups", "Bernoulli VAE"): (0.3907, 0.5074, 0.5787, 0.6224, 0.6214),
    ("20 Newsgroups", "NASH"): (0.3786, 0.5108, 0.5671, 0.5071, 0.4664),
    ("20 Newsgroups", "LSH"): (0.0578, 0.0597, 0.0666, 0.0770, 0.0949),
}

BITS = (8, 16, 32, 64, 128)

#: Options of both methods without their own divergence, whose codes nothing but a quantizer makes binary.
RELAXED = {"objective_options": ("gradient=relaxed",)}


class Row(NamedTuple):
    """A row of a table: what is trained, or a hash function without labels that is fitted.

    Attributes:
        table: name of the table.
        name: name of the row.
        fields: fields of the configuration, by the preset of its objective; None where it is fitted.
        fitted: name of a linear hash function; None where it is trained.
    """

    table: str
    name: str
    fields: dict[str, Any] | None = None
    fitted: str | None = None


def _rows() -> Iterator[Row]:
    methods = {"PSH": "pairwise-supervised-hashing", "Bernoulli VAE": "bernoulli-vae"}
    for name, objective in methods.items():
        yield Row("methods", name, {"objective": objective})
    nash = {"objective": "bernoulli-vae", "objective_options": ("gradient=straight-through",)}
    yield Row("methods", "NASH", nash)
    yield Row("methods", "ITQ", fitted="itq")
    yield Row("methods", "LSH", fitted="random")
    for name, objective in methods.items():
        for quantizer in ("l2", "hswd", "empirical-kl"):
            fields = {"objective": objective, "quantizer": quantizer}
            yield Row("quantizers", f"{name}, {quantizer}, ARM", fields)
        for quantizer in ("none", "hswd"):
            fields = {"objective": objective, "quantizer": quantizer}
            yield Row("quantizers", f"{name}, {quantizer}, relaxed", fields | RELAXED)
        for gradient in ("masked-arm", "disarm", "straight-through"):
            options = {"objective_options": (f"gradient={gradient}",)}
            yield Row("estimators", f"{name}, {gradient}", {"objective": objective} | options)


ROWS = tuple(_rows())


def main(
    data_dir: Path,
    sets: tuple[str, ...] = tuple(SETS),
    tables: tuple[str, ...] = ("methods", "estimators", "quantizers"),
    rows: tuple[str, ...] = tuple(row.name for row in ROWS),
    bits: tuple[int, ...] = BITS,
    other_bits: int = 32,
    words: int = 2_000,
    steps: int = 1080,
    seeds: int = 3,
    output: Path = PATH,
) -> None:
    """Trains every row with all seeds, and collects precision@100.

    Args:
        data_dir: folder of the files of counts.
        sets: names of data sets.
        tables: names of tables of rows.
        rows: names of rows.
        bits: lengths of a code in the table of the methods.
        other_bits: length of a code in the other tables.
        words: number of the most frequent words of the training documents that are kept.
        steps: steps of 200 documents, in whole epochs.
        seeds: number of seeds, from 0.
        output: path of the result file.
    """
    shown = ["TEXT_FOLDER" if word == str(data_dir) else word for word in sys.argv[1:]]
    command = shlex.join(["python", "experiments/documents.py", *shown])
    cells = json.loads(output.read_text())["cells"] if output.exists() else []
    sources = {
        name: keep_words(load_source(f"counts:{SETS[name]}", data_dir), words) for name in sets
    }
    for table in tables:
        lengths = bits if table == "methods" else (other_bits,)
        chosen = [row for row in ROWS if row.table == table and row.name in rows]
        for length, data, row in itertools.product(lengths, sets, chosen):
            cell = {"data": data, "table": table, "row": row.name, "bits": length}
            cell |= {"words": words, "steps": steps, "seeds": seeds}
            if any(cell.items() <= done.items() for done in cells):
                continue
            cell["command"] = command
            cell["precision_at_100"] = precisions(sources[data], row, length, steps, seeds)
            print(cell, flush=True)
            cells.append(cell)
            write_json(output, content(cells))
            jax.clear_caches()  # the next row cannot reuse the compiled programs


def keep_words(source: Source, words: int) -> Source:
    """Returns a source with the most frequent words of its training documents; ties by their order."""
    rows = source.inputs
    train = np.flatnonzero(source.is_test == 0)
    frequencies = np.array(rows.weights(train).frequencies)
    kept = np.sort(np.argsort(-frequencies, kind="stable")[:words])
    vocabulary = tuple(rows.vocabulary[word] for word in kept)
    return dataclasses.replace(source, inputs=CountRows(rows.matrix[:, kept], vocabulary))


def precisions(source: Source, row: Row, bits: int, steps: int, seeds: int) -> list[float]:
    """Returns precision@100 of each seed."""
    fields = row.fields or {}
    preset = preset_of_method(fields.get("objective", "bernoulli-vae"))
    config = PRESETS[preset]().replace(bits=bits, **fields)
    per_epoch = -(-int((source.is_test == 0).sum()) // config.optimizer.batch_size)
    config = config.replace(epochs=max(1, round(steps / per_epoch)))
    experiment = Experiment.open(config, source=source)
    labels = of_both_parts(experiment, source.labels)
    hashed = _fitted(experiment, row.fitted) if row.fitted else _trained(experiment)
    found = []
    for seed in range(seeds):
        codes = {part: binarize(values) for part, values in hashed(seed).items()}
        counts = metrics.distance_counts(
            codes["query"], labels["query"], codes["database"], labels["database"]
        )
        found.append(float(metrics.precision_at_k(counts, 100).mean()))
    return found


def _trained(experiment: Experiment) -> Callable[[int], Codes]:
    """Returns a function that trains with a seed and encodes; its step is compiled once."""
    step, encode = jax.jit(experiment.step_function()), SplitEncoder(experiment)

    def codes(seed: int) -> Codes:
        (state,) = experiment.initial_states([seed])
        batches = experiment.batches(seed=seed)
        for _ in range(experiment.total_steps):
            state, _ = step(state, next(batches))
        return {part: encode(state.variables, part) for part in QUERY_AND_DATABASE}

    return codes


def _fitted(experiment: Experiment, method: str) -> Callable[[int], Codes]:
    """Returns a function that fits a linear hash function to the tf-idf rows with a seed, and encodes."""
    inputs, split = experiment.source.inputs, experiment.split
    train = inputs[split.train]

    def codes(seed: int) -> Codes:
        bits = experiment.config.model.bits
        hash_function = fit_linear_hashes(train, [method], bits, seed=seed)[method]
        return {part: hash_function(inputs[getattr(split, part)]) for part in QUERY_AND_DATABASE}

    return codes


def content(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns what the result file holds: the cells, and the tables that `tables.py` draws."""
    tables = {}
    for data in SETS:
        key = data.lower().replace(" ", "_")
        tables[key] = _methods_table(
            [cell for cell in cells if (cell["data"], cell["table"]) == (data, "methods")], data
        )
    others = [cell for cell in cells if cell["table"] != "methods"]
    if others:
        tables["same_encoder"] = _same_encoder_table(others)
    return {
        "cells": cells,
        "tables": {name: table for name, table in tables.items() if table["rows"]},
        "hardware": hardware(),
        "versions": versions(["jax", "jaxlib", "flax", "jaxhash"]),
    }


def _methods_table(cells: list[dict[str, Any]], data: str) -> dict[str, Any]:
    """Returns a row for each method and one for what is published of it, a column for each length."""
    lengths = sorted({cell["bits"] for cell in cells})
    rows = []
    for name in dict.fromkeys(cell["row"] for cell in cells):
        found = {cell["bits"]: cell for cell in cells if cell["row"] == name}
        rows.append([name, *(_mean(found.get(length)) for length in lengths)])
        if (data, name) in PUBLISHED:
            published = dict(zip(BITS, PUBLISHED[data, name], strict=True))
            rows.append([f"{name}, published", *(f"{published[length]:.4f}" for length in lengths)])
    return {"columns": ["precision@100", *(f"{length} bits" for length in lengths)], "rows": rows}


def _same_encoder_table(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns a row for each estimator and quantizer, a column for each set."""
    sets = list(dict.fromkeys(cell["data"] for cell in cells))
    rows = []
    for name in dict.fromkeys(cell["row"] for cell in cells):
        found = {cell["data"]: cell for cell in cells if cell["row"] == name}
        rows.append([name, *(_mean(found.get(data)) for data in sets)])
    columns = [f"precision@100, {cells[0]['bits']} bits", *sets]
    return {"columns": columns, "rows": rows}


def _mean(cell: dict[str, Any] | None) -> str:
    """Returns the mean and the standard deviation over seeds."""
    if cell is None:
        return "-"
    mean, deviation, _ = mean_over_seeds(cell["precision_at_100"])
    return f"{mean:.4f}" + (f" ± {deviation:.4f}" if deviation else "")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
