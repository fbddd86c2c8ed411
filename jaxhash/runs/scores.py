"""The metrics of codes and of rankings by floats, on the queries and the database of an experiment."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxhash import metrics
from jaxhash.retrieval.packed_codes import PackedCodes, as_packed_codes
from jaxhash.retrieval.score import LIST_CONVENTIONS, SCORE_CONVENTIONS, score_codes, score_floats
from jaxhash.retrieval.score_hierarchy import (
    HIERARCHY_CONVENTIONS,
    embedding_similarity,
    score_hierarchy,
    score_hierarchy_of_vectors,
)
from jaxhash.retrieval.vectors import (
    Comparison,
    LazyVectors,
    ProgressTracker,
    cosine_similarities,
    inner_products,
    no_progress,
    normalize_rows,
)
from jaxhash.runs.experiment import Experiment
from jaxhash.utils.errors import UserError

#: Parts of a split that a ranking has.
QUERY_AND_DATABASE = ("query", "database")


#: Codes of the items of each of the `QUERY_AND_DATABASE`; real-valued ones are packed first.
Codes = dict[str, PackedCodes | Float[np.ndarray, "items bits"]]


def score_all(
    experiment: Experiment,
    codes: Codes,
    *,
    health: metrics.CodeHealth | None = None,
    memory_bytes: int = 2**30,
    track: ProgressTracker = no_progress,
) -> dict[str, Any]:
    """Returns the metrics of codes, with the hierarchical ones where similarities are known.

    The ``health`` of the database's codes is measured where it is not given.
    """
    scores = _score(experiment, codes, partial(score_codes, health=health, track=track))
    return scores | score_by_similarity(experiment, codes, memory_bytes=memory_bytes, track=track)


def score_all_floats(
    experiment: Experiment,
    vectors: dict[str, Any],
    *,
    compare: Comparison = cosine_similarities,
    **options: Any,
) -> dict[str, float]:
    """Returns the metrics of a ranking of vectors.

    Args:
        experiment: the data and its split.
        vectors: an array or `LazyVectors` for each of the `QUERY_AND_DATABASE`.
        compare: what ranks the items.
        options: ``memory_bytes``, ``track`` and ``description``, as `jaxhash.retrieval.score.score_floats`
            takes them.
    """
    options["compare"] = compare
    return _score(experiment, vectors, partial(score_floats, **options)) | score_by_similarity(
        experiment, vectors, **options
    )


def _score(
    experiment: Experiment, vectors: dict[str, Any], score: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    labels = of_both_parts(experiment, experiment.source.labels)
    sides = vectors["query"], labels["query"], vectors["database"], labels["database"]
    return score(*sides, **experiment.split.lists.counting)


def score_by_similarity(
    experiment: Experiment,
    vectors: dict[str, Any],
    *,
    compare: Comparison | None = None,
    **options: Any,
) -> dict[str, float]:
    """Returns the hierarchical metrics of a ranking by a comparison, or of codes cut at zero without one.

    Codes are counted where classes have distances, which is many times as fast as ranking them.
    """
    known, labels = experiment.class_similarity, experiment.source.labels
    if not is_hierarchical(experiment):
        return {}
    if experiment.split.excluded is not None:
        raise UserError("`similarity`: hierarchical metrics do not leave out excluded items")
    if known.embeddings is not None:
        compared = of_both_parts(experiment, normalize_rows(known.embeddings))
        similarity = embedding_similarity
    else:
        table = 1.0 - known.distances
        if compare is None:
            return _score(experiment, vectors, partial(score_hierarchy, similarity=table))
        compared = of_both_parts(experiment, labels)

        def similarity(rows, columns):
            return table[rows][:, columns]

    if compare is None:
        vectors = {name: LazyVectors(as_packed_codes(part)) for name, part in vectors.items()}
    return score_hierarchy_of_vectors(
        vectors["query"],
        compared["query"],
        vectors["database"],
        compared["database"],
        similarity,
        compare=compare or inner_products,
        **options,
    )


def of_both_parts(experiment: Experiment, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Picks the rows of the queries and of the database out of all rows of the source."""
    return {name: rows[getattr(experiment.split, name)] for name in QUERY_AND_DATABASE}


def conventions(experiment: Experiment) -> dict[str, str]:
    """Returns how the metrics of `score_all` are defined."""
    if experiment.split.relevant is not None:
        return LIST_CONVENTIONS
    if not is_hierarchical(experiment):
        return SCORE_CONVENTIONS
    similarity = (
        "1 - semantic distance of the classes"
        if experiment.class_similarity.embeddings is None
        else "cosine of the embeddings of two items, a negative one counts 0"
    )
    return SCORE_CONVENTIONS | HIERARCHY_CONVENTIONS | {"similarity": similarity}


def is_hierarchical(experiment: Experiment) -> bool:
    """Returns whether the similarity of every two items is known."""
    known = experiment.class_similarity
    of_classes = known.distances is not None and experiment.source.labels.ndim == 1
    return of_classes or known.embeddings is not None
