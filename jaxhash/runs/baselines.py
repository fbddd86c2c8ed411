"""The rows that stand beside a run's codes: codes without training, quantizers, and rankings by floats."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxhash.retrieval.baselines.class_index import HashFunction, class_index
from jaxhash.retrieval.baselines.labeled_hashes import (
    LABELED_METHODS,
    fit_labeled_hashes,
    used_classes,
)
from jaxhash.retrieval.baselines.linear_hashes import METHODS, fit_linear_hashes
from jaxhash.retrieval.baselines.product_quantizer import fit_product_quantizer
from jaxhash.retrieval.baselines.reranking import num_reranked, reranked_similarities
from jaxhash.retrieval.baselines.training_vectors import max_fitting_items
from jaxhash.retrieval.packed_codes import CodePacker, PackedCodes
from jaxhash.retrieval.vectors import (
    Comparison,
    LazyVectors,
    ProgressTracker,
    cosine_similarities,
    no_progress,
)
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.model_inputs import nodes_of
from jaxhash.runs.scores import (
    QUERY_AND_DATABASE,
    Codes,
    is_hierarchical,
    score_all,
    score_all_floats,
)
from jaxhash.similarity import has_label

#: Methods of the rows of codes without labels, unless all are asked for.
DEFAULT_METHODS = ("pca-rotation", "itq")

#: Rows of older versions, whose vectors had any length. They are not computed any more.
RETIRED = ("random hyperplanes", "PCA + random rotation")

CLASS_INDEX = "class index as code"
QUANTIZER = "product quantizer, same bytes"
RERANKED = "floats, re-ranked from ITQ codes"
LEARNED_FLOATS = "learned floats"
RERANKED_FLOATS = "learned floats, re-ranked from the codes"


def compare_with_baselines(
    experiment: Experiment,
    codes: Codes,
    *,
    track: ProgressTracker = no_progress,
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Scores baselines of the same length as the codes, and rankings by floats.

    Args:
        experiment: the data and its split.
        codes: codes of the model; floats are ranked where the real values were kept.
        track: shows the progress.
        known: results of other codes of the same length, with ``seed``: the ranking of the inputs is
            taken from them and, where the seed is the same, all that is fitted.

    Returns:
        ``baselines``, ``float_rankings`` and ``conventions``.
    """
    config, split = experiment.config, experiment.split
    options = {"memory_bytes": config.run.memory_bytes, "track": track}
    if nodes_of(experiment.source) is not None:
        return _rank_graph(experiment, codes, **options)
    inputs = {
        name: LazyVectors(experiment.source.inputs, getattr(split, name))
        for name in QUERY_AND_DATABASE
    }
    is_fitted = known is not None and known["seed"] == config.run.seed
    if is_fitted:
        conventions = {
            name: words
            for name, words in known["conventions"].items()
            if name in ("baselines", *METHODS, *LABELED_METHODS, QUANTIZER, RERANKED)
        }
        scores, comparisons = known["baselines"], {}
        rankings = {
            name: known["float_rankings"][name]
            for name in (QUANTIZER, RERANKED)
            if name in known["float_rankings"]
        }
    else:
        conventions, hashes, comparisons = _fit(experiment, codes["query"].bits, track)
        scores, rankings = {}, {}
        for name, hash_function in hashes.items():
            hashed = {
                part: _hash(hash_function, inputs[part], f"{name}, {part}", **options)
                for part in QUERY_AND_DATABASE
            }
            scores[name] = score_all(experiment, hashed, **options)
    compared = {name: (inputs, compare) for name, compare in comparisons.items()}
    if (floats := _real_values(codes)) is not None:
        compared[LEARNED_FLOATS] = (floats, cosine_similarities)
    compared["input features"] = (inputs, cosine_similarities)
    for name, (vectors, compare) in compared.items():
        description = f"ranking by {name}"
        rankings[name] = (
            known["float_rankings"][name]
            if known and name == "input features"
            else score_all_floats(
                experiment, vectors, compare=compare, description=description, **options
            )
        )
    return {"baselines": scores, "float_rankings": rankings, "conventions": conventions}


def _rank_graph(experiment: Experiment, codes: Codes, **options: Any) -> dict[str, Any]:
    """Returns what `compare_with_baselines` does for the nodes of a graph, which are no vectors."""
    compared = {
        LEARNED_FLOATS: cosine_similarities,
        RERANKED_FLOATS: partial(reranked_similarities, hash_function=lambda rows: rows),
    }
    floats = _real_values(codes)
    rankings = {
        name: score_all_floats(
            experiment, floats, compare=compare, description=f"ranking by {name}", **options
        )
        for name, compare in compared.items()
        if floats is not None
    }
    conventions = {
        "baselines": "left out, as users and items are no vectors",
        RERANKED_FLOATS: _describe_reranking(experiment, "the codes"),
    }
    return {"baselines": {}, "float_rankings": rankings, "conventions": conventions}


def _real_values(codes: Codes) -> dict[str, Float[np.ndarray, "items bits"]] | None:
    """Returns the real values of the codes of both sides; None where those of one were not kept."""
    values = {name: part.values for name, part in codes.items()}
    return None if any(part is None for part in values.values()) else values


