"""Compares quantizers by the protocol of docs/results/protocol.md, on one set of data.

    python experiments/protocol.py --set cifar10-features --data-dir FEATURE_FOLDER

For each method and each quantizer the best of nine settings is searched for on validation items, then
trained with other seeds on all training items at each length, and measured on the queries. All trainings
are sweeps under runs/protocol/SET, so an interrupted comparison goes on where it stopped. The results,
experiments/results/protocol_SET.json, are written after each cell; a cell of other methods that the file
has stays in it. On 2 CPU cores a method of the CIFAR-10 features takes about a quarter of an hour.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from jaxtyping import Float
from protocol_sets import SETS, Set
from rich.console import Console

import jaxhash
from jaxhash import metrics
from jaxhash.objectives import METHODS
from jaxhash.retrieval.baselines.labeled_hashes import LABELED_METHODS, fit_labeled_hashes
from jaxhash.retrieval.baselines.linear_hashes import fit_linear_hashes
from jaxhash.retrieval.counting import count_by_distance
from jaxhash.retrieval.packed_codes import PackedCodes, as_packed_codes
from jaxhash.retrieval.score import score_floats
from jaxhash.retrieval.vectors import LazyVectors
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.finished_run import member_folders
from jaxhash.runs.train_sweep import sweep
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json

RESULTS = Path(__file__).parent / "results"

#: What takes the place of a method's penalty.
VARIANTS = ("none", "own", "l2", "hswd")

#: Methods whose own penalty is L2, so that ``own`` would be trained twice.
OWN_IS_L2 = ("dpsh",)

BITS = (16, 32, 64, 128)

#: Length of the codes that settings are searched for with; they hold for all lengths.
SEARCH_BITS = 32

#: Seeds of the search and of the comparison: none is in both.
SEARCH_SEEDS, SEEDS = range(100, 102), range(5)

#: Nine settings for each quantizer: without a weight rates alone, else weights by rates relative to the
#: best one without. Weights of a method's own penalty are relative to the published one.
RATES = (1e-4, 1.8e-4, 3e-4, 5.6e-4, 1e-3, 1.8e-3, 3e-3, 5.6e-3, 1e-2)
RATE_FACTORS, WEIGHTS, OWN_FACTORS = (1 / 3, 1.0, 10 / 3), (0.01, 0.1, 1.0), (0.1, 1.0, 10.0)

#: Hash functions without labels that are fitted in seconds; those by labels are `LABELED_METHODS`.
FITTED = ("random", "pca-rotation", "itq")

#: Keys of a sweep's results that are the same for all cells.
SHARED = ("dataset", "split", "split_sha256", "items", "hardware", "versions")


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare quantizers by the registered protocol."""

    set: Literal[tuple(SETS)]
    """Name of the set of data."""
    data_dir: Path
    """Folder of the data."""
    methods: tuple[str, ...] = ()
    """Methods to train; those of the set if not given. The results keep those trained before."""
    bits: tuple[int, ...] = BITS
    """Lengths of a code."""

    @property
    def folder(self) -> Path:
        """Where the trainings are."""
        return Path("runs") / "protocol" / self.set

    @property
    def output(self) -> Path:
        """The file of results."""
        return RESULTS / f"protocol_{self.set.replace('-', '_')}.json"


def main(options: Options) -> None:
    """Searches, trains and compares every cell, and writes the results after each."""
    chosen, console = SETS[options.set], Console(width=120)
    content = json.loads(options.output.read_text()) if options.output.is_file() else {}
    content |= {
        "command": f"python experiments/protocol.py --set {options.set} --data-dir DIR",
        "seeds": len(SEEDS),
    }
    for bits in options.bits:
        console.rule(f"without training, {bits} bits")
        for row in measure_fitted(chosen.base().replace(data_dir=options.data_dir), bits):
            put(content, "fitted", row)
    for method in options.methods or chosen.methods:
        variants = [v for v in VARIANTS if v != "own" or has_own(method)]
        precisions, best_rate = {}, None
        for variant in variants:
            console.rule(f"{method}, {variant}, search at {SEARCH_BITS} bits")
            start = time.process_time()
            found = search(chosen, method, variant, best_rate, options, console)
            best_rate = best_rate or (found["chosen"] or {}).get("learning_rate")
            put(content, "search", found | {"cpu_seconds": round(time.process_time() - start)})
            for bits in options.bits if found["chosen"] else ():
                console.rule(f"{method}, {variant}, {bits} bits")
                start = time.process_time()
                cell, of_queries, facts = measure(chosen, found, bits, options, console)
                content |= facts
                precisions[variant, bits] = of_queries
                put(content, "cells", cell | {"cpu_seconds": round(time.process_time() - start)})
                write_json(options.output, content)
            jax.clear_caches()  # the next variant cannot reuse the compiled programs
        for comparison in compare(method, variants, options.bits, precisions):
            put(content, "comparisons", comparison)
        adjust(content.setdefault("comparisons", []))
        write_json(options.output, content)


