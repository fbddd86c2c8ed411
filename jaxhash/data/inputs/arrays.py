"""Inputs that are rows of an array: of a .npy, a .npz, a Parquet file, or a data set."""

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Bool, Float, Shaped, UInt8

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs.base import Block, Inputs, Item
from jaxhash.data.inputs.parquet import open_parquet
from jaxhash.data.inputs.prepare import prepare_image, prepare_vectors
from jaxhash.data.readers.arrays import read_npy, read_npz
from jaxhash.data.readers.counts import read_count_file, split_field
from jaxhash.data.readers.labels import check_class_names, read_labels
from jaxhash.data.rows import Rows, row_numbers
from jaxhash.data.sources import Source
from jaxhash.training.digests import file_digest
from jaxhash.utils.errors import UserError

#: Arrays of a .npz file that are read; `jaxhash.data.readers.features.read_features` describes them.
_ARRAYS = ("features", "images", "labels", "class_names", "item_names", "scale")

#: Reason for which a vector is not encoded.
_NOT_FINITE = "values are missing or not finite"


class ArrayInputs(Inputs):
    """Rows of an array, with labels and names where the rows have them.

    Args:
        name: name by which they were opened.
        source: name of the array below the root, or of the data set.
        rows: images [height, width, channels] of uint8, or vectors of numbers, by index.
        fingerprint: digest of the content.
        labels: label of each row, by index; None if they have none.
        names: name of each row, by index; None if they have none.
        scale: factor of each dimension of vectors.
        notes: sentences on what was guessed.
    """

    def __init__(
        self,
        name: str,
        source: str,
        rows: Rows,
        fingerprint: str,
        *,
        labels: Any = None,
        names: Any = None,
        scale: Float[np.ndarray, " #d"] | None = None,
        notes: Sequence[str] = (),
    ):
        row = rows[:1]
        self.name, self.source, self.fingerprint = name, source, fingerprint
        self.kind = "images" if row.ndim == 4 else "vectors"
        self.notes = tuple(notes)
        self.shape = row.shape[1:]
        self._row_bytes = row.nbytes
        self._rows, self._labels, self._names, self._scale = rows, labels, names, scale

    def __len__(self) -> int:
        return len(self._rows)

    def items(self, rows: slice) -> list[Item]:
        """Returns the items of a range of rows."""
        numbers = range(len(self))[rows]
        names = None if self._names is None else list(self._names[rows])
        labels = None if self._labels is None else self._labels[rows]
        return [
            Item(
                str((names and names[place]) or f"{self.source}#{number}"),
                self._row_bytes,
                0,
                None if labels is None else labels[place],
            )
            for place, number in enumerate(numbers)
        ]

    def labels(self, rows: slice) -> list[list[str]]:
        """Returns the labels of each of a range of rows."""
        if isinstance(self._labels, _RowLabels):
            return self._labels.of(rows)
        return super().labels(rows)

    def read(self, rows: slice, form: InputForm) -> Block:
        """Reads a range of rows; see `Inputs.read`. Vectors become float32."""
        stored = np.array(self._rows[rows])
        _release(self._rows)
        numbers = row_numbers(rows, len(self))
        digests = [xxhash.xxh3_128_hexdigest(row) for row in stored]
        if self.kind == "images":
            images = stored if stored.shape[1:] == form.shape else _prepare_images(stored, form)
            return Block(images, numbers, digests, {})
        vectors, finite = self._convert(stored)
        broken = dict.fromkeys(numbers[~finite].tolist(), _NOT_FINITE)
        if broken:
            digests = [digest for digest, sound in zip(digests, finite, strict=True) if sound]
        return Block(prepare_vectors(vectors[finite], form), numbers[finite], digests, broken)

    def check(self, form: InputForm) -> None:
        """Raises a `UserError` if the rows are not of the form."""
        try:
            if self.kind == "images":
                image = np.asarray(self._rows[0])
                prepare_image(image, form)
                found, taken = (
                    " x ".join(map(str, each[:2])) for each in (image.shape, form.shape)
                )
                if found != taken:
                    self.notes += (f"{self.name}: images of {found} are resized to {taken}",)
            else:
                form.check_words(self._rows, "its vocabulary")
                prepare_vectors(np.zeros((1, *self.shape), np.float32), form)
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error

    def _convert(
        self, stored: Shaped[np.ndarray, "n d"]
    ) -> tuple[Float[np.ndarray, "n d"], Bool[np.ndarray, " n"]]:
        """Returns the vectors as float32, scaled, and which of them are finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            vectors = stored.astype(np.float32)
            if self._scale is not None:
                vectors *= self._scale
        return vectors, np.isfinite(vectors).all(axis=1)


def _release(rows: Rows) -> None:
    """Lets go of the pages of a memory map: what was read would count as memory of the process."""
    mapped = getattr(rows, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _prepare_images(
    images: UInt8[np.ndarray, "n ..."], form: InputForm
) -> UInt8[np.ndarray, "n ..."]:
    prepared = np.empty((len(images), *form.shape), np.uint8)
    for row, image in enumerate(images):
        prepared[row] = prepare_image(image, form)
    return prepared


def open_array_file(name: str, path: Path, source: str, column: str | None = None) -> ArrayInputs:
    """Opens a .npy, .npz or Parquet file.

    Args:
        name: name of the inputs, for messages.
        path: the file.
        source: its name below the root.
        column: of Parquet, the column of the vectors.

    Raises:
        UserError: if it cannot be read, or holds neither images nor vectors.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        table = open_parquet(path, column)
        found: dict[str, Any] = {
            "rows": table.vectors,
            "labels": table.labels,
            "names": table.names,
            "notes": table.notes,
        }
    elif path.suffix.lower() == ".npy":
        found = _check_rows(path, read_npy(path), [])
    else:
        found = _read_npz(path)
    _, fingerprint = file_digest(path)
    return ArrayInputs(name, source, found.pop("rows"), fingerprint, **found)


