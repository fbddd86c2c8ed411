"""Sources: labelled images or feature vectors that can be read by index.

A source is named by a string: ``digits``, ``folder:DIR`` for image files, ``tfds:NAME`` for any TFDS
set of images of one size, or ``features:FILE.npz`` for feature vectors.
"""

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.arrays import read_npz
from jaxhash.errors import UserError, first_line

#: Sets of at most this many decoded bytes are decoded once and held in memory.
MEMORY_LIMIT = 2**30

#: Share of a folder's images that may be left out as unreadable.
MOST_BAD = 0.01

#: Arrays that a feature file may hold.
_OPTIONAL = ("scale", "class_names", "split", "coarse_labels")

#: A class id of this size is taken for a mistake, such as an id of the image.
MOST_CLASSES = 10**6


#: Indices of inputs, a range of them, or one.
Index = Int[np.ndarray, " n"] | slice | int | np.integer


@runtime_checkable
class Rows(Protocol):
    """Inputs that can be read by index: a NumPy array, or a reader of files."""

    def __len__(self) -> int:
        """Number of inputs."""

    def __getitem__(self, rows: Index) -> Shaped[np.ndarray, "..."]:
        """What a NumPy array of all inputs has there."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Inputs and their labels.

    Attributes:
        name: as given on the command line.
        inputs: uint8 images [height, width, channels], or float32 vectors, by index.
        labels: class ids from 0, or multi-hot rows of 0 and 1.
        class_names: a name for each class.
        part: of each item 0 for the training part of its set, 1 for the test part; None where that
            is not known.
        coarse_labels: of each item the id of a group that its class belongs to, if there are any.
        left_out: of each file that cannot be read and is no item, its path and the reason.
    """

    name: str
    inputs: Rows
    labels: Int[np.ndarray, " items *classes"]
    class_names: tuple[str, ...]
    part: Int[np.ndarray, " items"] | None = None
    coarse_labels: Int[np.ndarray, " items"] | None = None
    left_out: tuple[str, ...] = ()


def load_source(
    name: str,
    data_dir: Path | None = None,
    image_size: int | None = None,
    most_bad: float = MOST_BAD,
) -> Source:
    """Open the source of that name.

    Where classes have names, each has an item, and each label a name.

    Args:
        name: ``digits``, ``folder:DIR``, ``tfds:NAME`` or ``features:FILE``.
        data_dir: folder of the TFDS sets, the feature files, or what DIR is in; TFDS has a default of
            its own.
        image_size: height and width that a folder's images are decoded to; other sources have one
            size already.
        most_bad: share of a folder's images that may be unreadable. They are left out; above 0, one
            may be of however few images.

    Raises:
        UserError: if the name, the folder or the file is unknown, the set has no labels, a label is
            outside their range, a class is empty, or too many images are unreadable.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"--data-dir {data_dir}: there is no such folder")
    kind, _, rest = name.partition(":")
    if name == "digits":
        return _digits()
    if kind == "tfds" and rest:
        return _tfds(name, rest, data_dir)
    if kind == "features" and rest:
        return _features(name, (data_dir or Path()) / rest)
    if kind == "folder" and rest:
        from jaxhash.data.folders import read_folder  # it makes a source

        return read_folder(name, (data_dir or Path()) / rest, image_size, most_bad)
    raise UserError(
        f"--dataset {name!r}: expected 'digits', 'folder:DIR', 'tfds:NAME' or 'features:FILE.npz'"
    )


def _digits() -> Source:
    """1,797 handwritten digits of 8x8 pixels, embedded in scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return Source("digits", images, digits.target.astype(np.int32), tuple("0123456789"))


