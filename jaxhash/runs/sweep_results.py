"""The results of a sweep, from those of its members."""

from collections.abc import Sequence
from typing import Any

from jaxhash.runs.config import Config
from jaxhash.runs.evaluation import data_facts
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.scores import conventions
from jaxhash.runs.settings import SCORES, VALIDATION_CONVENTIONS, best, summarize
from jaxhash.runs.sweep_members import Axes
from jaxhash.training.members import ALL_DIVERGED_ERROR, Member, MemberMonitor
from jaxhash.utils.errors import UserError


def member_results(
    members: Sequence[Member],
    finished: Sequence[dict[str, Any] | None],
    monitor: MemberMonitor,
    total_steps: int,
) -> list[dict[str, Any]]:
    """Returns what the results of the sweep hold of each member."""
    found = []
    for number, (member, results) in enumerate(zip(members, finished, strict=True)):
        diverged = monitor.diverged[number]
        if results is None and diverged is None:
            diverged = total_steps
        scores = results and {name: results[name] for name in SCORES if name in results}
        found.append(
            {
                "seed": member.seed,
                "values": dict(member.setting),
                "scores": scores,
                "diverged_at_step": diverged,
                "collapsed_at_step": next(iter(monitor.alarms[number].steps), None),
            }
        )
    return found


def sweep_results(
    experiment: Experiment,
    axes: dict[str, list[float]],
    members: Sequence[Member],
    found: list[dict[str, Any]],
) -> dict[str, Any]:
    """Returns the results of the sweep, without its circumstances.

    Raises:
        UserError: if every member has diverged.
    """
    if all(member["scores"] is None for member in found):
        raise UserError(ALL_DIVERGED_ERROR.format(experiment.total_steps))
    config, settings = experiment.config, summarize(found)
    return {
        "bits": config.model.bits,
        **data_facts(experiment),
        "objective": objective_name(config, axes),
        "epochs": config.optimizer.epochs,
        "axes": axes,
        "seeds": list(dict.fromkeys(member.seed for member in members)),
        "settings": settings,
        "best": best(settings),
        "members": found,
        "conventions": conventions(experiment) | VALIDATION_CONVENTIONS,
    }


def objective_name(config: Config, axes: Axes) -> str:
    """Returns the objective in words, without a weight that is varied."""
    return config.objective.describe(with_weight="quantizer_weight" not in axes)
