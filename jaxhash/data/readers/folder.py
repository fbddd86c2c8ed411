"""Image folders: a subfolder for each class, perhaps below one for each part of the set.

What the names of folders let guess is told, and so is every file that is passed over.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxhash.data.readers.image_files import Files, ImageSet, Scan
from jaxhash.data.readers.images import decode, suffixes
from jaxhash.data.sources import MEMORY_LIMIT, SOURCE_PARTS, Source
from jaxhash.training.distributed import broadcast_from_host0
from jaxhash.utils.errors import UserError

__all__ = ["Files", "decode", "part_of", "read_folder"]

#: What the parts of a set are called, in any case, and with words such as "set" or "images" about them.
PART_NAMES = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
    "query": ("query", "queries", "probe"),
    "database": ("database", "db", "gallery", "index", "base"),
}

#: Words that may stand about the name of a part.
_FILLERS = "set|data|split|images?|imgs?|folder"

#: Of many files the first are named.
_MOST_NAMED = 3

_LAYOUT = (
    "images are looked for in CLASS/, or in PART/CLASS/ where the parts are called "
    + ", ".join(SOURCE_PARTS)
)


class _Layout(NamedTuple):
    """The files that are taken for images, in order, and how they came to be."""

    files: list[str]
    class_names: list[str]
    labels: list[int]
    parts: list[str]
    part_ids: list[int]
    notes: list[str]


def read_folder(
    name: str,
    folder: Path,
    image_size: int | None,
    most_bad: float,
    held: int | None = None,
    index: Path | None = None,
) -> Source:
    """A source of the images below a folder, in DIR/CLASS/ or in DIR/PART/CLASS/.

    Classes are numbered in the order of their names. Images may lie deeper within a class. Hidden
    files, those of other suffixes than `suffixes` and those of no class are passed over, and counted
    in the notes. Parts are recognized by the names of `PART_NAMES`.

    Every image is decoded once, by the first process. Those that cannot be are left out before
    anything is counted.

    Args:
        name: name of the source.
        folder: DIR.
        image_size: see `jaxhash.data.readers.images.read_image`; None where all images have one size.
        most_bad: share of the files that may be left out; above 0, one file may be in any case.
        held: a set of at most so many decoded bytes is held in memory, another is read when it is
            asked for; `MEMORY_LIMIT` by default.
        index: file of what was found of a large set before, if it is there; see `keep_index` in
            `jaxhash.data.readers.image_files`.

    Raises:
        UserError: if there is no such folder, or no class in it; if its classes look like parts; if a
            class has no image that can be read, too many files cannot, or the images have several
            sizes.
    """
    mine = []

    def look() -> dict[str, Any]:
        layout = _find(name, folder)
        images = ImageSet(name, folder, layout.files, image_size)
        scan, rows = images.scan(MEMORY_LIMIT if held is None else held, index)
        _refuse_many(name, scan.left_out, len(layout.files), most_bad)
        _refuse_unreadable_class(name, folder, layout, scan)
        mine.append(rows)
        return {"layout": layout, "scan": scan}

    found = broadcast_from_host0(look)
    layout, scan = _Layout(*found["layout"]), Scan(*found["scan"])
    good = np.array(scan.good)
    return Source(
        name,
        mine[0] if mine else ImageSet(name, folder, layout.files, image_size).read(scan),
        np.array(layout.labels, np.int32)[good],
        tuple(layout.class_names),
        np.array(layout.part_ids, np.int8)[good] if layout.parts else None,
        left_out=tuple(scan.left_out),
        parts=tuple(layout.parts) or None,
        item_names=[_printable(layout.files[number]) for number in scan.good],
        notes=(*layout.notes, *scan.notes),
    )


def part_of(folder_name: str) -> str | None:
    """The part of a set that a folder of that name is usually of, one of `SOURCE_PARTS`; or None.

    Example:
        >>> part_of("Training_Set"), part_of("val2017"), part_of("trains")
        ('train', 'validation', None)
    """
    letters = re.sub(r"[\W\d_]", "", folder_name.casefold())
    for part, names in PART_NAMES.items():
        if re.fullmatch(rf"(?:{_FILLERS})*(?:{'|'.join(names)})(?:{_FILLERS})*", letters):
            return part
    return None


def _find(name: str, folder: Path) -> _Layout:
    """All files that are taken for images, by part, class and path."""
    if not folder.is_dir():
        raise UserError(
            f"--dataset {name}: there is no folder {folder}; --data-dir names its place"
        )
    parts, notes = _find_parts(name, folder)
    passed: dict[str, Counter[str]] = defaultdict(Counter)
    found: list[tuple[str, str, str]] = []
    for part, place in parts.items() if parts else [("", folder)]:
        classes = _subfolders(place)
        _pass_over(place, "beside the class folders", passed)
        for class_folder in classes:
            _refuse_parts_below(name, class_folder)
        if not parts:
            _refuse_folders_alike(name, classes)
        for class_folder in classes:
            files = sorted(_walk(class_folder, passed), key=lambda file: file.split(os.sep))
            if not files:
                other = passed["in class folders, of no suffix of an image"]
                held = f"; of what is passed over: {_counts(other)}" if other else ""
                raise UserError(
                    f"--dataset {name}: class folder {class_folder} holds no image{held}"
                )
            start = class_folder.relative_to(folder)
            found += [(part, class_folder.name, str(start / file)) for file in files]
    if parts:
        _pass_over(folder, "beside the parts", passed)
    if not found:
        raise UserError(f"--dataset {name}: {folder} holds no class folders; {_LAYOUT}")
    notes += [
        f"passed over {where}: {_counts(count)}" for where, count in sorted(passed.items()) if count
    ]
    class_names = sorted({class_name for _, class_name, _ in found})
    notes += _alike_in_case(class_names) + _of_one_part(found)
    number = {class_name: label for label, class_name in enumerate(class_names)}
    return _Layout(
        [file for *_, file in found],
        class_names,
        [number[class_name] for _, class_name, _ in found],
        list(parts),
        [list(parts).index(part) for part, *_ in found] if parts else [],
        notes,
    )


def _find_parts(name: str, folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The folders of the parts, if the set comes in any, and what is to be told of that."""
    below = _subfolders(folder)
    known = [path for path in below if part_of(path.name)]
    if not known:
        return {}, []
    others = [path for path in below if path not in known]
    if len(known) == 1 and others and not _subfolders(known[0]):
        [path] = known
        return {}, [f"{path.name} is taken for a class, as its images lie in no class folders"]
    if others:
        raise UserError(
            f"--dataset {name}: it holds folders called like parts of the set ({_named(known)}) "
            f"beside others ({_named(others)}); {_LAYOUT}"
        )
    parts: dict[str, Path] = {}
    for path in known:
        part = part_of(path.name)
        if part in parts:
            raise UserError(
                f"--dataset {name}: {parts[part]} and {path} are both called as the {part} part is; "
                f"{_LAYOUT}"
            )
        parts[part] = path
        if not _subfolders(path):
            raise UserError(f"--dataset {name}: {path} holds no class folders; {_LAYOUT}")
        _refuse_parts_below(name, path)
    parts = {part: parts[part] for part in SOURCE_PARTS if part in parts}
    told = ", ".join(
        part if path.name == part else f"{path.name} as {part}" for part, path in parts.items()
    )
    return parts, [f"parts of the set: {told}"]