def _features(name: str, path: Path) -> Source:
    """A .npz with ``features`` [items, dimensions] and ``labels`` [items] or [items, classes].

    Items without classes are each of a class of their own: ``labels`` are ``np.arange(items)``.
    Integer features are multiplied by the file's ``scale``, one factor a dimension. The vectors are
    scaled by one common factor to a root mean square of 1. ``class_names`` is optional: with it, each
    class must have an item; without, ids may have gaps. So are ``split``, 0 for the items of the training part and 1 for those of the test part, and
    ``coarse_labels``, ids of groups of classes.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such feature file; --data-dir names its folder")
    arrays = read_npz(path, "features", "labels", optional=_OPTIONAL)
    features, labels = arrays["features"], arrays["labels"]
    fits = labels.ndim in (1, 2) and labels.shape[:1] == features.shape[:1]
    if features.ndim != 2 or not fits or labels.dtype.kind not in "iub":
        raise UserError(
            f"{path}: expected features [items, dimensions] and integer labels [items] or [items, "
            f"classes], got shapes {features.shape} and {labels.shape} of {labels.dtype}"
        )
    labels = _class_ids(labels, path) if labels.ndim == 1 else _multi_hot(labels, path)
    scale = arrays.get("scale", np.ones(1))
    if scale.shape not in ((), (1,), features.shape[1:]):
        raise UserError(f"{path}: scale has shape {scale.shape}, expected {features.shape[1:]}")
    features = features.astype(np.float32) * scale.astype(np.float32)
    if not np.isfinite(features).all():
        raise UserError(f"{path}: features hold values that are not finite")
    norm = np.sqrt(np.mean(np.square(features, dtype=np.float64)))
    features = (features / (norm or 1.0)).astype(np.float32)
    names = _class_names(arrays.get("class_names"), labels, path)
    part = _part(arrays.get("split"), labels, path)
    coarse = _coarse_labels(arrays.get("coarse_labels"), labels, path)
    return Source(name, features, labels, names, part, coarse)


def _class_ids(labels: np.ndarray, where: Any) -> Int[np.ndarray, " items"]:
    if labels.size == 0:
        raise UserError(f"{where}: the set is empty")
    if labels.min() < 0:
        raise UserError(f"{where}: labels must be class ids from 0, got {labels.min()}")
    if labels.max() >= MOST_CLASSES:
        raise UserError(f"{where}: class ids must be below {MOST_CLASSES:,}, got {labels.max()}")
    return labels.astype(np.int32)


def _multi_hot(labels: np.ndarray, where: Any) -> Int[np.ndarray, "items classes"]:
    if labels.size == 0:
        raise UserError(f"{where}: the set is empty")
    wrong = labels[(labels != 0) & (labels != 1)]
    if len(wrong):
        raise UserError(f"{where}: labels [items, classes] must be 0 or 1, got {wrong[0]}")
    return labels.astype(np.int8)


def _part(
    part: np.ndarray | None, labels: np.ndarray, where: Any
) -> Int[np.ndarray, " items"] | None:
    if part is None:
        return None
    if part.shape != labels.shape[:1] or not np.isin(part, (0, 1)).all():
        raise UserError(
            f"{where}: split must be 0 (training part) or 1 (test part) for each of the "
            f"{len(labels):,} items"
        )
    return part.astype(np.int8)


def _coarse_labels(
    coarse: np.ndarray | None, labels: np.ndarray, where: Any
) -> Int[np.ndarray, " items"] | None:
    if coarse is None:
        return None
    if labels.ndim != 1 or coarse.shape != labels.shape or coarse.dtype.kind not in "iu":
        raise UserError(
            f"{where}: coarse_labels must be ids, one for each of the {len(labels):,} items of one "
            f"class, got shape {coarse.shape} of {coarse.dtype}"
        )
    return _class_ids(coarse, f"{where}: coarse_labels")


def _class_names(names: np.ndarray | None, labels: np.ndarray, where: Any) -> tuple[str, ...]:
    """The names given, one for each class that has an item; numbers where none are given."""
    if names is None:
        classes = int(labels.max()) + 1 if labels.ndim == 1 else labels.shape[1]
        return tuple(map(str, range(classes)))
    if labels.ndim == 1:
        _check_range(labels, len(names), where)
        sizes = np.bincount(labels, minlength=len(names))
    else:
        if labels.shape[1] != len(names):
            raise UserError(
                f"{where}: labels have {labels.shape[1]} columns, and class_names {len(names)} names"
            )
        sizes = labels.sum(axis=0, dtype=np.int64)
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        more = f", and {len(empty) - 1:,} more classes" if len(empty) > 1 else ""
        raise UserError(f"{where}: class {names[empty[0]]!s} ({empty[0]}) has no item{more}")
    return tuple(map(str, names))


def _check_range(labels: Int[np.ndarray, " items"], classes: int, where: Any) -> None:
    """Raise a `UserError` if a label is that of no class."""
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        item = outside[0]
        raise UserError(
            f"{where}: item {item:,} has label {labels[item]}, and there are names for 0 to "
            f"{classes - 1}"
        )


def _tfds(name: str, builder_name: str, data_dir: Path | None) -> Source:
    """A TFDS set, read as array_record without TensorFlow; its parts are pooled.

    The test part of the source is the set's test part, or the validation part where it has none.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(builder_name, data_dir=data_dir)
    except Exception as error:  # an unknown name, version or configuration, each in its own way
        raise UserError(f"--dataset {name}: {first_line(error)}") from error
    features = builder.info.features
    for key in ("image", "label"):
        if key not in features:
            raise UserError(f"--dataset {name}: it has no {key!r}, only {sorted(features)}")
    shape = features["image"].shape
    if None in shape:
        raise UserError(f"--dataset {name}: its images have no common size, {shape}")
    prepared = builder.is_prepared()
    if not prepared and importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"--dataset {name} is not prepared in {builder.data_dir}: name the folder that holds "
            'it by --data-dir, or install what prepares it, once: pip install "jaxhash[prepare]"'
        )

    def open_parts(**options):
        parts = tfds.data_source(
            builder_name,
            data_dir=data_dir,
            builder_kwargs=None if prepared else {"file_format": "array_record"},
            **options,
        )
        return {part: parts[part] for part in ("train", "validation", "test") if part in parts}

    try:
        parts = open_parts()
        images = _Images(list(parts.values()))
        if len(images) * np.prod(shape) <= MEMORY_LIMIT:
            columns = [(record["image"], record["label"]) for record in images.records()]
            images, labels = map(np.stack, zip(*columns, strict=True))
        else:
            skip = {"image": tfds.decode.SkipDecoding()}
            undecoded = _Images(list(open_parts(decoders=skip).values()))
            labels = np.array([record["label"] for record in undecoded.records()])
    except Exception as error:  # a download fails in as many ways as there are sets
        raise UserError(f"--dataset {name} could not be read: {first_line(error)}") from error
    labels, class_names = _class_ids(labels, name), tuple(features["label"].names)
    _check_range(labels, len(class_names), name)
    return Source(name, images, labels, class_names, part_of_each(parts))


