"""The index that is served: read only, and looked at again when another process has changed it."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from jaxhash.retrieval.archive_format import read_input_kind
from jaxhash.retrieval.index import Index
from jaxhash.retrieval.index.manifest import MANIFEST_FILE
from jaxhash.retrieval.index.reader import HASHER_FOLDER
from jaxhash.serve.cache import ByteCache
from jaxhash.serve.ranking import Ranking, rank
from jaxhash.utils.errors import UserError

T = TypeVar("T")

#: Bytes of the rankings that are kept, and of the ids of items of labels.
_RANKING_BYTES, _ID_BYTES = 2**25, 2**26


class View:
    """One state of an index, with what was computed of it.

    Attributes:
        index: the index.
        number: number of the state, in order of time.
        takes: what its hash function takes, ``images`` or ``vectors``.
    """

    def __init__(self, index: Index, number: int, rankings: ByteCache, ids: ByteCache):
        self.index, self.number = index, number
        self.takes = read_input_kind(index.folder / HASHER_FOLDER)
        self._rankings, self._ids = rankings, ids
        self._labels: dict[str, int] | None = None

    def labels(self) -> dict[str, int]:
        """Returns the number of items of each label, most first."""
        if self._labels is None:
            counts = self.index.count_labels()
            self._labels = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
        return self._labels

    def count(self, label: str | None) -> int:
        """Returns the number of items of a label, or of all."""
        return len(self.index) if label is None else self.labels().get(label, 0)

    def page(self, label: str | None, offset: int, limit: int) -> Int64[np.ndarray, " n"]:
        """Returns ids of the items of a label, or of all, ascending.

        Args:
            label: the label.
            offset: number of items that are left out before.
            limit: most items that are returned.
        """
        if label is not None:
            return self._ids_of(label)[offset : offset + limit]
        parts = [np.empty(0, np.int64)]
        for ids, _ in self.index.blocks():
            part = ids[offset : offset + limit]
            offset, limit = max(0, offset - len(ids)), limit - len(part)
            parts.append(part)
            if not limit:
                break
        return np.concatenate(parts)

    def ranking(self, code: UInt8[np.ndarray, " bytes"], label: str | None) -> Ranking:
        """Returns the nearest items of a code among those of a label, or among all."""
        return self._rankings.get(
            (self.number, code.tobytes(), label),
            lambda: rank(self.index, code, label, self.count(label)),
        )

    def _ids_of(self, label: str) -> Int64[np.ndarray, " n"]:
        return self._ids.get((self.number, label), lambda: self.index.find(label=label))


class ServedIndex:
    """An index that is read only, and may be changed by another process.

    Args:
        folder: folder of the index.

    Raises:
        UserError: if the folder is no index.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._rankings = ByteCache[Ranking](_RANKING_BYTES, lambda ranking: ranking.nbytes)
        self._ids = ByteCache[np.ndarray](_ID_BYTES, lambda ids: ids.nbytes + 500)
        self._lock = threading.Lock()
        self._number = 0
        self._stamp = self._look()
        self._view = self._open()

    @property
    def view(self) -> View:
        """The index as it is now.

        Raises:
            UserError: if the folder is no index any more.
        """
        with self._lock:
            if (stamp := self._look()) != self._stamp:
                self._number += 1
                self._view, self._stamp = self._open(), stamp
            return self._view

    def read(self, function: Callable[[View], T]) -> T:
        """Returns what a function of the index as it is now returns.

        Calls it again if it fails because the index is changed meanwhile: items that were found are gone.
        """
        view = self.view
        try:
            return function(view)
        except UserError:
            newer = self.view
            if newer is view:
                raise
            return function(newer)

    def _look(self) -> tuple[int, int, int] | None:
        """Returns what tells whether the manifest is another one than before."""
        try:
            state = os.stat(self.folder / MANIFEST_FILE)
        except OSError:
            return None
        return state.st_ino, state.st_mtime_ns, state.st_size

    def _open(self) -> View:
        index = Index.open(self.folder, read_only=True)
        return View(index, self._number, self._rankings, self._ids)
