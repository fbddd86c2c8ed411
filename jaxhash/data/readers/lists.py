"""Reads list files, the form in which papers publish their splits.

A line holds a path and the labels of the image, separated by blanks: either a 0 or 1 per class
(``im1.jpg 0 1 0``) or one class id (``im1.jpg 3``; -1 for no label). A split is three such files.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxhash.data.readers.labels import check_class_ids, read_labels
from jaxhash.data.splits import Split
from jaxhash.utils.errors import UserError

#: File names of the lists of a split in a folder, in lower case; any case is read.
LIST_FILES = {
    "train": ("train.txt",),
    "query": ("test.txt", "query.txt"),
    "database": ("database.txt",),
}


class ListFile(NamedTuple):
    """The content of a list file.

    Attributes:
        paths: path of the image of each line.
        labels: class ids, or multi-hot rows of 0 and 1.
    """

    paths: tuple[str, ...]
    labels: Int[np.ndarray, " lines *classes"]


class ListedSplit(NamedTuple):
    """A split read from lists; its items are the distinct paths, in sorted order.

    Attributes:
        split: the split.
        paths: path of each item.
        labels: labels of each item, from the first line that names it.
        conflicts: one sentence per line whose labels differ from those of the first line of its path.
    """

    split: Split
    paths: tuple[str, ...]
    labels: Int[np.ndarray, " items *classes"]
    conflicts: tuple[str, ...]


def read_list(path: Path) -> ListFile:
    """Reads one list.

    Args:
        path: a text file in UTF-8; empty lines at its end are ignored.

    Raises:
        UserError: if the file is missing or empty, or a line is malformed: it has no label, one of
            several labels is neither 0 nor 1, or their number differs from the first line. The message
            names the line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "train.txt"
        ...     _ = file.write_text("cat.jpg 3")
        ...     read_list(file)
        ListFile(paths=('cat.jpg',), labels=array([3], dtype=int32))
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such list file")
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf").rstrip()
    if not content:
        raise UserError(f"{path}: the list is empty")
    paths, rows = [], []
    for number, line in enumerate(content.split(b"\n"), start=1):
        where = f"{path}, line {number}"
        try:
            fields = line.decode().split()
        except UnicodeDecodeError:
            raise UserError(f"{where}: not UTF-8") from None
        if len(fields) < 2:
            raise UserError(
                f"{where}: expected a path and its labels, got {line.decode().strip()[:80]!r}"
            )
        if rows and len(fields) - 1 != len(rows[0]):
            raise UserError(
                f"{where}: {len(fields) - 1} labels, but line 1 has {len(rows[0])}; a path must not "
                "hold blanks"
            )
        paths.append(fields[0])
        rows.append(np.array(_parse_labels(fields[1:], where), np.int64))
    labels = np.stack(rows)
    return ListFile(
        tuple(paths), read_labels(labels[:, 0] if labels.shape[1] == 1 else labels, path)
    )


def read_split_lists(lists: Path | Mapping[str, Path]) -> ListedSplit:
    """Reads a split from the lists of its training items, queries and database.

    Lines with the same path are the same item. If their labels differ, those of the first line count,
    and ``conflicts`` names both lines. This is no error, since published lists contain such lines.

    Items are numbered by sorted path. The digest of the split thus covers how the images are split, but
    not which images they are: another data set that is split in the same way has the same digest.

    Args:
        lists: a folder with train.txt, test.txt or query.txt, and database.txt; or the three files, by
            ``train``, ``query`` and ``database``.

    Raises:
        UserError: if a list is missing or malformed, or the lists have different classes.
    """
    files = dict(lists) if isinstance(lists, Mapping) else _find_lists(lists)
    read = {name: read_list(files[name]) for name in LIST_FILES}
    first = read["train"].labels.shape[1:]
    for name, found in read.items():
        if found.labels.shape[1:] != first:
            raise UserError(
                f"{files[name]} has {_label_kind(found.labels)}, but {files['train']} has "
                f"{_label_kind(read['train'].labels)}"
            )
    paths = [
        posixpath.normpath(path.replace("\\", "/"))
        for found in read.values()
        for path in found.paths
    ]
    labels = np.concatenate([found.labels for found in read.values()])
    where = [
        f"{files[name]} line {number}"
        for name, found in read.items()
        for number in range(1, len(found.paths) + 1)
    ]
    names, first_line, item = np.unique(paths, return_index=True, return_inverse=True)
    agrees = (labels == labels[first_line[item]]).reshape(len(paths), -1).all(axis=1)
    conflicts = tuple(
        f"{paths[line]} has other labels in {where[line]} than in {where[first_line[item[line]]]}"
        for line in np.flatnonzero(~agrees)
    )
    if labels.ndim == 1:
        check_class_ids(labels, len(names), where[labels.argmax()])
    ends = np.cumsum([len(found.paths) for found in read.values()])[:-1]
    split = Split(_split_name(files), *np.split(item.astype(np.int64), ends))
    return ListedSplit(split, tuple(names.tolist()), labels[first_line], conflicts)


def _parse_labels(fields: Sequence[str], where: str) -> list[int]:
    """Parses the labels of a line: one class id, or a 0 or 1 per class."""
    if len(fields) > 1:
        wrong = [field for field in fields if field not in ("0", "1")]
        if wrong:
            raise UserError(f"{where}: expected 0 or 1 for each class, got {wrong[0][:80]!r}")
        return list(map(int, fields))
    if not re.fullmatch(r"-1|\d+", fields[0], re.ASCII):
        raise UserError(
            f"{where}: expected a class id from 0, got {fields[0][:80]!r}; -1 means no label"
        )
    if len(fields[0]) > 18:
        raise UserError(f"{where}: class ids must be below 10^18, got {fields[0][:80]}")
    return [int(fields[0])]


def _label_kind(labels: Int[np.ndarray, " lines *classes"]) -> str:
    """Describes the kind of labels of a list."""
    return "class ids" if labels.ndim == 1 else f"{labels.shape[1]} labels a line"


def _find_lists(folder: Path) -> dict[str, Path]:
    """Returns the lists of a split in a folder, by part."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of lists")
    files, found = [path for path in sorted(folder.iterdir()) if path.is_file()], {}
    for part, names in LIST_FILES.items():
        there = [path for path in files if path.name.lower() in names]
        if len(there) != 1:
            have = "no" if not there else "more than one of"
            raise UserError(f"{folder} has {have} {' or '.join(names)}")
        found[part] = there[0]
    return found


def _split_name(files: Mapping[str, Path]) -> str:
    """Returns the name of the split, after the folder of the list of queries."""
    return f"lists-{files['query'].absolute().parent.name}"
