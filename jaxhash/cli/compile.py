"""``jaxhash compile``: what a training costs on accelerators that are not here."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxhash.bench.compile.targets import hide_accelerators, parse_target
from jaxhash.cli import usage
from jaxhash.cli.config_flags import (
    ConfigFlags,
    NamedConfig,
    from_flags,
    take_preset,
    to_flags,
)
from jaxhash.cli.parsing import parse, preset_list
from jaxhash.runs.folder import read_config, read_own_parts
from jaxhash.runs.outline import DataShape
from jaxhash.runs.presets import PRESETS
from jaxhash.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class CompileArguments:
    """Compile a training for accelerators that are not here."""

    config: ConfigFlags
    """The run."""
    target: Annotated[str | None, tyro.conf.arg(name="for")] = None
    """Accelerators: v5e:2x4 and other slices of v5e, v6e and v5p; h200, h100 and a100, or as h200:8."""
    output: Path | None = None
    """JSON file; an older one is overwritten."""
    items: int | None = None
    """Training items of data that are not here; with --classes and --input-shape, nothing is read."""
    classes: int | None = None
    """Classes of these data."""
    input_shape: str | None = None
    """One input of these data: HEIGHTxWIDTHxCHANNELS of images, or the dimensions of vectors."""
    multi_label: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """These data have several classes an item."""

    @property
    def data(self) -> DataShape | None:
        """Shape of data that are not here; None if the data are to be opened.

        Raises:
            UserError: if it is described in part only.
        """
        described = {name: getattr(self, name) for name in ("items", "classes", "input_shape")}
        missing = [f"`{name}`" for name, value in described.items() if value is None]
        if len(missing) == len(described) and not self.multi_label:
            return None
        if missing:
            raise UserError(f"data that are not here need {' and '.join(missing)} too")
        if not re.fullmatch(r"\d+(x\d+x\d+)?", self.input_shape):
            raise UserError(
                f"`input_shape={self.input_shape}`: expected HEIGHTxWIDTHxCHANNELS or DIMENSIONS, as in "
                "224x224x3"
            )
        shape = tuple(map(int, self.input_shape.split("x")))
        return DataShape(self.items, self.classes, shape, self.multi_label)


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash compile``.
        console: where to print.
        command: the whole command line, to be stored.
    """
    parsed = parse_arguments(arguments)
    target, data = parse_target(parsed.target), parsed.data
    hide_accelerators()
    from jaxhash.bench.compile.run import compile_run  # after parsing: mistakes stay quick

    compile_run(parsed.config, target, console, command, data=data, output=parsed.output)


def parse_arguments(arguments: list[str]) -> CompileArguments:
    """Returns the run or the preset named first, with the values of the flags in it.

    Raises:
        UserError: if there is no such run or preset, no target is named, or a flag or its value is
            not allowed.
    """
    named = _take_run(arguments) or take_preset(arguments)
    parsed = parse(
        CompileArguments,
        named.rest,
        prog=f"jaxhash compile {named.name}",
        command="compile",
        full_help=usage.FULL_HELP,
        default=CompileArguments(to_flags(named.config)),
        about="Compile the training step and the encoder of a run for accelerators that are not "
        "here, and say "
        "what they need there: memory, operations, bytes, and what devices exchange. Nothing is run."
        f"\n\npresets:\n{preset_list(PRESETS)}",
    )
    if parsed.target is None:
        raise UserError("`for` must name what to compile for, as in `for=v5e:2x4` or `for=h200:8`")
    return dataclasses.replace(parsed, config=from_flags(parsed.config, named))


def _take_run(arguments: list[str]) -> NamedConfig | None:
    """Returns the configuration of a run's folder that is named first; None if there is none.

    Raises:
        UserError: if it is a sweep, or a training of the user's own parts.
    """
    if not arguments or arguments[0] in PRESETS or not Path(arguments[0], "config.json").exists():
        return None
    folder = Path(arguments[0])
    config, sweep = read_config(folder)
    if sweep is not None:
        raise UserError(f"{folder} is a sweep: name one of its members, or a preset")
    if own := read_own_parts(folder):
        raise UserError(
            f"{folder} was trained with the user's own {' and '.join(own)}, which the command does not "
            "have: jaxhash.bench.compile.program.compile_step takes the experiment"
        )
    return NamedConfig(str(folder), config, arguments[1:])
