"""Reads a folder of images: a subfolder per class, perhaps below one per part of the set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxhash.data.readers.folder_layout import INDEX_FOLDER, FolderLayout, find_layout
from jaxhash.data.readers.image_files import ImageSet, ScanResult
from jaxhash.data.readers.images import ImageSize, side_of
from jaxhash.data.sources import MEMORY_LIMIT, Source
from jaxhash.training.distributed import broadcast_from_host0
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_writable

#: Share of the images of a folder that may be unreadable.
MAX_UNREADABLE = 0.01

#: Number of unreadable files that a message lists.
MAX_LISTED = 3


def read_folder(
    name: str,
    folder: Path,
    image_size: ImageSize | None,
    max_unreadable: float,
    memory_limit: int | None = None,
    index_file: Path | None = None,
) -> Source:
    """Reads the images below a folder, in DIR/CLASS/ or in DIR/PART/CLASS/.

    Classes are numbered in the order of their names. Images may lie deeper within a class. Hidden
    files, files without a suffix of an image and files outside the classes are skipped, and counted in
    the notes. Parts are recognized by `jaxhash.data.readers.folder_layout.PART_FOLDERS`.

    Process 0 decodes every image once. Unreadable images are left out before anything is counted.

    Args:
        name: name of the source.
        folder: DIR.
        image_size: see `jaxhash.data.readers.images.read_image`; None if all images have one size.
        max_unreadable: largest share of unreadable files; if above 0, one file may be unreadable in any
            case.
        memory_limit: largest size in bytes, decoded, of a set that is held in memory; a larger one is
            decoded on access; `MEMORY_LIMIT` by default.
        index_file: the index of an earlier scan of a large set, which may be missing; see
            `jaxhash.data.readers.image_files.write_index`. Without one, that of `index_images` is
            taken, if there is one.

    Raises:
        UserError: if there is no such folder, or no class in it; if its classes look like parts; if a
            class has no readable image, too many files are unreadable, or the images have several
            sizes.
    """
    local_rows = []
    if index_file is None or not index_file.is_file():
        index_file = _shared_index(folder, image_size)

    def scan_folder() -> dict[str, Any]:
        layout = find_layout(name, folder)
        images = ImageSet(name, folder, layout.files, image_size)
        limit = MEMORY_LIMIT if memory_limit is None else memory_limit
        scan, rows = images.scan(limit, index_file)
        check_unreadable(name, scan.left_out, len(layout.files), max_unreadable)
        _check_classes(name, folder, layout, scan)
        local_rows.append(rows)
        return {"layout": layout, "scan": scan}

    found = broadcast_from_host0(scan_folder)
    layout, scan = FolderLayout(*found["layout"]), ScanResult(*found["scan"])
    readable = np.array(scan.readable)
    return Source(
        name,
        local_rows[0]
        if local_rows
        else ImageSet(name, folder, layout.files, image_size).read(scan),
        np.array(layout.labels, np.int32)[readable],
        tuple(layout.class_names),
        np.array(layout.part_ids, np.int8)[readable] if layout.parts else None,
        left_out=tuple(scan.left_out),
        parts=tuple(layout.parts) or None,
        item_names=[_printable(layout.files[number]) for number in scan.readable],
        notes=(*layout.notes, *scan.notes),
    )


def index_images(name: str, folder: Path, image_size: ImageSize | None) -> tuple[int, int, Path]:
    """Decodes every image below a folder once, and writes the results beside them.

    Returns:
        Number of images, how many of them are unreadable, and the file that was written.

    Raises:
        UserError: as `read_folder`, or if nothing can be written there.
    """
    files = find_layout(name, folder).files
    path = _shared_index(folder, image_size)
    check_writable(path.parent, f"`dataset={name}`")
    path.parent.mkdir(exist_ok=True)
    scan = ImageSet(name, folder, files, image_size).write_index(path)
    return len(files), len(scan.left_out), path


def _shared_index(folder: Path, image_size: ImageSize | None) -> Path:
    """Returns the file with the index of images decoded to a size, beside them."""
    name = "images.json" if image_size is None else f"images-{side_of(image_size)}.json"
    return folder / INDEX_FOLDER / name


def _check_classes(name: str, folder: Path, layout: FolderLayout, scan: ScanResult) -> None:
    """Raises if some class, in some part of the set, has no readable image."""
    depth = 2 if layout.parts else 1

    def class_folder(number: int) -> str:
        return "/".join(layout.files[number].split("/")[:depth])

    readable = set(map(class_folder, scan.readable))
    for number in range(len(layout.files)):
        if class_folder(number) not in readable:
            raise UserError(
                f"`dataset={name}`: class folder {folder / class_folder(number)}: none of its images "
                "can be read"
            )


def check_unreadable(name: str, left_out: Sequence[str], count: int, max_unreadable: float) -> None:
    """Raises if too many files are unreadable."""
    allowed = max(1, int(round(max_unreadable * count, 6))) if max_unreadable else 0
    if len(left_out) > allowed:
        more = len(left_out) - MAX_LISTED
        named = "; ".join(left_out[:MAX_LISTED]) + (f" and {more:,} more" if more > 0 else "")
        raise UserError(
            f"`dataset={name}`: {len(left_out):,} of {count:,} images cannot be read, "
            f"{len(left_out) / count:.1%}, and at most {allowed:,} may: {named}"
        )


def _printable(path: str) -> str:
    """Escapes the bytes of a path that are no UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
