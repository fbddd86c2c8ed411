"""Where the tensors of a file stand: in which dict of a checkpoint, and by which name."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

#: Bounds on what a few bytes can describe: a dict may hold another one twice, and that one too.
_DEPTH, _CONTAINERS, _TENSORS, _ENTRIES, _LETTERS = 32, 100_000, 200_000, 50_000_000, 1_000


class NotWeights(Exception):
    """The file is well formed, but no file of weights that can be read; the argument says why."""


class Place(NamedTuple):
    """``group`` is the dotted path of the dict, empty at the top; ``name`` its key there."""

    group: str
    name: str

    @property
    def path(self) -> str:
        """Both in one dotted path.

        Example:
            >>> Place("model_ema", "module.fc.bias").path
            'model_ema.module.fc.bias'
        """
        return f"{self.group}.{self.name}" if self.group else self.name


def find_places(checkpoint: dict | list | tuple, kind: type) -> dict[Place, Any]:
    """All objects of a kind in dicts and lists of whatever depth; by index in a list.

    Keys that are neither text nor integers lead nowhere, nor do paths of more than 1,000 letters.

    Raises:
        NotWeights: if the checkpoint is too large, or two objects have one path.

    Example:
        >>> found = find_places({"epoch": 3, "model": {"bias": 0.5}, "folds": [{"a": 1.5}]}, float)
        >>> {place.path: number for place, number in found.items()}
        {'model.bias': 0.5, 'folds.0.a': 1.5}
    """
    found, paths, containers, entries = {}, set(), 0, 0
    waiting = [("", checkpoint, 0)]
    while waiting:
        group, holder, depth = waiting.pop()
        containers, entries = containers + 1, entries + len(holder)
        if containers > _CONTAINERS or entries > _ENTRIES or len(found) > _TENSORS:
            raise NotWeights("holds more tensors, or dicts of them, than any model has")
        inner = []
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            nested = isinstance(value, dict | list | tuple) and value and depth < _DEPTH
            if not (nested or isinstance(value, kind)) or not _is_name(key):
                continue
            place = Place(group, str(key))
            if len(place.path) > _LETTERS:
                continue
            if nested:
                inner.append((place.path, value, depth + 1))
            elif place.path in paths:
                raise NotWeights(f"holds two tensors of one name, {place.path}")
            else:
                paths.add(place.path)
                found[place] = value
        waiting += reversed(inner)  # the first is taken next
    return found


def under(places: Iterable[Place], key: str) -> dict[Place, Place]:
    """The places whose paths begin with a key, seen from there.

    Example:
        >>> tail = under([Place("teacher", "module.fc.bias"), Place("", "epoch")], "teacher.module")
        >>> [place.path for place in tail]
        ['fc.bias']
    """
    if not key:
        return {place: place for place in places}
    found = {}
    for place in places:
        path = place.path
        if not path.startswith((f"{key}.", f"{key}/")):
            continue
        if f"{place.group}.".startswith(f"{key}."):
            seen = Place(place.group[len(key) + 1 :], place.name)
        else:
            seen = Place("", path[len(key) + 1 :])
        found[seen] = place
    return found


def count_by_prefix(places: Iterable[Place], wanted: Collection[str]) -> dict[str, int]:
    """How many of the wanted names there are, by what stands before them in the paths.

    Example:
        >>> count_by_prefix([Place("net", "fc.bias"), Place("", "epoch")], {"fc.bias", "fc.weight"})
        {'net.': 1}
    """
    deepest = max((len(_starts(name)) for name in wanted), default=0)
    counts = Counter()
    for place in places:
        path = place.path
        counts.update(path[:start] for start in _starts(path)[-deepest:] if path[start:] in wanted)
    return dict(counts)


def _starts(path: str) -> list[int]:
    """Where the whole path begins, and what is behind each dot and slash of it."""
    return [0, *(found.end() for found in re.finditer("[./]", path))]


def _is_name(key: Any) -> bool:
    return isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**63)
