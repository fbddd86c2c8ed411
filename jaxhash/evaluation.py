"""What a trained model is worth: its numbers beside the baselines, and the plots that show why."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, PyTree

from jaxhash import report
from jaxhash.build import Parts
from jaxhash.data.pipeline import evaluation_batches
from jaxhash.retrieval import baselines
from jaxhash.retrieval.encode import make_encoder
from jaxhash.retrieval.score import CONVENTIONS, score_codes, score_floats
from jaxhash.retrieval.search import nearest

#: Rows encoded at a time: a multiple of any usual number of devices.
BATCH = 512

#: Real-valued codes of the items of the split's ``query`` and ``database``.
Codes = dict[str, Float[np.ndarray, "items bits"]]


def encode_split(parts: Parts, variables: PyTree) -> Codes:
    """Encode the queries and the database by the model with these variables."""
    encode = make_encoder(parts.model)
    return {
        name: encode(
            variables,
            evaluation_batches(parts.source, getattr(parts.split, name), batch_size=BATCH),
        )
        for name in ("query", "database")
    }


def measure(parts: Parts, codes: Codes, *, seed: int) -> dict[str, Any]:
    """The metrics of the codes, of two baselines of the same length, and of the float rankings.

    Args:
        parts: the data and its split.
        codes: real-valued codes to measure.
        seed: seed of the baselines.

    Returns:
        The metrics of `jaxhash.retrieval.score.score_codes`, with ``baselines``,
        ``float_rankings`` and ``conventions`` beside them.
    """
    source, split = parts.source, parts.split
    flat = {
        name: source.inputs[items].reshape(len(items), -1).astype(np.float32)
        for name, items in (
            ("train", split.train),
            ("query", split.query),
            ("database", split.database),
        )
    }

    def score(function, vectors):
        query_labels, database_labels = source.labels[split.query], source.labels[split.database]
        return function(vectors["query"], query_labels, vectors["database"], database_labels)

    def score_baseline(make):
        hash_function = make(flat["train"], codes["query"].shape[1], seed=seed)
        return score(score_codes, {name: hash_function(flat[name]) for name in codes})

    return {
        **score(score_codes, codes),
        "baselines": {
            "random hyperplanes": score_baseline(baselines.random_hyperplanes),
            "PCA + random rotation": score_baseline(baselines.pca_random_rotation),
        },
        "float_rankings": {
            "learned floats": score(score_floats, codes),
            "input features": score(score_floats, flat),
        },
        "conventions": CONVENTIONS,
    }


def draw(
    folder: Path,
    parts: Parts,
    before: Codes,
    after: Codes,
    results: dict[str, Any],
    records: list[dict[str, int | float]],
) -> None:
    """Draw the report of a run: losses, code values, precision-recall, nearest neighbours.

    Args:
        folder: where the PNG files go.
        parts: the data and its split.
        before: codes before training.
        after: codes after it.
        results: what `measure` returned.
        records: the run's metrics.jsonl.
    """
    figures = {
        "losses": report.plot_losses(records),
        "code_values": report.plot_code_values(before["database"], after["database"]),
        "precision_recall": report.plot_precision_recall(results),
        "neighbours": report.plot_neighbours(_neighbours(parts, after)),
    }
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)


def _neighbours(parts: Parts, codes: Codes, *, rows: int = 8, k: int = 10) -> report.Neighbours:
    """The first query of each of the first few classes, with its nearest items."""
    source, split = parts.source, parts.split
    _, first = np.unique(source.labels[split.query], return_index=True)
    first = first[:rows]
    found = nearest(codes["query"][first], codes["database"], k)
    items = np.concatenate([split.query[first][:, None], split.database[found]], axis=1)
    labels = source.labels[items]
    return report.Neighbours(
        images=[source.inputs[row] for row in items],
        titles=[[source.class_names[label] for label in row] for row in labels],
        relevant=labels[:, 1:] == labels[:, :1],
    )