def _refuse_parts_below(name: str, folder: Path) -> None:
    """Raise if what a class, or a part, is made of are parts."""
    below = _subfolders(folder)
    parts = {part_of(path.name) for path in below} - {None}
    flat = any(not _is_folder(entry) for entry in os.scandir(folder))
    if len(parts) > 1 or (parts and not flat and all(part_of(path.name) for path in below)):
        raise UserError(
            f"--dataset {name}: {folder} is where classes are expected, and holds parts "
            f"({', '.join(path.name for path in below if part_of(path.name))}); {_LAYOUT}; a set "
            "that lies deeper is named by its own folder"
        )


def _refuse_folders_alike(name: str, folders: Sequence[Path]) -> None:
    """Raise if what should be classes hold the same folders, or some of them, as many or more.

    So do parts of other names, domains, or the folder above the one that was meant.
    """
    inner = [{path.name for path in _subfolders(folder)} for folder in folders]
    most = max(inner, key=len, default=set())
    if len(most) < max(2, len(folders)) or not all(each and each <= most for each in inner):
        return
    known = suffixes()
    if any(_suffix(path.name) in known for folder in folders for path in folder.iterdir()):
        return
    some = ", ".join(sorted(most)[:_MOST_NAMED])
    raise UserError(
        f"--dataset {name}: {_named(folders)} hold no images but folders ({some}) that look like "
        f"classes; {_LAYOUT}; a set that lies deeper is named by its own folder"
    )


