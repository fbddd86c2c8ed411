"""Reads the vectors of a Parquet file, a column of lists, a range of rows at a time."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Shaped

from jaxhash.utils.errors import UserError, first_line

#: Columns whose values are the labels, and the names, of the rows; the first that is there counts.
LABEL_COLUMNS, NAME_COLUMNS = ("label",), ("path", "name", "id")

#: Rows that are decoded at a time.
_BATCH_ROWS = 2**12

#: Bytes that are buffered of a column at a time.
_BUFFER_BYTES = 2**22


class ParquetVectors(NamedTuple):
    """The columns of a Parquet file that are read, by index; `ArrayInputs` describes them."""

    vectors: "_VectorColumn"
    labels: "_TextColumn | None"
    names: "_TextColumn | None"
    notes: list[str]


def open_parquet(path: Path, column: str | None = None) -> ParquetVectors:
    """Opens a Parquet file with a column of vectors.

    Args:
        path: the file.
        column: the column; by default the only one of lists of numbers.

    Raises:
        UserError: if the file cannot be read, it is unclear which column is meant, or its lists are of
            several lengths.
    """
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({first_line(error)})") from error
    if not file.metadata.num_rows:
        raise UserError(f"{path}: the file has no rows")
    notes = []
    lists = [field.name for field in schema if _is_vector(field.type)]
    if column is None:
        if len(lists) != 1:
            found = f"the columns {', '.join(lists)}" if lists else "no column"
            raise UserError(
                f"{path}: {found} of lists of numbers; `column` names the one to take, of "
                f"{', '.join(schema.names)}"
            )
        [column] = lists
        notes.append(f"{path.name}: the vectors are its column {column!r}")
    elif column not in lists:
        raise UserError(
            f"{path}: `column={column}` is no column of lists of numbers; those are "
            f"{', '.join(lists) or 'none'}"
        )
    texts = []
    for what, wanted in (("labels", LABEL_COLUMNS), ("names", NAME_COLUMNS)):
        there = [name for name in wanted if name in schema.names and _is_text(schema.field(name))]
        texts.append(_TextColumn(path, schema.field(there[0])) if there else None)
        if there:
            notes.append(f"{path.name}: the {what} of the items are its column {there[0]!r}")
    return ParquetVectors(_VectorColumn(path, schema.field(column)), *texts, notes)


class _Column:
    """A column that is read in ranges, one after the other; an earlier range starts anew."""

    def __init__(self, path: Path, field: pa.Field):
        self._path, self._name, self._type = path, field.name, field.type
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *groups])
        self._lock = threading.Lock()
        self._at, self._batches, self._held = -1, iter(()), []  # -1: nowhere yet

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _read(self, rows: slice) -> pa.Array:
        """Returns the values of a range of rows."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows are read in ranges, got {rows}")
        try:
            with self._lock:
                taken = list(self._take(start, stop))
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self._path} is damaged ({first_line(error)})") from error
        return pa.concat_arrays(taken) if taken else pa.array([], self._type)

    def _take(self, start: int, stop: int) -> Iterator[pa.Array]:
        """Yields the values of a range of rows, in pieces."""
        if start != self._at:
            self._seek(start)
        while self._at < stop:
            batch = self._held.pop() if self._held else next(self._batches)
            piece = batch[: stop - self._at]
            if len(batch) > len(piece):
                self._held.append(batch[len(piece) :])
            self._at += len(piece)
            yield piece

    def _seek(self, start: int) -> None:
        """Moves to a row."""
        group = int(np.searchsorted(self._starts, start, side="right")) - 1
        self._batches, self._held = self._iterate(group), []
        skip = start - int(self._starts[group])
        while skip > 0:
            batch = next(self._batches)
            if len(batch) > skip:
                self._held.append(batch[skip:])
            skip -= len(batch)
        self._at = start

    def _iterate(self, group: int) -> Iterator[pa.Array]:
        """Yields the values from a row group on."""
        groups = list(range(group, len(self._starts) - 1))
        with pq.ParquetFile(self._path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
            for batch in file.iter_batches(_BATCH_ROWS, groups, columns=[self._name]):
                yield batch.column(0)


class _VectorColumn(_Column):
    """A column of lists of numbers, as rows of floats; a row without a list of the usual length is nan."""

    def __init__(self, path: Path, field: pa.Field):
        super().__init__(path, field)
        kind = field.type.value_type
        self._dtype = np.dtype(kind.to_pandas_dtype() if pa.types.is_floating(kind) else np.float64)
        if pa.types.is_fixed_size_list(field.type):
            self._dimensions = field.type.list_size
        else:
            lengths = pc.list_value_length(self._read(slice(0, _BATCH_ROWS))).drop_null()
            self._dimensions = lengths[0].as_py() if len(lengths) else 0
        if not self._dimensions:
            raise UserError(f"{path}: the first lists of column {field.name!r} are empty")

    def __getitem__(self, rows: slice) -> Shaped[np.ndarray, "n d"]:
        found = self._read(rows)
        usual = pc.equal(pc.list_value_length(found), self._dimensions).fill_null(False)
        vectors = np.full((len(found), self._dimensions), np.nan, self._dtype)
        values = found.filter(usual).flatten().to_numpy(zero_copy_only=False)
        vectors[usual.to_numpy(zero_copy_only=False)] = values.reshape(-1, self._dimensions)
        return vectors


class _TextColumn(_Column):
    """A column of strings or integers, as text; a missing value is None."""

    def __getitem__(self, rows: slice) -> Sequence[str | None]:
        values = self._read(rows).to_pylist()
        return [None if value is None else str(value) for value in values]


def _is_vector(kind: pa.DataType) -> bool:
    is_list = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    return is_list and (
        pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)
    )


def _is_text(field: pa.Field) -> bool:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
