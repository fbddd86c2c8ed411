"""Measures what two-stage search loses: recall, precision and the share of items that are compared.

    python experiments/two_stage_search.py --data-dir FEATURE_FOLDER

Codes of 64 bits of CIFAR-100 features, by Class Anchor Margin and by cross-entropy, each trained for six
epochs. The 10,000 test images search the 50,000 training images: exactly, and among the items of the
nearest 1, 2, 5, 10 and 20 of the 100 classes, by the majority code of the items of each. Recall is the share of
the 100 exact neighbors whose distance two-stage search reaches: items at the last distance count whichever
of them is returned. Precision is that of the labels. The results are written to
experiments/results/two_stage_search.json.
"""

import sys
import time
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from jaxhash.objectives import METHODS
from jaxhash.ops.codes import binarize
from jaxhash.retrieval.search import Neighbors, search_codes
from jaxhash.retrieval.two_stage import classed_codes
from jaxhash.runs.evaluation import SplitEncoder, encode_split
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import cifar100_features
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "two_stage_search.json"
K, NEAR = 100, (1, 2, 5, 10, 20)

COLUMNS = ["codes", "near classes", "recall@100", "precision@100", "items compared", "speed-up"]

#: The methods whose codes are searched, with options.
CODES = {"class-anchor-margin": ("reduction=mean",), "cross-entropy": ()}


def main(data_dir: Path, epochs: int = 6, rounds: int = 3, output: Path = PATH) -> None:
    """Trains, searches both ways and writes the table.

    Args:
        data_dir: folder of the feature file.
        epochs: epochs of a training.
        rounds: number of times that each search is timed; medians count.
        output: path of the result file.
    """
    rows, console = [], Console(width=120)
    for method, options in CODES.items():
        sides = train(data_dir, method, options, epochs)
        for row in compare(*sides, rounds):
            rows.append([method, *row])
            console.print(rows[-1])
    content = {
        "command": "python experiments/two_stage_search.py --data-dir DIR",
        "hardware": hardware(),
        "versions": versions(("jaxhash", "jax", "numpy")),
        "tables": {"search": {"columns": COLUMNS, "rows": rows}},
    }
    write_json(output, content)


def train(
    data_dir: Path, method: str, options: tuple[str, ...], epochs: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns packed codes and labels of the queries and of the database."""
    config = cifar100_features().replace(
        data_dir=data_dir,
        similarity="classes",
        objective=method,
        objective_options=options,
        quantizer="none",
        learning_rate=METHODS[method].learning_rate,
        epochs=epochs,
    )
    experiment = Experiment.open(config)
    step, encode = experiment.make_step(), SplitEncoder(experiment)
    state = step.to_local(step.replicate(experiment.initial_state()))
    for _, batch in zip(range(experiment.total_steps), experiment.batches(), strict=False):
        state, _ = step(state, step.shard_batch(batch))
    codes = encode_split(encode, step.to_global(state).variables)
    return [
        (
            np.packbits(binarize(codes[name]) > 0, axis=1),
            experiment.source.labels[getattr(experiment.split, name)],
        )
        for name in ("query", "database")
    ]


def compare(query, database, rounds: int):
    """Yields a row of the table for the exact search, and for each number of classes."""
    (queries, query_labels), (codes, labels) = query, database
    classed = classed_codes(codes, labels)

    def timed(search) -> tuple[float, Neighbors]:
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            found = search()
            seconds.append(time.perf_counter() - start)
        return float(np.median(seconds)), found

    def precision(found: Neighbors) -> float:
        return float((labels[found.rows] == query_labels[:, None]).mean())

    exact_seconds, exact = timed(lambda: search_codes(queries, codes, K))
    yield ["all", 1.0, precision(exact), 1.0, 1.0]
    for near in NEAR:
        seconds, found = timed(lambda near=near: classed.search(queries, K, near_classes=near))
        recall = float((found.distances <= exact.distances[:, -1:]).mean())
        share = classed.share_searched(queries, K, near)
        yield [f"{near}", recall, precision(found), share, exact_seconds / seconds]


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
