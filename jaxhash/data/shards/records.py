"""The types `Record` and `ShardFormat`, which all formats of shards share."""

import functools
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.readers.file_ranges import FileRanges
from jaxhash.utils.errors import UserError, first_line

#: The bytes of an image file, or a vector.
Content = bytes | Shaped[np.ndarray, " dimensions"]


class Record(NamedTuple):
    """A record of a shard.

    Attributes:
        label: what the shard holds for its label, which should be the id or the name of a class; None if it has
            none.
        content: its input.
        offset: byte of the shard at which it is stored, if it can be read from there.
        length: number of bytes that it takes there.
    """

    label: Any
    content: Content
    offset: int = 0
    length: int = 0


@runtime_checkable
class Places(Protocol):
    """Where the records of an index are; `jaxhash.data.shards.index.ShardIndex` has what these say."""

    paths: list[Path]
    window: int

    def locate(
        self, records: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Returns the number of the shard of each record, and its number within the shard."""

    def locate_groups(
        self, records: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Returns the shard of each record, its group within the shard, and its number within the group."""

    def ranges(
        self, records: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Returns offset and length of each record in its shard."""


#: Returns the contents of records, by their numbers in the index.
ReadRecords = Callable[[Int[np.ndarray, " n"]], list[Content]]


class Schema(NamedTuple):
    """What a shard says of its records as a whole.

    Attributes:
        class_names: names of the classes; None if records have numbers, or names of their own.
        groups: number of records in each of the groups that are read as a whole; none if records are
            read one by one.
        group_bytes: bytes of the largest group in memory.
        notes: sentences on which of several fields are read.
    """

    class_names: list[str] | None = None
    groups: list[int] = []
    group_bytes: int = 0
    notes: list[str] = []


class ShardFormat(NamedTuple):
    """A format of shards.

    Attributes:
        scan: yields the records of a shard, in order; raises `ValueError` if one is damaged or of
            another schema.
        open: returns what reads the records of an index.
        looks_for: where it looks for labels, for a message.
        schema: returns the schema of a shard.
        slow: returns a sentence on what this installation lacks to scan shards fast; None if nothing.
    """

    scan: Callable[[Path], Iterator[Record]]
    open: Callable[[Places], ReadRecords]
    looks_for: str
    schema: Callable[[Path], Schema] = lambda _: Schema()
    slow: Callable[[], str | None] = lambda: None


class RangeReader:
    """Reads records that are ranges of bytes of their shards.

    Args:
        places: where they are.
        decode: from the bytes of a range to the content of a record.
    """

    def __init__(self, places: Places, decode: Callable[[bytes], Content]):
        self._places, self._decode, self._files = places, decode, FileRanges()

    def __call__(self, records: Int[np.ndarray, " n"]) -> list[Content]:
        """Returns the contents of some records; raises `UserError` if one is missing or damaged."""
        places = (*self._places.locate(records), *self._places.ranges(records))
        return [self._read(*place) for place in zip(*map(np.ndarray.tolist, places), strict=True)]

    def _read(self, shard: int, number: int, offset: int, length: int) -> Content:
        path = self._places.paths[shard]
        stored = self._files.read(path, offset, length)
        try:
            return self._decode(stored)
        except Exception as error:  # a damaged record raises many types
            raise UserError(f"{path}: record {number:,}: {first_line(error)}") from error


def range_reader(decode: Callable[[bytes], Content]) -> Callable[[Places], RangeReader]:
    """Returns `ShardFormat.open` of a format whose records are ranges of bytes."""
    return functools.partial(RangeReader, decode=decode)


def read_array(content: bytes) -> Shaped[np.ndarray, " dimensions"]:
    """Returns the vector in the bytes of a .npy file.

    Raises:
        ValueError: if it is no vector of numbers, or damaged.
    """
    array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return as_vector(array)


def as_vector(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, " dimensions"]:
    """Returns the array; raises `ValueError` unless it is a vector of numbers."""
    if array.ndim != 1 or array.dtype.kind not in "iuf" or not array.size:
        raise ValueError(f"expected a vector of numbers, got shape {array.shape} of {array.dtype}")
    return array
