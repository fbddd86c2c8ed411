"""The members of a sweep: all settings of its axes, each with every seed, checked before anything is opened."""

import itertools
import math
from collections.abc import Mapping, Sequence

from jaxhash.runs.config import TRACED_HYPERPARAMS, Config
from jaxhash.training.members import Member
from jaxhash.utils.errors import UserError

#: Names of fields of the configuration, each with its values.
Axes = Mapping[str, Sequence[float]]

#: Share of the training items that is held out where there are several settings to choose from.
DEFAULT_VALIDATION = 0.1

#: Largest number of trainings in one program: each has threads that load its data.
MAX_MEMBERS = 1000


def check_sweep(config: Config, axes: Axes, seeds: int) -> tuple[Config, list[dict[str, float]]]:
    """Returns the configuration, with validation items where it needs them, and the settings.

    Raises:
        UserError: if axes, seeds and configuration do not go together.
    """
    for name, values in axes.items():
        if name not in TRACED_HYPERPARAMS:
            allowed = ", ".join(map(_spell, TRACED_HYPERPARAMS))
            raise UserError(f"`sweep` cannot vary {_spell(name)!r}; it can vary {allowed}")
        if not len(values):
            raise UserError(f"`sweep` {_spell(name)} has no values")
        if repeated := [value for value in values if list(values).count(value) > 1]:
            raise UserError(f"`sweep` {_spell(name)} has {repeated[0]:g} twice")
    if seeds < 1:
        raise UserError(f"`seeds` must be at least 1, got {seeds}")
    if "quantizer_weight" in axes and config.objective.quantizer == "none":
        raise UserError("`sweep` quantizer-weight needs a quantizer, and `quantizer` is none")
    if config.run.on_nan != "stop":
        raise UserError("`on_nan=skip` is not for a sweep, whose members go on without one another")
    if config.run.spread_banks == "always":
        raise UserError("`spread_banks=always` is not for a sweep, whose members share the devices")
    if config.run.shard_params:
        raise UserError("`shard_params` is not for a sweep, whose members share the devices")
    if config.run.model_parallel > 1:
        raise UserError("`model_parallel` is not for a sweep, whose members share the devices")
    if config.run.choose != "last":
        raise UserError(
            f"`choose={config.run.choose}` is not for a sweep, which takes the last epoch"
        )
    if config.run.log_to:
        raise UserError(
            "`log_to` is for a single run; a sweep leaves a metrics.jsonl in the folder of each member"
        )
    members = seeds * math.prod(map(len, axes.values()))
    if members > MAX_MEMBERS:
        raise UserError(
            f"`seeds` and `sweep` ask for {members:,} members; at most {MAX_MEMBERS:,} are trained "
            "together"
        )
    settings = _settings(axes)
    if len(settings) > 1 and not config.data.validation:
        config = config.replace(validation=DEFAULT_VALIDATION)
    for setting in settings:
        config.replace(**setting).check()
    config.replace(seed=config.run.seed + seeds - 1).check()
    return config, settings


def _spell(name: str) -> str:
    """Returns the name of a field as the axes of a command have it."""
    return name.replace("_", "-")


def _settings(axes: Axes) -> list[dict[str, float]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def make_members(settings: Sequence[dict[str, float]], seeds: Sequence[int]) -> list[Member]:
    """Returns the members of a sweep: the seeds of each setting side by side."""
    return [Member(seed, setting) for setting in settings for seed in seeds]