def has_own(method: str) -> bool:
    """Returns whether a method has a penalty of its own that is none of the other quantizers."""
    return METHODS[method].published_penalty is not None and method not in OWN_IS_L2


def put(content: dict[str, Any], name: str, entry: dict[str, Any]) -> None:
    """Puts an entry into one of the lists of the results, in place of that of the same cell.

    What a cell cost the first time stays: a finished one is only read again.
    """
    keys = ("method", "quantizer", "against", "bits", "axis", "value")
    entries = content.setdefault(name, [])
    for number, other in enumerate(entries):
        if all(other.get(key) == entry.get(key) for key in keys):
            costs = [each.get("cpu_seconds", 0) for each in (other, entry)]
            entries[number] = entry | ({"cpu_seconds": max(costs)} if any(costs) else {})
            return
    entries.append(entry)


def configure(chosen: Set, method: str, variant: str, options: Options) -> Config:
    """Returns a method's configuration on a set, with a quantizer of its default weight."""
    return chosen.base().replace(
        data_dir=options.data_dir,
        objective=method,
        quantizer=variant,
        baselines="none",
        plots=False,
        **METHODS[method].settings,
    )


def axes_of(method: str, variant: str, best_rate: float | None) -> dict[str, tuple[float, ...]]:
    """Returns the nine settings that are tried, as axes of a sweep.

    Args:
        method: name of the method.
        variant: one of `VARIANTS`.
        best_rate: the best rate without a quantizer, which is searched for first; if none converged, the
            middle of the rates takes its place.
    """
    if variant == "none":
        return {"learning_rate": RATES}
    middle = best_rate or RATES[len(RATES) // 2]
    weights = WEIGHTS
    if variant == "own":
        weights = tuple(factor * METHODS[method].published_penalty for factor in OWN_FACTORS)
    rates = tuple(float(f"{factor * middle:.2g}") for factor in RATE_FACTORS)
    return {"learning_rate": rates, "quantizer_weight": weights}


def search(
    chosen: Set,
    method: str,
    variant: str,
    best_rate: float | None,
    options: Options,
    console: Console,
) -> dict[str, Any]:
    """Returns the validation mAP of each setting, and the best one; None if all diverged."""
    config = configure(chosen, method, variant, options).replace(
        bits=SEARCH_BITS,
        validation=0.1,
        seed=SEARCH_SEEDS[0],
        run_dir=options.folder / method / f"{variant}-search",
    )
    found = {"method": method, "quantizer": variant, "trials": [], "chosen": None}
    try:
        results = sweep(
            config, axes_of(method, variant, best_rate), console, seeds=len(SEARCH_SEEDS)
        )
    except UserError as error:  # every member diverged
        return found | {"error": str(error)}
    for setting in results["settings"]:
        score = setting["scores"] and setting["scores"]["validation_map"]
        found["trials"].append({**setting["values"], "validation_map": score and score["mean"]})
    return found | {"chosen": dict(results["settings"][results["best"]]["values"])}


def measure(
    chosen: Set, found: dict[str, Any], bits: int, options: Options, console: Console
) -> tuple[dict[str, Any], Float[np.ndarray, "seeds queries"] | None, dict[str, Any]]:
    """Trains the chosen setting with all seeds.

    Returns:
        The cell; the average precision of each query for each seed, None unless all seeds have one; and
        what all cells of the set share.
    """
    method, variant = found["method"], found["quantizer"]
    config = configure(chosen, method, variant, options).replace(
        bits=bits, seed=SEEDS[0], **found["chosen"]
    )
    config = config.replace(run_dir=options.folder / method / f"{variant}-{bits}")
    cell = {"method": method, "quantizer": variant, "bits": bits, **found["chosen"]}
    try:
        results = sweep(config, {}, console, seeds=len(SEEDS))
    except UserError as error:
        return cell | {"error": str(error), "members": []}, None, {}
    measured = [measure_member(folder, config) for folder in member_folders(config.run.run_dir)]
    cell |= {"members": [scores for scores, _ in measured]}
    facts = {name: results[name] for name in SHARED}
    whole = len(measured) == len(SEEDS)
    return cell, np.stack([of for _, of in measured]) if whole else None, facts


def measure_member(
    folder: Path, config: Config
) -> tuple[dict[str, float], Float[np.ndarray, " queries"]]:
    """Returns the scores of a member, and the average precision of each query."""
    stored = folder / "protocol.npz"
    if not stored.is_file():
        scores, precisions = score_member(folder, config)
        with stored.with_suffix(".part").open("wb") as file:
            np.savez(file, scores=json.dumps(scores), precisions=precisions)
        stored.with_suffix(".part").rename(stored)
    with np.load(stored) as held:
        return json.loads(str(held["scores"])), held["precisions"]


def score_member(
    folder: Path, config: Config
) -> tuple[dict[str, float], Float[np.ndarray, " queries"]]:
    """Encodes queries and database anew, and computes what the protocol asks for."""
    experiment = Experiment.open(config, console=Console(quiet=True))
    hasher, source, split = jaxhash.load(folder), experiment.source, experiment.split
    floats = {side: hasher.encode_floats(source.inputs[getattr(split, side)]) for side in SIDES}
    labels = {side: source.labels[getattr(split, side)] for side in SIDES}
    scores, precisions = score_codes(floats, labels)
    of_floats = score_floats(
        *(floats["query"], labels["query"], floats["database"], labels["database"])
    )["map"]
    return scores | {"quantization_loss": float(of_floats - scores["map"])}, precisions


def score_codes(
    floats: dict[str, Float[np.ndarray, "items bits"]], labels: dict[str, np.ndarray]
) -> tuple[dict[str, float], Float[np.ndarray, " queries"]]:
    """Computes what the protocol asks for of codes, and the average precision of each query."""
    codes: dict[str, PackedCodes] = {side: as_packed_codes(floats[side]) for side in SIDES}
    query, database = ((codes[side], labels[side]) for side in SIDES)
    counts = count_by_distance(*query, *database)
    precisions = metrics.average_precision(counts)
    health = metrics.code_health(floats["database"])
    pairs = np.triu_indices(floats["database"].shape[1], k=1)
    scores = {
        "map": precisions.mean(),
        "precision_at_radius_2": metrics.precision_at_radius(counts, 2).mean(),
        "visited_at_radius_2": counts.total[:, :3].sum(axis=1).mean(),
        "empty_at_radius_2": metrics.is_bucket_empty(counts, 2).mean(),
        "distinct_codes": health.buckets.distinct,
        "bit_balance": health.bit_balance,
        "bit_correlation": np.abs(health.bit_correlation[pairs]).mean(),
    }
    return {name: float(value) for name, value in scores.items()}, precisions


def measure_fitted(config: Config, bits: int) -> list[dict[str, Any]]:
    """Measures hash functions that are fitted to the training items in seconds, with all seeds: a row for each."""
    experiment = Experiment.open(config.replace(bits=bits), console=Console(quiet=True))
    source, split = experiment.source, experiment.split
    vectors = {side: LazyVectors(source.inputs, getattr(split, side)) for side in (*SIDES, "train")}
    labels = {side: source.labels[getattr(split, side)] for side in (*SIDES, "train")}
    members: dict[str, list[dict[str, float]]] = {}
    for seed in SEEDS:
        several = labels["train"].ndim == 2
        by_labels = [n for n, m in LABELED_METHODS.items() if m.takes_several or not several]
        hashes = fit_linear_hashes(vectors["train"], FITTED, bits, seed=seed)
        hashes |= fit_labeled_hashes(vectors["train"], labels["train"], by_labels, bits, seed=seed)
        for name, linear in hashes.items():
            floats = {side: linear(vectors[side][:]) for side in SIDES}
            members.setdefault(name, []).append(score_codes(floats, labels)[0])
    return [{"method": name, "bits": bits, "members": scores} for name, scores in members.items()]


SIDES = ("query", "database")


def compare(
    method: str,
    variants: list[str],
    lengths: tuple[int, ...],
    precisions: dict[tuple[str, int], Float[np.ndarray, "seeds queries"] | None],
) -> list[dict[str, Any]]:
    """Returns HSWD against each other quantizer at each length, where all seeds were trained."""
    found = []
    for bits in lengths:
        hswd = precisions.get(("hswd", bits))
        for other in variants:
            against = precisions.get((other, bits))
            if other == "hswd" or hswd is None or against is None:
                continue
            test = metrics.crossed_test(hswd, against)
            found.append(
                {"method": method, "bits": bits, "against": other}
                | test._asdict()
                | {"interval": test.interval._asdict()}
            )
    return found


def adjust(comparisons: list[dict[str, Any]]) -> None:
    """Adds the p-value that is adjusted for all comparisons of the set."""
    adjusted = metrics.holm([each["p_value"] for each in comparisons])
    for comparison, value in zip(comparisons, adjusted.tolist(), strict=True):
        comparison["p_adjusted"] = value


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
