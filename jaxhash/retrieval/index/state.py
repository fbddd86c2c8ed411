"""Reads one state of an index: the files that one manifest names."""

import dataclasses
import functools
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int, UInt8

from jaxhash.retrieval.index.items import (
    SCHEMA,
    IndexItem,
    find_ids,
    open_table,
    read_ids,
    read_rows,
    to_items,
)
from jaxhash.retrieval.index.manifest import REMEDY, Files, Manifest, Shard
from jaxhash.retrieval.index.thumbnails import open_thumbnails, take_thumbnails
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_kind

Block = tuple[Int[np.ndarray, " n"], UInt8[np.ndarray, "n bytes"]]


class MissingFile(UserError, FileNotFoundError):
    """A file that the manifest names is not there: lost, or of a shard that was compacted meanwhile."""


class MissingItem(UserError, LookupError):
    """An id that no item has, or one that was removed."""


@dataclasses.dataclass(frozen=True)
class IndexState:
    """One state of an index: a writer that changes the index does not change it.

    Methods raise `UserError` if a file is damaged, and `FileNotFoundError` if one has gone.

    Attributes:
        folder: folder of the index.
        manifest: the manifest of the state.
    """

    folder: Path
    manifest: Manifest

    @functools.cached_property
    def removed(self) -> Int[np.ndarray, " n"]:
        """Ids of the rows that are removed and not yet compacted away, ascending."""
        removed = self.manifest.removed
        if removed is None:
            return np.empty(0, np.int64)
        return np.asarray(self._load(removed.name, removed.files, np.int64, (removed.rows,)))

    def codes(self, shard: Shard) -> UInt8[np.ndarray, "n bytes"]:
        """Returns the codes of a shard, memory-mapped."""
        shape = (shard.rows, self.manifest.code_bytes)
        return self._load(shard.name("codes"), shard.files, np.uint8, shape)

    def vectors_of(self, shard: Shard) -> Float[np.ndarray, "n d"]:
        """Returns the vectors that are kept of a shard, memory-mapped."""
        [(name, dtype)] = self.manifest.keep.items()
        return self._load(shard.name(name), shard.files, np.dtype(dtype), (shard.rows, None))

    def thumbnails_of(self, shard: Shard) -> pa.ChunkedArray:
        """Returns the thumbnails of a shard, memory-mapped."""
        path = self.path(shard.name("thumbnails"), shard.files)
        thumbnails = open_thumbnails(path)
        if len(thumbnails) != shard.rows:
            raise UserError(f"{path} has {len(thumbnails):,} rows, not {shard.rows:,}; {REMEDY}")
        return thumbnails

    def table(self, shard: Shard) -> pq.ParquetFile:
        """Opens the items table of a shard."""
        return open_table(self.path(shard.name("items"), shard.files))

    def ids(self, shard: Shard, table: pq.ParquetFile | None = None) -> Int[np.ndarray, " n"]:
        """Returns the ids of the rows of a shard, removed ones included."""
        if shard.is_contiguous:
            return np.arange(shard.first_id, shard.last_id + 1)
        return read_ids(table or self.table(shard))

    def is_live(self, ids: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Returns whether each of some ids, ascending, is not removed."""
        if not len(ids):
            return np.ones(0, bool)
        start, stop = np.searchsorted(self.removed, [ids[0], ids[-1] + 1])
        return ~np.isin(ids, self.removed[start:stop], assume_unique=True)

    def blocks(self) -> Iterator[Block]:
        """Returns an iterator over ids and codes; every file is opened before it is returned."""
        shards = [shard for shard in self.manifest.shards if shard.rows]
        opened = [
            (shard, self.codes(shard), None if shard.is_contiguous else self.table(shard))
            for shard in shards
        ]
        _ = self.removed

        def read() -> Iterator[Block]:
            for shard, codes, table in opened:
                ids = self.ids(shard, table)
                live = self.is_live(ids)
                if live.all():
                    yield ids, codes
                elif live.any():
                    yield ids[live], codes[live]

        return read()

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Returns an iterator over columns of the items of each block of `blocks`, opened likewise."""
        opened = [(shard, self.table(shard)) for shard in self.manifest.shards if shard.rows]
        _ = self.removed

        def read() -> Iterator[pa.Table]:
            for shard, table in opened:
                live = self.is_live(self.ids(shard, table))
                if live.any():
                    rows = table.read(columns=list(columns)).slice(0, shard.rows)
                    yield rows if live.all() else rows.filter(pa.array(live))

        return read()

    def items(self, ids: Int[np.ndarray, " n"]) -> list[IndexItem]:
        """Returns the items of some ids; reads the shards that they lie in."""
        found: list = [None] * len(ids)
        for shard, places, rows in self._locate(ids):
            table = read_rows(self.table(shard), rows)
            for place, item in zip(places, to_items(table), strict=True):
                found[place] = item
        return found

    def codes_of(self, ids: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n bytes"]:
        """Returns the packed codes of some ids."""
        found = np.empty((len(ids), self.manifest.code_bytes), np.uint8)
        for shard, places, rows in self._locate(ids):
            found[places] = self.codes(shard)[rows]
        return found

    def vectors(self, ids: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """Returns the vectors that are kept of some ids."""
        found = None
        for shard, places, rows in self._locate(ids):
            vectors = self.vectors_of(shard)
            if found is None:
                found = np.empty((len(ids), vectors.shape[1]), vectors.dtype)
            found[places] = vectors[rows]
        if found is None:
            [dtype] = self.manifest.keep.values()
            return np.empty((0, 0), dtype)
        return found

    def thumbnails(self, ids: Int[np.ndarray, " n"]) -> list[bytes | None]:
        """Returns the thumbnails of some ids; None for each if the index keeps none."""
        found: list[bytes | None] = [None] * len(ids)
        for shard, places, rows in self._locate(ids):
            if self.manifest.thumbnails is not None:
                taken = take_thumbnails(self.thumbnails_of(shard), rows)
                for place, thumbnail in zip(places, taken, strict=True):
                    found[place] = thumbnail
        return found

    def find(self, **values: Sequence[str]) -> Int[np.ndarray, " n"]:
        """Returns the ids of the live items with one of the values in each column named, ascending."""
        found = []
        for shard in self.manifest.shards:
            path = self.path(shard.name("items"), shard.files)
            ids = [find_ids(path, column, names) for column, names in values.items()]
            ids = functools.reduce(np.intersect1d, ids)
            found.append(ids[self.is_live(ids)])
        return np.concatenate([np.empty(0, np.int64), *found])

    def broken(self) -> Iterator[IndexItem]:
        """Yields the inputs that could not be read."""
        for shard in self.manifest.shards:
            yield from self.broken_of(shard)

    def broken_of(self, shard: Shard) -> list[IndexItem]:
        """Returns the inputs of a shard that could not be read."""
        if not shard.broken:
            return []
        rows = np.arange(shard.rows, shard.rows + shard.broken)
        return list(to_items(read_rows(self.table(shard), rows, SCHEMA.names)))

    def path(self, name: str, files: Files) -> Path:
        """Returns the path of a file, which exists and has its size."""
        path = self.folder / name
        if not check_kind(path, stat.S_ISREG, "index"):
            raise MissingFile(f"{path} is missing; {REMEDY}")
        size, expected = path.stat().st_size, files[name][0]
        if size != expected:
            raise UserError(f"{path} has {size:,} bytes instead of {expected:,}; {REMEDY}")
        return path

    def _load(
        self, name: str, files: Files, dtype: np.dtype | type, shape: tuple[int | None, ...]
    ) -> np.ndarray:
        path = self.path(name, files)
        try:
            array = np.load(path, mmap_mode="r" if shape[0] else None)
        except (ValueError, EOFError) as error:
            raise UserError(f"{path} is damaged ({error}); {REMEDY}") from error
        fits = array.ndim == len(shape) and all(
            expected in (None, found) for expected, found in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            raise UserError(
                f"{path} holds {array.dtype} {array.shape} instead of {np.dtype(dtype)} {shape}; "
                f"{REMEDY}"
            )
        return array

    def check_ids(self, ids: Int[np.ndarray, " n"], *, removed_too: bool = False) -> None:
        """Raises `MissingItem` unless there are items of some ids, removed ones if those count."""
        for _ in self._locate(ids, removed_too=removed_too):
            pass

    def _locate(
        self, ids: Int[np.ndarray, " n"], *, removed_too: bool = False
    ) -> Iterator[tuple[Shard, Int[np.ndarray, " m"], Int[np.ndarray, " m"]]]:
        """Yields, per shard that holds some of the ids, their places among the ids and their rows."""
        shards = self.manifest.shards
        last_ids = np.array([shard.last_id for shard in shards], np.int64)
        shard_of_id = np.searchsorted(last_ids, ids)
        missing = np.zeros(len(ids), bool) if removed_too else np.isin(ids, self.removed)
        parts = []
        for number in np.unique(shard_of_id):
            places = np.flatnonzero(shard_of_id == number)
            if number == len(shards):
                missing[places] = True
                continue
            shard = shards[number]
            if shard.is_contiguous:
                rows = ids[places] - shard.first_id
                missing[places] |= rows < 0
            else:
                held = self.ids(shard)
                rows = np.searchsorted(held, ids[places])
                missing[places] |= held[rows] != ids[places]
            parts.append((shard, places, rows))
        if missing.any():
            raise MissingItem(f"{self.folder} has no item of id {ids[missing][0]}")
        yield from parts
