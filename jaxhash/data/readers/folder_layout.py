"""Finds the image files of a folder: in a subfolder per class, perhaps below one per part of the set.

Notes report what is inferred from the names of folders, and every file that is skipped.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxhash.data.readers.images import image_suffixes
from jaxhash.data.sources import SOURCE_PARTS
from jaxhash.utils.errors import UserError

#: Names of the folders of each part, in any case; words such as "set" or "images" may be around them.
PART_FOLDERS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
    "query": ("query", "queries", "probe"),
    "database": ("database", "db", "gallery", "index", "base"),
}

#: Words that may be around the name of a part.
_FILLERS = "set|data|split|images?|imgs?|folder"

#: Name of the folder, beside the data, of the index of a data set.
INDEX_FOLDER = ".jaxhash-index"

#: Number of folders or classes that a message lists.
_MAX_LISTED = 3

_LAYOUT = (
    "images are looked for in CLASS/, or in PART/CLASS/ where the parts are called "
    + ", ".join(SOURCE_PARTS)
)


class FolderLayout(NamedTuple):
    """The image files of a folder, in order, as JSON values.

    Attributes:
        files: paths within the folder.
        class_names: names of the classes.
        labels: class id of each file.
        parts: parts of the set; empty if it comes in none.
        part_ids: per file, the index of its part; empty likewise.
        notes: sentences on what was inferred or skipped.
    """

    files: list[str]
    class_names: list[str]
    labels: list[int]
    parts: list[str]
    part_ids: list[int]
    notes: list[str]


def part_of_folder(folder_name: str) -> str | None:
    """Returns the part, one of `SOURCE_PARTS`, that a folder of this name usually holds; or None.

    Example:
        >>> part_of_folder("Training_Set"), part_of_folder("val2017"), part_of_folder("trains")
        ('train', 'validation', None)
    """
    letters = re.sub(r"[\W\d_]", "", folder_name.casefold())
    for part, names in PART_FOLDERS.items():
        if re.fullmatch(rf"(?:{_FILLERS})*(?:{'|'.join(names)})(?:{_FILLERS})*", letters):
            return part
    return None


def find_layout(name: str, folder: Path) -> FolderLayout:
    """Finds the image files of a folder, sorted by part, class and path.

    Args:
        name: name of the source, for messages.
        folder: folder of the classes, or of the parts.

    Raises:
        UserError: if there is no such folder, it has no class folders or an empty one, or it is unclear
            which folders are classes and which are parts.
    """
    if not folder.is_dir():
        raise UserError(
            f"`dataset={name}`: there is no folder {folder}; `data_dir` names its place"
        )
    parts, notes = _find_parts(name, folder)
    skipped: dict[str, Counter[str]] = defaultdict(Counter)
    found: list[tuple[str, str, str]] = []
    for part, place in parts.items() if parts else [("", folder)]:
        classes = _subfolders(place)
        _count_skipped(place, "beside the class folders", skipped)
        for class_folder in classes:
            _check_no_parts_below(name, class_folder)
        if not parts:
            _check_not_parts(name, classes)
        for class_folder in classes:
            walk = walk_images(class_folder, skipped, "in class folders, ")
            files = sorted(walk, key=lambda file: file.split(os.sep))
            if not files:
                other = skipped["in class folders, of no suffix of an image"]
                held = f"; of what is passed over: {list_counts(other)}" if other else ""
                raise UserError(
                    f"`dataset={name}`: class folder {class_folder} holds no image{held}"
                )
            start = class_folder.relative_to(folder)
            found += [(part, class_folder.name, str(start / file)) for file in files]
    if parts:
        _count_skipped(folder, "beside the parts", skipped)
    if not found:
        raise UserError(f"`dataset={name}`: {folder} holds no class folders; {_LAYOUT}")
    notes += skipped_notes(skipped)
    class_names = sorted({class_name for _, class_name, _ in found})
    notes += _case_note(class_names) + _one_part_note(found)
    number = {class_name: label for label, class_name in enumerate(class_names)}
    return FolderLayout(
        [file for *_, file in found],
        class_names,
        [number[class_name] for _, class_name, _ in found],
        list(parts),
        [list(parts).index(part) for part, *_ in found] if parts else [],
        notes,
    )


def _find_parts(name: str, folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Returns the folder of each part, if the set comes in parts, and notes on them."""
    below = _subfolders(folder)
    known = [path for path in below if part_of_folder(path.name)]
    if not known:
        return {}, []
    others = [path for path in below if path not in known]
    if len(known) == 1 and others and not _subfolders(known[0]):
        [path] = known
        return {}, [f"{path.name} is taken for a class, as its images lie in no class folders"]
    if others:
        raise UserError(
            f"`dataset={name}`: it holds folders named like parts of the set ({_list_folders(known)}) "
            f"beside others ({_list_folders(others)}); {_LAYOUT}"
        )
    parts: dict[str, Path] = {}
    for path in known:
        part = part_of_folder(path.name)
        if part in parts:
            raise UserError(
                f"`dataset={name}`: {parts[part]} and {path} are both named like the part {part}; "
                f"{_LAYOUT}"
            )
        parts[part] = path
        if not _subfolders(path):
            raise UserError(f"`dataset={name}`: {path} holds no class folders; {_LAYOUT}")
        _check_no_parts_below(name, path)
    parts = {part: parts[part] for part in SOURCE_PARTS if part in parts}
    listed = ", ".join(
        part if path.name == part else f"{path.name} as {part}" for part, path in parts.items()
    )
    return parts, [f"parts of the set: {listed}"]


