"""``jaxhash train``: a run, several seeds, or a sweep."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxhash.cli import usage
from jaxhash.cli.config_flags import ConfigFlags, from_flags, take_preset, to_flags
from jaxhash.cli.distributed_flags import ONE_PROCESS, DistributedFlags
from jaxhash.cli.help import fit
from jaxhash.cli.parsing import find_value, parse, preset_list
from jaxhash.runs.config import Config
from jaxhash.runs.presets import PRESETS
from jaxhash.utils.errors import UserError
from jaxhash.utils.hardware import limit_malloc_arenas


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Train, or go on with a run."""

    config: ConfigFlags
    """The run."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the model's parameters and multiply-adds by stage, and train nothing."""
    seeds: int = 1
    """Train so many seeds together, the given one first; print means and standard deviations."""
    profile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write a JAX trace of a few steps into the run's folder, and time the loss by itself."""
    hosts: DistributedFlags = ONE_PROCESS
    """The processes."""
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
        if self.profile and (self.is_sweep or self.dry_run):
            raise UserError(
                "--profile is for the training of one run; leave out --seeds, --sweep and --dry-run"
            )
        if self.hosts.distributed and self.dry_run:
            raise UserError("--distributed is for a training; leave out --dry-run")
        for name in ("coordinator", "heartbeat"):
            if getattr(self.hosts, name) is not None and self.is_sweep:
                raise UserError(
                    f"--{name} is not for a sweep, whose processes work without one another; leave it out"
                )
        self.hosts.check()

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
    if set(usage.HELP) & set(arguments):
        named = take_preset([word for word in arguments if word not in usage.HELP])
        values = {name: named.config.get(name) for name in usage.MAIN_VALUES}
        print(fit(usage.train_help(named.name, values)))
        return
    parsed = parse_arguments(arguments)
    parsed.check()
    if not parsed.is_sweep:
        console = parsed.hosts.join(console)
    limit_malloc_arenas()
    from jaxhash.runs.train_run import dry_run, train  # after parsing: mistakes stay quick

    if parsed.dry_run:
        dry_run(parsed.config, console)
    elif parsed.is_sweep:
        from jaxhash.runs.train_sweep import sweep

        count, index = parsed.hosts.number()
        sweep(
            parsed.config, parsed.axes, console, seeds=parsed.seeds, processes=count, process=index
        )
    else:
        train(parsed.config, console, profile=parsed.profile)


def parse_arguments(arguments: list[str]) -> TrainArguments:
    """Returns the preset named first, or the default one, with the values of the flags in it.

    Raises:
        UserError: if there is no such preset, or a flag or its value is not allowed.
    """
    preset = take_preset(arguments)
    try:
        parsed = parse(
            TrainArguments,
            preset.rest,
            prog=f"jaxhash train {preset.name}",
            command="train",
            about=f"{PRESETS[preset.name].__doc__}\n\npresets:\n{preset_list(PRESETS)}",
            full_help=usage.FULL_HELP,
            default=TrainArguments(to_flags(preset.config)),
        )
    except UserError as error:
        for name in preset.rest:
            if name in PRESETS:
                raise UserError(
                    f"{error}; a preset comes first: jaxhash train {name} ..."
                ) from None
        raise
    if "--sweep" in arguments and not parsed.sweep:
        raise UserError("--sweep needs values, as in --sweep quantizer-weight=0.01,0.1,1")
    config = from_flags(parsed.config, preset)
    if config.run.run_dir is None:
        folder = (
            Path("runs") / f"{_folder(preset.name, config)}-{config.model.bits}bit-{parsed.folder}"
        )
        config = config.replace(run_dir=folder)
    return dataclasses.replace(parsed, config=config)


def _folder(preset: str, config: Config) -> str:
    """Returns the preset's name, and the objective's where it is not the preset's."""
    if config.objective.describe() == PRESETS[preset]().objective.describe():
        return preset
    return f"{preset}-{re.sub(r'[^a-z0-9.]+', '-', config.objective.describe()).strip('-')}"
