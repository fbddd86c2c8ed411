"""Writes the files of a shard, and removes those that an unfinished one has left."""

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped, UInt8

from jaxhash.retrieval.index.items import write_table
from jaxhash.retrieval.index.manifest import Files, Manifest, Removed, Shard, numbered_file
from jaxhash.retrieval.index.thumbnails import write_thumbnails
from jaxhash.training.digests import file_digest
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file

#: Names of the files that a writer makes before the manifest names them.
_NUMBERED = re.compile(
    r"((codes|floats|features|removed)-\d{6,}\.npy|items-\d{6,}\.parquet|thumbnails-\d{6,}\.arrow)"
    r"(\.partial)?"
)

#: What a search makes from the codes, to be quicker, and what it leaves if it is killed.
_CACHE_FILES = "faiss.index*"


def check_codes(codes: Shaped[np.ndarray, "..."], bits: int, where: str) -> None:
    """Raises a `UserError` unless codes are packed codes of a length.

    Args:
        codes: the codes.
        bits: length of a code.
        where: the index, for the message.
    """
    expected = -(-bits // 8)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != expected:
        raise UserError(
            f"{where} takes packed codes, uint8 of {expected} bytes, and these are {codes.dtype} of "
            f"shape {codes.shape}"
        )
    unused = 8 * expected - bits
    if (codes[:, -1] & ((1 << unused) - 1)).any():
        raise UserError(
            f"the last {unused} bits of the last byte of a code of {bits} bits must be 0"
        )


def cast_vectors(
    vectors: Shaped[np.ndarray, "..."] | None, name: str, dtype: str, shape: tuple[int, int | None]
) -> Float[np.ndarray, "n d"]:
    """Returns vectors in the dtype in which an index keeps them.

    Args:
        vectors: the vectors.
        name: their name.
        dtype: the dtype.
        shape: number of vectors, and of values of each if the index has some already.

    Raises:
        ValueError: if they do not pair up with the codes.
        UserError: if a value is not finite in that dtype.
    """
    count, width = shape
    found = () if vectors is None else vectors.shape
    if len(found) != 2 or found[0] != count or found[1] != (width or found[1]):
        raise ValueError(f"`vectors` must be {name} of shape {shape}, and have shape {found}")
    with np.errstate(over="ignore"):
        kept = vectors.astype(dtype)
    if not np.isfinite(kept).all():
        raise UserError(f"some {name} are not finite as {dtype}; keep float32")
    return kept


def write_shard(
    folder: Path,
    number: int,
    ids: Int[np.ndarray, " n"],
    codes: UInt8[np.ndarray, "n bytes"],
    table: pa.Table,
    vectors: Mapping[str, Float[np.ndarray, "n d"]],
    thumbnails: Iterable[bytes] | None = None,
    *,
    first_id: int,
) -> Shard:
    """Writes the files of a shard; the manifest does not name them yet.

    Args:
        folder: folder of the index.
        number: number of the shard.
        ids: ids of the rows, ascending.
        codes: packed codes.
        table: the items, then the inputs that could not be read.
        vectors: vectors that are kept, by name.
        thumbnails: JPEG bytes of each row; None to keep none.
        first_id: id that a first row has, or would have.
    """
    writes = {
        numbered_file(kind, number): _array_writer(array)
        for kind, array in {**vectors, "codes": codes}.items()
    }
    if thumbnails is not None:
        writes[numbered_file("thumbnails", number)] = lambda path: write_thumbnails(
            path, thumbnails
        )
    writes[numbered_file("items", number)] = lambda path: write_table(path, table)
    files = _write_files(folder, writes)
    first, last = (int(ids[0]), int(ids[-1])) if len(ids) else (first_id, first_id - 1)
    return Shard(number, len(ids), len(table) - len(ids), first, last, files)


def write_removed(folder: Path, number: int, ids: Int[np.ndarray, " n"]) -> Removed:
    """Writes the ids that are removed, ascending; the manifest does not name the file yet."""
    files = _write_files(folder, {numbered_file("removed", number): _array_writer(ids)})
    return Removed(number, len(ids), files)


def remove_strays(folder: Path, manifest: Manifest) -> None:
    """Removes the files of a shard that was not finished, and of shards that were compacted."""
    files = manifest.files
    for path in folder.iterdir():
        if _NUMBERED.fullmatch(path.name) and path.name not in files:
            path.unlink()


def remove_cache(folder: Path) -> None:
    """Removes what a search has made from the codes."""
    for path in folder.glob(_CACHE_FILES):
        path.unlink(missing_ok=True)


def _array_writer(array: np.ndarray) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with whole_file(path, "wb") as file:
            np.save(file, array)

    return write


def _write_files(folder: Path, writes: Mapping[str, Callable[[Path], None]]) -> Files:
    try:
        for name, write in writes.items():
            write(folder / name)
    except OSError:
        for name in writes:  # a disk that is full needs the room
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        raise
    return {name: tuple(file_digest(folder / name)) for name in writes}
