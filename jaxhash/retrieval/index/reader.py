"""Reads an index: what it is, its items and codes, and whether it is whole."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, UInt8
from rich.console import Console

from jaxhash.retrieval.index.items import SCHEMA, IndexItem
from jaxhash.retrieval.index.known import Known
from jaxhash.retrieval.index.manifest import Manifest, read_manifest
from jaxhash.retrieval.index.state import Block, IndexState
from jaxhash.retrieval.index.verify import find_changed_files, find_damage, find_hasher_damage
from jaxhash.utils.errors import UserError

T = TypeVar("T")

#: Folder of the hash function in that of an index.
HASHER_FOLDER = "hasher"


class IndexReader:
    """The part of `Index` that changes nothing."""

    def __init__(self, folder: Path, manifest: Manifest):
        self._state = IndexState(folder, manifest)

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
    def thumbnail_side(self) -> int | None:
        """Longest side in pixels of the thumbnails that are kept of all items; None without."""
        return self.manifest.thumbnails

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

    def hasher(self, *, model: Any = None) -> Any:
        """Loads the hash function that made the codes.

        Args:
            model: the user's own module, if the hash function has one.

        Raises:
            UserError: if it is damaged, or is another one than that of the codes.
        """
        # Here, since it loads flax, without which codes are read and searched.
        from jaxhash.retrieval.archive import load_archive

        folder = self.folder / HASHER_FOLDER
        hasher = load_archive(folder, model=model)
        self.check_hasher(hasher.digest, hasher.bits, str(folder))
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

    def codes(self, ids: Sequence[int] | Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n bytes"]:
        """Returns the packed codes of some ids.

        Raises:
            UserError: if there is no such item.
        """
        ids = np.asarray(ids, np.int64)
        return self._read(lambda state: state.codes_of(ids))

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

    def thumbnails(self, ids: Sequence[int] | Int[np.ndarray, " n"]) -> list[bytes | None]:
        """Returns the thumbnails of some ids, as the bytes of JPEG files; None for each without.

        Raises:
            UserError: if there is no such item.
        """
        ids = np.asarray(ids, np.int64)
        return self._read(lambda state: state.thumbnails(ids))

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

    def count_labels(self) -> dict[str, int]:
        """Returns the number of items of each label; those without one are left out."""
        counts: Counter = Counter()
        for table in self.tables(["label"]):
            found = table["label"].drop_null().value_counts()
            counts.update({pair["values"]: pair["counts"] for pair in found.to_pylist()})
        return dict(counts)

    def broken(self) -> list[IndexItem]:
        """Returns the inputs that could not be read, each with the reason as its status."""
        return self._read(lambda state: list(state.broken()))

    def known(self) -> Known:
        """Returns what the index holds already, by path and by row of an array; for its writer."""
        return Known(self._state)

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

    def verify(
        self, *, files: bool = False, model: Any = None, console: Console | None = None
    ) -> list[str]:
        """Returns a sentence for each problem; none if the index is whole.

        Checks sizes and digests of all files, counts, ids, unused bits, and the hash function.

        Args:
            files: whether to look, too, which files of the items are missing or have changed, if the
                items are files.
            model: the user's own module, if the hash function has one.
            console: where progress is printed; the error stream by default.

        Raises:
            UserError: if the root of the items has moved, and their files are to be looked at.
        """
        root = self.check_root() if files and self.root is not None else None
        damage = list(find_damage(self._state, console))
        if damage and (manifest := read_manifest(self.folder)) != self.manifest:
            self._state = IndexState(self.folder, manifest)  # it was compacted meanwhile
            damage = list(find_damage(self._state, console))
        others = list(find_hasher_damage(self.folder / HASHER_FOLDER, self.check_code))
        try:
            self.hasher(model=model)
        except UserError as error:
            others.append(str(error))
        if root is not None and not damage:
            others += find_changed_files(self._state, root, console)
        return [*damage, *others]
