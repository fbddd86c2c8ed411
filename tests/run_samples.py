"""Folders of finished runs and sweeps, written without a training: codes by chance, all else as it is."""

import itertools
import json

import numpy as np

from jaxhash.data.checks.training_data import open_split
from jaxhash.data.load import load_source
from jaxhash.retrieval.score import SCORE_CONVENTIONS, score_codes
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.runs.settings import SCORES, best, summarize
from jaxhash.training.members import Member
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


def write_sweep(folder, axes, *, seeds=2, diverged=(), **fields):
    """Writes a sweep on digits with a run for each member but those of the diverged numbers.

    Returns its results.
    """
    settings = [dict(zip(axes, v, strict=True)) for v in itertools.product(*axes.values())]
    members, config = (
        [],
        digits_hashnet_hswd().replace(**({"bits": 16, "run_dir": folder} | fields)),
    )
    for number, (values, seed) in enumerate(itertools.product(settings, range(seeds))):
        scores, results = None, {}
        if number not in diverged:
            own = folder / Member(seed, values).folder
            noise = 0.2 + 0.02 * number
            results = write_run(own, noise=noise, **(fields | values | {"seed": seed}))
            scores = {name: results[name] for name in SCORES if name in results}
            scores["validation_map"] = scores["map"] - 0.01
        fate = {"diverged_at_step": 3 if scores is None else None, "collapsed_at_step": None}
        members.append({"seed": seed, "values": values, "scores": scores} | fate)
    found = summarize(members)
    keys = ("bits", "dataset", "split", "split_sha256", "items", "leaks", "objective", "epochs")
    some = json.loads(next(folder.glob("seed*/results.json")).read_text())
    results = {key: some[key] for key in keys} | {
        "axes": {name: list(values) for name, values in axes.items()},
        "seeds": list(range(seeds)),
        "settings": found,
        "best": best(found),
        "members": members,
    }
    varied = {"sweep": {"seeds": seeds, "axes": results["axes"]}}
    write_json(folder / "config.json", config.to_json() | varied)
    write_json(folder / "results.json", results)
    losses = [[1 / n if m["scores"] else None for m in members] for n in range(1, 9)]
    records = [{"step": n, "seconds": n / 10, "loss": each} for n, each in enumerate(losses, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return results


def change_json(path, **fields):
    """Changes fields of a JSON file."""
    write_json(path, json.loads(path.read_text()) | fields)


def change_arrays(path, **arrays):
    """Changes arrays of a .npz file; None removes one."""
    with np.load(path) as held:
        kept = {**held, **arrays}
    np.savez(path, **{name: each for name, each in kept.items() if each is not None})
