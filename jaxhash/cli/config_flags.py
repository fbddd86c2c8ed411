"""The flags of a run's configuration, and the presets that give their defaults."""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from jaxhash.data.config import DATASET_KINDS
from jaxhash.models import Pretrained
from jaxhash.models.config import ModelConfig
from jaxhash.runs.config import Config
from jaxhash.runs.presets import PRESETS
from jaxhash.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class _ModelFlags(ModelConfig):
    """The model as flags: help shows another word for a value than its type where that says more."""

    weights: Annotated[Pretrained | Path | None, tyro.conf.arg(metavar="pretrained|FILE[:KEY]")] = (
        None
    )


@dataclasses.dataclass(frozen=True)
class _ConfigFlags(Config):
    """The configuration as flags."""

    model: _ModelFlags = _ModelFlags()


#: A field of a command's dataclass that has the flags of a configuration.
ConfigFlags = Annotated[Config, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes]


class NamedConfig(NamedTuple):
    """A configuration that a command names, whose fields are the defaults of its flags."""

    name: str
    config: Config
    rest: list[str]
    """The words after its name."""


def take_preset(words: Sequence[str]) -> NamedConfig:
    """Returns the preset that is named first, or the default one.

    A data set in place of the preset is the ``--dataset`` of the default one.

    Raises:
        UserError: if there is no such preset.
    """
    if words and words[0].startswith(DATASET_KINDS):
        words = ["--dataset", *words]
    is_named = bool(words) and not words[0].startswith("-")
    name = words[0] if is_named else next(iter(PRESETS))
    if name not in PRESETS:
        # The name of a method or of a data set, such as csq, is a part of the name of its preset.
        near = [preset for preset in PRESETS if name and f"-{name}-" in f"-{preset}-"]
        near = near[:3] or difflib.get_close_matches(name, PRESETS, n=1)
        some = ", ".join(list(PRESETS)[:4])
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {some} and others;"
        raise UserError(f"unknown preset {name!r}; {hint} jaxhash train --help-all lists all")
    return NamedConfig(name, PRESETS[name](), list(words[is_named:]))


def to_flags(config: Config) -> Config:
    """Returns a configuration as the default of `ConfigFlags`."""
    return _ConfigFlags(**vars(config) | {"model": _ModelFlags(**vars(config.model))})


def from_flags(flags: Config, named: NamedConfig) -> Config:
    """Returns the configuration that flags give.

    Args:
        flags: what was parsed, of `to_flags` of the named configuration.
        named: the configuration named before the flags.

    Raises:
        UserError: if a flag for options has none.
    """
    config = Config(**vars(flags) | {"model": ModelConfig(**vars(flags.model))})
    for flag, values, example in (
        ("--objective-options", config.objective.objective_options, "pairs=batch"),
        ("--quantizer-options", config.objective.quantizer_options, "target=balanced"),
    ):
        if flag in named.rest and not values:
            raise UserError(f"{flag} needs values, as in {flag} {example}")
    return _reset_split(config, named.config, named.rest)


def _reset_split(config: Config, preset: Config, arguments: Sequence[str]) -> Config:
    """Resets the preset's options of the split where the flags name other data or another protocol.

    A preset's protocol is that of its data set, and its counts are those of its protocol.
    """
    unnamed = {"protocol", "queries_per_class", "train_per_class"}
    unnamed -= {argument.split("=")[0].lstrip("-").replace("-", "_") for argument in arguments}
    if config.data.dataset == preset.data.dataset:
        unnamed -= {"protocol"}
        if config.data.protocol == preset.data.protocol:
            return config
    return config.replace(**{name: Config().get(name) for name in unnamed})
