"""Folders of finished runs and sweeps, written without a training: codes by chance, all else as it is."""

import json

import numpy as np

from jaxhash.data.checks.training_data import open_split
from jaxhash.data.load import load_source
from jaxhash.retrieval.score import SCORE_CONVENTIONS, score_codes
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.utils.files import write_json


def write_run(folder, *, noise=0.3, **fields):
    """Writes a run on digits; its codes are those of the classes, with a share of the bits flipped.

    Returns its results.
    """
    config = digits_hashnet_hswd().replace(**({"bits": 16, "run_dir": folder} | fields))
    source = load_source(config.data.dataset, config.data.data_dir)
    split = open_split(config.data, source)
    rng = np.random.default_rng([config.run.seed, config.model.bits])
    of_classes = rng.choice([-1.0, 1.0], (len(source.class_names), config.model.bits))
    codes, arrays = {}, {}
    for side in ("query", "database"):
        labels = source.labels[getattr(split, side)]
        kept = of_classes[labels]
        codes[side] = kept * np.where(rng.random(kept.shape) < noise, -1, 1)
        arrays |= {f"{side}_codes": codes[side].astype(np.int8), f"{side}_labels": labels}
    sides = [codes["query"], arrays["query_labels"], codes["database"], arrays["database_labels"]]
    results = score_codes(*sides) | {
        "baselines": {},
        "float_rankings": {},
        "conventions": dict(SCORE_CONVENTIONS),
        "bits": config.model.bits,
        "seed": config.run.seed,
        "dataset": source.name,
        "split": split.name,
        "split_sha256": split.sha256,
        "items": {part: len(getattr(split, part)) for part in ("train", "validation", *codes)},
        "leaks": [],
        "objective": config.objective.describe(),
        "epochs": config.optimizer.epochs,
        "collapsed_at_step": None,
    }
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config.to_json())
    write_json(folder / "results.json", results)
    np.savez_compressed(folder / "codes.npz", **arrays)
    records = [{"step": n, "seconds": n / 10, "loss": 1 / n} for n in range(1, 9)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines)
    return results


def change_json(path, **fields):
    """Changes fields of a JSON file."""
    write_json(path, json.loads(path.read_text()) | fields)


def change_arrays(path, **arrays):
    """Changes arrays of a .npz file; None removes one."""
    with np.load(path) as held:
        kept = {**held, **arrays}
    np.savez(path, **{name: each for name, each in kept.items() if each is not None})
