"""The thumbnails of a shard: an Arrow file of one column, JPEG bytes, with a row for each code.

The file is memory-mapped, so reading a few rows reads those bytes of it alone.
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from jaxhash.retrieval.index.manifest import REMEDY
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file

_COLUMN = "jpeg"
_SCHEMA = pa.schema([pa.field(_COLUMN, pa.large_binary(), nullable=False)])

#: First bytes of a JPEG file.
JPEG_START = b"\xff\xd8"

#: Thumbnails that are in memory at a time while they are written.
_BATCH_ROWS = 1024


def write_thumbnails(path: Path, thumbnails: Iterable[bytes]) -> None:
    """Writes thumbnails whole or not at all; few of them are in memory at a time."""
    rows = iter(thumbnails)
    with whole_file(path, "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        while batch := list(itertools.islice(rows, _BATCH_ROWS)):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.large_binary())], _SCHEMA))


def open_thumbnails(path: Path) -> pa.ChunkedArray:
    """Opens the thumbnails of a shard; what was opened stays readable if the file is deleted.

    Raises:
        FileNotFoundError: if there is none.
        UserError: if the file is damaged.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)  # else a damaged offset would read outside the file
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0][:100]}); {REMEDY}"
        ) from error
    if not table.schema.equals(_SCHEMA):
        raise UserError(f"{path} has other columns than {_COLUMN}; {REMEDY}")
    return table[_COLUMN]


def take_thumbnails(thumbnails: pa.ChunkedArray, rows: Int[np.ndarray, " n"]) -> Iterator[bytes]:
    """Yields the thumbnails of some rows, in their order."""
    return (thumbnails[row].as_py() for row in rows.tolist())
