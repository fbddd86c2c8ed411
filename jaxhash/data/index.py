"""Indexes a data set once, in place of reading all of it at the start of each training."""

from pathlib import Path

from rich.console import Console

from jaxhash.data.readers.shards import index_shards
from jaxhash.utils.errors import UserError


def index_dataset(
    name: str,
    data_dir: Path | None = None,
    image_size: int | None = None,
    console: Console | None = None,
) -> str:
    """Makes the index of a data set, or goes on with it; returns a sentence on what it holds.

    Args:
        name: ``shards:DIR``.
        data_dir: folder that DIR is in.
        image_size: of a folder, height and width in pixels that its images are decoded to.
        console: where progress is printed; the error stream by default.

    Raises:
        UserError: if it is another data set, or cannot be read.
    """
    kind, _, rest = name.partition(":")
    path = (data_dir or Path()) / rest
    if kind == "shards" and rest:
        index = index_shards(name, path, console)
        unreadable = f", {len(index.unreadable):,} of them unreadable" * bool(len(index.unreadable))
        return (
            f"{name}: {len(index):,} {index.kind} in {len(index.shards):,} shards{unreadable}; "
            f"the index is {index.folder}"
        )
    raise UserError(f"`dataset={name!r}`: shards:DIR and folder:DIR can be indexed")
