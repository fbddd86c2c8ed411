"""An index as a folder: made, opened, added to, read, and changed by one writer at a time."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from rich.console import Console

from jaxhash.data.writers.thumbnails import check_thumbnail_side
from jaxhash.retrieval.index.compact import compact_shards
from jaxhash.retrieval.index.items import make_table
from jaxhash.retrieval.index.known import add_rows
from jaxhash.retrieval.index.manifest import (
    MANIFEST_FILE,
    Manifest,
    Removed,
    read_manifest,
    relative_root,
    write_manifest,
)
from jaxhash.retrieval.index.reader import HASHER_FOLDER, IndexReader
from jaxhash.retrieval.index.search import Searchable
from jaxhash.retrieval.index.shards import (
    cast_vectors,
    check_codes,
    remove_cache,
    remove_strays,
    write_removed,
    write_shard,
)
from jaxhash.retrieval.index.state import IndexState
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_writable, lock_file

#: What an index can keep beside the codes, and in which dtype.
KEPT = ("floats", "features")
KEPT_DTYPES = ("float16", "float32")

_LOCK_FILE = "lock"


class Source(NamedTuple):
    """The rows of an array file that a shard holds, so that an encoding that is interrupted goes on."""

    name: str
    fingerprint: str
    start: int
    stop: int


class Index(Searchable, IndexReader):
    """Packed codes and the items they belong to, in a folder.

    The codes lie on disk and are memory-mapped. Ids are given in order and never again. An index that
    another process changes is read as it was, or as it is after the change, never in between.

    Make one by `Index.create` or `Index.open`.

    Example:
        >>> import tempfile
        >>> from jaxhash.data.inputs import Item
        >>> from jaxhash.retrieval import fit
        >>> vectors = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float32)
        >>> hasher = fit(vectors, "itq", bits=32)
        >>> index = Index.create(tempfile.mkdtemp(), hasher, root=None)
        >>> items = [Item(f"vector {row}", 64, 0, "even" if row % 2 == 0 else "odd") for row in range(100)]
        >>> ids = index.add(hasher.encode(vectors), items, [""] * 100)
        >>> found = index.search(hasher.encode(vectors[7:8]), k=3)
        >>> index.items(found.ids[0])[0].path, int(found.distances[0, 0])
        ('vector 7', 0)
    """

    def __init__(self, folder: Path, manifest: Manifest, *, read_only: bool = False):
        super().__init__(folder, manifest)
        self._locked, self._read_only = False, read_only

    @classmethod
    def create(
        cls,
        folder: Path | str,
        hasher: Any,
        *,
        root: Path | str | None,
        keep: Mapping[str, str] | None = None,
        thumbnails: int | None = None,
        exist_ok: bool = False,
    ) -> "Index":
        """Makes the folder of an index without items, with its hash function in it.

        Args:
            folder: a new or empty folder.
            hasher: the hash function, a `jaxhash.retrieval.hasher.Hasher`.
            root: folder that the paths of the items are relative to; None if they are no files.
            keep: vectors to keep beside the codes and their dtype, as ``{"floats": "float16"}``.
            thumbnails: longest side in pixels of a thumbnail that is kept of each item; None for none.
            exist_ok: whether the folder may be an index already, if all the arguments are the same;
                it is opened.

        Raises:
            UserError: if the folder holds something else, or cannot be written.
        """
        check_thumbnail_side(thumbnails)
        folder, keep = Path(folder), dict(keep or {})
        for name, dtype in keep.items():
            if len(keep) > 1 or name not in KEPT or dtype not in KEPT_DTYPES:
                raise UserError(
                    f"an index keeps {' or '.join(KEPT)} as {' or '.join(KEPT_DTYPES)}, not {keep}"
                )
        stored_root = None if root is None else relative_root(Path(root), folder)
        manifest = Manifest(
            hasher.bits, hasher.digest, hasher.check_code, stored_root, keep, thumbnails
        )
        if (folder / MANIFEST_FILE).exists() and exist_ok:
            index = cls.open(folder)
            index._check_same(manifest)
            return index
        check_writable(folder, str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        index = cls(folder, manifest)
        _check_free(folder)
        with index._lock():
            _check_free(folder)  # again: another process may have been quicker
            hasher.save(folder / HASHER_FOLDER)
            write_manifest(folder, manifest)
        return index

    @classmethod
    def open(cls, folder: Path | str, *, read_only: bool = False) -> "Index":
        """Opens the index in a folder.

        Args:
            folder: the folder.
            read_only: whether to write nothing into it, the ``faiss.index`` of a search included.

        Raises:
            UserError: if the folder is no index, or its manifest is damaged or of a later version.
        """
        return cls(Path(folder), read_manifest(Path(folder)), read_only=read_only)

    # Writing

    @contextlib.contextmanager
    def writing(self) -> Iterator["Index"]:
        """Locks the index against other writers until the end; each change of it does so by itself.

        Raises:
            UserError: if another process is writing, or the index was opened ``read_only``.
        """
        if self._read_only:
            raise UserError(f"{self.folder} was opened `read_only`, and nothing is written into it")
        if self._locked:
            yield self
            return
        with self._lock():
            manifest = read_manifest(self.folder)
            if manifest != self.manifest:
                self._state = IndexState(self.folder, manifest)
            remove_strays(self.folder, manifest)
            yield self

    def add(
        self,
        codes: Shaped[np.ndarray, "..."],
        items: Sequence[Any],
        digests: Sequence[str | None],
        *,
        broken: Sequence[tuple[Any, str]] = (),
        vectors: Shaped[np.ndarray, "..."] | None = None,
        thumbnails: Sequence[bytes] = (),
        source: Source | None = None,
        replaces: Sequence[int] | Int[np.ndarray, " m"] = (),
    ) -> Int[np.ndarray, " n"]:
        """Adds items as one shard, whole or not at all.

        Args:
            codes: packed codes, uint8 of shape ``[n, bytes]``.
            items: objects with ``path``, ``size``, ``mtime_ns`` and ``label``, one for each code.
            digests: digest of the content of each item, in hexadecimal digits.
            broken: inputs that could not be read, likewise, each with the reason; they get no id.
            vectors: the vectors that the index keeps, floating of shape ``[n, d]``.
            thumbnails: bytes of a JPEG file for each code, if the index keeps thumbnails.
            source: rows of an array file that the items and the broken inputs are.
            replaces: ids of items that are removed together with this, as those whose files have changed.

        Returns:
            The ids of the items.

        Raises:
            UserError: if codes or vectors do not fit those of the index, or another process is writing.
        """
        check_codes(codes, self.bits, str(self.folder))
        if not len(codes) == len(items) == len(digests):
            raise ValueError(
                f"{len(codes)} codes, {len(items)} items and {len(digests)} digests do not pair up"
            )
        kept = self._kept(vectors, len(codes))
        if len(thumbnails) != (0 if self.thumbnail_side is None else len(codes)):
            keeps = f"thumbnails of {self.thumbnail_side} pixels" if self.thumbnail_side else "none"
            raise ValueError(
                f"{len(codes)} codes and {len(thumbnails)} `thumbnails`; {self.folder} keeps {keeps}"
            )
        with self.writing():
            manifest = self.manifest
            ids = np.arange(len(codes)) + manifest.next_id
            if not len(ids) and not broken:
                self.remove(replaces)
                return ids
            number = manifest.next_number
            table = make_table(ids, items, digests, broken)
            shard = write_shard(
                *(self.folder, number, ids, codes, table, kept, thumbnails or None),
                first_id=manifest.next_id,
            )
            sources = manifest.sources
            if source is not None:
                sources = add_rows(dict(sources), *source)
            self._replace(
                next_id=manifest.next_id + len(ids),
                next_number=number + 1,
                sources=sources,
                shards=(*manifest.shards, shard),
                removed=self._write_removed(replaces, number),
            )
        return ids

    def remove(self, ids: Sequence[int] | Int[np.ndarray, " n"]) -> int:
        """Removes items; their rows stay on disk until `compact`.

        Args:
            ids: ids of the items; one that is there twice counts once.

        Returns:
            The number of items removed.

        Raises:
            UserError: if there is no such item, and then none is removed; or if another process is
                writing.
        """
        with self.writing():
            before, number = len(self), self.manifest.next_number
            removed = self._write_removed(ids, number)
            if removed != self.manifest.removed:
                self._replace(next_number=number + 1, removed=removed)
            return before - len(self)

    def compact(self, console: Console | None = None) -> None:
        """Rewrites the shards without the rows that were removed, and merges small ones; ids stay.

        Args:
            console: where progress is printed; the error stream by default.

        Raises:
            UserError: if another process is writing.
        """
        with self.writing():
            if changes := compact_shards(self._state, console):
                self._replace(**changes)

    def set_root(self, root: Path | str) -> None:
        """Names the folder that the paths of the items are relative to, where it has moved."""
        root = Path(root)
        if not root.is_dir():
            raise UserError(f"`root={root}` is no folder")
        with self.writing():
            self._replace(root=relative_root(root, self.folder))

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        message = f"another process is writing into {self.folder}; wait for its end"
        with lock_file(self.folder / _LOCK_FILE, message):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def _replace(self, **changes: Any) -> None:
        """Replaces the manifest; what it no longer names is removed after that."""
        before, manifest = self.manifest, dataclasses.replace(self.manifest, **changes)
        write_manifest(self.folder, manifest)
        self._state = IndexState(self.folder, manifest)
        remove_strays(self.folder, manifest)
        if manifest.files != before.files:
            remove_cache(self.folder)

    def _write_removed(self, ids: Sequence[int] | np.ndarray, number: int) -> Removed | None:
        """Writes the ids that are removed with some more; the manifest does not name the file yet."""
        ids = np.unique(np.asarray(ids, np.int64))
        self._state.check_ids(ids)
        if not len(ids):
            return self.manifest.removed
        return write_removed(self.folder, number, np.union1d(self._state.removed, ids))

    def _kept(self, vectors: np.ndarray | None, count: int) -> dict[str, np.ndarray]:
        """Returns the vectors as they are kept, by name."""
        if not self.keep or not count:
            return {}
        [(name, dtype)] = self.keep.items()
        shard = next((shard for shard in self.manifest.shards if shard.rows), None)
        width = self._state.vectors_of(shard).shape[1] if shard else None
        return {name: cast_vectors(vectors, name, dtype, (count, width))}

    def _check_same(self, manifest: Manifest) -> None:
        """Raises unless an index is made as this manifest is."""
        self.check_hasher(manifest.digest, manifest.bits, "it")
        for name in ("root", "keep", "thumbnails"):
            there, here = getattr(self.manifest, name), getattr(manifest, name)
            if there != here:
                raise UserError(
                    f"{self.folder} is an index with `{name}` {there or 'none'}, and here it is "
                    f"{here or 'none'}; "
                    "choose another folder"
                )


def _check_free(folder: Path) -> None:
    """Raises unless nothing is in a folder but what `Index.create` leaves if it is killed."""
    names = {path.name for path in folder.iterdir()}
    if names - {_LOCK_FILE, HASHER_FOLDER, f"{MANIFEST_FILE}.partial"}:
        kind = "an index already" if MANIFEST_FILE in names else "not empty"
        raise UserError(f"{folder} is {kind}; choose another folder")
