"""What an index holds already, so that an encoding that was interrupted goes on."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xxhash

from jaxhash.retrieval.index.manifest import SourceRows
from jaxhash.retrieval.index.state import IndexState
from jaxhash.utils.errors import UserError

Status = Literal["new", "same", "changed"]


class Known:
    """The inputs that an index holds, live or broken.

    Paths are read when they are first asked for, and take 24 bytes each.

    Args:
        state: state of an index that no other process changes.
    """

    def __init__(self, state: IndexState):
        self._state = state

    @functools.cached_property
    def _paths(self) -> tuple[np.ndarray, np.ndarray]:
        """Digests of the paths, ascending, and of the size and time of each."""
        state = self._state
        keys, stamps = [np.empty(0, "S16")], [np.empty(0, np.uint64)]
        for shard in state.manifest.shards:
            live = np.ones(shard.rows + shard.broken, bool)
            live[: shard.rows] = state.is_live(state.ids(shard))
            start = 0
            for batch in state.table(shard).iter_batches(columns=["path", "size", "mtime_ns"]):
                keep = live[start : start + len(batch)]
                start += len(batch)
                path, size, mtime = (column.to_pylist() for column in batch.columns)
                keys.append(_path_keys(path)[keep])
                stamps.append(_stamps(size, mtime)[keep])
        keys, stamps = np.concatenate(keys), np.concatenate(stamps)
        order = np.argsort(keys, kind="stable")  # of a path that is there twice the last one counts
        return keys[order], stamps[order]

    def rows_of(self, name: str, fingerprint: str) -> list[range]:
        """Returns the rows of an array file that the index holds, in order.

        Args:
            name: name of the file, as `Index.add` was given it.
            fingerprint: fingerprint of its content, likewise.

        Raises:
            UserError: if the file had another content when it was added.
        """
        source = self._state.manifest.sources.get(name)
        if source is None:
            return []
        if source.fingerprint != fingerprint:
            raise UserError(
                f"{name} has changed since it was added to the index; add it under another name, or "
                "encode into another folder"
            )
        return [range(start, stop) for start, stop in source.rows]

    def status(self, items: Sequence[Any]) -> list[Status]:
        """Returns, per file, whether the index holds its path, and with this size and time.

        Args:
            items: objects with ``path``, ``size`` and ``mtime_ns``.
        """
        known_keys, known_stamps = self._paths
        if not len(known_keys) or not len(items):
            return ["new"] * len(items)
        keys = _path_keys([item.path for item in items])
        stamps = _stamps([item.size for item in items], [item.mtime_ns for item in items])
        places = np.searchsorted(known_keys, keys, side="right") - 1
        is_known = known_keys[places] == keys
        is_same = known_stamps[places] == stamps
        return [
            ("same" if same else "changed") if known else "new"
            for known, same in zip(is_known.tolist(), is_same.tolist(), strict=True)
        ]


def add_rows(
    sources: dict[str, SourceRows], name: str, fingerprint: str, start: int, stop: int
) -> dict[str, SourceRows]:
    """Returns the sources with rows ``start`` to ``stop`` of an array file added."""
    rows = sorted([*(sources[name].rows if name in sources else ()), (start, stop)])
    merged = rows[:1]
    for begin, end in rows[1:]:
        if begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return sources | {name: SourceRows(fingerprint, tuple(merged))}


def _path_keys(paths: Sequence[str]) -> np.ndarray:
    """Returns 128-bit digests of paths, as text of a fixed width, which NumPy sorts."""
    digest = xxhash.xxh3_128_digest
    joined = b"".join(digest(path.encode("utf-8", "backslashreplace")) for path in paths)
    return np.frombuffer(joined, "S16")


def _stamps(sizes: Sequence[int | None], times: Sequence[int | None]) -> np.ndarray:
    """Returns 64-bit digests of sizes and times."""
    digest = xxhash.xxh3_64_intdigest
    pairs = zip(sizes, times, strict=True)
    return np.array([digest(b"%a %a" % (size, time)) for size, time in pairs], np.uint64)
