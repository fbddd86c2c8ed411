"""Reads flags by tyro; a mistake is a `UserError` of one line."""

import contextlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from jaxhash.cli.mistakes import mistakes_as_errors

T = TypeVar("T")


def parse(kind: type[T], arguments: Sequence[str], *, prog: str, **options: Any) -> T:
    """Parses the arguments of a command.

    Args:
        kind: dataclass of the flags.
        arguments: words after the command.
        prog: the command, as help and errors name it.
        **options: further options of `tyro.cli`.

    Raises:
        UserError: if the words are not flags of the dataclass with values of their types.
    """
    import tyro

    with mistakes_as_errors(kind, arguments, prog), contextlib.redirect_stderr(io.StringIO()):
        return tyro.cli(kind, args=list(arguments), prog=prog, **options)


def find_value(arguments: Sequence[str], flag: str) -> str | None:
    """Returns the first value of a flag that is looked at before the parser; None without it."""
    found = re.search(rf"(?<!\S){flag}[ =](\S+)", " ".join(arguments))
    return found and found[1]


def preset_list(presets: Mapping[str, Callable]) -> str:
    """Returns a line for each preset: its name and its first docstring line."""
    width = max(map(len, presets))
    return "\n".join(f"  {name:<{width}}  {make.__doc__}" for name, make in presets.items())
