"""Reads feature files: vectors and their labels in one .npz, or in a .npy with the labels beside it.

The vectors stay on disk, and are read on access.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.readers.arrays import read_npy, read_npz
from jaxhash.data.readers.labels import check_class_ids, check_class_names, read_labels
from jaxhash.data.readers.vectors import NpyRows, ScaledVectors, StoredVectors
from jaxhash.data.rows import row_blocks
from jaxhash.data.sources import SOURCE_PARTS, Source
from jaxhash.utils.errors import UserError

#: Arrays that a feature file may hold.
_OPTIONAL = ("scale", "class_names", "split", "split_names", "coarse_labels", "item_names")


def read_features(name: str, path: Path) -> Source:
    """Reads the vectors of a .npz file with ``features`` [items, dimensions] and ``labels``.

    A file FILE.npy holds the features alone, of any size and any dtype of numbers. The other arrays are
    beside it: in FILE.labels.npz, or in FILE.labels.npy if there are none but the labels. See
    `jaxhash.data.readers.vectors.StoredVectors`.

    Labels are class ids (-1: no label) or 0/1 rows [items, classes]. Where items have no classes, each is
    of a class of its own: ``labels`` are ``np.arange(items)``. Features are multiplied by ``scale``, one
    factor per dimension, if the file holds it.

    Other arrays are optional:

    - ``class_names``: with it each class must have an item; without it ids may have gaps;
    - ``split``: per item, 0 for the training part and 1 for the test part, or an index in
      ``split_names``, some of `jaxhash.data.sources.SOURCE_PARTS`;
    - ``coarse_labels``: ids of groups of classes;
    - ``item_names``: per item, a name that leads back to it.

    Args:
        name: name of the source.
        path: the file. Arrays that are not compressed stay on disk.

    Raises:
        UserError: if the file cannot be read, or an array does not fit the others.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such feature file; `data_dir` names its folder")
    is_npy = path.suffix.lower() == ".npy"
    if is_npy:
        arrays = _read_beside(path)
        features = NpyRows.open(path)
    else:
        arrays = read_npz(path, "features", "labels", optional=_OPTIONAL)
        features = arrays["features"]
    is_numeric = features.dtype.kind in "iuf" or features.dtype.name == "bfloat16"
    if features.ndim != 2 or not is_numeric:
        raise UserError(
            f"{path}: expected features [items, dimensions] of numbers, got shape {features.shape} "
            f"of {features.dtype}"
        )
    labels = read_labels(arrays["labels"], path)
    if len(labels) != len(features) or not features.size:
        raise UserError(
            f"{path}: expected features [items, dimensions] and labels [items] or [items, classes], "
            f"got shapes {features.shape} and {labels.shape}"
        )
    check_class_ids(labels, len(labels), path)
    items = read_item_names(arrays.get("item_names"), labels, path)
    scale = _scale(arrays.get("scale"), features, path)
    vectors = StoredVectors(features, scale, items) if is_npy else ScaledVectors(features, scale)
    parts, part_ids = read_parts(arrays.get("split"), arrays.get("split_names"), labels, path)
    source = Source(
        name,
        vectors,
        labels,
        read_class_names(arrays.get("class_names"), labels, path),
        part_ids,
        _coarse_labels(arrays.get("coarse_labels"), labels, path),
        parts=parts,
        item_names=items,
    )
    if not is_npy:  # those of a .npy are checked as they are read
        check_finite(source, path)
    return source