def part_of_each(parts: Mapping[str, Any]) -> Int[np.ndarray, " items"] | None:
    """Of each item of the parts, one after the other, 1 if it is in the test part, and 0 if not.

    The test part is the part ``test``, or the validation part of a set that has none. None where
    that or ``train`` is missing.
    """
    test = next((name for name in ("test", "validation", "val") if name in parts), "test")
    if not {"train", test} <= set(parts):
        return None
    is_test = np.array([name == test for name in parts], np.int8)
    return np.repeat(is_test, [len(part) for part in parts.values()])


class _Images:
    """The images of several TFDS data sources, one after the other, decoded when asked for."""

    def __init__(self, parts: Sequence[Any]):
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Index) -> Shaped[np.ndarray, "..."]:
        numbers = np.arange(len(self))[rows]
        images = [self._record(int(row))["image"] for row in np.atleast_1d(numbers)]
        return np.stack(images) if numbers.ndim else images[0]

    def _record(self, row: int) -> dict[str, Any]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part][row - int(self._starts[part])]

    def records(self, chunk: int = 1024) -> Iterator[dict[str, Any]]:
        """All records in order, read by chunks."""
        for part in self._parts:
            for start in range(0, len(part), chunk):
                yield from part.__getitems__(range(start, min(start + chunk, len(part))))
