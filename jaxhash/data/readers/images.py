"""Image files: which formats are read, and how pixels of any kind become 8 bits of red, green, blue.

Read are the raster formats that Pillow decodes by itself (`FORMATS`). A format that another program
would have to render, such as EPS, is not opened, whatever the file is called.

The orientation that a file states is applied. Transparent pixels are shown over white. Colors are
taken as the numbers that they are, without regard to a color profile.

Integers of more than 8 bits do not say what is white, nor do floats. It is the smallest of the
`WHITES` that none of their values is above: of 16-bit files that hold 0 to 4,081 it is 4,095.
"""

import contextlib
import functools
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxhash.utils.errors import first_line

_NAMES = """
AVIF BLP BMP CUR DCX DDS DIB FITS FLI FTEX GBR GIF ICNS ICO IM JPEG JPEG2000 MPO MSP PCD PCX PIXAR
PNG PPM PSD QOI SGI SUN TGA TIFF WEBP XBM XPM
"""

#: The formats that are opened, by Pillow's names. Left out are those that start another program or
#: need one (EPS, WMF), hold no raster (MPEG, BUFR, GRIB, HDF5), open what is inside as any format
#: (IPTC), or have no suffix.
FORMATS = frozenset(_NAMES.split())

#: Values that can be white, by the kind of numbers; "colors" are of 16 bits a channel.
WHITES = {
    "integers": (255.0, 1023.0, 4095.0, 16383.0, 65535.0),
    "floats": (1.0, 255.0, 65535.0),
    "colors": (255.0, 1023.0, 4095.0, 16383.0, 65535.0),
}

#: Floats up to here count as 0 to 1: filters overshoot.
_OVERSHOOT = 2.0


class Decoded(NamedTuple):
    """An image, and what was taken for granted in decoding it.

    Attributes:
        pixels: red, green and blue.
        remarks: what there was to say of it, some of ``frames`` and ``transparent``.
        deep: of numbers of more than 8 bits, their kind and the largest.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    remarks: tuple[str, ...] = ()
    deep: tuple[str, float] | None = None


def suffixes() -> frozenset[str]:
    """The suffixes of the formats that the installed Pillow reads, in lower case.

    Example:
        >>> {".png", ".jpeg", ".tif"} < suffixes(), ".eps" in suffixes()
        (True, False)
    """
    Image.init()
    registered = Image.registered_extensions()
    return frozenset(suffix for suffix, name in registered.items() if name in FORMATS)


def decode(path: Path, image_size: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of an image file by itself; see `read_image`."""
    return read_image(path, image_size).pixels


def read_image(
    path: Path, image_size: int | None = None, whites: Mapping[str, float] | None = None
) -> Decoded:
    """The pixels of an image file; of several frames those of the first.

    Args:
        path: the file.
        image_size: the shorter side is brought to this (bilinear, antialiased), and the middle
            square is taken; None for the image as it is. A JPEG is decoded at a fraction of its
            resolution where that is still twice the size asked for.
        whites: what is white, by the kind of numbers; by default what the file itself lets guess. An
            empty mapping refuses nothing: all files of a set will tell.

    Raises:
        OSError: or other exceptions of Pillow, if it is not a whole image.
        ValueError: if the range of its numbers is not known.
    """
    # Of a path Pillow maps some TIFF files into memory, and does not turn those (13.0).
    with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
        remarks = ("frames",) * _is_one_of_many(image)
        if image_size is not None:
            image.draft(None, (2 * image_size, 2 * image_size))
        if image.mode[0] in "IF":
            image, deep, has_hidden = _from_deep(image, whites)
        else:
            wide = any(";16" in str(tile[3]) for tile in image.tile)
            image = _turned(image)
            deep = ("colors", _upper_bound(image)) if wide else None
            if deep and whites is None:
                white_of([deep])
            image, has_hidden = _over_white(image)
    remarks += ("transparent",) * has_hidden
    if image_size is not None:
        side = min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        image = image.resize(
            (image_size, image_size),
            Image.Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
        )
    return Decoded(np.asarray(image), remarks, deep)