def _read_beside(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays beside a .npy file: its labels at least."""
    archive, labels = (path.with_suffix(f".labels{kind}") for kind in (".npz", ".npy"))
    found = [file.name for file in (archive, labels) if file.is_file()]
    if len(found) != 1:
        there = "both are there" if found else "neither is there"
        raise UserError(
            f"{path}: its labels are looked for in {archive.name}, or without other arrays in "
            f"{labels.name}; {there}"
        )
    if labels.is_file():
        return {"labels": read_npy(labels)}
    return read_npz(archive, "labels", optional=_OPTIONAL)


def check_finite(source: Source, where: Any) -> None:
    """Raises a `UserError` that names the first item with a value that is not finite."""
    for rows in row_blocks(len(source.inputs), 4 * source.inputs.shape[1]):
        finite = np.isfinite(source.inputs[rows]).all(axis=1)
        if not finite.all():
            item = source.name_of(rows.start + int(finite.argmin()))
            raise UserError(f"{where}: features hold values that are not finite, first of {item}")


def _scale(
    scale: np.ndarray | None, features: np.ndarray | NpyRows, where: Any
) -> Shaped[np.ndarray, " dimensions"]:
    """Returns the factors of the dimensions; a single 1 if the file holds none."""
    if scale is None:
        return np.ones(1, np.float32)
    if scale.shape not in ((), (1,), features.shape[1:]):
        raise UserError(f"{where}: scale has shape {scale.shape}, expected {features.shape[1:]}")
    if scale.dtype.kind not in "iuf":
        raise UserError(f"{where}: scale must be finite numbers, got {scale.dtype}")
    with np.errstate(over="ignore"):
        factors = scale.reshape(-1).astype(np.float32)
    if not np.isfinite(factors).all():
        raise UserError(f"{where}: scale must be finite numbers, in float32 too")
    return factors


def read_parts(
    split: np.ndarray | None, names: np.ndarray | None, labels: np.ndarray, where: Any
) -> tuple[tuple[str, ...] | None, Int[np.ndarray, " items"] | None]:
    """Returns the parts of a feature file, and the index of the part of each item."""
    if split is None:
        return None, None
    parts = ("train", "test") if names is None else tuple(map(str, names.reshape(-1)[:9]))
    unknown = [name for name in parts if name not in SOURCE_PARTS]
    if unknown or len(set(parts)) < len(parts):
        raise UserError(
            f"{where}: split_names must be some of {', '.join(SOURCE_PARTS)}, got {str(parts)[:200]}"
        )
    if split.dtype.kind in "iu":
        in_range = split.min(initial=0) >= 0 and split.max(initial=0) < len(parts)
    else:
        in_range = np.isin(split, np.arange(len(parts))).all()
    if split.shape != labels.shape[:1] or not in_range:
        allowed = " or ".join(f"{number} ({name})" for number, name in enumerate(parts))
        raise UserError(f"{where}: split must be {allowed} for each of the {len(labels):,} items")
    return parts, split.astype(np.int8)


def read_item_names(
    names: np.ndarray | None, labels: np.ndarray, where: Any
) -> Shaped[np.ndarray, " items"] | None:
    """Returns the names of the items, checked."""
    if names is None:
        return None
    if names.shape != labels.shape[:1] or names.dtype.kind != "U":
        raise UserError(
            f"{where}: item_names must be a string for each of the {len(labels):,} items, got shape "
            f"{names.shape} of {names.dtype}"
        )
    return names


def _coarse_labels(
    coarse: np.ndarray | None, labels: np.ndarray, where: Any
) -> Int[np.ndarray, " items"] | None:
    """Returns the coarse labels as class ids, checked."""
    if coarse is None:
        return None
    fits = labels.ndim == 1 and coarse.shape == labels.shape and coarse.dtype.kind in "iu"
    if not fits or coarse.min() < 0:
        raise UserError(
            f"{where}: coarse_labels must be ids from 0, one for each of the {len(labels):,} items of one "
            f"class, got shape {coarse.shape} of {coarse.dtype}"
        )
    coarse = read_labels(coarse, where, "coarse ")
    check_class_ids(coarse, len(coarse), f"{where}: coarse_labels")
    return coarse


def read_class_names(names: np.ndarray | None, labels: np.ndarray, where: Any) -> tuple[str, ...]:
    """Returns the names of the classes, checked; their numbers if the file holds no names."""
    if labels.ndim == 1 and labels.max() < 0:
        raise UserError(
            f"{where}: no item has a label; of items without classes labels are np.arange(items)"
        )
    if names is None:
        classes = int(labels.max()) + 1 if labels.ndim == 1 else labels.shape[1]
        return tuple(map(str, range(classes)))
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise UserError(
            f"{where}: class_names must be strings, one for each class, got shape {names.shape} of "
            f"{names.dtype}"
        )
    if names.dtype.kind == "S":
        names = np.char.decode(names, "utf-8", "replace")
    if labels.ndim == 1:
        check_class_names(labels, len(names), where)
        sizes = np.bincount(labels[labels >= 0], minlength=len(names))
    else:
        if labels.shape[1] != len(names):
            raise UserError(
                f"{where}: labels have {labels.shape[1]} columns, and class_names {len(names)} names"
            )
        sizes = labels.sum(axis=0, dtype=np.int64)
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        more = f", and {len(empty) - 1:,} more classes" if len(empty) > 1 else ""
        raise UserError(
            f"{where}: class {str(names[empty[0]])[:80]} ({empty[0]}) has no item{more}"
        )
    return tuple(map(str, names))
