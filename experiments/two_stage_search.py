"""Measures what two-stage search loses on the codes of runs: recall, precision, and what is compared.

    jaxhash train cifar10-features-class-anchor-margin --data-dir DIR --bits 32 --epochs 10 --run-dir RUN
    python experiments/two_stage_search.py --runs RUN ...

The queries of a run search its database: exactly, and among the items of the nearest 1, 2, 3 and 5 classes, by
the majority code of the items of each. Recall is the share of the 100 exact neighbors whose distance
two-stage search reaches: items at the last distance count whichever of them is returned. Precision is that of
the labels, and the share of items compared is what a search costs. The results are written to
experiments/results/two_stage_search.json; it takes seconds.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from jaxhash.retrieval.search import Neighbors, search_codes
from jaxhash.retrieval.two_stage import classed_codes
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "two_stage_search.json"
K, NEAR = 100, (1, 2, 3, 5)

COLUMNS = ["codes", "near classes", "recall@100", "precision@100", "items compared"]


def main(runs: tuple[Path, ...], output: Path = PATH) -> None:
    """Searches both ways and writes the table.

    Args:
        runs: folders of finished runs, of data whose items have one class.
        output: path of the result file.
    """
    rows, console = [], Console(width=120)
    for run in runs:
        results = json.loads((run / "results.json").read_text())
        with np.load(run / "codes.npz") as arrays:
            sides = [
                (np.packbits(arrays[f"{name}_codes"] > 0, axis=1), arrays[f"{name}_labels"])
                for name in ("query", "database")
            ]
        for row in compare(*sides):
            rows.append([f"{results['objective']}, {results['bits']} bits", *row])
            console.print(rows[-1])
    content = {
        "command": "python experiments/two_stage_search.py --runs RUN ...",
        "hardware": hardware(),
        "versions": versions(("jaxhash", "jax", "numpy")),
        "tables": {"search": {"columns": COLUMNS, "rows": rows}},
    }
    write_json(output, content)


def compare(
    query: tuple[np.ndarray, np.ndarray], database: tuple[np.ndarray, np.ndarray]
) -> Iterator[list[str | float]]:
    """Yields a row of the table for the exact search, and for each number of classes.

    Args:
        query: packed codes and labels of the queries.
        database: likewise of the database.
    """
    (queries, query_labels), (codes, labels) = query, database
    classed = classed_codes(codes, labels)

    def precision(found: Neighbors) -> float:
        return float((labels[found.rows] == query_labels[:, None]).mean())

    exact = search_codes(queries, codes, K)
    yield ["all", 1.0, precision(exact), 1.0]
    for near in NEAR:
        found = classed.search(queries, K, near_classes=near)
        recall = float((found.distances <= exact.distances[:, -1:]).mean())
        yield [f"{near}", recall, precision(found), classed.share_searched(queries, K, near)]


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
