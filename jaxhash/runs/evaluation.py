"""What a trained model is worth: its numbers beside the baselines, and the plots that show why."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree, Shaped

from jaxhash import metrics, report
from jaxhash.data.augment import Augment
from jaxhash.data.pipeline import evaluation_batches, rows_of_process
from jaxhash.ops.codes import binarize
from jaxhash.retrieval import baselines
from jaxhash.retrieval.encode import make_encoder
from jaxhash.retrieval.score import SCORE_CONVENTIONS, score_codes, score_floats
from jaxhash.retrieval.score_hierarchy import (
    HIERARCHY_CONVENTIONS,
    embedding_similarity,
    score_hierarchy,
    score_hierarchy_of_vectors,
)
from jaxhash.retrieval.search import nearest_neighbors
from jaxhash.retrieval.vectors import LazyVectors, ProgressTracker, no_progress, normalize_rows
from jaxhash.runs.experiment import Parts
from jaxhash.similarity import shares_label
from jaxhash.training.model_selection import SelectionRule
from jaxhash.utils.files import write_json

#: Rows encoded at a time: a multiple of any usual number of devices.
BATCH = 512

#: Items of the database whose code values are drawn before and after training, evenly spaced.
DRAWN = 2**16

#: Parts of a split that a ranking has.
QUERY_AND_DATABASE = ("query", "database")

#: Real-valued codes of the items of each of the `QUERY_AND_DATABASE`.
Codes = dict[str, Float[np.ndarray, "items bits"]]

_NONE = Augment()


class SplitEncoder:
    """Encodes parts of a split by the run's model, compiled once for all of them.

    Args:
        parts: the data, its split and the model.
    """

    def __init__(self, parts: Parts):
        self._parts, self._encode = parts, make_encoder(parts.model)

    def __call__(
        self,
        variables: PyTree,
        name: str,
        *,
        augment: Augment = _NONE,
        seed: int = 0,
        rows: slice = slice(None),
        track: ProgressTracker = no_progress,
    ) -> Float[np.ndarray, "items bits"]:
        """Real-valued codes of the items of a part, in order.

        Args:
            variables: the model's variables.
            name: ``train``, ``validation``, ``query`` or ``database``.
            augment: what is done to the images before they are encoded.
            seed: seed of it.
            rows: which of the part's items; all by default.
            track: shows the progress.
        """
        rng = np.random.default_rng(seed)
        index, processes = jax.process_index(), jax.process_count()
        size = BATCH + -BATCH % processes
        mine = rows_of_process(size, index, processes)
        items = getattr(self._parts.split, name)[rows]
        batches = evaluation_batches(
            self._parts.source,
            items,
            batch_size=size,
            process_index=index,
            process_count=processes,
        )
        moved = (
            batch._replace(inputs=augment.apply(batch.inputs, augment.draw(size, rng)[mine]))
            for batch in batches
        )
        steps = -(-len(items) // size)
        return self._encode(variables, track(moved, f"encoding the {name} items", steps))


def encode_split(
    encode: SplitEncoder, variables: PyTree, track: ProgressTracker = no_progress
) -> Codes:
    """Encode the queries and the database by the model with these variables."""
    return {name: encode(variables, name, track=track) for name in QUERY_AND_DATABASE}


def encode_drawn(
    encode: SplitEncoder, parts: Parts, variables: PyTree, track: ProgressTracker = no_progress
) -> Float[np.ndarray, "items bits"]:
    """Encode those items of the database whose code values are drawn, `DRAWN` at the most."""
    return encode(variables, "database", rows=_drawn(parts), track=track)


def _drawn(parts: Parts) -> slice:
    return slice(None, None, -(-len(parts.split.database) // DRAWN))


def candidate_score(
    rule: SelectionRule, parts: Parts, encode: SplitEncoder
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


def validation_scores(parts: Parts, encode: SplitEncoder, variables: PyTree) -> dict[str, float]:
    """What the validation items tell when they search one another; nothing without any.

    Args:
        parts: the data and its split.
        encode: encoder of its parts.
        variables: the model's variables.
    """
    items = parts.split.validation
    if not len(items):
        return {}
    scores = {"validation_map": candidate_score("validation", parts, encode)(variables)}
    if is_hierarchical(parts):
        among = parts._replace(split=dataclasses.replace(parts.split, query=items, database=items))
        codes = dict.fromkeys(QUERY_AND_DATABASE, encode(variables, "validation"))
        found = _score_hierarchy(among, codes, binarize)
        if (name := "mahp_at_250_among_queries") in found:  # one item has nobody to search among
            scores["validation_mahp_at_250"] = found[name]
    return scores


def flip_rate(
    parts: Parts,
    encode: SplitEncoder,
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
    parts: Parts, codes: Codes, *, memory_bytes: int = 2**30, track: ProgressTracker = no_progress
) -> dict[str, Any]:
    """The metrics of codes, the hierarchical ones too where the run knows what is similar."""
    return _score(parts, codes, partial(score_codes, track=track)) | _score_hierarchy(
        parts, codes, binarize, memory_bytes=memory_bytes, track=track
    )


def score_all_floats(parts: Parts, vectors: dict[str, Any], **options: Any) -> dict[str, float]:
    """Those that a ranking by cosine has.

    Args:
        parts: the data and its split.
        vectors: of each of the `QUERY_AND_DATABASE`, an array or `LazyVectors`.
        options: ``memory_bytes``, ``track`` and ``description``, as `jaxhash.retrieval.score.score_floats`
            takes them.
    """
    return _score(parts, vectors, partial(score_floats, **options)) | _score_hierarchy(
        parts, vectors, normalize_rows, **options
    )


def _score(
    parts: Parts, vectors: dict[str, Any], score: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    labels = _of_sides(parts, parts.source.labels)
    return score(vectors["query"], labels["query"], vectors["database"], labels["database"])


def _score_hierarchy(
    parts: Parts,
    vectors: dict[str, Any],
    transform: Callable[[np.ndarray], np.ndarray],
    **options: Any,
) -> dict[str, float]:
    """The hierarchical metrics of codes cut at zero, or of vectors of length 1.

    Codes are counted where classes have distances: that is many times as fast as to rank them.
    """
    known, labels = parts.class_similarity, parts.source.labels
    if not is_hierarchical(parts):
        return {}
    if known.embeddings is not None:
        meanings, similarity = (
            _of_sides(parts, normalize_rows(known.embeddings)),
            embedding_similarity,
        )
    else:
        table = 1.0 - known.distances
        if transform is binarize:
            return _score(parts, vectors, partial(score_hierarchy, similarity=table))
        meanings = _of_sides(parts, labels)

        def similarity(rows, columns):
            return table[rows][:, columns]

    return score_hierarchy_of_vectors(
        vectors["query"],
        meanings["query"],
        vectors["database"],
        meanings["database"],
        similarity,
        transform=transform,
        **options,
    )


def _of_sides(parts: Parts, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Of all rows of the source those of the queries and of the database."""
    return {name: rows[getattr(parts.split, name)] for name in QUERY_AND_DATABASE}


