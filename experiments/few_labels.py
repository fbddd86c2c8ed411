"""Learns hash codes from 10 or 40 labels of 5,000 training items: pseudo-labels and mAP by epoch.

    python experiments/few_labels.py --data-dir FEATURE_FOLDER

CIFAR-10 features in the HSWD paper's protocol: of each class 100 queries and 500 training items, of
which 1 or 4 have a known label; the other 54,000 are the database. Beside `affinity_propagation` with
and without mined confident items stand the same with a single propagation, with HSWD, a classifier of the
labeled items alone with as many steps, and pseudo-labels alone, by scikit-learn's LabelSpreading over the
features. The results, experiments/results/few_labels.json, are written after each training, and rows that the
file has with the same bits and epochs stay in it.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from sklearn.semi_supervised import LabelSpreading

from jaxhash import metrics
from jaxhash.data.splits import Split
from jaxhash.runs.encoding import SplitEncoder, encode_split
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import PRESETS
from jaxhash.training.devices import hardware
from jaxhash.training.parallel import DataParallel
from jaxhash.training.state import TrainState
from jaxhash.utils.files import read_json, write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "few_labels.json"
PRESET = "cifar10-features-affinity-propagation"

#: What makes the whole file; parts of it may be made one after the other.
COMMAND = "python experiments/few_labels.py --data-dir DIR"

#: Rows that train a classifier of the labeled items alone, and nothing.
ALONE, FIXED = "labels alone", "propagated over the features"

#: Fields of the configuration by the name of the row.
VARIANTS: dict[str, dict[str, Any]] = {
    FIXED: {},
    ALONE: {},
    "propagated once": {"objective_options": ("every=1000000",)},
    "iterated, all items": {"objective_options": ("mining=false",)},
    "iterated, mined items": {},
    "iterated, mined items, 0.1 HSWD": {"quantizer": "hswd", "quantizer_weight": 0.1},
}


def main(
    data_dir: Path,
    labeled: tuple[int, ...] = (1, 4),
    variants: tuple[str, ...] = tuple(VARIANTS),
    bits: int = 32,
    epochs: int = 13,
    seeds: int = 3,
    output: Path = PATH,
) -> None:
    """Trains every variant with all seeds and collects the results.

    Args:
        data_dir: folder of the feature file.
        labeled: numbers of known labels of each class.
        variants: names of `VARIANTS`.
        bits: length of a code.
        epochs: epochs of a training.
        seeds: number of seeds, from 0, each with a split of its own.
        output: path of the result file.
    """
    content: dict[str, Any] = {
        "command": COMMAND,
        "preset": PRESET,
        "bits": bits,
        "epochs": epochs,
        "hardware": hardware(),
        "versions": versions(("jaxhash", "jax", "flax", "optax", "numpy", "scikit-learn")),
    }
    rows = stored_rows(output, bits, epochs)
    console = Console(width=120)
    for variant in variants:
        step = None  # compiled once: shapes and options are those of the variant
        for per_class in labeled:
            for seed in range(seeds):
                key = variant, 10 * per_class, seed
                if key in rows:
                    continue
                experiment = open_experiment(data_dir, variant, per_class, bits, epochs, seed)
                if variant == FIXED:
                    epoch_rows = [{"epoch": 0} | propagate_features(experiment)]
                else:
                    step = step or experiment.make_step()
                    epoch_rows = list(train(experiment, step))
                items = {name: len(part) for name, part in experiment.split.parts.items()}
                row = dict(zip(("variant", "labeled", "seed"), key, strict=True))
                rows[key] = row | {"items": items, "epochs": epoch_rows}
                console.print(*key, epoch_rows[-1])
                ordered = sorted(rows, key=lambda key: list(VARIANTS).index(key[0]))  # stable
                write_json(output, content | {"rows": [rows[each] for each in ordered]})
        jax.clear_caches()


def stored_rows(path: Path, bits: int, epochs: int) -> dict[tuple[str, int, int], dict[str, Any]]:
    """Returns the rows that a file of results has, if it was made with the same bits and epochs."""
    content = read_json(path, "remove it") if path.is_file() else {}
    if (content.get("bits"), content.get("epochs")) != (bits, epochs):
        return {}
    return {(row["variant"], row["labeled"], row["seed"]): row for row in content["rows"]}


def open_experiment(
    data_dir: Path, variant: str, per_class: int, bits: int, epochs: int, seed: int
) -> Experiment:
    """Opens the experiment of a row; that of the labels alone trains on the labeled items."""
    config = PRESETS[PRESET]().replace(
        data_dir=data_dir,
        bits=bits,
        epochs=epochs,
        seed=seed,
        split_seed=seed,
        labeled_per_class=per_class,
        **VARIANTS[variant],
    )
    experiment = Experiment.open(config)
    if variant != ALONE:
        return experiment
    split = experiment.split
    alone = dataclasses.replace(split, train=split.labeled, labeled=None)
    config = config.replace(
        objective="cross-entropy",
        objective_options=(),
        epochs=experiment.total_steps,  # one step each
    )
    return dataclasses.replace(experiment, split=alone, config=config).with_hyperparams()


def propagate_features(experiment: Experiment) -> dict[str, float]:
    """Returns how many labels are right that are spread over a graph of the features' 50 nearest."""
    split, source = experiment.split, experiment.source
    known = np.isin(split.train, split.labeled)
    labels = source.labels[split.train]
    spread = LabelSpreading(kernel="knn", n_neighbors=50, alpha=0.99, max_iter=1000)
    spread.fit(np.asarray(source.inputs[split.train], np.float32), np.where(known, labels, -1))
    return {"accuracy": float((spread.transduction_ == labels)[~known].mean())}


