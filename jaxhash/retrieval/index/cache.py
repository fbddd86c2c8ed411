"""The file ``faiss.index`` of an index: what a search reads, made from the codes and made again when missing.

It begins as faiss writes an `IndexBinaryFlat`, so `faiss.read_index_binary` reads it: the codes of all
items, or the distinct codes where they repeat. After them lie the ids, the start of each group of equal
codes, and a description with a key of the files that it was made from. As it is one file, it is
replaced whole, and is never of two states of the index.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

import faiss
import numpy as np
from jaxtyping import Int, Int64, UInt8
from rich.console import Console

from jaxhash.retrieval.index.groups import group_equal_codes
from jaxhash.retrieval.index.state import IndexState
from jaxhash.retrieval.search import (
    Neighbors,
    count_at_distance,
    range_search_codes,
    search_codes,
)
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.files import whole_file

CACHE_FILE = "faiss.index"

#: Largest k for which groups are searched: each of k groups may hold k of the nearest items.
MAX_GROUP_K = 1024

#: Name of the format in the description, to be raised with it.
_FORMAT = "jaxhash-search-2"

#: Bytes at the end that hold the length of the description.
_LENGTH_BYTES = 8

#: Items from which on making the file takes seconds, and shows its progress.
_MANY = 2**23

#: Candidates that are in memory while groups are turned into items.
_CANDIDATES = 2**22


class SearchCache(NamedTuple):
    """Codes of an index as a search takes them, memory-mapped: one by one, or grouped if they repeat.

    Attributes:
        codes: packed codes; the distinct ones, in order of their first items, if they are grouped.
        runs: rows from which on ids follow one another, and the first id of each; None for groups.
        ids: the ids of each group, ascending; None without groups.
        starts: place of each group in ``ids``, and the number of ids; likewise.
    """

    codes: UInt8[np.ndarray, "rows bytes"]
    runs: Int64[np.ndarray, "runs 2"] | None = None
    ids: Int64[np.ndarray, " items"] | None = None
    starts: Int64[np.ndarray, " starts"] | None = None

    @property
    def items(self) -> int:
        """Returns the number of items that are searched."""
        return len(self.codes if self.ids is None else self.ids)

    @property
    def is_grouped(self) -> bool:
        """Returns whether items of equal codes are one row."""
        return self.starts is not None

    def _ids_of(self, rows: Int64[np.ndarray, "*n"]) -> Int64[np.ndarray, "*n"]:
        """Returns the ids of rows that are no groups."""
        first_rows, first_ids = self.runs.T
        run = np.searchsorted(first_rows, rows, side="right") - 1
        return first_ids[run] + (rows - first_rows[run])

    def search(self, queries: UInt8[np.ndarray, "q bytes"], k: int) -> Neighbors:
        """Returns the k nearest items of each query, ties in order of id.

        Args:
            queries: packed codes of the queries.
            k: number of items per query; at most `MAX_GROUP_K` if codes are grouped.
        """
        if not self.is_grouped:
            distances, rows = search_codes(queries, self.codes, k)
            return Neighbors(distances, self._ids_of(rows))
        nearest = search_codes(queries, self.codes, min(k, len(self.codes)))
        step = max(1, _CANDIDATES // k**2)
        parts = [
            self._take_items(*(each[first : first + step] for each in nearest), k)
            for first in range(0, len(queries), step)
        ]
        empty = (np.empty((0, k), np.int32), np.empty((0, k), np.int64))
        return Neighbors(*map(np.concatenate, zip(empty, *parts, strict=True)))

    def _take_items(
        self, distances: Int[np.ndarray, "q groups"], groups: Int[np.ndarray, "q groups"], k: int
    ) -> tuple[Int[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Returns the k nearest items from the k nearest groups of each query."""
        sizes = np.minimum(self.starts[groups + 1] - self.starts[groups], k)
        # A group counts unless k items are nearer. Of a group no more than k items count.
        nearer = np.cumsum(sizes, axis=1) - sizes
        columns = np.broadcast_to(np.arange(groups.shape[1]), groups.shape)
        is_new = np.diff(distances, axis=1, prepend=-1) != 0
        tied_from = np.maximum.accumulate(np.where(is_new, columns, 0), axis=1)
        sizes = np.where(np.take_along_axis(nearer, tied_from, axis=1) < k, sizes, 0)
        per_query = sizes.sum(axis=1)
        flat = sizes.ravel()
        ends = np.cumsum(flat)
        places = np.repeat(self.starts[groups].ravel() - (ends - flat), flat) + np.arange(ends[-1])
        ids, distance = self.ids[places], np.repeat(distances.ravel(), flat)
        query = np.repeat(np.arange(len(groups)), per_query)
        order = np.lexsort((ids, distance, query))
        take = (np.cumsum(per_query) - per_query)[:, None] + np.arange(k)
        return distance[order][take], ids[order][take]

    def range_search(self, queries: UInt8[np.ndarray, "q bytes"], radius: int) -> list[Neighbors]:
        """Returns, for each query, all items within a radius, by distance, then by id."""
        found = range_search_codes(queries, self.codes, radius)
        if not self.is_grouped:
            return [Neighbors(distances, self._ids_of(rows)) for distances, rows in found]
        return [self._all_items(*each) for each in found]

    def _all_items(
        self, distances: Int[np.ndarray, " groups"], groups: Int[np.ndarray, " groups"]
    ) -> Neighbors:
        sizes = self.starts[groups + 1] - self.starts[groups]
        places = np.repeat(self.starts[groups] - (np.cumsum(sizes) - sizes), sizes)
        ids, distances = self.ids[places + np.arange(len(places))], np.repeat(distances, sizes)
        order = np.lexsort((ids, distances))
        return Neighbors(distances[order], ids[order])

    def count_at_distance(
        self, queries: UInt8[np.ndarray, "q bytes"], distances: Int[np.ndarray, " q"]
    ) -> Int64[np.ndarray, " q"]:
        """Counts, for each query, the items at exactly one distance."""
        weights = np.diff(self.starts) if self.is_grouped else None
        return count_at_distance(queries, self.codes, distances, weights)


