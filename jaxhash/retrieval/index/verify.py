"""Verifies that an index is whole, and that its items are the files that were encoded."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from jaxhash.retrieval.index.items import OK, SCHEMA, to_items
from jaxhash.retrieval.index.manifest import MANIFEST_FILE, REMEDY, Files, Shard
from jaxhash.retrieval.index.shards import check_codes
from jaxhash.retrieval.index.state import IndexState
from jaxhash.retrieval.index.thumbnails import JPEG_START, take_thumbnails
from jaxhash.training.digests import file_digest
from jaxhash.utils.console import track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import read_json

#: Rows of the items table that are compared with their files at a time.
_FILES_AT_ONCE = 8192


def find_damage(state: IndexState, console: Console | None = None) -> Iterator[str]:
    """Yields a sentence for each problem of the files of an index.

    Reads every file once: sizes and digests, the shapes and the unused bits of codes, the ids and the
    counts of the items tables, and that vectors are finite.

    Args:
        state: the state of the index.
        console: where progress is printed; the error stream by default.
    """
    manifest = state.manifest
    if manifest.removed is not None:
        yield from _find_removed_damage(state)
    for shard in _tracked(manifest.shards, "rows verified", console):
        damaged = list(_find_changed(state, shard.files))
        yield from damaged
        if not damaged:
            try:
                yield from _find_shard_damage(state, shard)
            except UserError as error:
                yield str(error)


def find_hasher_damage(folder: Path, check_code: str) -> Iterator[str]:
    """Yields a sentence unless the hash function of an index has the check code of index.json.

    Args:
        folder: folder of the hash function.
        check_code: check code by index.json.
    """
    path = folder / "config.json"
    if path.is_file() and (found := read_json(path, REMEDY).get("check_code")) != check_code:
        yield f"{path} has the check code {found}, and {MANIFEST_FILE} {check_code}"


def find_changed_files(
    state: IndexState, root: Path, console: Console | None = None
) -> Iterator[str]:
    """Yields a sentence for each file that was encoded and is missing, has changed or left the root.

    A file of another time is read, and is the same if its content is. An array file always is.

    Args:
        state: the state of the index.
        root: root of the items.
        console: where progress is printed; the error stream by default.
    """
    # Here, since it loads the readers, without which an index is read and searched.
    from jaxhash.data.inputs.opening import ARRAY_SUFFIXES

    root = root.resolve()
    for name, source in state.manifest.sources.items():
        is_file = Path(name).suffix.lower() in ARRAY_SUFFIXES  # else it is the name of a data set
        if is_file and (reason := _problem(root, name, digest=source.fingerprint)):
            yield f"{name}: {reason}"
    shards = [shard for shard in state.manifest.shards if shard.rows]
    for shard in _tracked(shards, "files verified", console):
        start, live = 0, state.is_live(state.ids(shard))
        for batch in state.table(shard).iter_batches(_FILES_AT_ONCE, use_threads=False):
            keep = live[start : start + len(batch)]
            start += len(batch)
            for item in itertools.compress(to_items(batch), keep):
                is_file = bool(item.mtime_ns)  # else it is the row of an array
                if is_file and (reason := _problem(root, *item[1:5])):
                    yield f"{item.path} (id {item.id}): {reason}"


def _tracked(shards: Sequence[Shard], what: str, console: Console | None) -> Iterator[Shard]:
    total = sum(shard.rows for shard in shards)
    return track_progress(shards, what, total, console, size=lambda shard: shard.rows)


def _find_changed(state: IndexState, files: Files) -> Iterator[str]:
    for name, (_, digest) in files.items():
        try:
            if file_digest(state.path(name, files))[1] != digest:
                yield f"{state.folder / name} is damaged: its digest is another than in index.json"
        except FileNotFoundError:
            yield f"{state.folder / name} is missing"
        except (UserError, OSError) as error:
            yield str(error)


def _find_removed_damage(state: IndexState) -> Iterator[str]:
    removed = state.manifest.removed
    changed = list(_find_changed(state, removed.files))
    yield from changed
    if not changed:
        try:
            if (np.diff(state.removed) <= 0).any():
                yield f"{state.folder / removed.name}: its ids do not ascend"
            state.check_ids(state.removed, removed_too=True)
        except UserError as error:
            yield str(error)


def _find_shard_damage(state: IndexState, shard: Shard) -> Iterator[str]:
    codes = state.codes(shard)
    check_codes(codes, state.manifest.bits, str(state.folder / shard.name("codes")))
    if state.manifest.keep and shard.rows and not np.isfinite(state.vectors_of(shard)).all():
        [name] = state.manifest.keep
        yield f"{state.folder / shard.name(name)} has values that are not finite"
    if state.manifest.thumbnails is not None and shard.rows:
        yield from _find_thumbnail_damage(state, shard)
    name, table = state.folder / shard.name("items"), state.table(shard)
    if not table.schema_arrow.equals(SCHEMA):
        yield f"{name} has other columns than {', '.join(SCHEMA.names)}"
    elif table.metadata.num_rows != shard.rows + shard.broken:
        yield f"{name} has {table.metadata.num_rows:,} rows, not {shard.rows + shard.broken:,}"
    else:
        yield from (f"{name}: {reason}" for reason in _find_id_damage(table, shard))


def _find_thumbnail_damage(state: IndexState, shard: Shard) -> Iterator[str]:
    thumbnails = take_thumbnails(state.thumbnails_of(shard), np.arange(shard.rows))
    wrong = sum(not each.startswith(JPEG_START) for each in thumbnails)
    if wrong:
        name = state.folder / shard.name("thumbnails")
        yield f"{name} has {wrong:,} rows that are no JPEG files"


def _find_id_damage(table: pq.ParquetFile, shard: Shard) -> Iterator[str]:
    columns = table.read(columns=["id", "status"])
    ids = columns["id"].slice(0, shard.rows)
    if ids.null_count or columns["id"].null_count != shard.broken:
        yield "an item has no id, or a broken input has one"
    elif shard.rows:
        values = ids.to_numpy()
        ends = (int(values[0]), int(values[-1]))
        if (np.diff(values) <= 0).any() or ends != (shard.first_id, shard.last_id):
            yield f"its ids do not ascend from {shard.first_id} to {shard.last_id}"
    if set(columns["status"].slice(0, shard.rows).unique().to_pylist()) - {OK}:
        yield f"an item has another status than {OK!r}"


def _problem(
    root: Path, name: str, size: int | None = None, mtime_ns: int = 0, digest: str | None = None
) -> str | None:
    """Returns what is wrong with a file that had this size, time and digest; None if nothing is."""
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(root):
        return f"it lies outside the root {root}"
    try:
        state = path.stat()
        if size not in (None, state.st_size):
            return f"the file has changed ({state.st_size:,} bytes instead of {size:,})"
        if state.st_mtime_ns == mtime_ns or digest in (None, file_digest(path)[1]):
            return None
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"
    return "the file has changed (another content)"
