"""Encodes inputs into an index, shard by shard, so that an encoding that is killed goes on.

A shard holds a fixed number of inputs, the broken ones included, and is written whole. Started again,
an encoding leaves out what the index holds; so it makes the same shards, and ends with the same bytes.

Blocks of inputs are read by a thread ahead of the device, and image files are decoded, and thumbnails
made, by one thread per core.
"""

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from rich.console import Console

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs import Block, Inputs, Item
from jaxhash.data.inputs.files import ImageFileInputs, image_threads
from jaxhash.data.rows import BLOCK_BYTES
from jaxhash.data.writers.thumbnails import encode_thumbnail
from jaxhash.retrieval.hasher import Hasher
from jaxhash.retrieval.index import Index, Known, Source
from jaxhash.utils.console import track_progress
from jaxhash.utils.errors import UserError

T = TypeVar("T")

#: Vectors of a shard: a million make 16 shards.
SHARD_VECTORS = 2**16

#: Least and greatest number of images of a shard, and values of their pixels in between: a shard is
#: written every minute or so by a large network on a slow machine.
SHARD_IMAGES, SHARD_PIXELS = (2**9, 2**14), 2**26

#: Greatest number of image files of a shard: large photographs take a while to decode.
SHARD_FILES = 2**11

#: Blocks that are read ahead of the device.
_READ_AHEAD = 2

#: Files whose size and time are compared with the index at a time.
_COMPARED = 2**16


class EncodeCounts(NamedTuple):
    """What an encoding did.

    Attributes:
        added: number of items that were added.
        replaced: number of items that were removed, since their files have changed.
        unchanged: number of inputs that the index held already.
        broken: name of each input that could not be read, with the reason.
        seconds: time from the first block to the last.
    """

    added: int
    replaced: int
    unchanged: int
    broken: list[tuple[str, str]]
    seconds: float


class _Shard(NamedTuple):
    """Inputs that are to become a shard.

    Attributes:
        inputs: inputs of which it holds some rows.
        rows: those rows.
        changed: their paths of which the index holds another content.
        is_retry: whether these are files that could not be read before, and have not changed.
    """

    inputs: Inputs
    rows: range
    changed: Sequence[str] = ()
    is_retry: bool = False


class _Piece(NamedTuple):
    """A block of a shard, with the items of all its rows by their numbers.

    Attributes:
        shard: the shard.
        items: its items.
        block: what was read of it.
        thumbnails: thumbnail of each row that could be read, if the index keeps them.
    """

    shard: _Shard
    items: dict[int, Item]
    block: Block
    thumbnails: Sequence[bytes] = ()


def encode_into(
    index: Index,
    inputs: Sequence[Inputs],
    console: Console,
    *,
    hasher: Hasher | None = None,
    batch_size: int = 256,
    strict: bool = False,
) -> EncodeCounts:
    """Encodes inputs by the hash function of an index, and adds them to it.

    What the index holds is left out: files by path, size and time, rows of an array by its content. A
    file that has changed is encoded anew under another id. A file that could not be read is tried again.

    Images have thumbnails if the index keeps them: of what the hash function sees, which for a file is
    often the middle square of it.

    Args:
        index: the index; it is locked against other writers.
        inputs: images or vectors that `jaxhash.data.inputs.open_inputs` has found to be of the form
            that the hash function takes.
        console: where to show progress.
        hasher: its hash function; by default it is loaded from the index.
        batch_size: inputs that are computed at a time; the codes do not depend on it.
        strict: whether an input that cannot be read ends the encoding.

    Raises:
        UserError: before anything is written if an array has changed since rows of it were added, or
            if the index keeps thumbnails and the hash function takes vectors; later if an input cannot be read and ``strict``, or the disk is full, and the index then holds what
            was encoded before.
    """
    if batch_size < 1:
        raise UserError(f"`batch_size` must be at least 1, got {batch_size}")
    if hasher is None:
        hasher = index.hasher()
    index.check_hasher(hasher.digest, hasher.bits, "`hasher`")
    if index.thumbnail_side is not None and hasher.form.kind != "images":
        raise UserError(f"{index.folder} keeps `thumbnails`, and its hash function takes vectors")
    with index.writing(), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        shards = _shards_to_come(index, inputs, hasher.form)
        new = sum(len(shard.rows) for shard in shards if not shard.is_retry)
        writer = _ShardWriter(index, hasher, batch_size, strict)
        tasks = _tasks(shards, hasher.form, batch_size, index.thumbnail_side)
        start = time.monotonic()
        with closing(_read_ahead(tasks)) as pieces:
            for piece in track_progress(pieces, "encoding", new, console, size=_new_items):
                writer.add(piece)
    unchanged = sum(map(len, inputs)) - new
    seconds = time.monotonic() - start
    return EncodeCounts(writer.added, writer.replaced, unchanged, writer.broken, seconds)


def _new_items(piece: _Piece) -> int:
    return 0 if piece.shard.is_retry else len(piece.items)


