"""Compares methods of anchors, class structure, neighbors and ranks with their neighbors, by task.

    python experiments/class_structure.py --data-dirs FEATURE_FOLDER MULTILABEL_FOLDER TEXT_FOLDER

Each task of `TASKS` has the data that its methods are for:

- ``anchors``: CIFAR-100 features, all classes; mAP of the test images in the training images.
- ``zero_shot``: CIFAR-100 features, 80 classes train, and of the other 20 the test images search the
  training images: mAP, and the accuracy of the nearest of five prototypes, the mean signs of five
  images each, over 1,000 episodes of five classes and 15 queries each.
- ``discrete``: CIFAR-10 features in the HSWD paper's protocol.
- ``corel5k`` and ``reuters``: images and documents of several labels, mAP and nDCG@100 with graded gains
  (1.3 % of Reuters' own queries repeat a training document).

A row trains with three seeds; the split is the same for all. The results,
experiments/results/class_structure.json, are written after each row, and rows that the file has stay in it:
an interrupted comparison goes on where it stopped.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console

from jaxhash import metrics
from jaxhash.data.load import load_source
from jaxhash.objectives import METHODS
from jaxhash.runs.config import Config
from jaxhash.runs.encoding import SplitEncoder, encode_split
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import PRESETS, cifar100_features, corel5k, reuters
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

#: What makes the whole file; parts of it may be made one after the other.
COMMAND = "python experiments/class_structure.py --data-dirs DIR DIR DIR"

PATH = Path(__file__).parent / "results" / "class_structure.json"

CIFAR100 = "features:cifar100_mobilenetv2.npz"

#: Ways, shots, queries and number of the few-shot episodes.
WAYS, SHOTS, QUERIES, EPISODES = 5, 5, 15, 1000


@dataclasses.dataclass(frozen=True)
class Row:
    """A method in a task, with options of it and fields of the configuration."""

    name: str
    method: str
    options: tuple[str, ...] = ()
    fields: tuple[tuple[str, Any], ...] = ()


HSWD = (("quantizer", "hswd"),)

#: The rows of each task.
TASKS: dict[str, tuple[Row, ...]] = {
    "anchors": (
        Row("CAM, sum over ordered pairs", "class-anchor-margin"),
        Row("CAM, mean over pairs", "class-anchor-margin", ("reduction=mean",)),
        Row("CAM, mean, and HSWD", "class-anchor-margin", ("reduction=mean",), HSWD),
        Row("CSQ", "csq"),
    ),
    "zero_shot": (
        Row("ICNN", "icnn"),
        Row("ICNN to prototypes", "icnn", ("targets=prototypes",)),
        Row(
            "ICNN to prototypes, nearest dropped (released)",
            "icnn",
            ("targets=prototypes", "drop_nearest=true"),
        ),
        Row("proto-triplet", "proto-triplet"),
        Row("cross-entropy", "cross-entropy"),
    ),
    "discrete": (
        Row("DSAH (a reading)", "dsah"),
        Row("DSAH without the dual label", "dsah", ("mu=0.000001",)),
        Row("DSAH, dual label 0.1", "dsah", ("mu=0.1",), (("on_collapse", "warn"),)),
        Row("asymmetric DSH", "asymmetric-dsh"),
    ),
    "corel5k": (
        Row("RCDH (a reading)", "rcdh"),
        Row("RCDH and HSWD", "rcdh", (), HSWD),
        Row("HyP2", "hyp2"),
        Row("cross-entropy", "cross-entropy"),
    ),
    "reuters": (
        Row("RCDH (a reading)", "rcdh"),
        Row("RCDH and HSWD", "rcdh", (), HSWD),
        Row("HyP2", "hyp2"),
        Row("cross-entropy", "cross-entropy"),
    ),
}

#: The configuration of each task, but for the method.
BASES: dict[str, Config] = {
    "anchors": cifar100_features().replace(similarity="classes"),
    "zero_shot": cifar100_features().replace(
        similarity="classes", batch_size=200, batch_classes=20
    ),
    "discrete": PRESETS["cifar10-features-dsah"]().replace(bits=32, epochs=20),
    "corel5k": corel5k(),
    "reuters": reuters().replace(bits=64, epochs=8),
}


def main(
    data_dirs: tuple[Path, ...],
    tasks: tuple[str, ...] = tuple(TASKS),
    seeds: int = 3,
    output: Path = PATH,
) -> None:
    """Trains every row with all seeds and collects the results.

    Args:
        data_dirs: folders of the data; a task takes the first that holds its file.
        tasks: names of `TASKS`.
        seeds: number of seeds, from 0.
        output: path of the result file.
    """
    stored = json.loads(output.read_text())["rows"] if output.is_file() else []
    rows = {(row["task"], row["name"]): row for row in stored}
    console = Console(width=120)
    for task in tasks:
        for row in TASKS[task]:
            found = rows.get((task, row.name))
            if found is not None and len(found["members"]) == seeds:
                continue
            console.rule(f"{task}: {row.name}")
            with tempfile.TemporaryDirectory() as folder:
                config = configuration(task, row, data_dirs, Path(folder))
                content = train_row(config, seeds, task == "zero_shot")
            rows[task, row.name] = {"task": task, "name": row.name} | content
            console.print(content["members"])
            ordered = [rows[t, r.name] for t in TASKS for r in TASKS[t] if (t, r.name) in rows]
            write_json(
                output,
                {
                    "command": COMMAND,
                    "hardware": hardware(),
                    "versions": versions(("jaxhash", "jax", "flax", "optax", "numpy")),
                    "tables": {
                        each: table(ordered, each)
                        for each in TASKS
                        if any(row["task"] == each for row in ordered)
                    },
                    "rows": ordered,
                },
            )
            jax.clear_caches()  # the next row cannot reuse the compiled programs


def configuration(task: str, row: Row, data_dirs: tuple[Path, ...], folder: Path) -> Config:
    """Returns the configuration of a row; a zero-shot split is written to the folder."""
    method, config = METHODS[row.method], BASES[task]
    file = config.data.dataset.split(":")[1]
    data_dir = next(each for each in data_dirs if (each / file).is_file())
    config = config.replace(
        objective=row.method,
        objective_options=row.options,
        quantizer="none" if method.published_penalty is None else "own",
        learning_rate=method.learning_rate,
        data_dir=data_dir,
    ).replace(**dict(row.fields))
    if task != "zero_shot":
        return config
    source = load_source(config.data.dataset, data_dir)
    seen = np.random.default_rng(0).permutation(len(source.class_names))[:80]
    is_seen, is_test = np.isin(source.labels, seen), source.is_test == 1
    path = folder / "classes_80_20.npz"
    np.savez(
        path,
        train=np.flatnonzero(is_seen & ~is_test),
        query=np.flatnonzero(~is_seen & is_test),
        database=np.flatnonzero(~is_seen & ~is_test),
    )
    return config.replace(protocol=str(path))


def train_row(config: Config, seeds: int, few_shot: bool) -> dict[str, Any]:
    """Returns the scores of each seed, with what was trained."""
    experiment = Experiment.open(config)
    step, members = experiment.make_step(), []
    labels, encode = experiment.source.labels, SplitEncoder(experiment)
    for seed in range(seeds):
        (state,) = experiment.initial_states([seed])
        state = step.to_local(step.replicate(state))
        for _, batch in zip(
            range(experiment.total_steps), experiment.batches(seed=seed), strict=False
        ):
            state, _ = step(state, step.shard_batch(batch))
        codes = encode_split(encode, step.to_global(state).variables)
        sides = [
            (codes[name][:], labels[getattr(experiment.split, name)])
            for name in ("query", "database")
        ]
        members.append({"seed": seed} | score(sides))
        if few_shot:
            members[-1]["five_way"] = few_shot_accuracy(*sides[0], np.random.default_rng(0))
    split = experiment.split
    return {
        "objective": experiment.objective_name,
        "dataset": config.data.dataset,
        "bits": config.model.bits,
        "epochs": config.optimizer.epochs,
        "items": {name: len(part) for name, part in split.parts.items()},
        "split_sha256": split.sha256,
        "members": members,
    }


def score(sides: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Returns mAP, and with several labels nDCG@100 with gains by the number of shared labels."""
    (query, query_labels), (database, database_labels) = sides
    sides = query, query_labels, database, database_labels
    found = {"map": float(metrics.mean_average_precision(metrics.distance_counts(*sides)))}
    if query_labels.ndim == 2:
        counts = metrics.distance_counts(*sides, relevance="graded")
        found["ndcg_at_100"] = float(metrics.ndcg(counts, 100).mean())
    return found


