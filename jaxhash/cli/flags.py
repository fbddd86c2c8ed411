"""Replaces arguments in the messages of the library by flags."""

import re
from typing import Any

from rich.console import Console

#: An argument in a message of the library: `` `name` ``, or with its value `` `name=value` ``.
_ARGUMENT = re.compile(r"(?<!`)`([a-z][a-z0-9_]*)(?:=([^`]*))?`(?!`)")


def with_flags(text: str) -> str:
    """Replaces the arguments that a message names by flags.

    Args:
        text: a message of the library, which writes arguments in backticks.

    Example:
        >>> with_flags("`batch_size` is 8; `spread_banks=never` may help")
        '--batch-size is 8; --spread-banks never may help'
    """

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        return "--" + name.replace("_", "-") + (f" {value}" if value is not None else "")

    return _ARGUMENT.sub(flag, text)


class FlagConsole(Console):
    """A console that prints messages of the library with flags in place of arguments."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints as `rich.console.Console` does; strings by `with_flags`."""
        super().print(
            *(with_flags(each) if isinstance(each, str) else each for each in objects), **options
        )
