"""Scans a shard: where its records are, their labels and digests, and which are unreadable."""

import io
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from jaxtyping import Int, Shaped
from PIL import Image

from jaxhash.data.readers.images import installed_formats, reason_of
from jaxhash.data.shards.formats import FORMATS
from jaxhash.data.shards.records import Content
from jaxhash.utils.errors import UserError, first_line

#: Columns of an index: of each record its place in the shard, its label (-1: none) and a digest of its input.
COLUMNS = {"offset": np.int64, "length": np.int64, "label": np.int32, "digest": np.uint64}

#: Modes of Pillow whose values have more than 8 bits.
_DEEP_MODES = ("I", "F")


class ShardFacts(NamedTuple):
    """What an index says of a shard, as JSON values.

    Attributes:
        name: its path below the root.
        state: its size, and the time of its last change in nanoseconds.
        records: number of its records.
        digest: digest of their labels and inputs.
        kind: ``images`` or ``vectors``; None if there are no records.
        shapes: distinct shapes of its readable inputs with the number of the first record of each, at most
            two: height and width of an image, dimensions of a vector.
        unreadable: number of each unreadable record, and the reason.
        class_names: names of the classes, by the label; None if labels are numbers.
        groups: as in `jaxhash.data.shards.records.Schema`.
        group_bytes: likewise.
        notes: likewise.
    """

    name: str
    state: list[int]
    records: int
    digest: str
    kind: str | None
    shapes: list[list[int]]
    unreadable: list[tuple[int, str]]
    class_names: list[str] | None
    groups: list[int]
    group_bytes: int
    notes: list[str]


def content_digest(content: Content) -> int:
    """Returns the digest of an input as it is stored, the order of its bytes included; it is not 0."""
    digest = xxhash.xxh3_64(content)
    if not isinstance(content, bytes) and content.dtype.byteorder == ">":
        digest.update(content.dtype.str.encode())
    return digest.intdigest() or 1


def state_of(path: Path) -> list[int]:
    """Returns the size of a file and the time of its last change; raises `UserError` if it is missing."""
    try:
        state = path.stat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return [state.st_size, state.st_mtime_ns]


def scan_shard(
    root: Path, name: str, kind: str
) -> tuple[ShardFacts, dict[str, Shaped[np.ndarray, " records"]]]:
    """Scans a shard.

    Args:
        root: the folder that its name is relative to.
        name: its path below the root.
        kind: its format.

    Returns:
        Facts on the shard, and the `COLUMNS` of its records.

    Raises:
        UserError: that names the shard and the record, if a record is damaged or of another schema.
    """
    path, scanned = root / name, _Scanned()
    state = state_of(path)
    try:
        schema = FORMATS[kind].schema(path)
        for record in FORMATS[kind].scan(path):
            scanned.add(record.content, record.label, record.offset, record.length)
    except UserError:
        raise
    except Exception as error:  # a damaged file raises many types
        raise UserError(f"{path}: record {scanned.count:,}: {first_line(error)}") from error
    columns = {key: np.array(scanned.columns[key], dtype) for key, dtype in COLUMNS.items()}
    names = schema.class_names or (sorted(scanned.names) or None)
    if scanned.names:
        columns["label"] = renumber(columns["label"], list(scanned.names), names)
    if schema.class_names is not None and columns["label"].max(initial=-1) >= len(names):
        worst = int(columns["label"].argmax())
        raise UserError(
            f"{path}: record {worst:,} has label {columns['label'][worst]}, and there are names for 0 to "
            f"{len(names) - 1}"
        )
    digest = xxhash.xxh3_128(columns["label"].tobytes() + columns["digest"].tobytes()).hexdigest()
    facts = ShardFacts(
        name,
        state,
        scanned.count,
        digest,
        scanned.kind,
        [[*shape, record] for shape, record in scanned.shapes.items()],
        scanned.unreadable,
        names,
        schema.groups,
        schema.group_bytes,
        schema.notes,
    )
    return facts, columns