def open_count_file(name: str, path: Path, source: str) -> ArrayInputs:
    """Opens a file of word counts; see `jaxhash.data.readers.counts.read_counts`.

    Args:
        name: name of the inputs, for messages.
        path: the file, maybe with a field.
        source: its name below the root.

    Raises:
        UserError: if it cannot be read.
    """
    rows, arrays, notes = read_count_file(path)
    file, field = split_field(str(path))
    found = _labels_and_names(Path(file), arrays, len(rows), "documents")
    _, digest = file_digest(Path(file))
    found["notes"] = [*notes, *found.get("notes", ())]
    return ArrayInputs(
        name, source, rows, digest if field is None else f"{digest}:{field}", **found
    )


def from_source(source: Source) -> ArrayInputs:
    """Makes inputs of a data set, such as ``digits`` or one of TFDS."""
    digest = xxhash.xxh3_128(np.ascontiguousarray(source.labels))
    digest.update(f"{source.name} {len(source.inputs)} {source.inputs[:1].shape}".encode())
    for row in range(0, len(source.inputs), -(-len(source.inputs) // 64)):
        digest.update(np.ascontiguousarray(source.inputs[row]))
    names = source.item_names
    return ArrayInputs(
        source.name,
        source.name,
        source.inputs,
        digest.hexdigest(),
        labels=_RowLabels(source.labels, source.class_names),
        names=names and _NamedRows(source.name, names),
        notes=source.notes,
    )


def _read_npz(path: Path) -> dict[str, Any]:
    """Reads the arrays of a .npz file, by the arguments of `ArrayInputs`."""
    arrays = read_npz(path, optional=_ARRAYS)
    notes = []
    if not {"features", "images"} & set(arrays):
        key, rows = _only_array(path)
        notes.append(f"{path.name}: array {key!r} is taken, as it is the only one of rows")
    else:
        key = "features" if "features" in arrays else "images"
        rows = arrays[key]
        if {"features", "images"} <= set(arrays):
            notes.append(f"{path.name}: features are taken, and its images passed over")
    found = _check_rows(path, rows, notes, arrays.get("scale") if key == "features" else None)
    named = _labels_and_names(path, arrays, len(rows), f"rows of {key}")
    return found | named | {"notes": [*found["notes"], *named.get("notes", ())]}


def _labels_and_names(
    path: Path, arrays: Mapping[str, np.ndarray], count: int, what: str
) -> dict[str, Any]:
    """Returns labels and names of the rows of a .npz file, by the arguments of `ArrayInputs`."""
    found: dict[str, Any] = {}
    for name in ("labels", "item_names"):
        if name in arrays and len(arrays[name]) != count:
            raise UserError(f"{path}: {count:,} {what}, and {name} has {len(arrays[name]):,}")
    if "labels" in arrays:
        labels = read_labels(arrays["labels"], path)
        names = arrays.get("class_names")
        if names is not None and labels.ndim == 1:
            check_class_names(labels, len(names), path)
        found["labels"] = _RowLabels(labels, None if names is None else names.astype(str).tolist())
    if "item_names" in arrays:
        found["names"] = arrays["item_names"]
        found["notes"] = [f"{path.name}: items are called by its item_names"]
    return found


def _only_array(path: Path) -> tuple[str, np.ndarray]:
    """Returns the one array of a .npz file that holds rows of images or vectors."""
    arrays = read_npz(path, optional=None)
    rows = {name: array for name, array in arrays.items() if array.ndim in (2, 3, 4)}
    if len(rows) != 1:
        raise UserError(
            f"{path}: expected an array 'features' [items, dimensions] or 'images' [items, height, "
            f"width, channels]; the file holds {sorted(arrays)}"
        )
    return next(iter(rows.items()))


def _check_rows(
    path: Path, rows: np.ndarray, notes: Sequence[str], scale: np.ndarray | None = None
) -> dict[str, Any]:
    """Checks that an array is of images or vectors; returns what `ArrayInputs` takes."""
    notes = list(notes)
    described = f"shape {rows.shape} of {rows.dtype}"
    if not rows.size:
        raise UserError(f"{path}: the array is empty, {described}")
    if rows.dtype == np.uint8 and rows.ndim in (3, 4):
        if rows.ndim == 3:
            rows = rows[..., None]
            notes.append(f"{path.name}: {described} is taken for images of one channel")
        if rows.shape[-1] not in (1, 3):
            raise UserError(
                f"{path}: expected images [items, height, width, channels] of 1 or 3 channels, got "
                f"{described}"
            )
        return {"rows": rows, "notes": notes}
    numeric = rows.dtype.kind in "iuf" or rows.dtype.name == "bfloat16"
    if rows.ndim != 2 or not numeric:
        raise UserError(
            f"{path}: expected uint8 images [items, height, width, channels] or vectors [items, "
            f"dimensions] of numbers, got {described}"
        )
    if rows.dtype.name == "bfloat16":
        notes.append(f"{path.name}: values of 2 bytes and no type are taken for bfloat16")
    if scale is None and rows.dtype.kind in "iu":
        notes.append(f"{path.name}: no scale, so the {rows.dtype} values are taken as they are")
    return {"rows": rows, "notes": notes, "scale": _check_scale(path, scale, rows.shape[1])}


def _check_scale(path: Path, scale: np.ndarray | None, dimensions: int) -> np.ndarray | None:
    """Returns the factors of the dimensions as float32, checked."""
    if scale is None:
        return None
    with np.errstate(over="ignore"):
        factors = scale.reshape(-1).astype(np.float32) if scale.dtype.kind in "iuf" else None
    if factors is None or len(factors) not in (1, dimensions) or not np.isfinite(factors).all():
        raise UserError(
            f"{path}: scale must be a finite number for each of the {dimensions} dimensions, got shape "
            f"{scale.shape} of {scale.dtype}"
        )
    return factors


class _RowLabels:
    """Labels as text, made on access: names of classes, or their numbers; several are joined by a comma."""

    def __init__(self, labels: np.ndarray, class_names: Sequence[str] | None):
        self._labels, self._names = labels, class_names

    def __getitem__(self, rows: slice) -> list[str | None]:
        return [", ".join(each) or None for each in self.of(rows)]

    def of(self, rows: slice) -> list[list[str]]:
        """Returns the labels of each row."""
        labels, names = self._labels[rows], self._names
        ids = (
            [[label] if label >= 0 else [] for label in labels.tolist()]
            if labels.ndim == 1
            else [np.flatnonzero(row).tolist() for row in labels]
        )
        return [[str(i) if names is None else names[i] for i in row] for row in ids]


class _NamedRows:
    """Names of the items of a data set, which follow its own name."""

    def __init__(self, source: str, names: Mapping[int, str] | Sequence[str]):
        self._source, self._names = source, names

    def __getitem__(self, rows: slice) -> list[str]:
        numbers = range(len(self._names))[rows]
        return [f"{self._source}#{self._names[number]}" for number in numbers]
