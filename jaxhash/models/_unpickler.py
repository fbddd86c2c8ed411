"""An unpickler that executes nothing: a pickle may only name globals of a given list.

Python's own unpickler is not safe, even with a ``find_class`` that rejects all other globals: a
deep tuple as a dict key crashes the process, a memo entry with a high index fills the memory, and a
pickle may set attributes of listed objects. This one interprets only the opcodes that weights need,
as PyTorch does for ``torch.load(weights_only=True)``.

A value is never printed or hashed before its type is known: a few bytes can describe an object
whose text exceeds the memory. Sets therefore become lists, and a dict key that is not a plain
value, such as a tuple, becomes an `OpaqueKey`, which equals only itself.
"""

import io
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any

#: Opcodes that push their argument.
_VALUES = frozenset(
    ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"]
    + ["STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"]
    + ["UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"]
)

#: Opcodes of Python 2, whose strings `pickletools` decodes as Latin-1.
_PYTHON2_STRINGS = frozenset(["BINSTRING", "SHORT_BINSTRING"])

#: Opcodes that push a constant; each call makes a new container.
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}


class DisallowedGlobal(Exception):
    """Raised if a pickle names a global that is not listed; the argument is its name."""


class OpaqueKey:
    """Replaces a dict key that is no string, bytes, number or None."""


def unpickle(
    file: io.BytesIO,
    allowed: Mapping[str, Any] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads the next pickle of a file, in protocol 0 to 5.

    Nothing is imported. The state that a pickle sets on an object (``__setstate__``) is dropped.
    Sets become lists.

    Args:
        file: file to read; its position afterwards is the end of the pickle.
        allowed: replacement of each class or function that the pickle may name, by dotted name.
        persistent: function from a persistent id to its object.

    Raises:
        DisallowedGlobal: if the pickle names another global.
        Exception: any other exception, if the pickle is broken.

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
            case text if text in _PYTHON2_STRINGS:
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
                stack.append(make_dict(_pairs(items)))
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS" | "ADDITEMS":
                items, stack = stack, marked.pop()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1].update(make_dict([(key, value)]))
            case "SETITEMS":
                items, stack = stack, marked.pop()
                stack[-1].update(make_dict(_pairs(items)))
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
                raise ValueError(f"opcode {other} at {file.tell()}, which weights do not need")
    raise ValueError("a pickle without an end")  # genops has raised


def make_dict(items: list | dict = ()) -> dict:
    """Makes a dict of pairs; returns a given dict unchanged.

    It empties a list of pairs: a pickle that used the list repeatedly would fill the memory.
    """
    if isinstance(items, dict):
        return items
    found = {_hashable_key(key): value for key, value in items}
    if isinstance(items, list):
        items.clear()
    return found


def _hashable_key(key: Any) -> Any:
    """Returns a key that is cheap to hash: the key itself, or an `OpaqueKey`."""
    if isinstance(key, str | bytes | int | float | None):
        return key
    if isinstance(key, list | dict | bytearray):
        raise ValueError(f"a dict with a key of type {type(key).__name__}")
    return OpaqueKey()


def _lookup(allowed: Mapping[str, Any], name: str) -> Any:
    name = re.sub("^__builtin__[.]", "builtins.", name)  # as Python 2 writes protocol 2
    if name not in allowed:
        raise DisallowedGlobal(name)
    return allowed[name]


def _pairs(items: list) -> list:
    return list(zip(items[::2], items[1::2], strict=True))
