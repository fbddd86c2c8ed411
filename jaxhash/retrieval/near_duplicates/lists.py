"""Lists of near duplicates: JSON, CSV, or ids that ``jaxhash index --remove`` takes."""

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxhash.retrieval.near_duplicates.columns import ItemNames
from jaxhash.retrieval.near_duplicates.groups import Groups
from jaxhash.utils.console import track_progress
from jaxhash.utils.files import whole_file

#: Items whose names are Python objects at once.
_ITEMS = 2**14


class Member(NamedTuple):
    """An item of a group.

    Attributes:
        group: number of the group, from 1.
        role: ``keep`` for the item that is kept, which comes first of its group, or ``duplicate``.
        id: its id.
        path: its path, relative to the root of its index.
        distance: Hamming distance to the item that is kept.
        label: its label, if it has one.
    """

    group: int
    role: str
    id: int
    path: str
    distance: int
    label: str | None


def iterate_members(
    groups: Groups,
    names: ItemNames,
    kept_names: ItemNames | None = None,
    console: Console | None = None,
) -> Iterator[Member]:
    """Returns an iterator over the items of groups, in order.

    Args:
        groups: the groups.
        names: names of the items.
        kept_names: names of the items that are kept, if they are those of another index.
        console: where to show progress; the error stream by default.
    """
    kept_places = groups.starts[:-1] + np.arange(len(groups.kept))
    is_kept = np.zeros(len(groups.kept) + len(groups.duplicates), bool)
    is_kept[kept_places] = True
    ids, distances = np.empty(len(is_kept), np.int64), np.zeros(len(is_kept), np.int32)
    ids[is_kept], ids[~is_kept] = groups.kept, groups.duplicates
    distances[~is_kept] = groups.distances
    numbers = np.cumsum(is_kept)
    starts = range(0, len(ids), _ITEMS)
    for start in track_progress(starts, "writing the list", len(starts), console):
        some = slice(start, start + _ITEMS)
        kept = iter((kept_names or names).of(ids[some][is_kept[some]]))
        others = iter(names.of(ids[some][~is_kept[some]]))
        columns = (each[some].tolist() for each in (is_kept, numbers, ids, distances))
        for is_first, number, id, distance in zip(*columns, strict=True):
            path, label = next(kept if is_first else others)
            yield Member(number, "keep" if is_first else "duplicate", id, path, distance, label)


def write_list(path: Path, members: Iterable[Member]) -> None:
    """Writes a list whole or not at all, in the form that the suffix of its name says.

    ``.json`` is a list as `write_json` writes it; ``.csv`` has a row for each item; ``.txt`` has the id of
    each duplicate on a line, so no name can be mistaken for two.

    Args:
        path: the file.
        members: what `iterate_members` returns.
    """
    writers = {".json": write_json, ".csv": _write_csv, ".txt": _write_ids}
    with whole_file(path, "wb") as file:
        writers[path.suffix.lower()](codecs.getwriter("utf-8")(file).write, members)


def write_json(write: Callable[[str], Any], members: Iterable[Member]) -> None:
    """Writes groups as JSON: a list of objects ``kept``, an item, and ``duplicates``, a list of items.

    Args:
        write: writes a text.
        members: what `iterate_members` returns.
    """
    is_open, before = False, ""
    for _, role, *values in members:
        item = json.dumps(dict(zip(Member._fields[2:], values, strict=True)))
        if role == "keep":
            write("]},\n" if is_open else "[\n")
            write(f'{{"kept": {item}, "duplicates": [')
            is_open, before = True, "\n  "
        else:
            write(before + item)
            before = ",\n  "
    write("]}\n]\n" if is_open else "[]\n")


def _write_csv(write: Callable[[str], Any], members: Iterable[Member]) -> None:
    rows = csv.writer(SimpleNamespace(write=write), lineterminator="\n")
    rows.writerow(Member._fields)
    rows.writerows(members)


def _write_ids(write: Callable[[str], Any], members: Iterable[Member]) -> None:
    for member in members:
        if member.role == "duplicate":
            write(f"{member.id}\n")
