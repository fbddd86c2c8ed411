"""Reads images within a number of pixels, and makes small JPEGs of them."""

import contextlib
import io
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from jaxhash.data.readers.images import decode_image, installed_formats
from jaxhash.data.writers.thumbnails import encode_thumbnail
from jaxhash.retrieval.index import Index, IndexItem
from jaxhash.retrieval.item_images import item_file
from jaxhash.serve.errors import RequestError
from jaxhash.utils.errors import first_line

#: Modes of Pillow that are decoded within a few bytes a pixel.
_PLAIN_MODES = frozenset(["1", "L", "P", "RGB", "CMYK", "YCbCr"])

#: What a pixel of another kind counts as: it takes up to 25 bytes instead of 5.
_DEEP_PIXEL = 4


@contextlib.contextmanager
def open_image(file: io.BufferedIOBase, max_pixels: int) -> Iterator[Image.Image]:
    """Opens an image, whose pixels are not decoded yet.

    Args:
        file: its bytes.
        max_pixels: most pixels that it may have; one with transparency, or of more than 8 bits a color,
            counts as four.

    Raises:
        RequestError: 400 if it is no image of a known format, or a broken one; 413 if it is too large.
            What is raised inside the context counts as that it is broken.
    """
    too_large = RequestError(
        413,
        f"the image has more than {max_pixels:,} pixels, the most allowed (a quarter of that with "
        "transparency, or more than 8 bits a color)",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file, formats=installed_formats())
        with image:
            is_plain = image.mode in _PLAIN_MODES and "transparency" not in image.info
            if image.width * image.height * (1 if is_plain else _DEEP_PIXEL) > max_pixels:
                raise too_large
            yield image
    except RequestError:
        raise
    except UnidentifiedImageError:
        raise RequestError(400, "this is no image of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large from None
    except Exception as error:  # the decoders raise many types for broken files
        raise RequestError(400, f"the image cannot be read: {first_line(error)}") from error


def has_image(index: Index, item: IndexItem) -> bool:
    """Returns whether an item has a thumbnail in the index, or a file."""
    return index.thumbnail_side is not None or image_file(index, item) is not None


def image_file(index: Index, item: IndexItem) -> Path | None:
    """Returns the image file of an item; None if it has none, or it has gone."""
    path = item_file(index, item)
    if path is None or ".." in Path(item.path).parts or Path(item.path).is_absolute():
        return None
    try:
        return path if stat.S_ISREG(path.stat().st_mode) else None
    except OSError:
        return None


def scaled_jpeg(path: Path, side: int, max_pixels: int) -> bytes | None:
    """Returns an image file as a JPEG.

    Args:
        path: the file.
        side: most pixels of its longest side; nothing is enlarged.
        max_pixels: most pixels that the file may have.

    Returns:
        The bytes; None if the file cannot be read, or has more pixels.
    """
    try:
        with path.open("rb") as file, open_image(file, max_pixels) as image:
            image.draft(None, (2 * side, 2 * side))  # a JPEG is decoded at a fraction of its size
            return encode_thumbnail(decode_image(image).pixels, side)
    except (OSError, RequestError):
        return None
