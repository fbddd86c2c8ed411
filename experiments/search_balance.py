"""Asks whether balanced bits pay in search: what multi-index hashing visits at equal recall, by quantizer.

    python experiments/search_balance.py --data-dir FEATURE_FOLDER

A method of pairs, one of centers and one without labels are trained with no quantizer, L2 and HSWD (both at
0.1) on CIFAR-10 features; the 54,000 items of the paper's split are searched by 200 of its queries. Visits are
counted exactly (`jaxhash.retrieval.multi_index`), so no machine changes them; the seconds are faiss's.
Recall is of the 10 float neighbors by cosine: of the input features for codes without labels, of the model's own
real-valued outputs for supervised ones. The sweeps lie under runs/search_balance, and
experiments/results/search_balance.json is written after each set of codes, so an interrupted experiment goes on
where it stopped. On an idle CPU core a set takes less than a minute with its
training.
"""

import json
import sys
import time
from pathlib import Path

import faiss
import jax
import numpy as np
import tyro
from rich.console import Console
from search_balance_plot import save_plot

import jaxhash
from jaxhash import metrics
from jaxhash.data.checks.training_data import open_split
from jaxhash.data.load import load_source
from jaxhash.objectives import METHODS
from jaxhash.retrieval.baselines.linear_hashes import fit_linear_hashes
from jaxhash.retrieval.baselines.product_quantizer import fit_product_quantizer
from jaxhash.retrieval.multi_index import count_visits, cut_substrings, effective_buckets
from jaxhash.retrieval.vectors import normalize_rows
from jaxhash.runs.presets import PRESETS, preset_of_method
from jaxhash.runs.train_sweep import sweep
from jaxhash.training.devices import hardware
from jaxhash.training.members import Member
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "search_balance.json"

#: The penalty of `bihalf` is HSWD at weight 3: at "none" it is left out.
#: A step of `dpsh` takes several times as long, so it has one length.
METHODS_SEARCHED = {"bihalf": (32, 64), "csq": (32, 64), "dpsh": (32,)}
QUANTIZERS = ("none", "l2", "hswd")
BASELINES = ("itq", "pca-rotation")

K = 10

#: Bits of a substring, about log2 of the items as the paper of multi-index hashing advises.
SUBSTRING = 16

#: Most bits of a substring that are flipped; and in what is timed.
FLIPS, TIMED_FLIPS = 5, (0, 1, 2)

#: Of the 1,000 queries each fifth counts, 20 of each class; mAP is over all.
EVERY = 5

#: Queries and rounds that are timed, of the first seed.
TIMED, ROUNDS = 50, 3


def main(
    data_dir: Path, bits: tuple[int, ...] = (32, 64), seeds: int = 3, output: Path = PATH
) -> None:
    """Trains what is missing, measures every set of codes and writes results and plot.

    Args:
        data_dir: folder of the feature file.
        bits: lengths of a code, multiples of 16.
        seeds: number of seeds, from 0.
        output: path of the result file; the plot lies beside it.
    """
    console = Console(width=120)
    faiss.omp_set_num_threads(1)
    rows = json.loads(output.read_text())["rows"] if output.is_file() else []
    done = {tuple(row[name] for name in ("method", "quantizer", "bits", "seed")) for row in rows}
    data = Data(data_dir)

    def write() -> None:
        write_json(
            output,
            {
                "command": "python experiments/search_balance.py --data-dir DIR",
                "hardware": hardware(),
                "versions": versions(["jaxhash", "jax", "numpy", "faiss-cpu"]),
                "items": {"query": len(data.counted), "database": len(data.database)},
                "rows": rows,
            },
        )

    def keep(row: dict) -> None:
        rows.append(row)
        write()

    for length in bits:
        for name in (*BASELINES, "pq"):
            for seed in range(seeds):
                if (name, "-", length, seed) not in done:
                    row = {"method": name, "quantizer": "-", "bits": length, "seed": seed}
                    keep(row | data.measure_baseline(name, length, seed))
        for method, lengths in METHODS_SEARCHED.items():
            for quantizer in QUANTIZERS if length in lengths else ():
                cell = {"method": method, "quantizer": quantizer, "bits": length}
                missing = [s for s in range(seeds) if (*cell.values(), s) not in done]
                if not missing:
                    continue
                console.rule(f"{method}, {quantizer}, {length} bits")
                folder = train(method, quantizer, length, data_dir, seeds, console)
                for seed in missing:
                    run = folder / Member(seed, {}).folder
                    keep(cell | {"seed": seed} | data.measure_run(run, method, seed == 0))
                jax.clear_caches()  # the next cell cannot reuse the compiled programs
    write()
    save_plot(rows, output.with_suffix(".png"))


