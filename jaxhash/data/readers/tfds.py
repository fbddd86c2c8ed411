"""Reads data sets of TensorFlow Datasets as array_record, without TensorFlow."""

import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.readers.labels import check_class_names, read_labels
from jaxhash.data.readers.shards import open_or_make_index
from jaxhash.data.rows import Index, row_numbers
from jaxhash.data.shards.index import index_folder
from jaxhash.data.shards.listing import ShardSet
from jaxhash.data.sources import MEMORY_LIMIT, SOURCE_PARTS, Source
from jaxhash.utils.errors import UserError, first_line


def read_tfds(name: str, builder_name: str, data_dir: Path | None) -> Source:
    """Reads a TFDS set of labeled images of one size; its parts are pooled.

    Args:
        name: name of the source.
        builder_name: name of the TFDS set, with a configuration and a version where it has them.
        data_dir: folder of the TFDS sets; that of TFDS by default.

    Raises:
        UserError: if the set is unknown, is not prepared, cannot be read, or holds no labeled images of
            bytes of one size.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(builder_name, data_dir=data_dir)
    except (
        Exception
    ) as error:  # TFDS raises many types for an unknown name, version or configuration
        raise UserError(f"`dataset={name}`: {first_line(error)}") from error
    features = builder.info.features
    for key in ("image", "label"):
        if key not in features:
            raise UserError(f"`dataset={name}`: it has no {key!r}, only {sorted(features)}")
    shape = features["image"].shape
    if None in shape:
        raise UserError(f"`dataset={name}`: its images have no common size, {shape}")
    if np.dtype(features["image"].np_dtype) != np.uint8:
        raise UserError(
            f"`dataset={name}`: its images are {np.dtype(features['image'].np_dtype)}; expected bytes "
            "(uint8)"
        )
    prepared = builder.is_prepared()
    if not prepared and importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"`dataset={name}` is not prepared in {builder.data_dir}: name the folder that holds "
            'it by `data_dir`, or install what prepares it, once: pip install "jaxhash[prepare]"'
        )

    def open_parts(**options):
        parts = tfds.data_source(
            builder_name,
            data_dir=data_dir,
            builder_kwargs=None if prepared else {"file_format": "array_record"},
            **options,
        )
        return {part: parts[part] for part in SOURCE_PARTS if part in parts}

    try:
        parts = open_parts()
        images = _TfdsImages(list(parts.values()))
        if len(images) * np.prod(shape) <= MEMORY_LIMIT:
            columns = [(record["image"], record["label"]) for record in images.records()]
            images, labels = map(np.stack, zip(*columns, strict=True))
        else:
            labels = _read_labels(name, builder, list(parts))
    except Exception as error:  # TFDS raises many types when a download fails
        raise UserError(f"`dataset={name}` could not be read: {first_line(error)}") from error
    labels, class_names = read_labels(labels, name), tuple(features["label"].names)
    check_class_names(labels, len(class_names), name)
    ids = np.repeat(np.arange(len(parts), dtype=np.int8), list(map(len, parts.values())))
    return Source(
        name,
        images,
        labels,
        class_names,
        ids,
        parts=tuple(parts),
        item_names=_NumberedNames({part: len(records) for part, records in parts.items()}),
        notes=_skipped_parts(set(builder.info.splits) - set(parts)),
    )


def _read_labels(name: str, builder: Any, parts: Sequence[str]) -> Int[np.ndarray, " items"]:
    """Reads the labels from an index of the set's files, which is made once."""
    files = [(part, Path(file)) for part in parts for file in builder.info.splits[part].filepaths]
    root = files[0][1].parent
    names = [file.name for _, file in files]
    shards = ShardSet(root, "array_record", names, [part for part, _ in files], [])
    index = open_or_make_index(name, shards, index_folder(root), math.inf)
    return np.array(index.column("label"))


def _skipped_parts(parts: set[str]) -> tuple[str, ...]:
    """Returns a note on the parts that are not read; none if all are."""
    return (f"other parts of the set, passed over: {', '.join(sorted(parts))}",) * bool(parts)


class _NumberedNames(Sequence[str]):
    """Names such as ``train/17`` for items that have none; they are made on access.

    Args:
        sizes: number of items of each part, by its name.
    """

    def __init__(self, sizes: Mapping[str, int]):
        self._parts, self._starts = list(sizes), np.cumsum([0, *sizes.values()])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, item: int | np.integer) -> str:
        number = range(len(self))[item]
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        return f"{self._parts[part]}/{number - int(self._starts[part])}"


class _TfdsImages:
    """The concatenated images of several TFDS data sources, decoded on access."""

    def __init__(self, parts: Sequence[Any]):
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Index) -> Shaped[np.ndarray, "..."]:
        numbers = row_numbers(rows, len(self))
        images = [self._record(int(row))["image"] for row in np.atleast_1d(numbers)]
        return np.stack(images) if numbers.ndim else images[0]

    def _record(self, row: int) -> dict[str, Any]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part][row - int(self._starts[part])]

    def records(self, chunk: int = 1024) -> Iterator[dict[str, Any]]:
        """Yields all records in order, read in chunks."""
        for part in self._parts:
            for start in range(0, len(part), chunk):
                yield from part.__getitems__(range(start, min(start + chunk, len(part))))