def conventions(parts: Parts) -> dict[str, str]:
    """How the metrics of `score_all` are defined."""
    if not is_hierarchical(parts):
        return SCORE_CONVENTIONS
    similarity = (
        "1 - semantic distance of the classes"
        if parts.class_similarity.embeddings is None
        else "cosine of the embeddings of two items, a negative one counts 0"
    )
    return SCORE_CONVENTIONS | HIERARCHY_CONVENTIONS | {"similarity": similarity}


def is_hierarchical(parts: Parts) -> bool:
    """Whether the run knows how similar each two items are."""
    known = parts.class_similarity
    of_classes = known.distances is not None and parts.source.labels.ndim == 1
    return of_classes or known.embeddings is not None


def measure(
    parts: Parts,
    codes: Codes,
    *,
    seed: int,
    beside: str = "all",
    memory_bytes: int = 2**30,
    track: ProgressTracker = no_progress,
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The metrics of the codes, of baselines of the same length, and of the float rankings.

    Args:
        parts: the data and its split.
        codes: real-valued codes to measure.
        seed: seed of the baselines, and of the sample that they are fitted to.
        beside: ``"all"``, or ``"none"`` to leave out baselines and float rankings.
        memory_bytes: bound on what is held besides data and codes. Of the results the size of the
            sample depends on it, and maybe last digits of what is ranked or cut as floats.
        track: shows the progress.
        known: results of other codes of the same length, with ``seed``: the ranking of the inputs is
            taken from them and, where the seed is the same, the baselines.

    Returns:
        The metrics of `score_all`, with ``baselines``, ``float_rankings``, ``conventions``, ``health``,
        that of the database, ``query_health`` and ``warnings`` beside them. Where classes have
        distances, the class index is among the baselines.
    """
    labels, bits = _of_sides(parts, parts.source.labels), codes["query"].shape[1]
    form = metrics.CodeFormat("real-valued", bits)
    options = {"memory_bytes": memory_bytes, "track": track}
    found = {
        **score_all(parts, codes, **options),
        "baselines": {},
        "float_rankings": {},
        "conventions": conventions(parts) | {"baselines": "left out, as --baselines is none"},
        "health": metrics.code_health(codes["database"], labels["database"]).to_json(),
        "query_health": metrics.code_health(codes["query"], labels["query"]).to_json(),
        "warnings": metrics.code_warnings(*(codes[side] for side in QUERY_AND_DATABASE), form),
    }
    if beside == "none":
        return found
    inputs = {
        side: LazyVectors(parts.source.inputs, getattr(parts.split, side))
        for side in QUERY_AND_DATABASE
    }
    if known and known["seed"] == seed:
        found["conventions"]["baselines"] = known["conventions"]["baselines"]
        found["baselines"] = known["baselines"]
    else:
        fitted, hashes = _fit_baselines(parts, bits, seed=seed, memory_bytes=memory_bytes)
        found["conventions"]["baselines"] = fitted
        for name, make in hashes.items():
            made = {
                side: _hash(make, inputs[side], f"{name}, {side}", **options)
                for side in QUERY_AND_DATABASE
            }
            found["baselines"][name] = score_all(parts, made, **options)
    for name, vectors in (("learned floats", codes), ("input features", inputs)):
        description = f"ranking by {name}"
        found["float_rankings"][name] = (
            known["float_rankings"][name]
            if known and vectors is inputs
            else score_all_floats(parts, vectors, description=description, **options)
        )
    return found


def _fit_baselines(
    parts: Parts, bits: int, *, seed: int, memory_bytes: int
) -> tuple[str, dict[str, baselines.HashFunction]]:
    """What the baselines are fitted to, in words, and each by its name."""
    by_class = is_hierarchical(parts) and parts.class_similarity.embeddings is None
    train = LazyVectors(parts.source.inputs, parts.split.train)
    chosen = np.arange(len(train))
    size = baselines.max_fitting_items(train, memory_bytes, ridge=by_class)
    words = f"fitted to all {len(train):,} training items"
    if size < len(train):
        chosen = np.sort(np.random.default_rng(seed).choice(len(train), size, replace=False))
        words = f"fitted to {size:,} of the {len(train):,} training items, drawn by the seed"
    train = train.load(chosen)
    options = {"seed": seed, "memory_bytes": memory_bytes}
    hashes = {
        "random hyperplanes": baselines.random_hyperplanes(train, bits, **options),
        "PCA + random rotation": baselines.pca_random_rotation(train, bits, **options),
    }
    if by_class:
        labels = parts.source.labels[parts.split.train[chosen]]
        hashes["class index as code"] = baselines.class_index(train, labels, bits, seed=seed)
    return words, hashes


def _hash(
    baseline: baselines.HashFunction,
    inputs: LazyVectors,
    what: str,
    *,
    memory_bytes: int,
    track: ProgressTracker,
) -> Float[np.ndarray, "items bits"]:
    """The codes of a baseline, block by block."""
    blocks = inputs.row_blocks(memory_bytes // 16)
    return np.concatenate([baseline(inputs[rows]) for rows in track(blocks, what, len(blocks))])


def draw(
    folder: Path,
    parts: Parts,
    before: Float[np.ndarray, "database bits"],
    after: Codes,
    results: dict[str, Any],
    records: list[dict[str, int | float]],
) -> None:
    """Draw the report of a run: losses, code values, precision-recall, nearest neighbors.

    Which items the neighbors are stands in ``neighbours.json``.

    Args:
        folder: where the files go.
        parts: the data and its split.
        before: codes of `encode_drawn` before training.
        after: codes after it.
        results: what `measure` returned.
        records: the run's metrics.jsonl.
    """
    neighbors = _neighbors(parts, after)
    figures = {
        "losses": report.plot_losses(records),
        "code_values": report.plot_code_values(before, after["database"][_drawn(parts)]),
        "precision_recall": report.plot_precision_recall(results),
        "neighbours": report.plot_neighbors(neighbors),
    }
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)
    write_json(folder / "neighbours.json", neighbors.to_json())


def _neighbors(
    parts: Parts, codes: Codes, *, rows: int = 8, k: int = 10
) -> report.NeighborExamples:
    """The first query of each of the first few classes, with its nearest items."""
    source, split = parts.source, parts.split
    first = _first_of_each_class(source.labels[split.query])[:rows]
    found = nearest_neighbors(codes["query"][first], codes["database"], k)
    items = np.concatenate([split.query[first][:, None], split.database[found]], axis=1)
    labels = source.labels[items]
    return report.NeighborExamples(
        images=[source.inputs[row] for row in items],
        titles=[[_title(label, source.class_names) for label in row] for row in labels],
        relevant=[shares_label(row[:1], row[1:])[0].tolist() for row in labels],
        names=[[source.name_of(item) for item in row] for row in items],
    )


def _first_of_each_class(labels: Shaped[np.ndarray, " n *classes"]) -> Int[np.ndarray, " rows"]:
    """The first row of each class that is there, by class; a row of several classes once."""
    if labels.ndim == 1:
        return np.unique(labels, return_index=True)[1]
    return np.array(list(dict.fromkeys(labels.argmax(axis=0)[labels.any(axis=0)].tolist())), int)


def _title(label: np.integer | Shaped[np.ndarray, " classes"], names: Sequence[str]) -> str:
    """The names of an item's classes, the first two of many."""
    if label.ndim == 0:
        return names[label] if label >= 0 else "no label"
    held = [names[i] for i in np.flatnonzero(label)]
    return ", ".join(held[:2]) + ", ..." * (len(held) > 2)
