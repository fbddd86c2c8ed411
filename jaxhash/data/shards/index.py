"""The index of a set of shards: where each record is, with its label and a digest, in columns on disk.

It is made once, shard by shard: one that was scanned before, and has not changed since, is not scanned again, so
an index that was interrupted goes on where it was.
"""

import functools
import itertools
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Int, Shaped, UInt64
from rich.console import Console

from jaxhash.data.readers.folder_layout import INDEX_FOLDER
from jaxhash.data.shards.formats import FORMATS
from jaxhash.data.shards.listing import ShardSet
from jaxhash.data.shards.scan import (
    COLUMNS,
    ShardFacts,
    merge_class_names,
    renumber,
    scan_shard,
    state_of,
)
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file, write_json
from jaxhash.utils.hardware import cores_used

#: Bytes of row groups that a reader holds in memory, and shuffles with one another.
WINDOW_BYTES = 2**28

#: Bytes of shards from which they are scanned by several processes.
PARALLEL_BYTES = 2**30

_VERSION = 1


class ShardIndex:
    """An index that was made, and has not changed since.

    Args:
        folder: its folder.
        root: folder that the names of the shards are relative to.

    Attributes:
        folder: its folder.
        format: format of the shards.
        shards: what it says of each.
        class_names: names of the classes; None if labels are numbers.
        paths: path of each shard.
        starts: number of the first record of each shard, and the number of all records.
    """

    def __init__(self, folder: Path, root: Path):
        content = json.loads((folder / "index.json").read_text())
        if content["version"] != _VERSION:
            raise ValueError(f"its version is {content['version']}")
        self.folder, self._root, self._columns = folder, root, content["columns"]
        self.format: str = content["format"]
        self.shards = [ShardFacts(*each) for each in content["shards"]]
        self.class_names: list[str] | None = content["class_names"]
        self.paths = [root / facts.name for facts in self.shards]
        self.starts = np.cumsum([0, *(facts.records for facts in self.shards)])

    def __reduce__(self) -> tuple[object, ...]:
        return ShardIndex, (self.folder, self._root)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def column(self, name: str) -> Shaped[np.ndarray, " records"]:
        """Returns one of the `COLUMNS`, mapped from disk."""
        return np.load(self.folder / self._columns / f"{name}.npy", mmap_mode="r")

    @property
    def kind(self) -> str:
        """``images`` or ``vectors``."""
        return next(facts.kind for facts in self.shards if facts.kind)

    @functools.cached_property
    def unreadable(self) -> Int[np.ndarray, " n"]:
        """Numbers of the records that are unreadable, sorted."""
        starts = self.starts.tolist()
        pairs = zip(starts, self.shards, strict=False)
        numbers = [start + number for start, facts in pairs for number, _ in facts.unreadable]
        return np.array(numbers, np.int64)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the labels and inputs of all records."""
        return xxhash.xxh3_128("".join(facts.digest for facts in self.shards).encode()).hexdigest()

    def name_of(self, record: int) -> str:
        """Returns a name that leads back to a record, such as ``train-00000.tar#17``."""
        shard = int(np.searchsorted(self.starts, record, side="right")) - 1
        return f"{self.shards[shard].name}#{record - int(self.starts[shard])}"

    def locate(
        self, records: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Returns the number of the shard of each record, and its number within the shard."""
        shards = np.searchsorted(self.starts, records, side="right") - 1
        return shards, records - self.starts[shards]

    def ranges(
        self, records: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Returns offset and length of each record in its shard."""
        return self._ranges[0][records], self._ranges[1][records]

    @functools.cached_property
    def _ranges(self) -> tuple[Int[np.ndarray, " records"], Int[np.ndarray, " records"]]:
        return self.column("offset"), self.column("length")

    @functools.cached_property
    def digests(self) -> UInt64[np.ndarray, " records"]:
        """A digest of the input of each record."""
        return self.column("digest")

    @property
    def window(self) -> int:
        """Number of groups of records that are held in memory, and shuffled with one another."""
        largest = max((facts.group_bytes for facts in self.shards), default=0)
        return max(1, WINDOW_BYTES // max(largest, 1))

    @functools.cached_property
    def group_starts(self) -> Int[np.ndarray, " groups"]:
        """First record of each group that is read as a whole; empty if records are read one by one."""
        sizes = [size for facts in self.shards for size in facts.groups]
        return np.cumsum([0, *sizes])[:-1]

    def locate_groups(
        self, records: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Returns the shard of each record, its group within the shard, and its number within the group."""
        shards, _ = self.locate(records)
        groups = np.searchsorted(self.group_starts, records, side="right") - 1
        first = np.cumsum([0, *(len(facts.groups) for facts in self.shards)])
        return shards, groups - first[shards], records - self.group_starts[groups]


def index_folder(path: Path) -> Path:
    """Returns the folder of the index of a folder of shards, or of one shard.

    It is beside the shards, of a single one with its name, or, where nothing can be written there, in the user's cache.
    """
    beside = path / INDEX_FOLDER if path.is_dir() else path.parent / f"{INDEX_FOLDER}-{path.name}"
    if beside.is_dir() or os.access(beside.parent, os.W_OK):
        return beside
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = xxhash.xxh3_64_hexdigest(os.fsencode(path.resolve()))
    return cache / "jaxhash" / f"index-{name}"


def open_index(shards: ShardSet, folder: Path) -> ShardIndex | None:
    """Opens an index; returns None if there is none, or a shard was added, taken away or changed since.

    Raises:
        UserError: if the index is damaged.
    """
    if not (folder / "index.json").is_file():
        return None
    try:
        index = ShardIndex(folder, shards.root)
        index.column("label")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{folder} is damaged; remove it, and index the shards anew") from error
    states = [(facts.name, facts.state) for facts in index.shards]
    is_same = index.format == shards.format and states == list(_states(shards).items())
    return index if is_same else None


def unscanned_bytes(shards: ShardSet, folder: Path) -> int:
    """Returns the bytes of the shards that no index, whole or interrupted, holds."""
    known = _known(folder, shards.root)
    states = _states(shards)
    return sum(state[0] for name, state in states.items() if not _is_known(known, name, state))


def make_index(shards: ShardSet, folder: Path, console: Console | None = None) -> ShardIndex:
    """Makes an index, or goes on with one that was interrupted or is of other shards.

    Args:
        shards: the shards.
        folder: folder of the index.
        console: where progress, and a note where it is slow, are printed; the error stream by default.

    Raises:
        UserError: that names the shard and the record where one is damaged or of another schema.
        OSError: if the index cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known, states = _known(folder, shards.root), _states(shards)
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    missing = [name for name in shards.names if not _is_known(known, name, states[name])]
    total = sum(states[name][0] for name in missing)
    if missing and (slow := FORMATS[shards.format].slow()):
        print_line(console or Console(stderr=True), f"note: {slow}")
    scanned = track_progress(
        _scan(shards, missing, total),
        f"indexing {shards.root}, bytes",
        total,
        console,
        size=lambda found: found[0].state[0],
    )
    for facts, columns in scanned:
        name = facts.name
        part = parts / f"{xxhash.xxh3_64_hexdigest(os.fsencode(name))}.npz"
        with whole_file(part, "wb") as file:
            np.savez(file, facts=np.array(json.dumps(facts)), **columns)
        known[name] = facts, part
    facts = [known[name][0] for name in shards.names]
    _check_schemas(shards.root, facts)
    names = merge_class_names(facts, shards.root)
    columns = "columns-" + xxhash.xxh3_64_hexdigest(json.dumps(facts).encode())
    _write_columns(folder, columns, known, facts, names)
    content = {
        "version": _VERSION,
        "format": shards.format,
        "columns": columns,
        "class_names": names,
        "shards": facts if names is None else [each._replace(class_names=names) for each in facts],
    }
    write_json(folder / "index.json", content)
    for other in folder.iterdir():  # of an earlier index, and what this one was made of
        if other.is_dir() and other.name != columns:
            shutil.rmtree(other)
    return ShardIndex(folder, shards.root)


def _scan(shards: ShardSet, names: list[str], size: int) -> Iterator[tuple[ShardFacts, Any]]:
    """Yields the result of `scan_shard` of each name; of many bytes by several processes."""
    if size < PARALLEL_BYTES or len(names) == 1:
        yield from (scan_shard(shards.root, name, shards.format) for name in names)
        return
    processes = min(cores_used(), len(names))
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(scan_shard, shards.root, name, shards.format) for name in names]
        try:
            while waiting:
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(cancel_futures=True)


def _known(folder: Path, root: Path) -> dict[str, tuple[ShardFacts, Any]]:
    """Returns what was found in each shard, with the place of its columns, from an index or its parts."""
    known: dict[str, tuple[ShardFacts, Any]] = {}
    try:
        index = ShardIndex(folder, root)
        for facts, (start, stop) in zip(
            index.shards, itertools.pairwise(index.starts), strict=True
        ):
            known[facts.name] = facts, (index, slice(int(start), int(stop)))
    except (ValueError, KeyError, TypeError, OSError):
        pass  # none yet, or a damaged one
    for part in (folder / "parts").glob("*.npz"):
        try:
            with np.load(part) as arrays:
                facts = ShardFacts(*json.loads(str(arrays["facts"])))
        except Exception:  # a broken zip raises many types
            continue
        known[facts.name] = facts, part
    return known


def _is_known(known: dict[str, Any], name: str, state: list[int]) -> bool:
    return name in known and known[name][0].state == state


def _states(shards: ShardSet) -> dict[str, list[int]]:
    return {name: state_of(shards.root / name) for name in shards.names}


def _write_columns(
    folder: Path,
    name: str,
    known: dict[str, tuple[ShardFacts, Any]],
    shards: list[ShardFacts],
    class_names: list[str] | None,
) -> None:
    """Writes the columns of all shards, one after the other."""
    (folder / name).mkdir(exist_ok=True)
    count = sum(facts.records for facts in shards)
    for column, dtype in COLUMNS.items():
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (count,)}
        with whole_file(folder / name / f"{column}.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for facts in shards:
                values = _read_column(known[facts.name][1], column)
                if column == "label" and class_names is not None:
                    values = renumber(values, facts.class_names or [], class_names)
                file.write(np.ascontiguousarray(values, dtype).tobytes())


def _read_column(place: Any, column: str) -> Shaped[np.ndarray, " records"]:
    if isinstance(place, Path):
        with np.load(place) as arrays:
            return arrays[column]
    index, rows = place
    return index.column(column)[rows]


def _check_schemas(root: Path, shards: list[ShardFacts]) -> None:
    """Raises if shards hold images and vectors, or vectors of several dimensions."""
    held = [facts for facts in shards if facts.kind]
    if not held:
        raise UserError(f"{root}: its shards hold no records")
    first = held[0]
    for facts in held:
        if facts.kind != first.kind:
            raise UserError(
                f"{root / facts.name} holds {facts.kind}, and {first.name} holds {first.kind}"
            )
    if first.kind == "vectors":
        shapes = list(_shapes(held))
        for shape, record, name in shapes:
            if shape != shapes[0][0]:
                raise UserError(
                    f"{root / name}: record {record:,} has {shape[0]} dimensions, and {shapes[0][2]} has "
                    f"{shapes[0][0][0]}"
                )


def _shapes(shards: list[ShardFacts]) -> Iterator[tuple[list[int], int, str]]:
    """Yields each shape that a shard holds, with the first record that has it, and the shard."""
    for facts in shards:
        for *shape, record in facts.shapes:
            yield shape, record, facts.name
