"""Says in one line why the parser refuses the words of a command.

Tyro prints its errors in a box and exits. Its hook for parse errors hands over what is wrong before that.
The hook is not public yet: without it, or for an error it does not know, the line says less.
"""

import contextlib
import dataclasses
import difflib
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, get_type_hints

from jaxhash.utils.errors import UserError


@contextlib.contextmanager
def mistakes_as_errors(kind: type, words: Sequence[str], help_command: str) -> Iterator[None]:
    """Raises a `UserError` of one line where tyro would print a box and exit.

    Args:
        kind: dataclass of the flags.
        words: what is parsed.
        help_command: the command that lists what is allowed.
    """

    def refuse(mistake: str) -> None:
        raise UserError(f"{mistake}; {help_command} lists what is allowed")

    def on_error(event: Any) -> None:
        if mistake := _explain(event, kind, words):
            refuse(mistake)

    try:
        with _hook(on_error):
            yield
    except SystemExit as exit:
        if not exit.code:  # help was printed
            raise
        refuse(f"cannot read {shlex.join(words)}")


def _hook(on_error: Any) -> contextlib.AbstractContextManager:
    """Registers the hook, where this version of tyro has it."""
    try:
        from tyro._errors import on_parse_error
    except ImportError:
        return contextlib.nullcontext()
    return on_parse_error(on_error)


def _explain(event: Any, kind: type, words: Sequence[str]) -> str | None:
    """Returns what an event of tyro's hook says; None for an event that is not known."""
    match type(event).__name__:
        case "UnrecognizedArgs":
            return _explain_unrecognized(event.tokens, kind)
        case "MissingArgs" if event.unrecognized_tokens:
            return _explain_unrecognized(event.unrecognized_tokens, kind)
        case "MissingArgs":
            return f"missing: {', '.join(_name(each.arg) for each in event.missing_arguments)}"
        case "InvalidChoice":
            # In the order of help: tyro gives those of some types in any order.
            shown = re.split(r"[^\w.+-]+", event.argument.lowered.metavar)
            choices = [each for each in dict.fromkeys(shown) if each in {*event.choices} - {"None"}]
            near = difflib.get_close_matches(event.value, choices, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            got = f"{', '.join(choices)}, got {event.value!r}"
            return f"{_name(event.argument)}: expected one of {got}{hint}"
        case "BadValue" if event.reason == "too_few_values":
            return f"{_name(event.argument)} needs a value"
        case "InstantiationFailure" if event.argument:
            name = _name(event.argument)
            form = event.argument.lowered.metavar.removeprefix("{None}|")
            values = " ".join(map(repr, _values(name, words)))
            return f"{name}: expected {form}, got {values}"
    return None


def _explain_unrecognized(tokens: Sequence[str], kind: type) -> str:
    flags = [*(flag[2:] for flag in _flags(kind)), "quiet"]
    near = [difflib.get_close_matches(word[2:], flags, n=1) for word in tokens if word[:2] == "--"]
    hints = [f", did you mean --{names[0]}?" for names in near if names]
    return f"unrecognized: {' '.join(tokens)}{''.join(hints[:1])}"


def _name(argument: Any) -> str:
    """Returns the first flag of an argument; the word that help has for a positional one."""
    lowered = argument.lowered
    return lowered.metavar if argument.is_positional() else lowered.name_or_flags[0]


def _values(flag: str, words: Sequence[str]) -> list[str]:
    """Returns the words after a flag, where it is given last."""
    values: list[str] = []
    found = False
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            found = name.replace("_", "-") == flag
            values = ([value] if equals else []) if found else values
        elif found:
            values.append(word)
    return values


def _flags(kind: type) -> Iterator[str]:
    """Yields the flags of a dataclass and of the dataclasses in it."""
    kinds = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(kinds[field.name]):
            yield from _flags(kinds[field.name])
        else:
            yield "--" + field.name.replace("_", "-")
