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

from jaxhash.data.labels import check_names, read_labels
from jaxhash.utils.errors import UserError, first_line, printable

#: Sets of at most this many decoded bytes are decoded once and held in memory.
MEMORY_LIMIT = 2**30

#: Share of a folder's images that may be left out as unreadable.
MOST_BAD = 0.01

#: The parts that a set may come in.
PARTS = ("train", "validation", "test", "query", "database")

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
        inputs: uint8 images [height, width, channels], or float32 vectors, by index; as the set has
            them, before anything that is a model's own.
        labels: class ids from 0 (-1: no label), or multi-hot rows of 0 and 1.
        class_names: a name for each class.
        part_ids: of each item the part of its set that it comes in, a place in ``parts``; None where
            that is not known.
        coarse_labels: of each item the id of a group that its class belongs to, if there are any.
        left_out: of each file that cannot be read and is no item, its path and the reason.
        parts: the parts that the set comes in, some of `PARTS`; None where they are not known.
        item_names: of each item what leads back to it, such as the path of its file within the folder.
        notes: what was guessed or passed over when the set was opened, a sentence each, to be told.
    """

    name: str
    inputs: Rows
    labels: Int[np.ndarray, " items *classes"]
    class_names: tuple[str, ...]
    part_ids: Int[np.ndarray, " items"] | None = None
    coarse_labels: Int[np.ndarray, " items"] | None = None
    left_out: tuple[str, ...] = ()
    parts: tuple[str, ...] | None = None
    item_names: Sequence[str] | Shaped[np.ndarray, " items"] | None = None
    notes: tuple[str, ...] = ()

    @property
    def part(self) -> Int[np.ndarray, " items"] | None:
        """Of each item 0 for the training part of its set, 1 for the test part.

        Test and query parts are the test part, or the validation part of a set that has neither. None
        where that, or a part to train on, is missing.
        """
        held_out = {"test", "query"} & set(self.parts or ()) or {"validation"}
        if self.parts is None or not (
            held_out & set(self.parts) and {"train", "database"} & set(self.parts)
        ):
            return None
        return np.array([name in held_out for name in self.parts], np.int8)[self.part_ids]

    @property
    def items_of_parts(self) -> dict[str, Int[np.ndarray, " n"]]:
        """The items of each part that has some, by its name, in the order of `PARTS`."""
        found = {
            name: np.flatnonzero(self.part_ids == number)
            for number, name in enumerate(self.parts or ())
        }
        return {name: found[name] for name in PARTS if len(found.get(name, ()))}

    def names_of(self, items: Int[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"] | None:
        """What leads back to these items, as an array of strings; None where nothing does."""
        if self.item_names is None or isinstance(self.item_names, np.ndarray):
            return self.item_names if self.item_names is None else self.item_names[items]
        return np.array([self.item_names[item] for item in items.tolist()], np.str_)

    def name_of(self, item: int | np.integer) -> str:
        """What an item is called in a message.

        Example:
            >>> inputs, labels = np.eye(2, dtype=np.float32), np.arange(2)
            >>> Source("pets", inputs, labels, ("cat", "dog")).name_of(1)
            'item 1'
        """
        return (
            f"item {item:,}" if self.item_names is None else printable(str(self.item_names[item]))
        )


def load_source(
    name: str,
    data_dir: Path | None = None,
    image_size: int | None = None,
    most_bad: float = MOST_BAD,
    index: Path | None = None,
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
        index: of a folder too large for memory, the file that says which images were checked before.

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
        from jaxhash.data.features import read_features  # it makes a source

        return read_features(name, (data_dir or Path()) / rest)
    if kind == "folder" and rest:
        from jaxhash.data.folders import read_folder  # it makes a source

        return read_folder(name, (data_dir or Path()) / rest, image_size, most_bad, index=index)
    raise UserError(
        f"--dataset {name!r}: expected 'digits', 'folder:DIR', 'tfds:NAME' or 'features:FILE.npz'"
    )


def _digits() -> Source:
    """1,797 handwritten digits of 8x8 pixels, embedded in scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return Source("digits", images, digits.target.astype(np.int32), tuple("0123456789"))


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
    if np.dtype(features["image"].np_dtype) != np.uint8:
        raise UserError(
            f"--dataset {name}: its images are {np.dtype(features['image'].np_dtype)}; expected bytes "
            "(uint8)"
        )
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
        return {part: parts[part] for part in PARTS if part in parts}

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
    labels, class_names = read_labels(labels, name), tuple(features["label"].names)
    check_names(labels, len(class_names), name)
    ids = np.repeat(np.arange(len(parts), dtype=np.int8), list(map(len, parts.values())))
    return Source(
        name,
        images,
        labels,
        class_names,
        ids,
        parts=tuple(parts),
        item_names=_Numbered({part: len(records) for part, records in parts.items()}),
        notes=_passed_over(set(builder.info.splits) - set(parts)),
    )


def _passed_over(parts: set[str]) -> tuple[str, ...]:
    return (f"other parts of the set, passed over: {', '.join(sorted(parts))}",) * bool(parts)


class _Numbered(Sequence[str]):
    """Names of the items of parts without names of their own: ``train/17``, made when asked for."""

    def __init__(self, sizes: Mapping[str, int]):
        self._parts, self._starts = list(sizes), np.cumsum([0, *sizes.values()])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, item: int | np.integer) -> str:
        number = range(len(self))[item]
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        return f"{self._parts[part]}/{number - int(self._starts[part])}"


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
