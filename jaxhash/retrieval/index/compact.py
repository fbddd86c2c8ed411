"""Rewrites the shards of an index without the rows that were removed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from jaxhash.retrieval.index.manifest import Shard
from jaxhash.retrieval.index.shards import write_shard
from jaxhash.retrieval.index.state import IndexState
from jaxhash.retrieval.index.thumbnails import take_thumbnails
from jaxhash.utils.console import track_progress

#: Shards next to each other are merged up to this number of rows, so that many small ones do not pile up.
MERGED_ROWS = 2**17


def compact_shards(state: IndexState, console: Console | None = None) -> dict[str, Any]:
    """Writes the shards anew that have removed rows, or are small, in new files.

    Ids stay. An input that could not be read is forgotten if one of its path could be read since.

    Args:
        state: the state of the index.
        console: where progress is printed; the error stream by default.

    Returns:
        What changes in the manifest; empty if there is nothing to do.
    """
    stale = _stale_broken(state)
    groups = list(_groups(state))
    shards, number = [], state.manifest.next_number
    total = state.manifest.rows
    for group in track_progress(groups, "rows compacted", total, console, size=_rows):
        changed = len(group) > 1 or not _live(state, group[0]).all()
        if not changed and not (stale and _broken_paths(state, group[0]) & stale):
            shards += group
        elif (shard := _rewrite(state, group, number, stale)) is not None:
            shards.append(shard)
            number += 1
    if tuple(shards) == state.manifest.shards:
        return {}
    return {"shards": tuple(shards), "next_number": number, "removed": None}


def _groups(state: IndexState) -> Iterator[list[Shard]]:
    """Yields runs of shards that together have at most `MERGED_ROWS` live rows, or one shard."""
    group, total = [], 0
    for shard in state.manifest.shards:
        count = int(_live(state, shard).sum())
        if group and total + count > MERGED_ROWS:
            yield group
            group, total = [], 0
        group.append(shard)
        total += count
    if group:
        yield group


def _rewrite(state: IndexState, group: list[Shard], number: int, stale: set[str]) -> Shard | None:
    """Writes the live rows of some shards as one shard; None if nothing is left of them."""
    ids, codes, live_rows, broken_rows, vectors = [], [], [], [], []
    for shard in group:
        live = _live(state, shard)
        table = state.table(shard).read()
        broken = table.slice(shard.rows)
        if stale:
            broken = broken.filter(pc.invert(pc.is_in(broken["path"], pa.array(list(stale)))))
        broken_rows.append(broken)
        live_rows.append(table.slice(0, shard.rows).filter(pa.array(live)))
        ids.append(state.ids(shard)[live])
        codes.append(state.codes(shard)[live])
        if state.manifest.keep and shard.rows:
            vectors.append(state.vectors_of(shard)[live])
    table = pa.concat_tables([*live_rows, *broken_rows]).unify_dictionaries()
    if not len(table):
        return None
    kept = {name: np.concatenate(vectors) for name in state.manifest.keep if vectors}
    ids = np.concatenate(ids)
    has_thumbnails = state.manifest.thumbnails is not None and len(ids)
    return write_shard(
        state.folder,
        number,
        ids,
        np.concatenate(codes),
        table,
        kept,
        _live_thumbnails(state, group) if has_thumbnails else None,
        first_id=group[0].first_id,
    )


def _live_thumbnails(state: IndexState, group: list[Shard]) -> Iterator[bytes]:
    """Yields the thumbnails of the live rows of some shards, one at a time."""
    for shard in group:
        if shard.rows:
            rows = np.flatnonzero(_live(state, shard))
            yield from take_thumbnails(state.thumbnails_of(shard), rows)


def _rows(group: list[Shard]) -> int:
    return sum(shard.rows for shard in group)


def _live(state: IndexState, shard: Shard) -> np.ndarray:
    return state.is_live(state.ids(shard))


def _stale_broken(state: IndexState) -> set[str]:
    """Returns the paths of inputs that could not be read, and of which there is an item by now."""
    paths = sorted({item.path for item in state.broken()})
    if not paths:
        return set()
    return {item.path for item in state.items(state.find(path=paths))}


def _broken_paths(state: IndexState, shard: Shard) -> set[str]:
    return {item.path for item in state.broken_of(shard)}
