"""Compares codes that learn a hierarchy of classes with codes that do not, on CIFAR-100 features.

    python experiments/hierarchy.py search --data-dir FEATURE_FOLDER --tree cifar.parent-child.txt
    python experiments/hierarchy.py train --data-dir FEATURE_FOLDER --tree cifar.parent-child.txt

Methods are cross-entropy, CSQ, SHREWD, SHRED and HPDH, each with no quantizer, with the empirical KL
divergence, and with HSWD in place of its own penalty. The tree defines the similarity of two classes.
There are two protocols: all classes train and the test images search; or a quarter of the classes is
unseen in training, and its images search one another (zero-shot).

``search`` chooses each method's learning rate, then each quantizer's weight, by mAHP@250 of training
images that are held out; 64 bits, one seed. ``train`` trains all cells with three seeds by what it
found, and scores the baselines: the features themselves, and codes that hold nothing but the class that
a classifier of the same features predicts.

Each cell is a sweep under runs/hierarchy, so an interrupted comparison goes on where it stopped. On a
CPU core the search takes 20 minutes, and all cells two hours.
"""

import itertools
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console
from sklearn.linear_model import RidgeClassifier
from sklearn.neural_network import MLPClassifier

from jaxhash.retrieval.baselines.class_index import class_index_from_predictor
from jaxhash.retrieval.baselines.linear_hashes import fit_linear_hashes
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import cifar100_features
from jaxhash.runs.scores import QUERY_AND_DATABASE, score_all, score_all_floats
from jaxhash.runs.settings import SCORES
from jaxhash.runs.train_sweep import sweep
from jaxhash.utils.files import write_json

RESULTS = Path(__file__).parent / "results"
SEARCH, PATH = RESULTS / "hierarchy_search.json", RESULTS / "hierarchy.json"

RUNS = Path("runs") / "hierarchy"

#: Options of each method.
METHODS: dict[str, dict[str, Any]] = {
    "cross-entropy": {},
    "csq": {},
    "shrewd": {},
    "shred": {"objective_options": ("similarity=10",)},
    "hpdh": {},
}

VARIANTS = ("none", "empirical-kl", "hswd")
PROTOCOLS = ("cifar100", "zero-shot")
RATES, WEIGHTS = (1e-3, 3e-3, 1e-2, 3e-2), (0.03, 0.1, 0.3)

#: Keys of the results that are the same for all cells of a protocol.
SHARED = ("dataset", "split", "split_sha256", "items", "epochs", "conventions")


def main(
    phase: Annotated[Literal["search", "train"], tyro.conf.Positional],
    data_dir: Path,
    tree: Path,
    methods: tuple[str, ...] = tuple(METHODS),
    bits: tuple[int, ...] = (32, 64, 128),
    seeds: int = 3,
) -> None:
    """Searches the settings, or trains every cell by them, and collects the results.

    Args:
        phase: ``search`` or ``train``.
        data_dir: folder of the feature file.
        tree: path of the file with the tree of classes.
        methods: names of methods.
        bits: lengths of a code.
        seeds: number of seeds, from 0.
    """
    placeholders = {str(data_dir): "DIR", str(tree): "TREE"}
    command = [placeholders.get(word, word) for word in sys.argv[1:]]
    content = {"command": shlex.join(["python", "experiments/hierarchy.py", *command])}
    preset = cifar100_features()
    base = preset.replace(data_dir=data_dir, similarity=str(tree.absolute()))
    console = Console(width=160)
    if phase == "search":
        search(base, methods, content, console)
    else:
        train(base, methods, bits, seeds, content, console)


def search(base: Config, methods: tuple[str, ...], content: dict, console: Console) -> None:
    """Selects the rate of each method without a quantizer, then the weight of each quantizer."""
    content["methods"] = {}
    for method in methods:
        found = content["methods"][method] = {}
        for variant in VARIANTS:
            plain = variant == "none"
            axes = {"learning_rate": RATES} if plain else {"quantizer_weight": WEIGHTS}
            rate = {} if plain else {"learning_rate": found["none"]["best"]}
            folder = RUNS / "search" / f"{method}-{variant}"
            config = cell(base, method, variant, run_dir=folder, **rate)
            console.rule(f"{method}, {variant}")
            results = sweep(config, axes, console)
            (axis,) = axes
            best = results["settings"][results["best"]]
            found[variant] = {
                "best": best["values"][axis],
                "validation_mahp_at_250": {
                    f"{setting['values'][axis]:g}": setting["scores"]
                    and setting["scores"]["validation_mahp_at_250"]["mean"]
                    for setting in results["settings"]
                },
            }
            content |= {key: results[key] for key in (*SHARED, "bits", "hardware", "versions")}
            write_json(SEARCH, content)
            jax.clear_caches()