def try_read(
    path: Path, image_size: int | None, whites: Mapping[str, float] | None = None
) -> Decoded | str:
    """The image, or why there is none."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for
            return "not a file"
        if not state.st_size:
            return "an empty file"
        return read_image(path, image_size, whites)
    except UnidentifiedImageError:
        return "not an image of a known format"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    except Exception as error:  # a broken file can raise anything, by format
        return first_line(error)


def white_of(deep: Iterable[Sequence[Any]]) -> dict[str, float]:
    """What is white, by the kind of numbers, of files with these largest values.

    Raises:
        ValueError: if colors of 16 bits a channel use less than 15 of them: Pillow reads the upper 8.

    Example:
        >>> white_of([("integers", 900), ("integers", 4081), ("floats", 1.01)])
        {'integers': 4095.0, 'floats': 1.0}
    """
    largest = {}
    for kind, value in deep:
        largest[kind] = max(value, largest.get(kind, 0))
    if largest.get("floats", _OVERSHOOT) < _OVERSHOOT:
        largest["floats"] = min(largest["floats"], 1.0)
    whites = {
        kind: next(white for white in WHITES[kind] if value <= white)
        for kind, value in largest.items()
    }
    if whites.get("colors", 2**16) < 2**15:
        raise ValueError(
            f"colors of 16 bits a channel without a value above {whites['colors']:,.0f}: the upper 8 "
            "bits alone are read, which leaves next to nothing; write them with 8 bits a channel"
        )
    return whites


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that the installed Pillow has, those that most files are of first."""
    Image.init()
    here = [name for name in Image.ID if name in FORMATS]
    return tuple(sorted(here, key=lambda name: name not in ("JPEG", "PNG", "WEBP", "TIFF")))


def _is_one_of_many(image: Image.Image) -> bool:
    """Whether the file holds other frames or pages, which are no part of this one, as layers are."""
    if image.format == "PSD":
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a later frame is broken, so there is one
        return True


def _turned(image: Image.Image) -> Image.Image:
    """The image as its EXIF data say it is to be held; as it is where they cannot be read."""
    image.load()
    with contextlib.suppress(Exception):  # broken EXIF data raise anything
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _from_deep(
    image: Image.Image, whites: Mapping[str, float] | None
) -> tuple[Image.Image, tuple[str, float] | None, bool]:
    """Grey of more than 8 bits, with its kind and largest value where white is a guess."""
    turned = _turned(image)
    values = np.asarray(turned)
    kind = "floats" if image.mode == "F" else "integers"
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite([low, high]).all() and low >= 0 and high <= WHITES[kind][-1]):
        raise ValueError(f"grey from {low:g} to {high:g}: what is white, of 1, 255 and 65535?")
    stated = image.format == "PPM" and kind == "integers"  # brought to 16 bits by its own maximum
    deep = None if stated else (kind, high)
    white = WHITES[kind][-1] if stated else (whites or white_of([deep]))[kind]
    if kind == "integers":
        grey = values.astype(np.int64) * 256 // (int(white) + 1)
    else:
        grey = np.rint(values.astype(np.float64) * (255 / white))
    grey = np.clip(grey, 0, 255).astype(np.uint8)
    hidden = values == image.info["transparency"] if "transparency" in image.info else np.array(0)
    grey = np.where(hidden, np.uint8(255), grey)
    return Image.fromarray(grey).convert("RGB"), deep, bool(hidden.any())


def _over_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image over white, and whether any pixel lets that through."""
    if not ({"A", "a"} & set(image.getbands()) or "transparency" in image.info):
        return image if image.mode == "RGB" else image.convert("RGB"), False
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB"), image.getextrema()[3][0] < 255


def _upper_bound(image: Image.Image) -> int:
    """The largest value of 16 bits that the upper 8 of them allow."""
    colors = image.convert("RGB").getextrema()
    return max(high for _, high in colors) * 256 + 255