def train(
    method: str, quantizer: str, bits: int, data_dir: Path, seeds: int, console: Console
) -> Path:
    """Trains a cell, if that was not done, and returns the folder of its sweep."""
    folder = Path("runs") / "search_balance" / f"{method}-{quantizer}-{bits}"
    if not (folder / "results.json").is_file():
        config = PRESETS[preset_of_method(method)]().replace(
            data_dir=data_dir,
            quantizer=quantizer,
            bits=bits,
            baselines="none",
            plots=False,
            on_collapse="warn",  # codes of constant bits are a result here
            run_dir=folder,
        )
        sweep(config, {}, console, seeds=seeds)
    return folder


class Data:
    """Features and labels of the queries and of the items that are searched, and the float neighbors."""

    def __init__(self, data_dir: Path) -> None:
        config = PRESETS["cifar10-features-csq"]().data
        source = load_source(config.dataset, data_dir)
        split = open_split(config, source)
        self.train, self.query, self.database = (
            np.asarray(source.inputs[rows]) for rows in (split.train, split.query, split.database)
        )
        self.counted = self.query[::EVERY]
        self.labels = [np.asarray(source.labels[rows]) for rows in (split.query, split.database)]
        self.near_by_features = nearest(self.counted, self.database)

    def measure_run(self, folder: Path, method: str, is_timed: bool) -> dict:
        """Returns what a trained run's codes cost and find, by both kinds of neighbors."""
        hasher = jaxhash.load(folder)
        sides = [
            hasher.encode_floats(each, batch_size=4096) for each in (self.query, self.database)
        ]
        near = {"features": self.near_by_features, "outputs": nearest(sides[0][::EVERY], sides[1])}
        truth = "features" if METHODS[method].kind == "unsupervised" else "outputs"
        return {"truth": truth} | self.measure(sides, near, truth if is_timed else None)

    def measure_baseline(self, name: str, bits: int, seed: int) -> dict:
        """Returns the same of a hash function without a network, or the recall of a product quantizer."""
        near = {"features": self.near_by_features}
        if name == "pq":
            quantizer = fit_product_quantizer(self.train, bits // 8, seed=seed)
            parts = quantizer.compare(self.counted, self.database)
            found = np.concatenate([top(scores) for _, scores in parts])
            return {"truth": "features", "scan": {"features": recall(found, near["features"])}}
        hash_function = fit_linear_hashes(self.train, [name], bits, seed=seed)[name]
        sides = [hash_function(each) for each in (self.query, self.database)]
        return {"truth": "features"} | self.measure(sides, near, None if seed else "features")

    def measure(
        self, sides: list[np.ndarray], near: dict[str, np.ndarray], timed: str | None
    ) -> dict:
        """Returns health, recall and visits by radius and, if neighbors to time by are named, seconds."""
        bits = sides[0].shape[1]
        all_queries, database = (np.packbits(side >= 0, axis=1) for side in sides)
        query, substrings = np.ascontiguousarray(all_queries[::EVERY]), bits // SUBSTRING
        radius = substrings * (FLIPS + 1) - 1
        visits = count_visits(query, database, bits=bits, substrings=substrings, radius=radius)
        health = metrics.code_health(database, form=metrics.CodeFormat("packed", bits))
        counts = metrics.distance_counts(
            all_queries, self.labels[0], database, self.labels[1], bits=bits
        )
        totals = counts.total[::EVERY]
        within = np.cumsum(totals, axis=1)
        distances = {
            name: np.bitwise_count(query[:, None] ^ database[rows]).sum(axis=2, dtype=np.int64)
            for name, rows in near.items()
        }
        last = (within < K).sum(axis=1)  # the radius that holds the 10 nearest codes
        searched = np.minimum(last, radius)
        pairs = np.abs(health.bit_correlation[np.triu_indices(bits, k=1)])
        return {
            "map": metrics.mean_average_precision(counts),
            "imbalance": 1.0 - health.bit_balance,
            "correlation": float(pairs.mean()),
            "dead_bits": len(health.dead_bits),
            "distinct_codes": health.buckets.distinct,
            "effective_buckets": effective_buckets(
                database, bits=bits, substrings=substrings
            ).tolist(),
            "substring_entropy": [
                entropy(part) for part in cut_substrings(database, bits=bits, substrings=substrings)
            ],
            "scan": {name: scan_recall(each, totals) for name, each in distances.items()},
            "recall": {
                name: [float((each <= r).mean()) for r in range(radius + 1)]
                for name, each in distances.items()
            },
            "buckets": visits.buckets.tolist(),
            "entries": visits.entries.mean(axis=0).tolist(),
            "candidates": visits.candidates.mean(axis=0).tolist(),
            "within": within.mean(axis=0)[: radius + 1].tolist(),
            "empty": (within == 0).mean(axis=0)[: radius + 1].tolist(),
            "nearest_codes": {
                "radius": float(last.mean()),
                "beyond": float((last > radius).mean()),
                "buckets": float(visits.buckets[searched].mean()),
                "entries": float(visits.entries[np.arange(len(query)), searched].mean()),
            },
            "faiss": time_faiss(query, database, near[timed], substrings) if timed else None,
        }


def nearest(query: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Returns the rows of the nearest items of each query by cosine."""
    query, database = (normalize_rows(side).astype(np.float32) for side in (query, database))
    blocks = (query[at : at + 100] @ database.T for at in range(0, len(query), 100))
    return np.concatenate([top(scores) for scores in blocks])


def top(scores: np.ndarray) -> np.ndarray:
    """Returns the places of the largest scores of each row."""
    return np.argpartition(-scores, K, axis=1)[:, :K]


def recall(found: np.ndarray, near: np.ndarray) -> float:
    """Returns the share of the neighbors that were found."""
    pairs = zip(found, near, strict=True)
    return float(np.mean([np.isin(truth, rows).mean() for rows, truth in pairs]))


def scan_recall(distances: np.ndarray, totals: np.ndarray) -> float:
    """Returns the share of the neighbors among the 10 first, the expected one over the order of ties.

    Args:
        distances: Hamming distances of the neighbors of each query.
        totals: number of items at each distance from each query.
    """
    relevant = (distances[:, :, None] == np.arange(totals.shape[1])).sum(axis=1)
    return float(metrics.recall_at_k(metrics.DistanceCounts(totals, relevant), K).mean())


def entropy(part: np.ndarray) -> float:
    """Returns the entropy in bits of the distribution of items over the values of a substring."""
    share = np.unique(part, axis=0, return_counts=True)[1] / len(part)
    return float(-(share * np.log2(share)).sum())


def time_faiss(
    query: np.ndarray, database: np.ndarray, near: np.ndarray, substrings: int
) -> list[dict]:
    """Returns seconds a query, on one thread, and recall of faiss's scan and of its tables by flips."""
    bits, some = 8 * database.shape[1], query[:TIMED]
    scan, tables = (
        faiss.IndexBinaryFlat(bits),
        faiss.IndexBinaryMultiHash(bits, substrings, SUBSTRING),
    )
    scan.add(database)
    tables.add(database)
    found = []
    for index, flips in [(scan, None), *((tables, flips) for flips in TIMED_FLIPS)]:
        if flips is not None:
            index.nflip = flips
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            _, rows = index.search(some, K)
            seconds.append((time.perf_counter() - start) / len(some))
        share = recall(rows, near[:TIMED])
        found.append({"flips": flips, "seconds": float(np.median(seconds)), "recall": share})
    return found


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
