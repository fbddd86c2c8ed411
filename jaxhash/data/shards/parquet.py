"""Parquet shards: a column of images, as Hugging Face writes them, or of vectors, with a column of labels.

A row group is read as a whole, so the groups that were read last are held in memory.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from jaxhash.data.shards.records import Content, Places, Record, Schema, ShardFormat, as_vector
from jaxhash.utils.errors import UserError, first_line

#: Columns that hold images, vectors and labels; the first that is there counts, before any other of its kind.
IMAGE_COLUMNS = ("image", "img")
VECTOR_COLUMNS = ("features", "embedding", "embeddings", "vector")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class")

#: Bytes of a row group, in memory, above which a shard is refused.
MAX_GROUP_BYTES = 2**30

#: Rows that are decoded at a time when a shard is scanned.
_BATCH_ROWS = 256


def _scan(path: Path) -> Iterator[Record]:
    """Yields the rows of a shard; see `ShardFormat.scan`."""
    with _open(path) as file:
        content, label = _columns(file.schema_arrow)
        names = [content] if label is None else [content, label]
        for batch in file.iter_batches(_BATCH_ROWS, columns=names):
            labels = [None] * len(batch) if label is None else batch.column(label).to_pylist()
            for each, of_each in zip(_contents(batch.column(content)), labels, strict=True):
                yield Record(of_each, each)


def _schema(path: Path) -> Schema:
    with _open(path) as file:
        content, label = _columns(file.schema_arrow)
        metadata = file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        sizes = [
            chunk.total_uncompressed_size
            for group in groups
            for chunk in map(group.column, range(group.num_columns))
            if chunk.path_in_schema.split(".")[0] == content
        ]
        per_group = max(
            1, len(sizes) // max(len(groups), 1)
        )  # a struct has a column for each field
        largest = max(
            (sum(sizes[at : at + per_group]) for at in range(0, len(sizes), per_group)), default=0
        )
        if largest > MAX_GROUP_BYTES:
            raise ValueError(
                f"a row group takes {largest / 2**30:.1f} GiB, and one is read as a whole; write it "
                "with a smaller row_group_size"
            )
        names = _class_names(file.schema_arrow, label)
    notes = [f"the inputs are column {content!r}, the labels {label and f'column {label!r}'}"]
    return Schema(names, [group.num_rows for group in groups], largest, notes)


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is no whole Parquet file ({first_line(error)})") from error


def _columns(schema: pa.Schema) -> tuple[str, str | None]:
    """Returns the names of the columns of inputs and of labels.

    Raises:
        ValueError: if it is unclear which column holds the inputs.
    """
    images = [field.name for field in schema if _is_image(field.type)]
    vectors = [field.name for field in schema if _is_vector(field.type)]
    for known, found in ((IMAGE_COLUMNS, images), (VECTOR_COLUMNS, vectors)):
        chosen = [name for name in known if name in found] or found
        if len(chosen) == 1 or set(chosen) & set(known):
            label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
            return chosen[0], label
        if chosen:
            raise ValueError(f"it is unclear which column holds the inputs, of {', '.join(chosen)}")
    raise ValueError(
        "no column holds images (bytes, or a struct with bytes) or vectors (lists of numbers); there are "
        f"{', '.join(f'{field.name} ({field.type})' for field in schema)[:300]}"
    )


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_image(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_vector(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    is_list |= pa.types.is_fixed_size_list(kind)
    return is_list and (
        pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)
    )


def _contents(column: pa.Array) -> Iterator[Content]:
    """Yields the contents of a column."""
    if pa.types.is_struct(column.type):
        column = column.field("bytes")
    for value in column:
        if not value.is_valid:
            raise ValueError("its input is missing")
        if _is_image(column.type):
            yield value.as_py()
        else:
            yield as_vector(value.values.to_numpy(zero_copy_only=False))


def _class_names(schema: pa.Schema, label: str | None) -> list[str] | None:
    """Returns the names of a ClassLabel, which Hugging Face keeps in the metadata; None if there are none."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None or label is None:
        return None
    feature = json.loads(stored).get("info", {}).get("features", {}).get(label, {})
    return feature.get("names") if isinstance(feature, dict) else None


class _Reader:
    """Reads rows by their number; holds the row groups that were read last.

    Args:
        places: where the rows are.
    """

    def __init__(self, places: Places):
        self._places, self._held, self._lock = places, OrderedDict(), threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return _Reader, (self._places,)

    def __call__(self, records: Int[np.ndarray, " n"]) -> list[Content]:
        shards, groups, rows = self._places.locate_groups(records)
        contents: list[Content] = [b""] * len(records)
        for key in sorted(set(zip(shards.tolist(), groups.tolist(), strict=True))):
            held = self._group(*key)
            here = np.flatnonzero((shards == key[0]) & (groups == key[1]))
            try:
                found = list(_contents(held.take(pa.array(rows[here]))))
            except (pa.ArrowException, ValueError) as error:
                raise self._named(*key, error) from error
            for place, content in zip(here, found, strict=True):
                contents[place] = content
        return contents

    def _group(self, shard: int, group: int) -> pa.Array:
        with self._lock:
            if (shard, group) not in self._held:
                self._held[shard, group] = self._read(shard, group)
            self._held.move_to_end((shard, group))
            while len(self._held) > max(2, 2 * self._places.window):
                self._held.popitem(last=False)
            return self._held[shard, group]

    def _read(self, shard: int, group: int) -> pa.Array:
        try:
            with _open(self._places.paths[shard]) as file:
                content, _ = _columns(file.schema_arrow)
                column = file.read_row_group(group, columns=[content]).column(content)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise self._named(shard, group, error) from error
        return column.combine_chunks()

    def _named(self, shard: int, group: int, error: Exception) -> UserError:
        return UserError(f"{self._places.paths[shard]}: row group {group:,}: {first_line(error)}")


FORMAT = ShardFormat(
    _scan, _Reader, f"a column {', '.join(LABEL_COLUMNS[:-1])} or {LABEL_COLUMNS[-1]}", _schema
)
