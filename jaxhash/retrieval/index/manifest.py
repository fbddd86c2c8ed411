"""The manifest of an index, ``index.json``: what its files are, in one state.

It is replaced whole, and last: a file that it does not name is no part of the index, so a process that
is killed at any moment leaves the state before.
"""

import dataclasses
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxhash import __version__
from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.files import check_kind, read_json, write_json

MANIFEST_FILE = "index.json"
FORMAT = "jaxhash-index"
VERSION = 1

#: What to do if a file of an index is missing or damaged.
REMEDY = "put a sound copy back, or encode into another folder"

#: Suffix of the files of a kind; other kinds are arrays of NumPy.
_SUFFIXES = {"items": "parquet", "thumbnails": "arrow"}

#: Size in bytes and 128-bit XXH3 digest of each file, by name.
Files = dict[str, tuple[int, str]]


@dataclasses.dataclass(frozen=True)
class Shard:
    """Codes and items that were written together.

    Attributes:
        number: number in the names of its files; never used again.
        rows: number of codes, removed ones included.
        broken: number of inputs that could not be read; they follow the items in the items table.
        first_id: id of the first row.
        last_id: id of the last row; ``first_id - 1`` without rows.
        files: its files.
    """

    number: int
    rows: int
    broken: int
    first_id: int
    last_id: int
    files: Files

    @property
    def is_contiguous(self) -> bool:
        """Returns whether the ids are all those from the first to the last."""
        return self.last_id - self.first_id + 1 == self.rows

    def name(self, kind: str) -> str:
        """Returns the name of a file: of ``codes``, ``items``, ``thumbnails`` or vectors that are kept."""
        return numbered_file(kind, self.number)


@dataclasses.dataclass(frozen=True)
class Removed:
    """Ids of the rows that were removed and are still in their shards; a sorted int64 array."""

    number: int
    rows: int
    files: Files

    @property
    def name(self) -> str:
        """Returns the name of the file."""
        return numbered_file("removed", self.number)