def _alike_in_case(class_names: Sequence[str]) -> list[str]:
    """What is to be told of classes whose names differ in capitals alone."""
    by_letters = defaultdict(list)
    for class_name in class_names:
        by_letters[class_name.casefold()].append(class_name)
    alike = [" and ".join(names) for names in by_letters.values() if len(names) > 1]
    return [f"warning: classes that differ in capitals alone: {', '.join(alike)}"] if alike else []


def _of_one_part(found: Sequence[tuple[str, str, str]]) -> list[str]:
    """What is to be told of classes that one of several parts has alone."""
    parts_of = defaultdict(set)
    for part, class_name, _ in found:
        parts_of[class_name].add(part)
    if len(set.union(*parts_of.values())) == 1:
        return []
    alone = sorted(name for name, parts in parts_of.items() if len(parts) == 1)
    more = f" and {len(alone) - _MOST_NAMED:,} more" if len(alone) > _MOST_NAMED else ""
    named = ", ".join(alone[:_MOST_NAMED])
    return [f"classes of one part alone: {named}{more}"] if alone else []


def _subfolders(folder: Path) -> list[Path]:
    entries = os.scandir(folder)
    return sorted(Path(e) for e in entries if _is_folder(e) and not e.name.startswith("."))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _walk(folder: Path, passed: dict[str, Counter[str]]) -> Iterator[str]:
    """Paths of the images below a folder, within it; links are followed, but to no folder twice."""

    def fail(error: OSError):
        raise error

    known, seen, start = suffixes(), set(), os.path.join(folder, "")
    for place, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            passed["in class folders, for a link leads there again"].update(map(_suffix, names))
            continue
        seen.add((state.st_dev, state.st_ino))
        hidden = [name for name in folders + names if name.startswith(".")]
        passed["as hidden"].update(hidden)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            if _suffix(name) in known:
                yield os.path.join(place, name)[len(start) :]
            else:
                passed["in class folders, of no suffix of an image"][_suffix(name)] += 1


def _pass_over(folder: Path, where: str, passed: dict[str, Counter[str]]) -> None:
    """Count what lies in a folder itself and is no folder to be looked into."""
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            passed["as hidden"][entry.name] += 1
        elif not _is_folder(entry):
            passed[where][_suffix(entry.name)] += 1


def _suffix(name: str) -> str:
    """The suffix of a file, in lower case."""
    return os.path.splitext(name)[1].lower() or "no suffix"


def _counts(counter: Counter[str]) -> str:
    """How many there are of each, the most first."""
    most = sorted(counter.items(), key=lambda item: (-item[1], item[0]))[: 3 * _MOST_NAMED]
    more = counter.total() - sum(count for _, count in most)
    named = [f"{count:,} x {suffix}" for suffix, count in most]
    return ", ".join(named + [f"{more:,} more"] * (more > 0))


def _named(paths: Sequence[Path]) -> str:
    """The first few of many folders."""
    more = len(paths) - _MOST_NAMED
    named = [str(path) for path in paths[:_MOST_NAMED]] + [f"{more:,} more"] * (more > 0)
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _refuse_unreadable_class(name: str, folder: Path, layout: _Layout, scan: Scan) -> None:
    """Raise if there is a class, or a part of one, without an image that can be read."""
    depth = 2 if layout.parts else 1

    def class_folder(number: int) -> str:
        return "/".join(layout.files[number].split("/")[:depth])

    readable = set(map(class_folder, scan.good))
    for number in range(len(layout.files)):
        if class_folder(number) not in readable:
            raise UserError(
                f"--dataset {name}: class folder {folder / class_folder(number)}: none of its images "
                "can be read"
            )


def _refuse_many(name: str, left_out: Sequence[str], count: int, most_bad: float) -> None:
    """Raise if more files are left out than may be."""
    allowed = max(1, int(round(most_bad * count, 6))) if most_bad else 0
    if len(left_out) > allowed:
        more = len(left_out) - _MOST_NAMED
        named = "; ".join(left_out[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        raise UserError(
            f"--dataset {name}: {len(left_out):,} of {count:,} images cannot be read, "
            f"{len(left_out) / count:.1%}, and at most {allowed:,} may: {named}"
        )


def _printable(path: str) -> str:
    """A path that can be written as UTF-8, whatever bytes the file system has."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
