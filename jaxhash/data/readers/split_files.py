"""Reads a split from a .npz file of item numbers."""

from pathlib import Path

import numpy as np

from jaxhash.data.readers.arrays import read_npz
from jaxhash.data.splits import SPLIT_PARTS, Split
from jaxhash.utils.errors import UserError


def read_split(path: Path, *, items: int | None = None) -> Split:
    """Reads a split from a .npz file with the arrays ``train``, ``query`` and ``database``.

    They hold item numbers from 0; an array ``validation`` is optional. The split is named after the
    file; its digest distinguishes it from others of that name.

    Args:
        path: the file.
        items: number of items of the data set, if known.

    Raises:
        UserError: if the file cannot be read, lacks an array or has another one, or an array does not
            hold item numbers.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such split file")
    arrays = read_npz(path, "train", "query", "database", optional=None)
    unknown = sorted(set(arrays) - set(SPLIT_PARTS))
    if unknown:
        raise UserError(f"{path}: unknown array {unknown[0]!r}; expected {', '.join(SPLIT_PARTS)}")
    for name, numbers in arrays.items():
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise UserError(
                f"{path}: {name} must hold item numbers, got shape {numbers.shape} of "
                f"{numbers.dtype}"
            )
        if not len(numbers) and name != "validation":
            raise UserError(f"{path}: {name} is empty")
        wrong = numbers[(numbers < 0) | (numbers >= (np.inf if items is None else items))]
        if len(wrong):
            bound = "" if items is None else f" and below {items:,}"
            raise UserError(f"{path}: {name} must be from 0{bound}, got {wrong[0]}")
    return Split(path.stem, **{name: array.astype(np.int64) for name, array in arrays.items()})
