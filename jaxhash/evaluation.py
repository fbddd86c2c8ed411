"""What a trained model is worth: its numbers beside the baselines, and the plots that show why."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, PyTree, Shaped

from jaxhash import metrics, report
from jaxhash.build import Parts
from jaxhash.codes import binarize
from jaxhash.data.augment import Augment
from jaxhash.data.pipeline import evaluation_batches
from jaxhash.retrieval import baselines
from jaxhash.retrieval.encode import make_encoder
from jaxhash.retrieval.score import (
    CONVENTIONS,
    HIERARCHY_CONVENTIONS,
    score_codes,
    score_floats,
    score_hierarchy,
)
from jaxhash.retrieval.search import nearest
from jaxhash.similarity import share_a_label
from jaxhash.training.choice import Rule

#: Rows encoded at a time: a multiple of any usual number of devices.
BATCH = 512

#: Real-valued codes of the items of the split's ``query`` and ``database``.
Codes = dict[str, Float[np.ndarray, "items bits"]]

_NONE = Augment()


class PartEncoder:
    """Encodes parts of a split by the run's model, compiled once for all of them.

    Args:
        parts: the data, its split and the model.
    """

    def __init__(self, parts: Parts):
        self._parts, self._encode = parts, make_encoder(parts.model)

    def __call__(
        self, variables: PyTree, name: str, *, augment: Augment = _NONE, seed: int = 0
    ) -> Float[np.ndarray, "items bits"]:
        """Real-valued codes of the items of a part, in order.

        Args:
            variables: the model's variables.
            name: ``train``, ``validation``, ``query`` or ``database``.
            augment: what is done to the images before they are encoded.
            seed: seed of it.
        """
        items = getattr(self._parts.split, name)
        rng = np.random.default_rng(seed)
        batches = (
            batch._replace(inputs=augment.apply(batch.inputs, augment.draw(len(batch.mask), rng)))
            for batch in evaluation_batches(self._parts.source, items, batch_size=BATCH)
        )
        return self._encode(variables, batches)


def encode_split(encode: PartEncoder, variables: PyTree) -> Codes:
    """Encode the queries and the database by the model with these variables."""
    return {name: encode(variables, name) for name in ("query", "database")}


def candidate_score(
    rule: Rule, parts: Parts, encode: PartEncoder
) -> Callable[[PyTree], float] | None:
    """How a rule scores a model during training: mAP over all items that are searched.

    Args:
        rule: ``"validation"`` searches the validation items with each other, as most of a database
            is unseen too: among training items, whose codes have been fitted, overfitting looks
            good; ``"best-on-test"`` searches the database with the queries; ``"last"`` scores
            nothing.
        parts: the data and its split.
        encode: encoder of its parts.

    Returns:
        A function of the model's variables; None where nothing is scored.
    """
    if rule == "last":
        return None

    def side(variables: PyTree, name: str):
        return binarize(encode(variables, name)), parts.source.labels[getattr(parts.split, name)]

    def score(variables: PyTree) -> float:
        if rule == "validation":
            held_out = side(variables, "validation")
            counts = metrics.leave_one_out(metrics.distance_counts(*held_out, *held_out))
        else:
            counts = metrics.distance_counts(
                *side(variables, "query"), *side(variables, "database")
            )
        return metrics.mean_average_precision(counts)

    return score


def flip_rate(
    parts: Parts,
    encode: PartEncoder,
    variables: PyTree,
    codes: Codes,
    *,
    augment: Augment,
    seed: int,
) -> float | None:
    """Share of the queries' bits that change where the images are augmented as in training.

    Args:
        parts: the data and its split.
        encode: encoder of its parts.
        variables: the model's variables.
        codes: codes of the queries as they are.
        augment: the augmentation of the run.
        seed: seed of it.

    Returns:
        A share in [0, 1]; None where the run does not augment.
    """
    if augment == _NONE:
        return None
    moved = encode(variables, "query", augment=augment, seed=seed)
    return metrics.flip_rate(binarize(codes["query"]), binarize(moved)).mean


def score_all(
    parts: Parts,
    query: Float[np.ndarray, "queries bits"],
    query_labels: Int[np.ndarray, " queries *classes"],
    database: Float[np.ndarray, "items bits"],
    database_labels: Int[np.ndarray, " items *classes"],
) -> dict[str, Any]:
    """The metrics of codes, the hierarchical ones too where the run knows distances of classes."""
    sides = query, query_labels, database, database_labels
    scores = score_codes(*sides)
    if _is_hierarchical(parts):
        scores |= score_hierarchy(*sides, 1.0 - parts.semantics.distances)
    return scores


def conventions(parts: Parts) -> dict[str, str]:
    """How the metrics of `score_all` are defined."""
    return CONVENTIONS | (HIERARCHY_CONVENTIONS if _is_hierarchical(parts) else {})


def _is_hierarchical(parts: Parts) -> bool:
    return parts.semantics.distances is not None and parts.source.labels.ndim == 1


def measure(parts: Parts, codes: Codes, *, seed: int) -> dict[str, Any]:
    """The metrics of the codes, of two baselines of the same length, and of the float rankings.

    Args:
        parts: the data and its split.
        codes: real-valued codes to measure.
        seed: seed of the baselines.

    Returns:
        The metrics of `jaxhash.retrieval.score.score_codes`, with ``baselines``,
        ``float_rankings``, ``conventions`` and ``health``, that of the database, beside them.
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
        return score(partial(score_all, parts), {name: hash_function(flat[name]) for name in codes})

    return {
        **score(partial(score_all, parts), codes),
        "baselines": {
            "random hyperplanes": score_baseline(baselines.random_hyperplanes),
            "PCA + random rotation": score_baseline(baselines.pca_random_rotation),
        },
        "float_rankings": {
            "learned floats": score(score_floats, codes),
            "input features": score(score_floats, flat),
        },
        "conventions": conventions(parts),
        "health": metrics.code_health(codes["database"], source.labels[split.database]).to_json(),
    }