def train(
    base: Config,
    methods: tuple[str, ...],
    bits: tuple[int, ...],
    seeds: int,
    content: dict,
    console: Console,
) -> None:
    """Trains every cell with all seeds, by the settings that the search found."""
    settings = json.loads(SEARCH.read_text())["methods"]
    content |= {"protocols": {}, "rows": [], "baselines": []}
    for protocol, length, method, variant in itertools.product(PROTOCOLS, bits, methods, VARIANTS):
        console.rule(f"{protocol}, {length} bits: {method}, {variant}")
        found, folder = settings[method], RUNS / protocol
        config = cell(
            base,
            method,
            variant,
            protocol=protocol,
            bits=length,
            learning_rate=found["none"]["best"],
            quantizer_weight=None if variant == "none" else found[variant]["best"],
            run_dir=folder / f"{method}-{variant}-{length}",
        )
        results = sweep(config, {}, console, seeds=seeds)
        content["protocols"][protocol] = {key: results[key] for key in SHARED}
        content |= {key: results[key] for key in ("hardware", "versions")}
        content["rows"].append(
            {
                "protocol": protocol,
                "method": method,
                "quantizer": variant,
                "bits": length,
                "objective": results["objective"],
                "learning_rate": config.optimizer.learning_rate,
                "seconds": results["seconds"],
                "members": results["members"],
            }
        )
        write_json(PATH, content)
        jax.clear_caches()  # the next cell cannot reuse the compiled programs
    for protocol in PROTOCOLS:
        console.rule(f"{protocol}: baselines")
        done = RUNS / protocol / "baselines.json"
        if not done.exists():
            config = cell(base, "cross-entropy", "none", protocol=protocol)
            write_json(done, score_baselines(config, bits, seeds))
        content["baselines"] += json.loads(done.read_text())
    write_json(PATH, content)


def cell(base: Config, method: str, variant: str, **fields) -> Config:
    """Returns the configuration of a method with a quantizer."""
    return base.replace(objective=method, quantizer=variant, **METHODS[method] | fields)


def score_baselines(config: Config, bits: tuple[int, ...], seeds: int) -> list[dict[str, Any]]:
    """Returns the scores of the features, and of codes that need no hashing method."""
    experiment = Experiment.open(config)
    train, *sides = (
        experiment.source.inputs[getattr(experiment.split, name)]
        for name in ("train", *QUERY_AND_DATABASE)
    )
    vectors = dict(zip(QUERY_AND_DATABASE, sides, strict=True))
    labels = experiment.source.labels[experiment.split.train]
    classifiers = {
        "ridge regression": [RidgeClassifier().fit(train, labels)] * seeds,
        "MLP": [
            MLPClassifier((1024,), early_stopping=True, random_state=seed).fit(train, labels)
            for seed in range(seeds)
        ],
    }
    rows = [
        {
            "name": "input features, cosine",
            "bits": None,
            "members": [{"seed": 0, "scores": score_all_floats(experiment, vectors)}],
        }
    ]

    def add(name, length, make):
        members = []
        for seed in range(seeds):
            hash_function = make(seed)
            scores = score_all(
                experiment, {name: hash_function(of) for name, of in vectors.items()}
            )
            kept = {key: scores[key] for key in SCORES if key in scores}
            members.append({"seed": seed, "scores": kept})
        rows.append({"name": name, "bits": length, "members": members})

    for length in bits:
        for name, of_seed in classifiers.items():
            add(
                f"class index by {name}",
                length,
                lambda seed, fitted=of_seed, bits=length: class_index_from_predictor(
                    fitted[seed].predict, labels, bits, seed=seed
                ),
            )
        add(
            "pca-rotation",
            length,
            lambda seed, bits=length: fit_linear_hashes(train, ["pca-rotation"], bits, seed=seed)[
                "pca-rotation"
            ],
        )
    correct = experiment.source.labels[experiment.split.query]
    accuracy = {
        name: [float(one.score(vectors["query"], correct)) for one in of_seed]
        for name, of_seed in classifiers.items()
    }
    rows[0]["accuracy_of_classifiers"] = accuracy  # zero-shot: 0, the classes are unseen
    return [{"protocol": config.data.protocol, **row} for row in rows]


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
