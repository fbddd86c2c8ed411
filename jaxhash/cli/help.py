"""Help: texts at the width of the terminal, and all options of a command as the parser has them."""

import argparse
import inspect
import re
import shutil
import textwrap
import warnings
from typing import Any

from jaxhash.utils.console import wrap_line

#: Columns that a text has at least and at most, and the second of two columns at least.
_NARROWEST, _WIDEST, _SECOND = 24, 100, 24

#: A line of two columns: a name, and what it is.
_ROW = re.compile(r"(\s+\S.*?\s{2,})(\S.*)")


def fit(text: str, width: int | None = None) -> str:
    """Breaks the lines of a text between words; of a row of two columns, the second one.

    Where there is little room beside the first column, the second one is written below it.

    Args:
        text: lines; those of two columns are indented, with two blanks between the columns.
        width: columns; those of the terminal if not given.

    Example:
        >>> print(fit("  --bits N  the length of a code, in bits", 36))
          --bits N  the length of a code, in
                    bits
        >>> print(fit("  --bits N  the length of a code, in bits", 34))
          --bits N
              the length of a code, in bits
    """
    width = width or width_of_terminal()
    return "\n".join(_fit_line(line, width) for line in text.splitlines())


def width_of_terminal() -> int:
    """Returns the columns of a line of help: those of the terminal, within bounds."""
    return min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)


def _fit_line(line: str, width: int) -> str:
    row = _ROW.fullmatch(line)
    if row and width - len(row[1]) < _SECOND:
        below = (len(line) - len(line.lstrip()) + 4) * " "
        return (
            f"{wrap_line(row[1].rstrip(), width, below)}\n{wrap_line(below + row[2], width, below)}"
        )
    blanks = len(line) - len(line.lstrip())
    indent = len(row[1]) if row else blanks and blanks + 4
    return wrap_line(line, width, indent * " ")


def paragraphs(text: str) -> str:
    r"""Joins the lines of each paragraph, which is then broken at the width of the terminal.

    Lines that are indented stay lines.

    Example:
        >>> paragraphs("One\nsentence.\n\n  a  row")
        'One sentence.\n\n  a  row'
    """
    return re.sub(r"(?<!\n)\n(?![\n ])", " ", text)


def all_options(kind: type, *, prog: str, about: str, examples: str, **options: Any) -> str:
    """Returns all options of a command with their defaults, in the groups of its dataclass.

    Args:
        kind: dataclass of the flags.
        prog: the command.
        about: what it does.
        examples: commands, a line each.
        **options: further options of `tyro.cli`.
    """
    import tyro

    with warnings.catch_warnings():
        # `get_parser` may go one day; until then it is the way to what tyro knows.
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(kind, prog=prog, **options)
    positional = [action.metavar for action in parser._actions if not action.option_strings]
    for action in parser._actions:
        _simplify(action)
    for group in parser._action_groups:
        group.description = group.description and fit(group.description, width_of_terminal() - 2)
    usage = " ".join(["usage:", prog, *positional, "[--OPTION VALUE ...]"])
    parser.usage = argparse.SUPPRESS
    parser.description = fit(paragraphs(inspect.cleandoc(about)))
    parser.epilog = fit(examples)
    parser.formatter_class = _Formatter
    return f"{fit(usage)}\n\n{argparse.ArgumentParser.format_help(parser).rstrip()}"


def _simplify(action: Any) -> None:
    """Leaves out what says nothing, and moves many choices from the name of a value into the text."""
    text = re.sub(r" \(default: (None)?\)$", "", action.help)
    if action.metavar:
        value = re.sub(r"\[(.+) \[\1 \.\.\.\]\]", r"\1 ...", action.metavar.removeprefix("{None}|"))
        if choices := re.fullmatch(r"\{([^{} ]{40,})\}", value):
            value, names = "NAME", choices[1].replace(",", ", ")
            text = re.sub(r"( \(default: .*\))?$", rf" One of {names}.\1", text, count=1)
        action.metavar, action.nargs = value, None
    action.help = text


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Breaks lines at blanks alone, for the names of flags have hyphens."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=20, width=width_of_terminal())

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