def draw(
    folder: Path,
    parts: Parts,
    before: Float[np.ndarray, "database bits"],
    after: Codes,
    results: dict[str, Any],
    records: list[dict[str, int | float]],
) -> None:
    """Draw the report of a run: losses, code values, precision-recall, nearest neighbours.

    Args:
        folder: where the PNG files go.
        parts: the data and its split.
        before: codes of the database before training.
        after: codes after it.
        results: what `measure` returned.
        records: the run's metrics.jsonl.
    """
    figures = {
        "losses": report.plot_losses(records),
        "code_values": report.plot_code_values(before, after["database"]),
        "precision_recall": report.plot_precision_recall(results),
        "neighbours": report.plot_neighbours(_neighbours(parts, after)),
    }
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)


def _neighbours(parts: Parts, codes: Codes, *, rows: int = 8, k: int = 10) -> report.Neighbours:
    """The first query of each of the first few classes, with its nearest items."""
    source, split = parts.source, parts.split
    first = _first_of_each_class(source.labels[split.query])[:rows]
    found = nearest(codes["query"][first], codes["database"], k)
    items = np.concatenate([split.query[first][:, None], split.database[found]], axis=1)
    labels = source.labels[items]
    return report.Neighbours(
        images=[source.inputs[row] for row in items],
        titles=[[_title(label, source.class_names) for label in row] for row in labels],
        relevant=[share_a_label(row[:1], row[1:])[0].tolist() for row in labels],
    )


def _first_of_each_class(labels: Shaped[np.ndarray, " n *classes"]) -> Int[np.ndarray, " rows"]:
    """The first row of each class that is there, by class; a row of several classes once."""
    if labels.ndim == 1:
        return np.unique(labels, return_index=True)[1]
    return np.array(list(dict.fromkeys(labels.argmax(axis=0)[labels.any(axis=0)].tolist())), int)


def _title(label: np.integer | Shaped[np.ndarray, " classes"], names: Sequence[str]) -> str:
    """The names of an item's classes, the first two of many."""
    if label.ndim == 0:
        return names[label]
    held = [names[i] for i in np.flatnonzero(label)]
    return ", ".join(held[:2]) + ", ..." * (len(held) > 2)