class _ShardWriter:
    """Encodes pieces, and adds them to an index as soon as a shard is whole."""

    def __init__(self, index: Index, hasher: Hasher, batch_size: int, strict: bool):
        self._index, self._hasher = index, hasher
        self._batch_size, self._strict = batch_size, strict
        self.added = self.replaced = 0
        self.broken: list[tuple[str, str]] = []
        self._clear()

    def _clear(self) -> None:
        self._items, self._digests, self._unreadable = [], [], []
        self._codes, self._vectors, self._thumbnails = [], [], []

    def add(self, piece: _Piece) -> None:
        """Encodes a piece; writes the shard if it is the last of it."""
        shard, items, block, thumbnails = piece
        unreadable = [(items[row], reason) for row, reason in sorted(block.broken.items())]
        if unreadable and self._strict:
            item, reason = unreadable[0]
            raise UserError(
                f"{item.path}: {reason}; `strict` lets no input be left out, and {self._index.folder} "
                "holds what was encoded before"
            )
        self._items += [items[row] for row in block.rows.tolist()]
        self._digests += block.digests
        self._unreadable += unreadable
        self._thumbnails += thumbnails
        if len(block.rows):
            self._encode(block)
        if shard.rows[-1] in items:
            self._write(shard)

    def _encode(self, block: Block) -> None:
        encode = {"batch_size": self._batch_size}
        if "floats" in self._index.keep:
            floats = self._hasher.encode_floats(block.inputs, **encode)
            self._codes.append(np.packbits(floats >= 0, axis=1))
            self._vectors.append(floats)
            return
        self._codes.append(self._hasher.encode(block.inputs, **encode))
        if "features" in self._index.keep:
            self._vectors.append(self._hasher.features(block.inputs, **encode))

    def _write(self, shard: _Shard) -> None:
        """Adds a shard to the index, in place of what it replaces."""
        index, source = self._index, None
        if shard.inputs.source is not None:
            ends = shard.rows.start, shard.rows.stop
            source = Source(shard.inputs.source, shard.inputs.fingerprint, *ends)
        codes = np.concatenate([np.empty((0, -(-self._hasher.bits // 8)), np.uint8), *self._codes])
        try:
            replaces = index.find(path=list(shard.changed)) if shard.changed else ()
            index.add(
                codes,
                self._items,
                self._digests,
                broken=[] if shard.is_retry else self._unreadable,
                vectors=np.concatenate(self._vectors) if self._vectors else None,
                thumbnails=self._thumbnails,
                source=source,
                replaces=replaces,
            )
        except UserError:
            raise
        except OSError as error:
            raise UserError(
                f"{error.filename}: {error.strerror}; {index.folder} holds what was encoded before, and "
                "the same command goes on"
            ) from error
        self.added, self.replaced = self.added + len(codes), self.replaced + len(replaces)
        self.broken += [(item.path, reason) for item, reason in self._unreadable]
        self._clear()


def _shards_to_come(index: Index, inputs: Sequence[Inputs], form: InputForm) -> list[_Shard]:
    """Returns what the index does not hold yet, in shards."""
    known, size = index.known(), _shard_size(form)
    unread = {item.path for item in index.broken()}
    if unread:  # some may have been read since
        unread -= {item.path for item in index.items(index.find(path=list(unread)))}
    shards: list[_Shard] = []
    for each in inputs:
        if isinstance(each, ImageFileInputs):
            shards += _shards_of_files(each, known, unread, min(size, SHARD_FILES))
        else:
            shards += _shards_of_array(each, known, size)
    return shards


def _shard_size(form: InputForm) -> int:
    """Returns the number of inputs of a shard."""
    if form.kind == "vectors":
        return SHARD_VECTORS
    least, most = SHARD_IMAGES
    images = SHARD_PIXELS // int(np.prod(form.shape))
    return min(max(images, least), most)


def _shards_of_array(inputs: Inputs, known: Known, size: int) -> Iterator[_Shard]:
    """Yields the rows of an array between those that the index holds."""
    start = 0
    for held in (
        *known.rows_of(inputs.source, inputs.fingerprint),
        range(len(inputs), len(inputs)),
    ):
        for first in range(start, held.start, size):
            yield _Shard(inputs, range(first, min(first + size, held.start)))
        start = held.stop


def _shards_of_files(
    inputs: ImageFileInputs, known: Known, unread: set[str], size: int
) -> Iterator[_Shard]:
    """Yields the files that are new or have changed, then those that could not be read before."""
    rows, changed, retry = [], {}, []
    for start in range(0, len(inputs), _COMPARED):
        items = inputs.items(slice(start, start + _COMPARED))
        for row, (item, status) in enumerate(zip(items, known.status(items), strict=True), start):
            if status != "same":
                rows.append(row)
            elif item.path in unread:
                retry.append(row)
            if status == "changed":
                changed[row] = item.path
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        paths = [changed[row] for row in some if row in changed]
        yield _Shard(inputs.take(np.array(some)), range(len(some)), paths)
    for first in range(0, len(retry), size):
        some = retry[first : first + size]
        yield _Shard(inputs.take(np.array(some)), range(len(some)), is_retry=True)


def _tasks(
    shards: Iterable[_Shard], form: InputForm, batch_size: int, side: int | None
) -> Iterator[Callable[[], _Piece]]:
    """Yields functions that read the pieces of each shard: whole batches, of about `BLOCK_BYTES`."""
    row_bytes = int(np.prod(form.shape)) * np.dtype(form.dtype).itemsize
    size = batch_size * max(1, BLOCK_BYTES // (batch_size * row_bytes))
    for shard in shards:
        for start in range(0, len(shard.rows), size):
            yield lambda shard=shard, rows=shard.rows[start : start + size]: _read(
                shard, rows, form, side
            )


def _read(shard: _Shard, rows: range, form: InputForm, side: int | None) -> _Piece:
    """Reads a piece of a shard; the items first, so that a file that changes meanwhile is seen to."""
    part = slice(rows.start, rows.stop)
    items = dict(zip(rows, shard.inputs.items(part), strict=True))
    block = shard.inputs.read(part, form)
    thumbnails = []
    if side is not None:
        make = image_threads().map(lambda pixels: encode_thumbnail(pixels, side), block.inputs)
        thumbnails = list(make)
    return _Piece(shard, items, block, thumbnails)


def _read_ahead(tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yields the results of functions, which a thread calls in order, `_READ_AHEAD` of them ahead."""
    pool, waiting = ThreadPoolExecutor(1, "read"), deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(task))
            if len(waiting) > _READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