def _describe_reranking(experiment: Experiment, codes: str) -> str:
    return (
        f"the {num_reranked(len(experiment.split.database)):,} nearest by {codes}, and those as near as "
        "the last of them, by cosine; the others behind them by Hamming distance"
    )


def describe_stronger_baselines(scores: Mapping[str, Any]) -> list[str]:
    """Lists the rows without training whose mAP is above that of the learned codes, a line each.

    Args:
        scores: results with ``map`` of the learned codes, and ``baselines`` and ``float_rankings``, the
            scores of each row by name, if there are any.

    Example:
        >>> describe_stronger_baselines({"map": 0.5, "baselines": {"itq": {"map": 0.6}}})
        ['the learned codes have mAP 0.5000, and itq, which needs no labels, 0.6000']
    """
    rows = scores.get("baselines", {}) | scores.get("float_rankings", {})
    facts = dict.fromkeys((*METHODS, QUANTIZER, RERANKED), "needs no labels")
    facts |= dict.fromkeys(LABELED_METHODS, "is fitted in seconds")
    return [
        f"the learned codes have mAP {scores['map']:.4f}, and {name}, which {fact}, "
        f"{rows[name]['map']:.4f}"
        for name, fact in facts.items()
        if name in rows and rows[name]["map"] > scores["map"]
    ]


def _fit(
    experiment: Experiment, bits: int, track: ProgressTracker
) -> tuple[dict[str, str], dict[str, HashFunction], dict[str, Comparison]]:
    """Fits all baselines.

    Returns:
        What they are fitted to and what each of them is, in words; the hash functions by name; and the
        rankings by floats that are fitted.
    """
    split, run = experiment.split, experiment.config.run
    by_class = is_hierarchical(experiment) and experiment.class_similarity.embeddings is None
    train, words, chosen = _sample(experiment, ridge=by_class)
    options = {"seed": run.seed, "memory_bytes": run.memory_bytes}
    conventions = {"baselines": words}
    methods = tuple(reversed(METHODS)) if run.baselines == "all" else DEFAULT_METHODS
    hashes = fit_linear_hashes(train, methods, bits, **options, track=track)
    conventions |= {name: f"{METHODS[name].description}, vectors at length 1" for name in methods}
    if run.baselines == "all":
        labels = experiment.training_labels[split.train[chosen]]
        labeled = [
            name
            for name, method in LABELED_METHODS.items()
            if len(used_classes(labels)) > 1 and (labels.ndim == 1 or method.takes_several)
        ]
        hashes |= fit_labeled_hashes(train, labels, labeled, bits, **options, track=track)
        conventions |= {
            name: f"{LABELED_METHODS[name].description}, with the labels of the training items, vectors at "
            "length 1"
            for name in labeled
        }
    comparisons = {}
    if len(train) > 1:
        for _ in track([0], "fitting the product quantizer", 1):
            quantizer = fit_product_quantizer(train, -(-bits // 8), **options)
        comparisons[QUANTIZER] = quantizer.compare
        conventions[QUANTIZER] = (
            f"{quantizer.name} of faiss, vectors at length 1, by the distance of the query to the "
            "decoded item"
        )
    else:
        conventions[QUANTIZER] = "left out, as there is one training item"
    comparisons[RERANKED] = partial(reranked_similarities, hash_function=hashes["itq"])
    conventions[RERANKED] = _describe_reranking(experiment, "itq")
    if by_class:
        labels = experiment.training_labels[split.train[chosen]]
        for _ in track([0], "fitting the class index", 1):
            known = has_label(labels)
            hashes[CLASS_INDEX] = class_index(
                train.load(np.flatnonzero(known)), labels[known], bits, seed=run.seed
            )
    return conventions, hashes, comparisons


def _sample(
    experiment: Experiment, *, ridge: bool
) -> tuple[LazyVectors, str, Int[np.ndarray, " items"]]:
    """Reads the training items that fit into the memory; returns them, words on them, and their rows."""
    run = experiment.config.run
    train = LazyVectors(experiment.source.inputs, experiment.split.train)
    chosen, words = np.arange(len(train)), f"fitted to all {len(train):,} training items"
    size = max_fitting_items(train, run.memory_bytes, ridge=ridge)
    if size < len(train):
        rng = np.random.default_rng(run.seed)
        chosen = np.sort(rng.choice(len(train), size, replace=False))
        words = f"fitted to {size:,} of the {len(train):,} training items, drawn by the seed"
    return train.load(chosen), words, chosen


def _hash(
    hash_function: HashFunction,
    inputs: LazyVectors,
    what: str,
    *,
    memory_bytes: int,
    track: ProgressTracker,
) -> PackedCodes:
    """Returns the codes of a baseline, computed block by block."""
    blocks, packer = inputs.row_blocks(memory_bytes // 16), CodePacker(len(inputs))
    for rows in track(blocks, what, len(blocks)):
        packer.add(hash_function(inputs[rows]))
    return packer.finish()
