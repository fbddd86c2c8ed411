"""Draws the tables of `quantizer_grid.py`, with rows of the experiments on other kinds of data."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxhash.metrics import SeedMean, mean_over_seeds

RESULTS = Path(__file__).parent / "results"

#: Titles of the quantizers.
VARIANTS = {"own": "as published", "l2": "L2", "hswd": "HSWD", "empirical-kl": "KL"}

#: mAP of CIMON by bits after 150 epochs, from the log that its authors released (`luoxiao12/CIMON`,
#: ``cifar_std``): CIFAR-10, all of VGG16 trained, one seed.
CIMON_LOG = {16: 0.4506, 32: 0.4723, 64: 0.4944, 128: 0.4981}

Cell = dict[str, Any]


class Row(NamedTuple):
    """A method on its data, and the words of each quantizer's cell."""

    method: str
    data: str
    bits: int
    metric: str
    numbers: dict[str, str]


def draw(content: dict[str, Any], name: str | None) -> str:
    """Draws the grid, or with the name ``cimon`` CIMON beside its authors' log."""
    return _cimon(content["cells"]) if name == "cimon" else _grid(content)


def _grid(content: dict[str, Any]) -> str:
    lines = [
        f"| method | data | bits | metric | {' | '.join(VARIANTS.values())} |",
        "|---|---|---:|---|" + "---:|" * len(VARIANTS),
    ]
    for row in all_rows(content):
        numbers = " | ".join(row.numbers.get(variant, "-") for variant in VARIANTS)
        lines.append(f"| `{row.method}` | {row.data} | {row.bits} | {row.metric} | {numbers} |")
    versions = sorted({cell["versions"]["jax"] for cell in content["cells"] if "versions" in cell})
    made = (
        f"Mean ± standard deviation over three seeds. jax {', '.join(versions)}, by "
        f"`{content['command']}`; the rows of documents, interactions and two modalities by `documents.py`, "
        "`graph_hashing.py` and `cross_modal.py`."
    )
    return "\n".join([*lines, "", made])


def all_rows(content: dict[str, Any]) -> Iterator[Row]:
    """Yields the rows of the grid's file and those of the experiments on other kinds of data."""
    yield from _trained(content["cells"])
    yield from _documents()
    yield from _interactions()
    yield from _modalities()


def _trained(cells: list[Cell]) -> Iterator[Row]:
    """Yields the rows of the grid's own file."""
    for method, bits in dict.fromkeys((cell["method"], cell["bits"]) for cell in cells):
        row = {c["quantizer"]: c for c in cells if (c["method"], c["bits"]) == (method, bits)}
        data, metric = next(iter(row.values()))["dataset"], next(iter(row.values()))["metric"]
        numbers = {variant: _number(cell) for variant, cell in row.items()}
        yield Row(method, data, bits, metric, numbers)


def _documents() -> Iterator[Row]:
    """Yields PSH and the Bernoulli VAE with their estimator, from `documents.py`."""
    content = json.loads((RESULTS / "documents.json").read_text())
    methods = {"PSH": "pairwise-supervised-hashing", "Bernoulli VAE": "bernoulli-vae"}
    for data in dict.fromkeys(cell["data"] for cell in content["cells"]):
        for title, method in methods.items():
            names = {title: "own"} | {f"{title}, {each}, ARM": each for each in VARIANTS}
            found = {
                names[cell["row"]]: _words(mean_over_seeds(cell["precision_at_100"]))
                for cell in content["cells"]
                if (cell["data"], cell["bits"]) == (data, 32) and cell["row"] in names
            }
            if len(found) > 1:
                yield Row(method, data, 32, "precision_at_100", found)


def _interactions() -> Iterator[Row]:
    """Yields HashGNN from `graph_hashing.py`."""
    table = json.loads((RESULTS / "graph_hashing.json").read_text())["tables"]["lastfm"]
    column = table["columns"].index("Recall@20")
    names = {"HashGNN, codes": "own"} | {
        f"HashGNN + 0.1 {title}, codes": variant for variant, title in VARIANTS.items()
    }
    found = {
        names[row[0]]: f"{row[column]['mean']:.4f} ± {row[column]['deviation']:.4f}"
        for row in table["rows"]
        if row[0] in names and row[1] == 64 and isinstance(row[column], dict)
    }
    yield Row("hashgnn", "interactions:lastfm.npz", 64, "recall_at_20", found)


def _modalities() -> Iterator[Row]:
    """Yields the multilevel loss of two modalities from `cross_modal.py`, each way."""
    cells = json.loads((RESULTS / "cross_modal.json").read_text())["cells"]
    cells = [cell for cell in cells if cell["method"] == "robust-multilevel"]
    for way in cells[0]["scores"]:
        found = {
            cell["quantizer"]: _words(mean_over_seeds(cell["scores"][way]["map"])) for cell in cells
        }
        yield Row("robust-multilevel", f"Reuters, {way}", cells[0]["bits"], "map", found)


def _cimon(cells: list[Cell]) -> str:
    lines = ["| bits | features, an MLP | VGG16, authors' log |", "|---:|---:|---:|"]
    for cell in cells:
        if (cell["method"], cell["quantizer"]) == ("cimon", "own"):
            published = CIMON_LOG[cell["bits"]]
            lines.append(f"| {cell['bits']} | {_number(cell)} | {published:.4f} |")
    return "\n".join(lines)


def _number(cell: Cell) -> str:
    scores = cell.get("scores")
    if scores is None or None in scores:
        return "diverged"
    return _words(mean_over_seeds(scores))


def _words(scores: SeedMean) -> str:
    mean, deviation, _ = scores
    return f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