def train(experiment: Experiment, step: DataParallel) -> Iterator[dict[str, Any]]:
    """Trains, and yields what is known after each epoch with a propagation, and at the end."""
    split, labels = experiment.split, experiment.source.labels
    state = step.to_local(step.replicate(experiment.initial_state()))
    encode = SplitEncoder(experiment)
    total, per_epoch = experiment.total_steps, experiment.steps_per_epoch
    last = {}
    for number, batch in enumerate(experiment.batches()):
        if number == total:
            break
        state, _ = step(state, step.shard_batch(batch))
        if number % per_epoch == 0 and split.labeled is not None:  # an epoch has begun
            found = pseudo_labels(step.to_global(state), split, labels)
            if found != last:  # new ones
                last = found
                variables = step.to_global(state).variables
                yield (
                    {"epoch": number // per_epoch} | found | score(encode, split, labels, variables)
                )
    variables = step.to_global(state).variables
    yield {"epoch": total // per_epoch} | score(encode, split, labels, variables)


def pseudo_labels(state: TrainState, split: Split, labels: np.ndarray) -> dict[str, Any]:
    """Returns how many labels of items without a known one are right; empty before there are any."""
    states = jax.tree.leaves(state.objective_state, is_leaf=lambda each: hasattr(each, "pseudo"))
    number, _, confident = np.asarray(states[0].pseudo.rows).T  # a quantizer's own comes after
    if (number < 0).all():
        return {}
    unknown = ~np.isin(split.train, split.labeled)
    right, mined = (number == labels[split.train])[unknown], confident[unknown] > 0
    return {
        "accuracy": float(right.mean()),
        "mined": int(mined.sum()),
        "mined_accuracy": float(right[mined].mean()) if mined.any() else None,
    }


def score(
    encode: SplitEncoder, split: Split, labels: np.ndarray, variables: Any
) -> dict[str, float]:
    """Returns the mAP of the queries over the whole database."""
    codes = encode_split(encode, variables)
    sides = [(codes[name][:], labels[getattr(split, name)]) for name in ("query", "database")]
    return {
        "map": float(metrics.mean_average_precision(metrics.distance_counts(*sides[0], *sides[1])))
    }


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
