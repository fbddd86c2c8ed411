"""Indexes a data set once, in place of reading all of it at the start of each training."""

from pathlib import Path

from rich.console import Console

from jaxhash.data.readers.folder import index_images
from jaxhash.data.readers.images import ImageSize
from jaxhash.data.readers.shards import index_shards
from jaxhash.utils.errors import UserError


def index_dataset(
    name: str,
    data_dir: Path | None = None,
    image_size: ImageSize | None = None,
    console: Console | None = None,
) -> str:
    """Makes the index of a data set, or goes on with it; returns a sentence on what it holds.

    Args:
        name: ``shards:DIR`` or ``folder:DIR``.
        data_dir: folder that DIR is in.
        image_size: of a folder, how the training reads its images.
        console: where progress is printed; the error stream by default.

    Raises:
        UserError: if it is another data set, or cannot be read.
    """
    kind, _, rest = name.partition(":")
    path = (data_dir or Path()) / rest
    if kind == "shards" and rest:
        if image_size is not None:
            raise UserError("`image_size` is for folders: the index of shards is of any size")
        index = index_shards(name, path, console)
        count, unreadable, place = len(index), len(index.unreadable), index.folder
        held = f"{count:,} {index.kind} in {len(index.shards):,} shards"
    elif kind == "folder" and rest:
        count, unreadable, place = index_images(name, path, image_size)
        held = f"{count:,} images"
    else:
        raise UserError(f"`dataset={name}`: shards:DIR and folder:DIR can be indexed")
    return f"{name}: {held}{f', {unreadable:,} of them unreadable' * bool(unreadable)}; the index is {place}"