def few_shot_accuracy(codes: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> float:
    """Returns the share of queries whose nearest prototype is that of their class."""
    items = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    right = []
    for _ in range(EPISODES):
        ways = [
            rng.permutation(items[way])[: SHOTS + QUERIES]
            for way in rng.permutation(len(items))[:WAYS]
        ]
        vectors = codes[np.array(ways)].astype(np.float32)
        prototypes, queries = vectors[:, :SHOTS].mean(axis=1), vectors[:, SHOTS:]
        gaps = np.sum((queries[:, :, None] - prototypes[None, None]) ** 2, axis=3)
        right.append((gaps.argmin(axis=2) == np.arange(WAYS)[:, None]).mean())
    return float(np.mean(right))


def table(rows: list[dict[str, Any]], task: str) -> dict[str, list]:
    """Returns the columns and the rows of the table of a task, means and deviations over seeds."""
    rows = [row for row in rows if row["task"] == task]
    keys = [key for key in rows[0]["members"][0] if key != "seed"]
    titles = {"map": "mAP", "ndcg_at_100": "nDCG@100", "five_way": "5-way accuracy"}
    drawn = []
    for row in rows:
        scores = [
            metrics.mean_over_seeds([member[key] for member in row["members"]]) for key in keys
        ]
        cells = [{"mean": each.mean, "deviation": each.deviation or 0.0} for each in scores]
        drawn.append([row["name"], row["bits"], *cells])
    return {"columns": ["method", "bits", *(titles[key] for key in keys)], "rows": drawn}


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
