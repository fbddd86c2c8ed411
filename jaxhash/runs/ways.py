"""Ways to search items of several modalities: queries of one modality, a database of another."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any, NamedTuple

from jaxtyping import PyTree

from jaxhash import metrics
from jaxhash.retrieval.counting import count_by_distance
from jaxhash.retrieval.packed_codes import PackedCodes
from jaxhash.retrieval.vectors import ProgressTracker, no_progress
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.scores import QUERY_AND_DATABASE, Codes, of_both_parts, score_all

#: How the scores of `score_ways` are defined, beside those of one way.
WAYS_CONVENTIONS = {
    "ways": "each way by its own metrics; the metrics outside are those of the first way",
    "ndcg_at_100": "gain 2^g - 1 of g labels in common, expectation over Hamming ties; mean over queries",
}

#: Rank of the nDCG.
_RANK = 100


class Way(NamedTuple):
    """The modality of the queries and that of the database."""

    query: str
    """Name of the modality of the queries."""
    database: str
    """Name of the modality of the database."""

    def __str__(self) -> str:
        return f"{self.query} to {self.database}"

    @property
    def file_suffix(self) -> str:
        """What the files of this way have in their names."""
        return f"_{self.query}_{self.database}"


def ways_of(experiment: Experiment) -> list[Way]:
    """Returns the ways that the model names, or all from one modality to another; none for one."""
    every = tuple(permutations(experiment.modalities, 2))
    return [Way(*pair) for pair in getattr(experiment.model, "ways", every)]


def codes_by_way(
    experiment: Experiment, codes: Mapping[str, PyTree[PackedCodes]]
) -> dict[Way, Codes]:
    """Picks the codes of each way from the tuples of codes of all modalities."""

    def of_way(way):
        sides = zip(QUERY_AND_DATABASE, way, strict=True)
        return {side: codes[side][experiment.modalities.index(name)] for side, name in sides}

    return {way: of_way(way) for way in ways_of(experiment)}


def score_ways(
    experiment: Experiment,
    codes: Mapping[Way, Codes],
    *,
    memory_bytes: int = 2**30,
    track: ProgressTracker = no_progress,
) -> dict[str, dict[str, Any]]:
    """Returns the metrics of each way by its name, and nDCG@100 where the database has 100 items."""
    labels = of_both_parts(experiment, experiment.source.labels)
    found = {}
    for way, sides in codes.items():
        scores = score_all(experiment, sides, memory_bytes=memory_bytes, track=track)
        found[str(way)] = scores
        if len(sides["database"]) < _RANK:
            continue
        counts = count_by_distance(
            *(sides["query"], labels["query"], sides["database"], labels["database"]),
            relevance="graded" if experiment.source.labels.ndim == 2 else "shared",
            track=track,
            description=f"counting {way}",
        )
        scores["ndcg_at_100"] = float(metrics.ndcg(counts, _RANK).mean())
    return found
