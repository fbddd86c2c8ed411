"""Settings of a sweep: means over seeds, and the best setting."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxhash.metrics import mean_over_seeds
from jaxhash.retrieval.score_hierarchy import HIERARCHY_CONVENTIONS

#: By what the setting is chosen, the first of these that the run has, and how it is defined.
VALIDATION_CONVENTIONS = {
    "validation_mahp_at_250": "mahp_at_250_among_queries, of the validation items",
    "validation_map": "map, the validation items in search of one another, each without itself",
}

#: What is averaged over the seeds of a setting.
SCORES = (
    *VALIDATION_CONVENTIONS,
    "map",
    "map_worst_ties",
    "map_best_ties",
    "precision_at_radius_2",
    "bit_balance",
    "quantization_error",
    "distinct_codes",
    "bit_correlation",
    *HIERARCHY_CONVENTIONS,
)


def summarize(members: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each setting with mean and standard deviation over its seeds (`jaxhash.metrics.mean_over_seeds`).

    Args:
        members: as in results.json.

    Returns:
        Of each setting, in the order of the members, ``values``, ``scores`` and ``diverged``, the
        seeds that did. A setting with such a seed has no scores: a mean over the others would be
        one over the luckier ones.

    Example:
        >>> scores = [{"map": 0.5}, {"map": 0.7}]
        >>> members = [
        ...     {"seed": i, "values": {}, "scores": scores[i], "diverged_at_step": None}
        ...     for i in range(2)
        ... ]
        >>> round(summarize(members)[0]["scores"]["map"]["mean"], 4)
        0.6
    """
    settings = []
    for values, group in itertools.groupby(members, key=lambda member: member["values"]):
        group = list(group)
        diverged = [member["seed"] for member in group if member["diverged_at_step"] is not None]
        scores = None
        if not diverged:
            scores = {
                name: mean_over_seeds([float(member["scores"][name]) for member in group])._asdict()
                for name in group[0]["scores"]
            }
        settings.append({"values": values, "scores": scores, "diverged": diverged})
    return settings


def best(settings: Sequence[dict[str, Any]]) -> int | None:
    """The number of the setting with the highest mean by validation, the first of equals.

    That is mAHP@250 where there is one, else mAP.

    Args:
        settings: as `summarize` returns them.

    Returns:
        None where there is one setting, or none that has not diverged.

    Example:
        >>> scores = [{"validation_map": {"mean": mean}} for mean in (0.5, 0.7)]
        >>> best([{"scores": scores[0]}, {"scores": None}, {"scores": scores[1]}])
        2
    """
    if len(settings) == 1:
        return None
    means = [
        -math.inf if scores is None else scores[chosen_by(scores)]["mean"]
        for scores in (setting["scores"] for setting in settings)
    ]
    return None if max(means) == -math.inf else means.index(max(means))


def chosen_by(scores: Mapping[str, Any]) -> str:
    """Which of the scores of a setting chooses among settings."""
    return next(name for name in VALIDATION_CONVENTIONS if name in scores)