class _Scanned:
    """The records of a shard so far."""

    def __init__(self):
        self.columns = {key: array("Q" if key == "digest" else "q") for key in COLUMNS}
        self.kind: str | None = None
        self.shapes: dict[tuple[int, ...], int] = {}
        self.unreadable: list[tuple[int, str]] = []
        self.names: dict[str, int] = {}
        self._has_ids = False

    @property
    def count(self) -> int:
        """Number of records."""
        return len(self.columns["offset"])

    def add(self, content: Content, label: Any, offset: int, length: int) -> None:
        """Adds a record; raises `ValueError` if it is of another schema than those before."""
        kind = "images" if isinstance(content, bytes) else "vectors"
        if self.kind not in (None, kind):
            raise ValueError(f"it holds {kind}, and those before it hold {self.kind}")
        self.kind = kind
        number, label = self.count, self._label(label)
        shape, reason = _examine(content)
        if reason is not None:
            self.unreadable.append((number, reason))
        elif len(self.shapes) < 2:
            self.shapes.setdefault(shape, number)
        row = {"offset": offset, "length": length, "label": label}
        row["digest"] = content_digest(content)
        for key, value in row.items():
            self.columns[key].append(value)

    def _label(self, label: Any) -> int:
        """Returns the id of a label, and keeps its name."""
        if label is None:
            return -1
        if isinstance(label, str):
            if self._has_ids:
                raise ValueError(
                    f"its label is the name {label!r}, and those before it are numbers"
                )
            return self.names.setdefault(label, len(self.names))
        if isinstance(label, bool) or not isinstance(label, int) or not -1 <= label < 2**31:
            raise ValueError(f"its label must be a class id or a name, got {str(label)[:80]!r}")
        if self.names:
            raise ValueError(f"its label is the number {label}, and those before it are names")
        self._has_ids |= label >= 0
        return label


def _examine(content: Content) -> tuple[tuple[int, ...], str | None]:
    """Returns the shape of an input, and the reason if it is unreadable."""
    if not isinstance(content, bytes):
        with np.errstate(over="ignore"):
            is_finite = np.isfinite(content.astype(np.float32)).all()
        return content.shape, None if is_finite else "a value that is not finite"
    try:
        with Image.open(io.BytesIO(content), formats=installed_formats()) as image:
            if image.mode.split(";")[0] in _DEEP_MODES:
                return (), "grey of more than 8 bits, of which it is unknown what is white"
            return image.size[::-1], None
    except Exception as error:  # the decoders raise many types for broken files
        return (), reason_of(error)


def merge_class_names(shards: list[ShardFacts], root: Path) -> list[str] | None:
    """Returns the names of all classes, sorted where shards hold names of their own; None for numbers.

    Raises:
        UserError: if some shards have names and others numbers.
    """
    labeled = [facts for facts in shards if facts.records]
    named = [facts for facts in labeled if facts.class_names is not None]
    if not named:
        return None
    lone = next((facts for facts in labeled if facts.class_names is None), None)
    if lone is not None:
        raise UserError(
            f"{root / lone.name}: its labels are numbers or missing, and those of {named[0].name} are names"
        )
    first = named[0].class_names
    if all(facts.class_names == first for facts in named):
        return first
    return sorted({name for facts in named for name in facts.class_names})


def renumber(
    labels: Int[np.ndarray, " records"], names: Sequence[str], others: Sequence[str]
) -> Int[np.ndarray, " records"]:
    """Returns labels that count in some names as labels that count in others.

    Example:
        >>> renumber(np.array([0, 1, -1]), ["dog", "cat"], ["cat", "dog"])
        array([ 1,  0, -1], dtype=int32)
    """
    numbers = {name: number for number, name in enumerate(others)}
    return np.array([*(numbers[name] for name in names), -1], np.int32)[labels]
