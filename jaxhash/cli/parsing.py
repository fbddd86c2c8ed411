"""Reads flags by tyro; a mistake is a `UserError` of one line."""

import contextlib
import inspect
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from jaxhash.cli import usage
from jaxhash.cli.help import all_options
from jaxhash.cli.mistakes import mistakes_as_errors

T = TypeVar("T")

#: Flag of every command, which `take_quiet` reads before the parser.
QUIET = "--quiet"


def parse(
    kind: type[T],
    arguments: Sequence[str],
    *,
    prog: str,
    command: str = "",
    about: str = "",
    full_help: str = usage.HELP[-1],
    **options: Any,
) -> T:
    """Parses the arguments of a command; prints its options, and exits, where they ask for help.

    Args:
        kind: dataclass of the flags.
        arguments: words after the command.
        prog: the command, as help and errors name it.
        command: the words of the verb, if ``prog`` has others after them.
        about: what the command does; the docstring of the dataclass if not given.
        full_help: the flag by which the command lists all its options.
        **options: further options of `tyro.cli`.

    Raises:
        UserError: if the words are not flags of the dataclass with values of their types.
    """
    if {*usage.HELP, usage.FULL_HELP} & set(arguments):
        examples = usage.examples(command or prog.removeprefix("jaxhash "))
        about = f"{about or inspect.getdoc(kind)}\n\n{usage.ALWAYS}"
        print(all_options(kind, prog=prog, about=about, examples=examples, **options))
        sys.exit(0)
    import tyro

    with (
        mistakes_as_errors(kind, arguments, f"{prog} {full_help}"),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        return tyro.cli(kind, args=list(arguments), prog=prog, **options)


def take_quiet(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Returns the words without the flag for no progress, and whether it is there.

    Example:
        >>> take_quiet(["run", "--quiet", "--json"])
        (['run', '--json'], True)
    """
    return [word for word in arguments if word != QUIET], QUIET in arguments


def find_value(arguments: Sequence[str], flag: str) -> str | None:
    """Returns the first value of a flag that is looked at before the parser; None without it."""
    found = re.search(rf"(?<!\S){flag}[ =](\S+)", " ".join(arguments))
    return found and found[1]


def preset_list(presets: Mapping[str, Callable]) -> str:
    """Returns a line for each preset: its name and its first docstring line."""
    width = max(map(len, presets))
    return "\n".join(f"  {name:<{width}}  {make.__doc__}" for name, make in presets.items())