def _check_no_parts_below(name: str, folder: Path) -> None:
    """Raises if the subfolders of a class, or of a part, are parts."""
    below = _subfolders(folder)
    parts = {part_of_folder(path.name) for path in below} - {None}
    flat = any(not _is_folder(entry) for entry in os.scandir(folder))
    if len(parts) > 1 or (parts and not flat and all(part_of_folder(path.name) for path in below)):
        raise UserError(
            f"`dataset={name}`: {folder} is where classes are expected, and holds parts "
            f"({', '.join(path.name for path in below if part_of_folder(path.name))}); {_LAYOUT}; a set "
            "that lies deeper is named by its own folder"
        )


def _check_not_parts(name: str, folders: Sequence[Path]) -> None:
    """Raises if the folders of classes look like parts: they all hold the same subfolders.

    Parts of unknown names and domains do so, and the parents of the folder that was meant. It is enough
    that one holds all the subfolders of the others, at least two and at least as many as there are
    folders, and that no image lies directly in any of them.
    """
    subfolders = [{path.name for path in _subfolders(folder)} for folder in folders]
    largest = max(subfolders, key=len, default=set())
    if len(largest) < max(2, len(folders)) or not all(
        each and each <= largest for each in subfolders
    ):
        return
    known = image_suffixes()
    if any(_suffix(path.name) in known for folder in folders for path in folder.iterdir()):
        return
    some = ", ".join(sorted(largest)[:_MAX_LISTED])
    raise UserError(
        f"`dataset={name}`: {_list_folders(folders)} hold no images but folders ({some}) that look like "
        f"classes; {_LAYOUT}; a set that lies deeper is named by its own folder"
    )


def _case_note(class_names: Sequence[str]) -> list[str]:
    """Returns a note on classes whose names differ only in case; none if there are none."""
    by_letters = defaultdict(list)
    for class_name in class_names:
        by_letters[class_name.casefold()].append(class_name)
    alike = [" and ".join(names) for names in by_letters.values() if len(names) > 1]
    return [f"warning: classes that differ in capitals alone: {', '.join(alike)}"] if alike else []


def _one_part_note(found: Sequence[tuple[str, str, str]]) -> list[str]:
    """Returns a note on classes that only one of several parts holds; none if there are none."""
    parts_of = defaultdict(set)
    for part, class_name, _ in found:
        parts_of[class_name].add(part)
    if len(set.union(*parts_of.values())) == 1:
        return []
    alone = sorted(name for name, parts in parts_of.items() if len(parts) == 1)
    more = f" and {len(alone) - _MAX_LISTED:,} more" if len(alone) > _MAX_LISTED else ""
    named = ", ".join(alone[:_MAX_LISTED])
    return [f"classes of one part alone: {named}{more}"] if alone else []


def _subfolders(folder: Path) -> list[Path]:
    """Returns the subfolders that are not hidden, sorted."""
    entries = os.scandir(folder)
    return sorted(Path(e) for e in entries if _is_folder(e) and not e.name.startswith("."))


def _is_folder(entry: os.DirEntry) -> bool:
    """Returns whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def walk_images(
    folder: Path, skipped: Mapping[str, Counter[str]], where: str = ""
) -> Iterator[str]:
    """Yields the paths of the images within a folder; follows links, but visits no folder twice.

    Args:
        folder: the folder.
        skipped: counts what is passed over, per reason by suffix, or by name if hidden.
        where: start of the reasons, of what is not hidden.

    Raises:
        OSError: if a folder cannot be read.
    """

    def fail(error: OSError):
        raise error

    known, seen, start = image_suffixes(), set(), os.path.join(folder, "")
    for place, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            skipped[f"{where}for a link leads there again"].update(map(_suffix, names))
            continue
        seen.add((status.st_dev, status.st_ino))
        hidden = [name for name in folders + names if name.startswith(".") and name != INDEX_FOLDER]
        skipped["as hidden"].update(hidden)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            if _suffix(name) in known:
                yield os.path.join(place, name)[len(start) :]
            else:
                skipped[f"{where}of no suffix of an image"][_suffix(name)] += 1


def skipped_notes(skipped: Mapping[str, Counter[str]]) -> list[str]:
    """Returns a note for each reason for which something was passed over."""
    return [
        f"passed over {where}: {list_counts(count)}"
        for where, count in sorted(skipped.items())
        if count
    ]


def _count_skipped(folder: Path, where: str, skipped: dict[str, Counter[str]]) -> None:
    """Counts the entries of a folder that are hidden or no folders."""
    for entry in os.scandir(folder):
        if entry.name == INDEX_FOLDER:
            continue
        if entry.name.startswith("."):
            skipped["as hidden"][entry.name] += 1
        elif not _is_folder(entry):
            skipped[where][_suffix(entry.name)] += 1


def _suffix(name: str) -> str:
    """Returns the suffix of a file in lower case."""
    return os.path.splitext(name)[1].lower() or "no suffix"


def list_counts(counter: Counter[str]) -> str:
    """Lists the largest counts, in descending order."""
    largest = sorted(counter.items(), key=lambda item: (-item[1], item[0]))[: 3 * _MAX_LISTED]
    more = counter.total() - sum(count for _, count in largest)
    named = [f"{count:,} x {suffix}" for suffix, count in largest]
    return ", ".join(named + [f"{more:,} more"] * (more > 0))


def _list_folders(paths: Sequence[Path]) -> str:
    """Lists the first few folders."""
    more = len(paths) - _MAX_LISTED
    named = [str(path) for path in paths[:_MAX_LISTED]] + [f"{more:,} more"] * (more > 0)
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
