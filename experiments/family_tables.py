"""Draws the tables of the pages of methods: each method of a family, with its results where there are any."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grid_tables
import hierarchy_tables
import methods_tables

from jaxhash.objectives import METHODS

RESULTS = Path(__file__).parent / "results"

#: Length of the codes that are shown; another one where a method was not measured at it.
BITS = 32

#: Titles of the data, of which the files have other names, and of the metrics.
DATA = {
    "features:cifar10_mobilenetv2.npz": "CIFAR-10",
    "features:corel5k.npz": "Corel5k",
    "interactions:lastfm.npz": "Last.fm",
}
METRICS = {"map": "mAP", "precision_at_100": "precision@100", "recall_at_20": "recall@20"}


class Result(NamedTuple):
    """What a method reached on one set: as published, and with HSWD in place of its penalty."""

    data: str
    bits: int
    metric: str
    published: str
    hswd: str


def draw(kind: str) -> str:
    """Draws the methods of a kind, whose name has _ for a space."""
    results: dict[str, list[Result]] = {}
    for method, result in (*_supervised(), *_hierarchical(), *_on_their_own_data()):
        results.setdefault(method, []).append(result)
    lines = ["| method | paper | data | bits | metric | as published | with HSWD |"]
    lines += ["|---|---|---|---:|---|---:|---:|"]
    for method in METHODS.values():
        if method.kind.replace(" ", "_") != kind:
            continue
        name = f"[`{method.name}`](#jaxhash.objectives.{method.make.__name__})"
        found = results.get(method.name, [])
        found = [result for result in found if result.bits == BITS] or found
        for words in [" | ".join(map(str, result)) for result in found] or ["- | - | - | - | -"]:
            lines.append(f"| {name} | {method.reference} | {words} |")
    return "\n".join(lines)


def _supervised() -> Iterator[tuple[str, Result]]:
    maps = methods_tables.maps_at(_read("methods"), BITS)
    for method, words in maps.items():
        published = words.get("own", words["none"])
        yield method, Result("CIFAR-10", BITS, "mAP", published, words.get("hswd", "-"))


def _hierarchical() -> Iterator[tuple[str, Result]]:
    for method, words in hierarchy_tables.mahp_at(_read("hierarchy"), BITS).items():
        if METHODS[method].kind == "hierarchy":  # HPDH was measured without its own penalty
            published = "-" if method == "hpdh" else words["empirical-kl"]
            result = Result("CIFAR-100", BITS, "mAHP@250", published, words["hswd"])
            yield method, result


def _on_their_own_data() -> Iterator[tuple[str, Result]]:
    for row in grid_tables.all_rows(_read("quantizer_grid")):
        published, hswd = (row.numbers.get(quantizer, "-") for quantizer in ("own", "hswd"))
        data, metric = DATA.get(row.data, row.data), METRICS[row.metric]
        yield row.method, Result(data, row.bits, metric, published, hswd)


def _read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())
