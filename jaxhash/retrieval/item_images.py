"""The images of items of an index, as pages show them."""

from collections.abc import Sequence
from pathlib import Path

from jaxhash.retrieval.index import Index, IndexItem


def item_images(index: Index, items: Sequence[IndexItem]) -> list[bytes | Path | None]:
    """Returns an image of each of some items of an index.

    Args:
        index: the index.
        items: items of it, each with an id.

    Returns:
        Its thumbnail, the bytes of a JPEG file, if the index keeps thumbnails; else the path of its
        file, which may be missing; None for what is no image file, such as a row of an array.
    """
    thumbnails = index.thumbnails([item.id for item in items])
    return [
        item_file(index, item) if thumbnail is None else thumbnail
        for item, thumbnail in zip(items, thumbnails, strict=True)
    ]


def item_image(index: Index, item: IndexItem) -> bytes | Path | None:
    """Returns an image of one item, as `item_images` does."""
    return item_images(index, [item])[0]


def item_file(index: Index, item: IndexItem) -> Path | None:
    """Returns the path of an item's file; None if it is no file, as a row of an array is none."""
    if index.root is None or not item.mtime_ns:
        return None
    return index.root / item.path
