"""``jaxhash train``: a run, several seeds, or a sweep."""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxhash.cli.output import make_console
from jaxhash.cli.parsing import find_value, parse, preset_list
from jaxhash.models import Pretrained
from jaxhash.models.config import ModelConfig
from jaxhash.runs.config import Config
from jaxhash.runs.presets import PRESETS
from jaxhash.utils.errors import UserError

#: How the name of a data set begins that may stand in place of a preset.
_DATASET_KINDS = ("folder:", "tfds:", "features:")


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


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Train, or go on with a run."""

    config: Annotated[Config, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes]
    """The run."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the model's parameters and multiply-adds by stage, and train nothing."""
    seeds: int = 1
    """Train so many seeds together, the given one first; print means and standard deviations."""
    profile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write a JAX trace of a few steps into the run's folder, and time the loss by itself."""
    distributed: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train on several hosts, each of which runs this command."""
    coordinator: str | None = None
    """HOST:PORT of the first process; JAX_COORDINATOR_ADDRESS or the cluster if not given."""
    processes: int | None = None
    """How many processes there are; JAX_NUM_PROCESSES or the cluster if not given."""
    process: int | None = None
    """Number of this process, from 0; JAX_PROCESS_ID or the cluster if not given."""
    heartbeat: int | None = None
    """Seconds after which a process that is not heard of is gone, and the others end; 30 if not given."""
    sweep: tuple[str, ...] = ()
    """Train all settings of a grid together, such as quantizer-weight=0.01,0.1 weight-decay=0,1e-4."""

    @property
    def is_sweep(self) -> bool:
        """True if there is more than one training."""
        return self.seeds != 1 or bool(self.sweep)

    def check(self) -> None:
        """Raise a `UserError` if two of the flags do not go together."""
        if self.dry_run and self.is_sweep:
            raise UserError("--dry-run prints one model; leave out --seeds and --sweep")
        for name in ("distributed", "profile"):
            if getattr(self, name) and (self.is_sweep or self.dry_run):
                raise UserError(
                    f"--{name} is for the training of one run; leave out --seeds, --sweep and --dry-run"
                )
        for name in ("coordinator", "processes", "process", "heartbeat"):
            if getattr(self, name) is not None and not self.distributed:
                raise UserError(
                    f"--{name} is for a training on several hosts; it needs --distributed"
                )
        if self.heartbeat is not None and self.heartbeat < 2:
            raise UserError(f"--heartbeat must be at least 2 seconds, got {self.heartbeat}")

    @property
    def axes(self) -> dict[str, tuple[float, ...]]:
        """The values that the sweep varies, by the names of the fields.

        Raises:
            UserError: if an axis is not NAME=VALUE,VALUE,..., or is there twice.
        """
        axes = {}
        for text in self.sweep:
            words, _, values = text.partition("=")
            name = words.removeprefix("--").replace("-", "_")
            if name in axes:
                raise UserError(f"--sweep names {words} twice")
            try:
                axes[name] = tuple(float(value) for value in values.split(","))
            except ValueError:
                raise UserError(
                    f"--sweep {text}: expected numbers, as in quantizer-weight=0.01,0.1,1"
                ) from None
        return axes

    @property
    def folder(self) -> str:
        """The part of the folder's name that differs between seeds and sweeps of a preset."""
        if not self.is_sweep:
            return f"seed{self.config.run.seed}"
        return "-".join(
            [
                "sweep",
                *(name.replace("_", "-") for name in self.axes),
                *[f"{self.seeds}seeds"] * (self.seeds > 1),
            ]
        )


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash train``.
        console: where to print.
        command: the whole command line.
    """
    if find_value(arguments, "--objective") == "help":
        from jaxhash.report.methods import print_methods

        print_methods(console)
        return
    parsed = parse_arguments(arguments)
    parsed.check()
    if parsed.distributed:
        console = _join(parsed)
    from jaxhash.runs.train_run import dry_run, train  # after parsing: mistakes stay quick

    if parsed.dry_run:
        dry_run(parsed.config, console)
    elif parsed.is_sweep:
        from jaxhash.runs.train_sweep import sweep

        sweep(parsed.config, parsed.axes, console, seeds=parsed.seeds)
    else:
        train(parsed.config, console, profile=parsed.profile)


def parse_arguments(arguments: list[str]) -> TrainArguments:
    """Returns the preset named first, or the default one, with the values of the flags in it.

    A data set in place of the preset is the ``--dataset`` of the default one.

    Raises:
        UserError: if there is no such preset, or a flag or its value is not allowed.
    """
    if arguments and arguments[0].startswith(_DATASET_KINDS):
        arguments = ["--dataset", *arguments]
    named = bool(arguments) and not arguments[0].startswith("-")
    name = arguments[0] if named else next(iter(PRESETS))
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown preset {name!r}; {hint}presets: {', '.join(PRESETS)}")
    preset = PRESETS[name]()
    parsed = parse(
        TrainArguments,
        arguments[named:],
        prog=f"jaxhash train {name}",
        default=TrainArguments(_with_flags(preset)),
        description=f"{PRESETS[name].__doc__}\n\npresets:\n{preset_list(PRESETS)}",
    )
    config = _reset_split(_without_flags(parsed.config), preset, arguments)
    for flag, values, example in (
        ("--sweep", parsed.sweep, "quantizer-weight=0.01,0.1,1"),
        ("--objective-options", config.objective.objective_options, "pairs=batch"),
        ("--quantizer-options", config.objective.quantizer_options, "target=balanced"),
    ):
        if flag in arguments and not values:
            raise UserError(f"{flag} needs values, as in {flag} {example}")
    if config.run.run_dir is None:
        folder = Path("runs") / f"{_folder(name, config)}-{config.model.bits}bit-{parsed.folder}"
        config = config.replace(run_dir=folder)
    return dataclasses.replace(parsed, config=config)


def _with_flags(config: Config) -> _ConfigFlags:
    return _ConfigFlags(**vars(config) | {"model": _ModelFlags(**vars(config.model))})


def _without_flags(flags: Config) -> Config:
    return Config(**vars(flags) | {"model": ModelConfig(**vars(flags.model))})


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


def _join(parsed: TrainArguments) -> Console:
    """Joins the distributed job; returns the console, which prints in process 0 only."""
    from jaxhash.training import distributed

    distributed.initialize_distributed(
        parsed.coordinator, parsed.processes, parsed.process, heartbeat=parsed.heartbeat
    )
    return make_console(quiet=not distributed.is_main_process())


def _folder(preset: str, config: Config) -> str:
    """Returns the preset's name, and the objective's where it is not the preset's."""
    if config.objective.describe() == PRESETS[preset]().objective.describe():
        return preset
    return f"{preset}-{re.sub(r'[^a-z0-9.]+', '-', config.objective.describe()).strip('-')}"
