"""Explains in one line why words are not flags of a command.

The parser prints its errors in a box and exits. What it refuses is therefore read once more here,
from the fields of the dataclass alone, to name the first mistake.
"""

import dataclasses
import difflib
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

#: What a value of a type is called.
_WORDS = {int: "an integer", float: "a number"}


class _Flag(NamedTuple):
    """A flag of a command.

    Attributes:
        name: with its dashes; without dashes for a positional argument.
        kind: type of its value.
        required: whether it has no default.
        aliases: other names.
    """

    name: str
    kind: Any
    required: bool
    aliases: tuple[str, ...] = ()


def explain(kind: type, words: Sequence[str]) -> str | None:
    """Returns what is wrong with the words of a command, or None if nothing is.

    Args:
        kind: dataclass of the flags; the fields of a dataclass in it are flags too.
        words: what follows the command.

    Example:
        >>> Pair = dataclasses.make_dataclass("Pair", [("bits", int, 8), ("flip", bool, False)])
        >>> explain(Pair, ["--bitz", "3"])
        'unrecognized: --bitz 3, did you mean --bits?'
        >>> explain(Pair, ["--bits", "many"])
        "--bits: expected an integer, got 'many'"
    """
    flags = list(_flags_of(kind))
    known = {name: flag for flag in flags for name in (flag.name, *flag.aliases)}
    positional = [flag for flag in flags if not flag.name.startswith("-")]
    wrong: dict[str, str | None] = {}  # by flag; of a flag given twice the last counts
    unknown: list[str] = []
    for name, values in _groups(words):
        flag = known.get(name)
        used = 0
        if flag is not None:
            used = len(values) if (arity := _arity(flag.kind)) is None else arity
            wrong[flag.name] = _mismatch(flag, values[:used])
        elif name:
            unknown.append(name)
        for value in values[used:]:
            if flag is None and name or not positional:
                unknown.append(value)
            else:
                target = positional.pop(0)
                wrong[target.name] = _mismatch(target, [value])
    if unknown:
        near = [difflib.get_close_matches(word, known, n=1) for word in unknown if word[:2] == "--"]
        hints = [f", did you mean {names[0]}?" for names in near if names]
        return f"unrecognized: {' '.join(unknown)}{''.join(hints[:1])}"
    missing = [flag.name for flag in flags if flag.required and flag.name not in wrong]
    mistakes = [each for each in wrong.values() if each]
    mistakes += [f"missing: {', '.join(missing)}"] * bool(missing)
    return mistakes[0] if mistakes else None


def _flags_of(kind: type) -> Iterator[_Flag]:
    """Yields the flags of a dataclass and of the dataclasses in it."""
    import tyro

    plain, annotated = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        type_, marks = plain[field.name], getattr(annotated[field.name], "__metadata__", ())
        if dataclasses.is_dataclass(type_):
            yield from _flags_of(type_)
            continue
        required = field.default is field.default_factory is dataclasses.MISSING
        if tyro.conf.Positional in marks:
            yield _Flag(field.name.upper(), type_, required)
            continue
        word = field.name.replace("_", "-")
        aliases = tuple(name for mark in marks for name in getattr(mark, "aliases", None) or ())
        if type_ is bool and tyro.conf.FlagCreatePairsOff not in marks:
            aliases += (f"--no-{word}",)
        yield _Flag(f"--{word}", type_, required, aliases)


def _groups(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yields each flag with the words up to the next; words before the first under an empty name."""
    name, values = "", []
    for word in words:
        if not word.lstrip("-")[:1].isalpha() or word[:1] != "-" or _converts(float, word):  # -inf
            values.append(word)
            continue
        if name or values:
            yield name, values
        name, equals, value = word.partition("=")
        name, values = name.replace("_", "-"), [value] if equals else []
    if name or values:
        yield name, values


def _alternatives(kind: Any) -> list[Any]:
    """Returns the types of a union but None; else the type itself."""
    if get_origin(kind) in (Union, types.UnionType):
        return [each for each in get_args(kind) if each is not types.NoneType]
    return [kind]


def _arity(kind: Any) -> int | None:
    """Returns how many words a value has; None for any number."""
    [kind] = _alternatives(kind)
    if get_origin(kind) is tuple:
        return None if get_args(kind)[-1] is Ellipsis else len(get_args(kind))
    return 0 if kind is bool else 1


def _mismatch(flag: _Flag, values: list[str]) -> str | None:
    """Returns what is wrong with the words after a flag, or None."""
    [kind] = _alternatives(flag.kind)
    if values == ["None"] and kind is not flag.kind:
        return None
    arity = _arity(kind)
    if arity is not None and len(values) < arity:
        return f"{flag.name} needs {'a value' if arity == 1 else f'{arity} values'}"
    kinds = get_args(kind) if get_origin(kind) is tuple else (kind,)
    if arity is None:
        kinds = kinds[:1] * len(values)
    for value, each in zip(values, kinds, strict=False):  # a bool has no value
        if get_origin(each) is Literal and value not in get_args(each):
            expected = f"one of {', '.join(get_args(each))}"
        elif each in _WORDS and not _converts(each, value):
            expected = _WORDS[each]
        else:
            continue
        return f"{flag.name}: expected {expected}, got {value!r}"
    return None


def _converts(kind: type, value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True
