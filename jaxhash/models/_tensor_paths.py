"""Paths of tensors in a weight file: the dict of a checkpoint, and the name in it."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

#: Limits of the search. A few bytes can describe a huge checkpoint: a dict may hold another dict
#: twice, which holds a third one twice, and so on.
_MAX_DEPTH, _MAX_CONTAINERS, _MAX_TENSORS, _MAX_ENTRIES = 32, 100_000, 200_000, 50_000_000

#: Length of the longest path, in characters.
_MAX_PATH = 1_000


class WeightFileError(Exception):
    """Raised for a well-formed file whose weights cannot be read; the argument gives the reason."""


class TensorPath(NamedTuple):
    """The path of a tensor in a checkpoint."""

    group: str
    """Dotted path of the dict that holds the tensor; empty at the top level."""
    name: str
    """Key in that dict."""

    @property
    def dotted(self) -> str:
        """Group and name, joined by a dot.

        Example:
            >>> TensorPath("model_ema", "module.fc.bias").dotted
            'model_ema.module.fc.bias'
        """
        return f"{self.group}.{self.name}" if self.group else self.name


def find_tensors(checkpoint: dict | list | tuple, kind: type) -> dict[TensorPath, Any]:
    """Finds all objects of a type in nested dicts and lists; an index is the key in a list.

    Keys that are neither strings nor integers are skipped, and paths of more than 1,000 characters.

    Args:
        checkpoint: container to search.
        kind: type of the objects.

    Raises:
        WeightFileError: if the checkpoint is too large, or two objects have the same path.

    Example:
        >>> found = find_tensors({"epoch": 3, "model": {"bias": 0.5}, "folds": [{"a": 1.5}]}, float)
        >>> {tensor.dotted: number for tensor, number in found.items()}
        {'model.bias': 0.5, 'folds.0.a': 1.5}
    """
    found, seen, containers, entries = {}, set(), 0, 0
    pending = [("", checkpoint, 0)]
    while pending:
        group, holder, depth = pending.pop()
        containers, entries = containers + 1, entries + len(holder)
        if containers > _MAX_CONTAINERS or entries > _MAX_ENTRIES or len(found) > _MAX_TENSORS:
            raise WeightFileError("holds more tensors, or dicts of them, than any model has")
        inner = []
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            nested = isinstance(value, dict | list | tuple) and value and depth < _MAX_DEPTH
            if not (nested or isinstance(value, kind)) or not _is_name(key):
                continue
            tensor = TensorPath(group, str(key))
            if len(tensor.dotted) > _MAX_PATH:
                continue
            if nested:
                inner.append((tensor.dotted, value, depth + 1))
            elif tensor.dotted in seen:
                raise WeightFileError(f"holds two tensors of one name, {tensor.dotted}")
            else:
                seen.add(tensor.dotted)
                found[tensor] = value
        pending += reversed(inner)  # the first is popped next
    return found


def relative_to(paths: Iterable[TensorPath], key: str) -> dict[TensorPath, TensorPath]:
    """Selects the tensors under a key; returns their paths relative to the key, and absolute.

    Example:
        >>> paths = [TensorPath("teacher", "module.fc.bias"), TensorPath("", "epoch")]
        >>> [path.dotted for path in relative_to(paths, "teacher.module")]
        ['fc.bias']
    """
    if not key:
        return {path: path for path in paths}
    found = {}
    for full in paths:
        path = full.dotted
        if not path.startswith((f"{key}.", f"{key}/")):
            continue
        if f"{full.group}.".startswith(f"{key}."):
            relative = TensorPath(full.group[len(key) + 1 :], full.name)
        else:
            relative = TensorPath("", path[len(key) + 1 :])
        found[relative] = full
    return found


def count_by_prefix(paths: Iterable[TensorPath], wanted: Collection[str]) -> dict[str, int]:
    """Counts the wanted names per prefix that stands before them in the paths.

    Example:
        >>> paths = [TensorPath("net", "fc.bias"), TensorPath("", "epoch")]
        >>> count_by_prefix(paths, {"fc.bias", "fc.weight"})
        {'net.': 1}
    """
    deepest = max((len(_suffix_starts(name)) for name in wanted), default=0)
    counts = Counter()
    for full in paths:
        path = full.dotted
        counts.update(
            path[:start] for start in _suffix_starts(path)[-deepest:] if path[start:] in wanted
        )
    return dict(counts)


def _suffix_starts(path: str) -> list[int]:
    """Returns the start of the path, and the position after each dot and slash."""
    return [0, *(found.end() for found in re.finditer("[./]", path))]


def _is_name(key: Any) -> bool:
    return isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**63)
