"""Times an evaluation by `jaxhash.metrics.evaluate_retrieval` and by the usual argsort per query.

    python experiments/retrieval_speed.py

The reference is what the code bases of the field do, written from a description of them: for each
query an integer product of label rows, a float product of codes, an argsort of the distances, and
the precision at each relevant item. It is timed on some of the queries and scaled up, in turns with
the whole evaluation, on the same arrays. So is the same loop with float32 labels, which avoids the slow
integer product. Each size runs in a process of its own, whose peak memory is measured. The results are
written to experiments/results/retrieval_speed.json; on 2 CPU cores that takes two minutes.
"""

import json
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from jaxhash.metrics import evaluate_retrieval
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "retrieval_speed.json"
BITS, K = 64, 5000


class Size(NamedTuple):
    """The size of a data set of the literature."""

    name: str
    queries: int
    items: int
    classes: int
    labels_each: float


SIZES = (
    Size("CIFAR-10", 1000, 59_000, 10, 1),
    Size("MS-COCO", 5000, 117_218, 80, 2.9),
    Size("NUS-WIDE-81", 5000, 168_692, 81, 1.9),
)


def make_codes(size: Size, rng: np.random.Generator):
    """Yields codes near the signs of their labels' directions, then the labels, for each side."""
    directions = rng.normal(size=(size.classes, BITS))
    for count in (size.queries, size.items):
        labels = np.zeros((count, size.classes), np.int64)
        labels[np.arange(count), rng.integers(size.classes, size=count)] = 1
        labels |= rng.random(labels.shape) < (size.labels_each - 1) / size.classes
        noise = rng.normal(size=(count, BITS), scale=2)
        yield np.where(labels @ directions + noise >= 0, 1, -1).astype(np.float32)
        yield labels


def argsort_loop(query_codes, query_labels, codes, labels, k: int) -> float:
    """Returns the sum of AP@k over the queries, as it is usually computed."""
    total = 0.0
    for code, label in zip(query_codes, query_labels, strict=True):
        relevant = (label @ labels.T > 0).astype(np.float32)
        distance = 0.5 * (code.shape[0] - code @ codes.T)
        found = relevant[np.argsort(distance)][:k]
        hits = int(found.sum())
        if hits:
            ranks = np.flatnonzero(found == 1) + 1.0
            total += np.mean(np.linspace(1, hits, hits) / ranks)
    return total


def measure(size: Size, *, reference_queries: int, rounds: int) -> dict:
    """Measures the seconds of the whole evaluation by each implementation, in turns."""
    sides = query_codes, query_labels, codes, labels = tuple(
        make_codes(size, np.random.default_rng(0))
    )
    seconds = {"first call": [], "jaxhash": [], "argsort": [], "argsort, float32 labels": []}

    def timed(name, function, *arguments, scale=1.0, **options):
        start = time.perf_counter()
        result = function(*arguments, **options)
        seconds[name].append(scale * (time.perf_counter() - start))
        return result

    result = timed("first call", evaluate_retrieval, *sides, k=K, convention="deephash-pytorch")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for turn in range(rounds):
        timed("jaxhash", evaluate_retrieval, *sides, k=K, convention="deephash-pytorch")
        some = np.arange(turn, size.queries, size.queries // reference_queries)
        scale = size.queries / len(some)
        for name, dtype in (("argsort", np.int64), ("argsort, float32 labels", np.float32)):
            rows, columns = query_labels[some].astype(dtype), labels.astype(dtype)
            timed(name, argsort_loop, query_codes[some], rows, codes, columns, K, scale=scale)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    score = result.scores["map_at_k"]
    return {
        **size._asdict(),
        "seconds": medians,
        "ratios": {
            name: medians[name] / medians["jaxhash"]
            for name in ("argsort", "argsort, float32 labels")
        },
        "peak_bytes": peak,
        "map_at_k": score._asdict(),
    }


def main(reference_queries: int = 100, rounds: int = 5, only: str = "") -> None:
    """Times every size in a process of its own and writes the results.

    Args:
        reference_queries: number of queries that the loop is timed on in each round.
        rounds: number of rounds; the median counts.
        only: name of the one size to measure and print (internal).
    """
    if only:
        [size] = (size for size in SIZES if size.name == only)
        print(json.dumps(measure(size, reference_queries=reference_queries, rounds=rounds)))
        return
    options = ["--reference-queries", str(reference_queries), "--rounds", str(rounds)]
    points = []
    for size in SIZES:
        command = [sys.executable, __file__, *options, "--only", size.name]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        points.append(json.loads(run.stdout.splitlines()[-1]))
        ratios, seconds = points[-1]["ratios"], points[-1]["seconds"]["jaxhash"]
        print(f"{size.name}: {seconds:.2f} s, argsort takes {ratios['argsort']:.1f} times as long")
    write_json(
        PATH,
        {
            "command": shlex.join(["python", "experiments/retrieval_speed.py"]),
            "hardware": hardware(),
            "versions": versions(["jax", "jaxlib", "numpy", "jaxhash"]),
            "bits": BITS,
            "k": K,
            "reference_queries": reference_queries,
            "rounds": rounds,
            "sizes": points,
        },
    )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