@dataclasses.dataclass(frozen=True)
class SourceRows:
    """Rows of an array file that are in the index, as ranges in order: ``((0, 1000), (2000, 3000))``."""

    fingerprint: str
    rows: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One state of an index.

    Attributes:
        bits: length of a code.
        digest: digest of the hash function.
        check_code: its check code, in hexadecimal digits.
        root: folder that the paths of the items are relative to; itself relative to the folder of the
            index unless it starts with ``/``. None if the items are no files.
        keep: dtype of the vectors that are kept beside the codes, by their name; empty or one entry.
        thumbnails: longest side in pixels of the thumbnails that are kept of all items; None without, as
            in each index that an earlier version made.
        next_id: id of the next item.
        next_number: number of the next shard.
        removed: rows that are removed and not yet compacted away.
        sources: rows of array files that are in the index, by the name of the file.
        shards: the shards, by ascending ids.
    """

    bits: int
    digest: str
    check_code: str
    root: str | None = None
    keep: Mapping[str, str] = dataclasses.field(default_factory=dict)
    thumbnails: int | None = None
    next_id: int = 0
    next_number: int = 0
    removed: Removed | None = None
    sources: Mapping[str, SourceRows] = dataclasses.field(default_factory=dict)
    shards: tuple[Shard, ...] = ()

    @property
    def code_bytes(self) -> int:
        """Bytes of a packed code."""
        return -(-self.bits // 8)

    @property
    def rows(self) -> int:
        """Number of codes, removed ones included."""
        return sum(shard.rows for shard in self.shards)

    @property
    def live(self) -> int:
        """Number of codes without the removed ones."""
        return self.rows - (self.removed.rows if self.removed else 0)

    @property
    def counts(self) -> dict[str, int]:
        """Number of items, of removed ones whose codes are on disk, and of inputs not readable."""
        return {
            "items": self.live,
            "removed": self.removed.rows if self.removed else 0,
            "broken": sum(shard.broken for shard in self.shards),
        }

    @property
    def files(self) -> Files:
        """All files but the manifest, the lock and the hash function."""
        parts = [*self.shards, *([self.removed] if self.removed else [])]
        return {name: record for part in parts for name, record in part.files.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns the content of index.json."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "jaxhash": __version__,
            "bit_order": "big",
            "zero": "+1",
            "counts": self.counts,
            **dataclasses.asdict(self),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Manifest":
        """Makes a manifest from the content of index.json.

        Raises:
            KeyError, TypeError, ValueError: if it is not that of an index.
        """
        content = {"thumbnails": None, **content}
        fields = {field.name: content[field.name] for field in dataclasses.fields(cls)}
        shards = tuple(_with_files(Shard, shard) for shard in _expect(list, fields["shards"]))
        removed = fields["removed"] and _with_files(Removed, fields["removed"])
        sources = {
            name: SourceRows(
                _expect(str, source["fingerprint"]),
                tuple((_expect(int, start), _expect(int, stop)) for start, stop in source["rows"]),
            )
            for name, source in _expect(dict, fields["sources"]).items()
        }
        for name in ("bits", "next_id", "next_number"):
            _expect(int, fields[name])
        for name in ("digest", "check_code"):
            _expect(str, fields[name])
        _expect((str, type(None)), fields["root"])
        if _expect((int, type(None)), fields["thumbnails"]) is not None and any(
            shard.rows and shard.name("thumbnails") not in shard.files for shard in shards
        ):
            raise ValueError("a shard has no thumbnails")
        if len(_expect(dict, fields["keep"])) > 1:
            raise ValueError("it keeps more than one kind of vectors")
        made = cls(**fields | {"shards": shards, "removed": removed or None, "sources": sources})
        if not (content["bit_order"], content["zero"]) == ("big", "+1") or made.bits < 1:
            raise ValueError("its bits are not counted as version 1 does")
        ids = [n for shard in shards for n in (shard.first_id, shard.last_id + 1)] + [made.next_id]
        if ids != sorted(ids) or content["counts"] != made.counts:
            raise ValueError("its shards, ids and counts do not fit together")
        return made


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of an index.

    Raises:
        UserError: if the folder is no index, one of a later version, or its manifest is damaged.
    """
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; jaxhash encode makes an index")
    if not check_kind(path, stat.S_ISREG, "index"):
        raise UserError(
            f"{folder} is no index: it has no {MANIFEST_FILE}; jaxhash encode makes one"
        )
    content = read_json(path, REMEDY)
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path} is not the {MANIFEST_FILE} of an index ('format' is not {FORMAT!r})"
        )
    version = content.get("version")
    if version != VERSION:
        raise UserError(
            f"{path} is of version {version!r} of the format, and this jaxhash ({__version__}) reads "
            f"version {VERSION}: update jaxhash"
        )
    try:
        return Manifest.from_json(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{path} is damaged ({reason}); {REMEDY}") from error


def is_index(folder: Path) -> bool:
    """Returns whether a folder has the manifest of an index."""
    return (folder / MANIFEST_FILE).exists()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replaces the manifest; what it names must be on disk."""
    write_json(folder / MANIFEST_FILE, manifest.to_json())


def numbered_file(kind: str, number: int) -> str:
    """Returns the name of a file.

    Example:
        >>> numbered_file("codes", 3), numbered_file("items", 3)
        ('codes-000003.npy', 'items-000003.parquet')
    """
    return f"{kind}-{number:06d}.{_SUFFIXES.get(kind, 'npy')}"


def relative_root(root: Path, folder: Path) -> str:
    """Returns the root of the items as index.json has it.

    It is relative to the folder of the index if both lie in one folder (other than the topmost ones),
    and can then be moved together with it; absolute otherwise.

    Example:
        >>> relative_root(Path("/data/photos"), Path("/data/index"))
        '../photos'
        >>> relative_root(Path("/data/photos"), Path("/home/ada/index"))
        '/data/photos'
    """
    root, folder = Path(root).resolve(), Path(folder).resolve()
    shared = os.path.commonpath([root, folder.parent])
    return str(root) if shared == os.sep else os.path.relpath(root, folder)


def _with_files(kind: type, content: Any) -> Any:
    fields = {field.name: _expect(dict, content)[field.name] for field in dataclasses.fields(kind)}
    files = {
        name: (_expect(int, size), _expect(str, digest))
        for name, (size, digest) in _expect(dict, fields.pop("files")).items()
    }
    if any("/" in name or _expect(int, size) < 0 for name, (size, _) in files.items()):
        raise ValueError("it names files outside its folder")
    if any(_expect(int, value) < 0 for name, value in fields.items() if name != "last_id"):
        raise ValueError("its counts are below 0")
    return kind(**fields, files=files)


def _expect(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError("its fields are of other types")
    return value
