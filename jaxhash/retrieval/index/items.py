"""The items table of a shard: Parquet, a row for each code in the order of the codes, then broken inputs.

Reading a few rows reads the row groups they lie in; finding by label or path reads one column.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int

from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file

#: Status of an item that has a code; of another input it is the reason why it has none.
OK = "ok"

SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "path": pa.string(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "digest": pa.string(),
        "label": pa.dictionary(pa.int32(), pa.string()),
        "status": pa.dictionary(pa.int32(), pa.string()),
    }
)

#: Rows that are decoded together: small, since a search looks up few items of a shard.
_GROUP_ROWS = 8192


class IndexItem(NamedTuple):
    """An item of an index.

    Attributes:
        id: its id; None for an input that could not be read.
        path: path relative to the root, with ``/``; of a row of an array ``FILE#ROW``.
        size: bytes of the file, if it is one.
        mtime_ns: time of its last change in nanoseconds, if it is a file.
        digest: digest of its content, in hexadecimal digits.
        label: its label, if it has one.
        status: ``ok``, or why it could not be read.
    """

    id: int | None
    path: str
    size: int | None
    mtime_ns: int | None
    digest: str | None
    label: str | None
    status: str


def make_table(
    ids: Int[np.ndarray, " n"],
    items: Sequence[Any],
    digests: Sequence[str | None],
    broken: Sequence[tuple[Any, str]] = (),
) -> pa.Table:
    """Returns the table of new items.

    Args:
        ids: their ids.
        items: objects with ``path``, ``size``, ``mtime_ns`` and ``label``.
        digests: digest of the content of each item.
        broken: inputs that could not be read, likewise, each with the reason.

    Raises:
        UserError: if the name of an item is not UTF-8.
    """
    for item in items:
        if not item.path.isascii() and (shown := _as_utf8(item.path)) != item.path:
            raise UserError(
                f"{shown}: the name is not UTF-8, which the items table needs; rename it"
            )
    every = [*items, *(item for item, _ in broken)]
    nothing = [None] * len(broken)
    return pa.table(
        {
            "id": [*ids.tolist(), *nothing],
            "path": [_as_utf8(item.path) for item in every],
            "size": [item.size for item in every],
            "mtime_ns": [item.mtime_ns for item in every],
            "digest": [*digests, *nothing],
            "label": [item.label for item in every],
            "status": [OK] * len(items) + [_as_utf8(reason) for _, reason in broken],
        },
        SCHEMA,
    )


def write_table(path: Path, table: pa.Table) -> None:
    """Writes an items table whole or not at all."""
    with whole_file(path, "wb") as file:
        pq.write_table(
            table,
            file,
            row_group_size=_GROUP_ROWS,
            compression="zstd",
            use_dictionary=["label", "status"],
        )


def open_table(path: Path) -> pq.ParquetFile:
    """Opens an items table; what was opened stays readable if the file is deleted.

    Raises:
        FileNotFoundError: if there is none.
        UserError: if it is damaged.
    """
    try:
        return pq.ParquetFile(path, memory_map=True)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0][:100]})") from error


def read_rows(
    table: pq.ParquetFile, rows: Int[np.ndarray, " n"], columns: Sequence[str] = tuple(SCHEMA.names)
) -> pa.Table:
    """Returns the rows of the given numbers, in their order."""
    metadata = table.metadata
    starts = np.cumsum(
        [0, *(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))]
    )
    groups, group_of_row = np.unique(
        np.searchsorted(starts, rows, side="right") - 1, return_inverse=True
    )
    read = table.read_row_groups(groups.tolist(), columns=list(columns), use_threads=False)
    lengths = np.diff(starts)[groups]
    offsets = np.cumsum(lengths) - lengths  # where each group starts in what was read
    return read.take(pa.array(offsets[group_of_row] + rows - starts[groups][group_of_row]))


def read_ids(table: pq.ParquetFile) -> Int[np.ndarray, " n"]:
    """Returns the ids, without the nulls of broken inputs."""
    return table.read(columns=["id"])["id"].drop_null().to_numpy()


def find_ids(path: Path, column: str, values: Sequence[str]) -> Int[np.ndarray, " n"]:
    """Returns the ids of the items with one of the values in a column, ascending."""
    matches = pc.field(column).isin(list(values)) & pc.field("id").is_valid()
    found = pq.read_table(path, columns=["id"], filters=matches, memory_map=True, partitioning=None)
    return found["id"].to_numpy()


def to_items(table: pa.Table | pa.RecordBatch) -> Iterator[IndexItem]:
    """Yields the rows of a table of all columns."""
    columns = (table[name].to_pylist() for name in SCHEMA.names)
    return map(IndexItem._make, zip(*columns, strict=True))


def _as_utf8(text: str) -> str:
    r"""Returns a text with bytes that are not UTF-8, as in names of files, written out as ``\udcff``."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
