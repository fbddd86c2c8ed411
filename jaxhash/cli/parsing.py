"""Reads flags by tyro; a mistake is a `UserError` of one line."""

import contextlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from jaxhash.utils.errors import UserError

T = TypeVar("T")


def parse(kind: Callable[..., T], arguments: Sequence[str], *, prog: str, **options: Any) -> T:
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

    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(kind, args=list(arguments), prog=prog, **options)
    except SystemExit as exit:
        if not exit.code:
            raise
        raise UserError(
            f"{_one_line(box.getvalue())}; {prog} --help lists what is allowed"
        ) from None


def _one_line(box: str) -> str:
    """What tyro's error box says, up to its first ruled line, and what it thinks was meant.

    The box is drawn in Unicode or, for a terminal of another encoding, in ASCII.
    """
    lines = [line.strip("│| ") for line in box.splitlines()[1:-1]]
    text = " ".join("\n" if re.fullmatch("─+|-{4,}", line) else line for line in lines)
    said, *rest = (part.strip() for part in text.split("\n") if part.strip())
    hint = re.search(r"Perhaps you meant:.*?(--[\w-]+)", " ".join(rest))
    return said.rstrip(".") + (f", did you mean {hint[1]}?" if hint else "")


def find_value(arguments: Sequence[str], flag: str) -> str | None:
    """Returns the first value of a flag that is looked at before the parser; None without it."""
    found = re.search(rf"(?<!\S){flag}[ =](\S+)", " ".join(arguments))
    return found and found[1]


def preset_list(presets: Mapping[str, Callable]) -> str:
    """Returns a line for each preset: its name and its first docstring line."""
    width = max(map(len, presets))
    return "\n".join(f"  {name:<{width}}  {make.__doc__}" for name, make in presets.items())
