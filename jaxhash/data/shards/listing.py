"""Finds the shards of a folder, their format, and the part of the set that each belongs to."""

import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from jaxhash.data.readers.folder_layout import list_counts, part_of_folder
from jaxhash.data.shards.formats import SUFFIXES
from jaxhash.data.sources import SOURCE_PARTS
from jaxhash.utils.errors import UserError

#: Names of shards: what stands before the suffix, the suffix, and the number that may follow it.
_NAME = re.compile(
    rf"(?P<stem>.*?)(?P<suffix>{'|'.join(map(re.escape, sorted(SUFFIXES, reverse=True)))})(?P<tail>-\d+-of-\d+)?",
    re.IGNORECASE,
)

#: Number and count of the shards of a set, in the name of each.
_COUNT = re.compile(r"(\d{3,})-of-(\d{3,})")

_EXPECTED = "shards are .tar, .parquet, .tfrecord or .array_record files, maybe in folders named like parts of the set"


class ShardSet(NamedTuple):
    """The shards of a set, sorted by part and name.

    Attributes:
        root: the folder that their names are relative to.
        format: their format, one of `jaxhash.data.shards.formats.FORMATS`.
        names: their paths below the root.
        parts: the part of each; None for all if the set comes in no parts.
        notes: sentences on what was inferred or passed over.
    """

    root: Path
    format: str
    names: list[str]
    parts: list[str | None]
    notes: list[str]


def find_shards(name: str, path: Path) -> ShardSet:
    """Finds the shards of a folder, or takes a single file.

    The part of a shard is that of its folder or, if this has another name, of the first or the last word of its
    own name: ``train-00000.tar``, ``imagenet-val-000.tar``.

    Args:
        name: name of the source, for messages.
        path: folder or file.

    Raises:
        UserError: if there are none, they are of several formats, one of a counted set is missing, or some
            belong to parts and others do not.
    """
    if not path.exists():
        raise UserError(f"`dataset={name}`: there is no {path}; `data_dir` names its place")
    root, files = (path, _walk(path)) if path.is_dir() else (path.parent, [path.name])
    skipped: Counter[str] = Counter()
    found: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for file in files:
        if match := _NAME.fullmatch(os.path.basename(file)):
            part = _part(os.path.dirname(file), match["stem"])
            found[SUFFIXES[match["suffix"].lower()]].append((file, part))
        else:
            skipped[os.path.splitext(file)[1].lower() or "no suffix"] += 1
    if not found:
        held = f"; it holds {list_counts(skipped)}" if skipped else ""
        raise UserError(f"`dataset={name}`: {path} holds no shards{held}; {_EXPECTED}")
    if len(found) > 1:
        counts = Counter({f".{kind}": len(shards) for kind, shards in found.items()})
        raise UserError(
            f"`dataset={name}`: {path} holds shards of several formats ({list_counts(counts)}); name one file "
            "or a folder of one format"
        )
    [(kind, shards)] = found.items()
    if path.is_dir():
        _check_count(name, [file for file, _ in shards])
    parts = {part for _, part in shards}
    if None in parts and len(parts) > 1:
        lone = next(file for file, part in shards if part is None)
        raise UserError(
            f"`dataset={name}`: some shards are named like parts of the set "
            f"({', '.join(sorted(parts - {None}))}), and {lone} is not"
        )
    order = {part: number for number, part in enumerate((None, *SOURCE_PARTS))}
    shards.sort(key=lambda shard: (order[shard[1]], shard[0]))
    per_part = Counter(part for _, part in shards)
    notes = [f"passed over beside the shards: {list_counts(skipped)}"] if skipped else []
    if None not in parts:
        listed = ", ".join(f"{part} ({count:,} shards)" for part, count in per_part.items())
        notes.append(f"parts of the set, by the names of the shards: {listed}")
    return ShardSet(root, kind, [file for file, _ in shards], [part for _, part in shards], notes)


def _walk(folder: Path) -> list[str]:
    """Returns the paths of the files below a folder that are not hidden, nor below a hidden folder."""
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(place, folder)
        found += [
            os.path.normpath(os.path.join(below, name))
            for name in files
            if not name.startswith(".")
        ]
    return found


def _part(folder: str, stem: str) -> str | None:
    """Returns the part that a shard belongs to."""
    if part := part_of_folder(os.path.basename(folder)):
        return part
    words = re.findall(r"[^\W\d_]+", re.sub(r"\d+-of-\d+", "", stem))
    return next(filter(None, map(part_of_folder, words[:1] + words[-1:])), None)


def _check_count(name: str, files: list[str]) -> None:
    """Raises if a set whose shards say how many they are lacks one."""
    numbers: dict[tuple[str, int], set[int]] = defaultdict(set)
    for file in files:
        if match := _COUNT.search(file):
            numbers[file[: match.start()], int(match[2])].add(int(match[1]))
    for (start, count), there in numbers.items():
        base = 0 if 0 in there else 1
        missing = sorted(set(range(base, base + count)) - there)
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise UserError(
                f"`dataset={name}`: shard {start}{missing[0]:05d}-of-{count:05d}{more} is missing"
            )
