"""Reads pickles without running them: what a pickle may name is listed, nothing else is called.

Python's own unpickler is not enough, not even with a ``find_class`` that refuses all that is not
listed: a deep tuple as a key of a dict ends the process, an entry of the memo with a high number
fills the memory, and a pickle may set attributes of what is listed. Here the opcodes that weights
need are followed one by one. PyTorch does the same for ``torch.load(weights_only=True)``.

What a pickle holds is never printed nor hashed before its type is known: a few bytes can describe
an object whose text is longer than the memory. So a set is a list here, and a key of a dict that
is no plain one, such as a tuple, is kept as a `Key` that is only equal to itself.
"""

import io
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any

#: Opcodes that put their argument on the stack.
_VALUES = frozenset(
    ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"]
    + ["STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"]
    + ["UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"]
)

#: Those of Python 2, whose text `pickletools` takes for Latin-1.
_OLD_TEXTS = frozenset(["BINSTRING", "SHORT_BINSTRING"])

#: Opcodes that put a constant there; the containers are made anew each time.
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}


class NotAllowed(Exception):
    """A pickle names something that is not listed; the name is the argument."""


class Key:
    """Stands for a key of a dict that is no text, number or None."""


def unpickle(
    file: io.BytesIO,
    allowed: Mapping[str, Any] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The object that the next pickle of a file holds, in protocol 0 to 5.

    Nothing is imported. The state that a pickle gives to an object (``__setstate__``) is dropped.
    Sets become lists.

    Args:
        file: where to read; afterwards it stands behind the pickle.
        allowed: by its dotted name, what a class or function of the pickle is replaced by.
        persistent: the object of a persistent id.

    Raises:
        NotAllowed: if the pickle names anything else.
        Exception: of any other kind, if the pickle is broken.

    Example:
        >>> import io, pickle
        >>> unpickle(io.BytesIO(pickle.dumps({"epoch": 3, "shape": (2, 1)})))
        {'epoch': 3, 'shape': (2, 1)}
    """
    allowed = allowed or {}
    stack, marked, memo = [], [], {}  # marked: the stacks below the marks
    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case value if value in _VALUES:
                stack.append(argument)
            case text if text in _OLD_TEXTS:
                stack.append(argument.encode("latin-1").decode(errors="surrogateescape"))
            case constant if constant in _CONSTANTS:
                stack.append(_CONSTANTS[constant]())
            case "MARK":
                marked.append(stack)
                stack = []
            case "POP":
                stack.pop()
            case "POP_MARK":
                stack = marked.pop()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "TUPLE" | "FROZENSET":
                items, stack = stack, marked.pop()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(opcode.name[-1]))]
                stack.append(tuple(reversed(items)))
            case "LIST":
                items, stack = stack, marked.pop()
                stack.append(items)
            case "DICT":
                items, stack = stack, marked.pop()
                stack.append(ordered_dict(_pairs(items)))
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS" | "ADDITEMS":
                items, stack = stack, marked.pop()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1].update(ordered_dict([(key, value)]))
            case "SETITEMS":
                items, stack = stack, marked.pop()
                stack[-1].update(ordered_dict(_pairs(items)))
            case "GLOBAL":
                stack.append(_lookup(allowed, argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_lookup(allowed, ".".join([module, attribute])))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack.append(stack.pop()(*arguments))
            case "BUILD":
                stack.pop()
            case "BINPERSID" if persistent is not None:
                stack.append(persistent(stack.pop()))
            case "STOP":
                return stack.pop()
            case other:
                raise ValueError(f"opcode {other} at {file.tell()}, which weights have no need of")
    raise ValueError("a pickle without an end")  # genops has raised


def ordered_dict(items: list | dict = ()) -> dict:
    """A dict of pairs, or the dict that is given.

    The list is emptied: a pickle that uses it time and again would fill the memory with copies.
    """
    if isinstance(items, dict):
        return items
    found = {_key(key): value for key, value in items}
    if isinstance(items, list):
        items.clear()
    return found


def _key(key: Any) -> Any:
    """What stands for the key in a dict: itself, if to hash it is cheap whatever the file says."""
    if isinstance(key, str | bytes | int | float | None):
        return key
    if isinstance(key, list | dict | bytearray):
        raise ValueError(f"a dict with a key of type {type(key).__name__}")
    return Key()


def _lookup(allowed: Mapping[str, Any], name: str) -> Any:
    name = re.sub("^__builtin__[.]", "builtins.", name)  # of Python 2, as protocol 2 writes it
    if name not in allowed:
        raise NotAllowed(name)
    return allowed[name]


def _pairs(items: list) -> list:
    return list(zip(items[::2], items[1::2], strict=True))
