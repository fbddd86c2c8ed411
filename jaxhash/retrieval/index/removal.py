"""Finds the items that are named on a command line to be removed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jaxhash.retrieval.index.reader import IndexReader
from jaxhash.utils.errors import UserError, first_line

_LABEL = "label="
_FILE = "@"


def find_named(index: IndexReader, names: Sequence[str]) -> Int[np.ndarray, " n"]:
    """Returns the ids of items.

    Args:
        index: the index.
        names: ids in digits, ``label=NAME`` for all items of a label, or paths, absolute or relative
            to the root; a path that looks like one of the others is written ``./PATH``. ``@FILE`` stands
            for the names in a text file, one a line.

    Raises:
        UserError: if there is no item of one of the names, or a file of them cannot be read.
    """
    names = [each for name in names for each in _read_file(name)]
    ids = [int(name) for name in names if name.isascii() and name.isdigit()]
    labels = [name.removeprefix(_LABEL) for name in names if name.startswith(_LABEL)]
    rest = [name for name in names if not (name.isascii() and name.isdigit())]
    paths = [_below_root(index, name) for name in rest if not name.startswith(_LABEL)]
    for id in ids:
        if id >= index.manifest.next_id:  # it may be too large for int64
            raise UserError(f"{index.folder} has no item of id {id}")
    found = [np.array(ids, np.int64)]
    index.codes(found[0])  # raises for one that is removed
    found += [index.find(label=label) for label in labels]
    missing = [
        f"label {label!r}" for label, there in zip(labels, found[1:], strict=True) if not len(there)
    ]
    if paths:
        found.append(index.find(path=paths))
        held = {item.path for item in index.items(found[-1])}
        missing += [f"path {path!r}" for path in paths if path not in held]
    if missing:
        others = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{index.folder} has no item of {missing[0]}{others}; none was removed")
    return np.unique(np.concatenate(found))


def _below_root(index: IndexReader, path: str) -> str:
    """Returns a path relative to the root, as the items table has it."""
    if index.root is not None and Path(path).is_relative_to(index.root):
        return Path(path).relative_to(index.root).as_posix()
    return path.removeprefix("./")


def _read_file(name: str) -> list[str]:
    """Returns the names in a file, if a name stands for one; lines without any are passed over."""
    if not name.startswith(_FILE):
        return [name]
    try:
        text = Path(name.removeprefix(_FILE)).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"`remove={name}` cannot be read ({first_line(error)})") from None
    return [line for line in text.split("\n") if line.strip()]