def open_cache(
    state: IndexState, console: Console | None = None, *, read_only: bool = False
) -> SearchCache | None:
    """Opens the cache of a state of an index; makes it if it is missing or of another state.

    Args:
        state: state of the index.
        console: where to show progress; the error stream by default.
        read_only: whether no file may be written.

    Returns:
        The cache; None if there is none and it may not be written, or, after a line on the console,
        cannot be.
    """
    path, key = state.folder / CACHE_FILE, cache_key(state.manifest.files)
    cache = _read(path, key)
    if cache is not None or read_only:
        return cache
    try:
        _write(path, key, state, console)
    except FileNotFoundError:
        raise  # the index has changed: its reader looks again
    except OSError as error:
        line = f"{path} cannot be written ({error.strerror}): each search reads the codes of all shards"
        print_line(console or Console(stderr=True), line)
        return None
    return _read(path, key)


def cache_key(files: dict[str, tuple[int, str]]) -> str:
    """Returns the key of a cache.

    Args:
        files: size and digest of each file that a state of an index consists of.
    """
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def _read(path: Path, key: str) -> SearchCache | None:
    """Returns the cache in a file; None if there is none, or not of this key."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(-_LENGTH_BYTES, os.SEEK_END)
            length = int.from_bytes(file.read(), "little")
            file.seek(size - _LENGTH_BYTES - length)
            described = json.loads(file.read(length))
            if (described["format"], described["key"]) != (_FORMAT, key):
                return None
            if described["bytes"] != size - _LENGTH_BYTES - length:
                return None
            arrays = {
                name: np.asarray(np.memmap(file, dtype, "r", offset, tuple(shape)))
                for name, (dtype, offset, shape) in described["arrays"].items()
            }
        return SearchCache(**arrays)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None  # of an older version, or cut off


def _write(path: Path, key: str, state: IndexState, console: Console | None) -> None:
    """Writes the cache of a state of an index."""
    items, code_bytes = state.manifest.live, state.manifest.code_bytes

    def blocks() -> Iterable:
        found = state.blocks()
        if items < _MANY:
            return found
        shards = len(state.manifest.shards)
        return track_progress(found, f"writing {path.name}, shards read", shards, console)

    grouping = group_equal_codes(state.blocks, items)
    own_path = path.with_name(f"{path.name}.{secrets.token_hex(8)}")  # another reader may write too
    with whole_file(own_path, "wb") as file:
        writer = _Writer(file)
        rows = items if grouping is None else len(grouping.codes)
        file.write(_faiss_header(rows, code_bytes))
        if grouping is None:
            writer.add("codes", (rows, code_bytes), (codes for _, codes in blocks()))
            runs = _find_runs(ids for ids, _ in state.blocks())
            writer.add("runs", runs.shape, [runs])
        else:
            writer.add("codes", (rows, code_bytes), [grouping.codes])
            writer.add("ids", (items,), grouping.ids_by_group(blocks))
            writer.add("starts", (rows + 1,), [grouping.starts])
        described = {"format": _FORMAT, "key": key, "bytes": file.tell(), "arrays": writer.arrays}
        content = json.dumps(described).encode()
        file.write(content + len(content).to_bytes(_LENGTH_BYTES, "little"))
    own_path.replace(path)


def _find_runs(ids: Iterable[Int64[np.ndarray, " n"]]) -> Int64[np.ndarray, "runs 2"]:
    """Returns the rows at which ids, ascending, do not follow one another, and the ids there."""
    runs, row, expected = [], 0, -1
    for block in ids:
        starts = np.flatnonzero(np.diff(block, prepend=expected - 1) != 1)
        runs.append(np.stack([row + starts, block[starts]], axis=1))
        row, expected = row + len(block), block[-1] + 1
    return np.concatenate(runs)


class _Writer:
    """Writes arrays in parts, and notes where they lie."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.arrays: dict[str, tuple[str, int, tuple[int, ...]]] = {}

    def add(self, name: str, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
        """Writes an array that comes in parts."""
        dtype = np.dtype(np.uint8 if name == "codes" else np.int64)
        self._file.write(b"\0" * (-self._file.tell() % dtype.itemsize))
        self.arrays[name] = (dtype.str, self._file.tell(), shape)
        for part in parts:
            self._file.write(np.ascontiguousarray(part, dtype).data)


def _faiss_header(rows: int, code_bytes: int) -> bytes:
    """Returns what precedes the codes in a file of faiss: that of an empty index, with its counts.

    faiss itself writes only what it has in memory.
    """
    header = faiss.serialize_index_binary(faiss.IndexBinaryFlat(8 * code_bytes)).tobytes()
    total = rows.to_bytes(8, "little")
    size = (rows * code_bytes).to_bytes(8, "little")
    return header[:12] + total + header[20:-8] + size
