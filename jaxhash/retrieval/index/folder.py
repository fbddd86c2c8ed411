"""An index as a folder: made, opened, added to, read, and changed by one writer at a time."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped

from jaxhash.retrieval.index.items import SCHEMA, IndexItem, make_table
from jaxhash.retrieval.index.known import Known, add_rows
from jaxhash.retrieval.index.manifest import (
    MANIFEST_FILE,
    Manifest,
    read_manifest,
    relative_root,
    write_manifest,
)
from jaxhash.retrieval.index.search import Searchable
from jaxhash.retrieval.index.shards import (
    cast_vectors,
    check_codes,
    remove_cache,
    remove_strays,
    write_removed,
    write_shard,
)
from jaxhash.retrieval.index.state import Block, IndexState
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_writable, lock_file

T = TypeVar("T")

#: What an index can keep beside the codes, and in which dtype.
KEPT = ("floats", "features")
KEPT_DTYPES = ("float16", "float32")

#: Folder of the hash function in that of an index.
HASHER_FOLDER = "hasher"

_LOCK_FILE = "lock"


class Source(NamedTuple):
    """The rows of an array file that a shard holds, so that an encoding that is interrupted goes on."""

    name: str
    fingerprint: str
    start: int
    stop: int


class Index(Searchable):
    """Packed codes and the items they belong to, in a folder.

    The codes lie on disk and are memory-mapped. Ids are given in order and never again. An index that
    another process changes is read as it was, or as it is after the change, never in between.

    Make one by `Index.create` or `Index.open`.
    """

    def __init__(self, folder: Path, manifest: Manifest):
        self._state = IndexState(folder, manifest)
        self._locked = False

    @classmethod
    def create(
        cls,
        folder: Path | str,
        hasher: Any,
        *,
        root: Path | str | None,
        keep: Mapping[str, str] | None = None,
        exist_ok: bool = False,
    ) -> "Index":
        """Makes the folder of an index without items, with its hash function in it.

        Args:
            folder: a new or empty folder.
            hasher: the hash function, a `jaxhash.retrieval.hasher.Hasher`.
            root: folder that the paths of the items are relative to; None if they are no files.
            keep: vectors to keep beside the codes and their dtype, as ``{"floats": "float16"}``.
            exist_ok: whether the folder may be an index already, if all the arguments are the same;
                it is opened.

        Raises:
            UserError: if the folder holds something else, or cannot be written.
        """
        folder, keep = Path(folder), dict(keep or {})
        for name, dtype in keep.items():
            if len(keep) > 1 or name not in KEPT or dtype not in KEPT_DTYPES:
                raise UserError(
                    f"an index keeps {' or '.join(KEPT)} as {' or '.join(KEPT_DTYPES)}, not {keep}"
                )
        stored_root = None if root is None else relative_root(Path(root), folder)
        manifest = Manifest(hasher.bits, hasher.digest, hasher.check_code, stored_root, keep)
        if (folder / MANIFEST_FILE).exists() and exist_ok:
            index = cls.open(folder)
            index._check_same(manifest)
            return index
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if folder.exists() and not folder.is_dir() or names - {_LOCK_FILE, HASHER_FOLDER}:
            kind = "an index already" if MANIFEST_FILE in names else "not empty"
            raise UserError(f"{folder} is {kind}; choose another folder")
        check_writable(folder, str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        index = cls(folder, manifest)
        with index._lock():
            hasher.save(folder / HASHER_FOLDER)
            write_manifest(folder, manifest)
        return index

    @classmethod
    def open(cls, folder: Path | str) -> "Index":
        """Opens the index in a folder.

        Raises:
            UserError: if the folder is no index, or its manifest is damaged or of a later version.
        """
        return cls(Path(folder), read_manifest(Path(folder)))

    # What it is

    @property
    def folder(self) -> Path:
        """Folder of the index."""
        return self._state.folder

    @property
    def manifest(self) -> Manifest:
        """What index.json says, when it was last read."""
        return self._state.manifest

    @property
    def bits(self) -> int:
        """Length of a code."""
        return self.manifest.bits

    @property
    def digest(self) -> str:
        """Digest of the hash function."""
        return self.manifest.digest

    @property
    def check_code(self) -> str:
        """Check code of the hash function, in hexadecimal digits."""
        return self.manifest.check_code

    @property
    def keep(self) -> dict[str, str]:
        """The vectors that are kept beside the codes and their dtype; empty or one entry."""
        return dict(self.manifest.keep)

    @property
    def root(self) -> Path | None:
        """Folder that the paths of the items are relative to; None if they are no files.

        It may be missing: see `check_root`.
        """
        root = self.manifest.root
        return None if root is None else Path(self.folder.resolve(), root).resolve()

    def check_root(self) -> Path:
        """Returns the root of the items, for those who open them.

        Raises:
            UserError: if there is none, or it has moved.
        """
        if self.root is None:
            raise UserError(f"the items of {self.folder} are no files")
        if not self.root.is_dir():
            raise UserError(
                f"the items of {self.folder} are to lie in {self.root}, which is not there; name "
                f"their folder by jaxhash index {self.folder} `root=DIR`"
            )
        return self.root

    def __len__(self) -> int:
        """Returns the number of items, without removed ones."""
        return self.manifest.live

    def hasher(self) -> Any:
        """Loads the hash function that made the codes.

        Raises:
            UserError: if it is damaged, or is another one than that of the codes.
        """
        from jaxhash.retrieval.archive import (
            load_archive,
        )  # loads flax, which reading codes needs not

        hasher = load_archive(self.folder / HASHER_FOLDER)
        self.check_hasher(hasher.digest, hasher.bits, str(self.folder / HASHER_FOLDER))
        return hasher

    def check_hasher(self, digest: str, bits: int, what: str) -> None:
        """Raises a `UserError` if codes of a hash function do not compare with those of the index.

        Args:
            digest: digest of the hash function.
            bits: length of its codes.
            what: the hash function, for the message.
        """
        if bits != self.bits:
            raise UserError(f"{what} makes codes of {bits} bits, and {self.folder} has {self.bits}")
        if digest != self.digest:
            raise UserError(
                f"{what} is another hash function (digest {digest[:12]}) than the one of {self.folder} "
                f"({self.digest[:12]}): their codes do not compare"
            )

    # Reading

    def blocks(self) -> Iterator[Block]:
        """Returns an iterator over the items, a shard at a time.

        Yields:
            Ids, ascending, and their packed codes, memory-mapped where no row is removed.
        """
        return self._read(IndexState.blocks)

    def tables(self, columns: Sequence[str] = tuple(SCHEMA.names)) -> Iterator[pa.Table]:
        """Returns an iterator over columns of the items table, for the same items as `blocks`."""
        return self._read(lambda state: state.tables(columns))

    def items(self, ids: Sequence[int] | Int[np.ndarray, " n"]) -> list[IndexItem]:
        """Returns the items of some ids, in their order; reads only the shards that they lie in.

        Raises:
            UserError: if there is no such item.
        """
        ids = np.asarray(ids, np.int64)
        return self._read(lambda state: state.items(ids))

    def vectors(
        self, ids: Sequence[int] | Int[np.ndarray, " n"]
    ) -> tuple[str, Float[np.ndarray, "n d"]]:
        """Returns the name of the vectors that are kept, and those of some ids.

        Raises:
            UserError: if the index keeps none, or there is no such item.
        """
        if not self.keep:
            raise UserError(
                f"{self.folder} keeps no vectors beside its codes; encode with `keep_floats=float16`"
            )
        ids = np.asarray(ids, np.int64)
        return next(iter(self.keep)), self._read(lambda state: state.vectors(ids))

    def find(
        self,
        *,
        label: str | Sequence[str] | None = None,
        path: str | Sequence[str] | None = None,
    ) -> Int[np.ndarray, " n"]:
        """Returns the ids of the items with a label, or with a path, ascending.

        Args:
            label: a label, or several of which an item has one.
            path: a path relative to the root, or several.
        """
        named = {"label": label, "path": path}
        values = {
            column: [value] if isinstance(value, str) else list(value)
            for column, value in named.items()
            if value is not None
        }
        if not values:
            raise ValueError("name a `label` or a `path`")
        return self._read(lambda state: state.find(**values))

    def broken(self) -> list[IndexItem]:
        """Returns the inputs that could not be read, each with the reason as its status."""
        return self._read(lambda state: list(state.broken()))

    def known(self) -> Known:
        """Returns what the index holds already, by path and by row of an array."""
        return self._read(Known)

    def _read(self, read: Callable[[IndexState], T]) -> T:
        """Reads the state that is open; the current one if files of it have gone."""
        try:
            return read(self._state)
        except FileNotFoundError:
            current = read_manifest(self.folder)
            if current == self.manifest:
                raise
            self._state = IndexState(self.folder, current)
            return read(self._state)

    # Writing

    @contextlib.contextmanager
    def writing(self) -> Iterator["Index"]:
        """Locks the index against other writers until the end; each change of it does so by itself.

        Raises:
            UserError: if another process is writing.
        """
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
        source: Source | None = None,
    ) -> Int[np.ndarray, " n"]:
        """Adds items as one shard, whole or not at all.

        Args:
            codes: packed codes, uint8 of shape ``[n, bytes]``.
            items: objects with ``path``, ``size``, ``mtime_ns`` and ``label``, one for each code.
            digests: digest of the content of each item, in hexadecimal digits.
            broken: inputs that could not be read, likewise, each with the reason; they get no id.
            vectors: the vectors that the index keeps, floating of shape ``[n, d]``.
            source: rows of an array file that the items and the broken inputs are.

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
        with self.writing():
            manifest = self.manifest
            ids = np.arange(len(codes)) + manifest.next_id
            if not len(ids) and not broken:
                return ids
            number = manifest.next_number
            table = make_table(ids, items, digests, broken)
            shard = write_shard(
                self.folder, number, ids, codes, table, kept, first_id=manifest.next_id
            )
            sources = manifest.sources
            if source is not None:
                sources = add_rows(dict(sources), *source)
            self._replace(
                next_id=manifest.next_id + len(ids),
                next_number=number + 1,
                sources=sources,
                shards=(*manifest.shards, shard),
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
            state, manifest = self._state, self.manifest
            ids = np.unique(np.asarray(ids, np.int64))
            state.check_ids(ids)
            if not len(ids):
                return 0
            number = manifest.next_number
            removed = write_removed(self.folder, number, np.union1d(state.removed, ids))
            self._replace(next_number=number + 1, removed=removed)
        return len(ids)

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
        manifest = dataclasses.replace(self.manifest, **changes)
        write_manifest(self.folder, manifest)
        self._state = IndexState(self.folder, manifest)
        remove_strays(self.folder, manifest)
        remove_cache(self.folder)

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
        self.check_hasher(manifest.digest, manifest.bits, "this")
        for name, argument in (("root", "root"), ("keep", "keep")):
            there, here = getattr(self.manifest, name), getattr(manifest, name)
            if there != here:
                raise UserError(
                    f"{self.folder} is an index with `{argument}` {there}, and here it is {here}; "
                    "choose another folder"
                )
