"""Reads a set of shards by its index: WebDataset, Parquet, TFRecord or ArrayRecord."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from rich.console import Console

from jaxhash.data.readers.features import read_class_names
from jaxhash.data.readers.folder import check_unreadable
from jaxhash.data.readers.images import ImageSize, side_of
from jaxhash.data.readers.labels import check_class_ids
from jaxhash.data.rows import Rows, blocks_of, row_blocks
from jaxhash.data.shards.formats import FORMATS
from jaxhash.data.shards.index import (
    ShardIndex,
    index_folder,
    make_index,
    open_index,
    unscanned_bytes,
)
from jaxhash.data.shards.listing import ShardSet, find_shards
from jaxhash.data.shards.rows import ShardImages, ShardItems, ShardVectors
from jaxhash.data.sources import MEMORY_LIMIT, SOURCE_PARTS, Source
from jaxhash.training.distributed import broadcast_from_host0
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError

#: Bytes of shards up to which a missing index is made at once.
MAX_INDEXED_AT_ONCE = 2**30


def index_shards(name: str, path: Path, console: Console | None = None) -> ShardIndex:
    """Makes the index of a set of shards, or goes on with it; see `make_index`."""
    return make_index(find_shards(name, path), index_folder(path), console)


def read_shards(
    name: str, path: Path, image_size: ImageSize | None, max_unreadable: float
) -> Source:
    """Reads the records of a folder of shards, or of one.

    Their formats are those of `jaxhash.data.shards.formats`; each module says which members, columns or
    features it reads. The shards must be indexed (``jaxhash data index``); the index of less than
    `MAX_INDEXED_AT_ONCE` is made at once. A set of up to `MEMORY_LIMIT`, decoded, is held in memory; of a
    larger one records are read on access.

    Args:
        name: name of the source.
        path: the folder or the shard.
        image_size: see `jaxhash.data.readers.images.read_image`; None if all images have one size.
        max_unreadable: largest share of unreadable records, which are left out.

    Raises:
        UserError: if there are no shards, they have no index and are large, one is damaged, records differ
            in kind or size, none has a label, or too many are unreadable.
    """
    shards = find_shards(name, path)
    index = open_or_make_index(name, shards, index_folder(path), MAX_INDEXED_AT_ONCE)
    notes = list(dict.fromkeys(note for facts in index.shards for note in facts.notes))
    labels = index.column("label")
    if not (labels != -1).any():
        raise UserError(
            f"`dataset={name}`: no record has a label; looked for {FORMATS[index.format].looks_for}"
        )
    items = ShardItems(index, index.unreadable)
    reasons = {
        int(start) + number: reason
        for start, facts in zip(index.starts, index.shards, strict=False)
        for number, reason in facts.unreadable
    }
    _check_left_out(name, index, reasons, max_unreadable)
    inputs = _open_inputs(name, items, image_size)
    if len(inputs) * inputs.row_bytes <= MEMORY_LIMIT:
        inputs, more = _read_all(name, inputs)
        if more:
            records = items.records(np.array(list(more))).tolist()
            reasons |= dict(zip(records, more.values(), strict=True))
            _check_left_out(name, index, reasons, max_unreadable)
            items = ShardItems(index, np.array(sorted(reasons), np.int64))
    labels = items.keep(labels)
    check_class_ids(labels, len(labels), f"`dataset={name}`")
    names = None if index.class_names is None else np.array(index.class_names)
    unlabeled = int((labels == -1).sum())
    if unlabeled:
        notes.append(f"records without a label: {unlabeled:,} of {len(labels):,}")
    if blocks := blocks_of(inputs):
        each = len(inputs) // len(blocks.starts)
        notes.append(
            f"order: shuffled in windows of {blocks.window:,} row groups, about {blocks.window * each:,} "
            "records, as single rows of Parquet cannot be read"
        )
    parts = [part for part in SOURCE_PARTS if part in shards.parts]
    return Source(
        name,
        inputs,
        labels,
        read_class_names(names, labels, f"`dataset={name}`"),
        _part_ids(shards, index, items, parts) if parts else None,
        left_out=tuple(f"{index.name_of(number)}: {reasons[number]}" for number in sorted(reasons)),
        parts=tuple(parts) or None,
        item_names=items,
        notes=(*shards.notes, *notes),
    )


def open_or_make_index(
    name: str, shards: ShardSet, folder: Path, most_bytes: int | float
) -> ShardIndex:
    """Opens an index, which process 0 makes if it is missing or of other shards; a line says so.

    Args:
        name: name of the source.
        shards: the shards.
        folder: folder of the index.
        most_bytes: bytes of shards up to which it is made.

    Raises:
        UserError: if more bytes would have to be read, a shard is damaged, or the processes see other shards.
    """

    def make() -> None:
        if open_index(shards, folder) is not None:
            return
        size = unscanned_bytes(shards, folder)
        if size > most_bytes:
            raise UserError(
                f"`dataset={name}`: {size / 2**30:,.1f} GiB of its {len(shards.names):,} shards are in no "
                f"index, or have changed since; jaxhash data index {name} makes it, once"
            )
        index = make_index(shards, folder)
        print_line(Console(stderr=True), f"{name}: {len(index):,} records are indexed in {folder}")

    broadcast_from_host0(make)
    index = open_index(shards, folder)
    if index is None:
        raise UserError(
            f"`dataset={name}`: another process has indexed other shards than are here; the shards "
            "and their index must be the same for all"
        )
    return index


def _check_left_out(
    name: str, index: ShardIndex, reasons: dict[int, str], max_unreadable: float
) -> None:
    """Raises if too many records are unreadable."""
    listed = [f"{index.name_of(number)}: {reasons[number]}" for number in sorted(reasons)]
    if len(listed) == len(index):
        raise UserError(f"`dataset={name}`: no record can be read, {listed[0]}")
    check_unreadable(name, listed, len(index), max_unreadable)


def _open_inputs(
    name: str, items: ShardItems, image_size: ImageSize | None
) -> ShardImages | ShardVectors:
    """Returns the inputs, read on access.

    Raises:
        UserError: if images have several sizes, and are brought to none.
    """
    if items.index.kind == "vectors":
        return ShardVectors(items)
    if image_size is not None:
        side = side_of(image_size)
        return ShardImages(items, image_size, (side, side, 3))
    sizes: dict[tuple[int, int], str] = {}
    for facts in items.index.shards:
        for height, width, record in facts.shapes:
            sizes.setdefault((height, width), f"{facts.name}#{record} {width} x {height}")
    if len(sizes) > 1:
        first, second, *_ = sizes.values()
        raise UserError(
            f"`dataset={name}`: its images have several sizes, {first} and {second}; "
            "`image_size=N` brings them to one"
        )
    return ShardImages(items, None, (*next(iter(sizes)), 3))


def _read_all(name: str, inputs: ShardImages | ShardVectors) -> tuple[Rows, dict[int, str]]:
    """Reads all inputs into memory; returns those that can be read, and why the others cannot."""
    if isinstance(inputs, ShardVectors):
        return inputs[:], {}
    reasons: dict[int, str] = {}
    images: UInt8[np.ndarray, "n height width 3"] | None = None
    blocks = list(row_blocks(len(inputs), inputs.row_bytes))
    for rows in track_progress(blocks, f"{name}: opening", len(blocks)):
        for item, found in enumerate(inputs.try_read(np.arange(rows.start, rows.stop)), rows.start):
            if isinstance(found, str):
                reasons[item] = found
                continue
            if images is None:
                images = np.empty((len(inputs), *found.shape), np.uint8)
            images[item] = found
    if images is None:
        return np.empty((0, 1, 1, 3), np.uint8), reasons
    return (np.delete(images, sorted(reasons), axis=0) if reasons else images), reasons


def _part_ids(shards: ShardSet, index: ShardIndex, items: ShardItems, parts: list[str]):
    """Returns the part of each item."""
    ids = np.array([parts.index(part) for part in shards.parts], np.int8)
    return items.keep(np.repeat(ids, [facts.records for facts in index.shards]))
