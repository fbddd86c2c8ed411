"""Reads lists of files, and lists of files with a label each."""

import os
from collections.abc import Mapping
from pathlib import Path

from jaxhash.data.readers.lists import read_list
from jaxhash.utils.errors import UserError


def read_file_list(path: Path, folder: Path) -> tuple[list[str], list[str | None] | None]:
    """Reads a list of image files: a path on each line, or separated by zero bytes.

    A list in the form in which papers publish their splits, where labels follow the path, is read too.

    Args:
        path: the list.
        folder: what its paths are relative to.

    Returns:
        The paths, absolute, and their labels; None if the list has none.

    Raises:
        UserError: if there is no such list, or it is empty.
    """
    lines = _lines(path)
    first = lines[0].split()[0]
    if not os.path.lexists(folder / lines[0]) and os.path.lexists(folder / first):
        found = read_list(path)
        labels = found.labels
        if labels.ndim == 2:
            text = [", ".join(map(str, row.nonzero()[0].tolist())) or None for row in labels]
        else:
            text = [str(label) if label >= 0 else None for label in labels.tolist()]
        return [os.path.join(folder, name) for name in found.paths], text
    return [os.path.join(folder, line) for line in lines], None


def read_label_list(path: Path) -> Mapping[str, str]:
    """Reads a label for each path: a path and its label on each line, separated by a tab or a blank.

    Where a line has no tab the label is what follows its last blank, so a path may hold blanks.

    Raises:
        UserError: if there is no such list, it is empty, or a line has no label.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "labels.txt"
        ...     _ = file.write_text("my cat.jpg cat")
        ...     read_label_list(file)
        {'my cat.jpg': 'cat'}
    """
    labels = {}
    for number, line in enumerate(_lines(path), 1):
        name, separator, label = line.rpartition("\t" if "\t" in line else " ")
        if not (name.strip() and separator and label.strip()):
            raise UserError(
                f"{path}, line {number}: expected a path and its label, got {line[:80]!r}"
            )
        labels[os.path.normpath(name.strip())] = label.strip()
    return labels


def _lines(path: Path) -> list[str]:
    """Returns the lines of a list that are not empty."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such list")
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    if not (found := [os.fsdecode(line) for line in lines if line.strip()]):
        raise UserError(f"{path}: the list is empty")
    return found
