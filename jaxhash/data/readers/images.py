"""Reads image files of many formats as 8 bits of red, green and blue.

The formats are the raster formats that Pillow decodes without another program (`FORMATS`). A format that another
program would have to render, such as EPS, is not opened under any file name.

The EXIF orientation is applied. Transparent pixels are composited over white. Color profiles are
ignored.

Integers of more than 8 bits and floats have no known white level. It is taken to be the smallest of the
`WHITE_LEVELS` that is not below any of their values: 4,095 for 16-bit files that hold 0 to 4,081.
"""

import contextlib
import functools
import math
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

#: The formats that are opened, by Pillow's names. Excluded are those that need another program (EPS,
#: WMF), hold no raster (MPEG, BUFR, GRIB, HDF5), contain an image of any format (IPTC), or have no suffix.
FORMATS = frozenset(_NAMES.split())

#: Candidate white levels, by the kind of values; "colors" have 16 bits per channel.
WHITE_LEVELS = {
    "integers": (255.0, 1023.0, 4095.0, 16383.0, 65535.0),
    "floats": (1.0, 255.0, 65535.0),
    "colors": (255.0, 1023.0, 4095.0, 16383.0, 65535.0),
}

#: Floats up to this are taken for the range 0 to 1, since filters overshoot it.
_OVERSHOOT = 2.0


class Resize(NamedTuple):
    """How an image of any size is brought to a square.

    Attributes:
        size: height and width of the result in pixels.
        crop: share of the shorter side that the middle square has, which is resized.
        interpolation: how it is resized, antialiased: ``bilinear`` or ``bicubic``.
    """

    size: int
    crop: float = 1.0
    interpolation: str = "bilinear"

    @classmethod
    def of(cls, size: int | None, preprocessing: Mapping[str, Any] | None) -> "Resize | None":
        """Returns how a backbone wants files to be read; None if at their own size.

        Args:
            size: height and width that images are brought to, if to any.
            preprocessing: fields of `jaxhash.models.Preprocessing`; without them the rule is plain.

        Example:
            >>> Resize.of(224, {"crop": 0.875, "interpolation": "bicubic"})
            Resize(size=224, crop=0.875, interpolation='bicubic')
        """
        if size is None:
            return None
        rule = {k: v for k, v in (preprocessing or {}).items() if k in cls._fields[1:]}
        return cls(size, **rule)


#: Height and width that images are brought to by the plain rule, or another rule.
ImageSize = int | Resize


def side_of(image_size: ImageSize) -> int:
    """Returns the height and width in pixels that images are brought to.

    Example:
        >>> side_of(32), side_of(Resize(224, crop=0.875))
        (32, 224)
    """
    return image_size.size if isinstance(image_size, Resize) else image_size


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: red, green and blue.
        remarks: ``frames`` if the file has other frames or pages, ``transparent`` if some pixels are.
        deep: for values of more than 8 bits, their kind and the largest; else None.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    remarks: tuple[str, ...] = ()
    deep: tuple[str, float] | None = None


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Returns the file suffixes of the formats that the installed Pillow reads, in lower case.

    Example:
        >>> {".png", ".jpeg", ".tif"} < image_suffixes(), ".eps" in image_suffixes()
        (True, False)
    """
    Image.init()
    registered = Image.registered_extensions()
    return frozenset(suffix for suffix, name in registered.items() if name in FORMATS)


def read_image(
    path: Path,
    image_size: ImageSize | None = None,
    white_levels: Mapping[str, float] | None = None,
) -> Decoded:
    """Reads the first frame of an image file.

    Args:
        path: the file.
        image_size: height and width in pixels: the shorter side is resized to it (bilinear, antialiased)
            and the central square is cropped; or another `Resize`; None keeps the size. A JPEG is
            decoded at a fraction of its resolution if that is still at least twice this size.
        white_levels: white level by the kind of values; by default it is guessed from the file alone. An
            empty mapping does the same, but refuses no 16-bit colors, for a first pass over all files.

    Raises:
        OSError: or another exception of Pillow, if the file is no whole image.
        ValueError: if the range of its values is unknown.
    """
    # Pillow 13.0 maps some TIFF files into memory if given a path, and then ignores their orientation.
    with open(path, "rb") as file, Image.open(file, formats=installed_formats()) as image:
        return decode_image(image, image_size, white_levels)


def decode_image(
    image: Image.Image,
    image_size: ImageSize | None = None,
    white_levels: Mapping[str, float] | None = None,
) -> Decoded:
    """Decodes an image of Pillow as `read_image` decodes its file; the image itself may change."""
    resize = Resize(image_size) if isinstance(image_size, int) else image_size
    remarks = ("frames",) * _has_other_frames(image)
    if resize is not None:
        least = math.ceil(2 * resize.size / resize.crop)
        image.draft(None, (least, least))
    if image.mode[0] in "IF":
        image, deep, has_hidden = _reduce_to_8_bits(image, white_levels)
    else:
        wide = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        image = _apply_orientation(image)
        deep = ("colors", _upper_bound(image)) if wide else None
        if deep and white_levels is None:
            guess_white_levels([deep])
        image, has_hidden = _composite_on_white(image)
    remarks += ("transparent",) * has_hidden
    if resize is not None:
        side = resize.crop * min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        image = image.resize(
            (resize.size, resize.size),
            Image.Resampling[resize.interpolation.upper()],
            box=(left, top, left + side, top + side),
        )
    return Decoded(np.asarray(image), remarks, deep)


def try_read_image(
    path: Path, image_size: ImageSize | None, white_levels: Mapping[str, float] | None = None
) -> Decoded | str:
    """Reads an image as `read_image` does; returns the reason as text if it cannot be read."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # opening a pipe would block
            return "not a file"
        if not state.st_size:
            return "an empty file"
        return read_image(path, image_size, white_levels)
    except Exception as error:  # the decoders raise many types for broken files
        return reason_of(error)


def reason_of(error: Exception) -> str:
    """Returns why an image cannot be read, without the path, which is named elsewhere."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, OSError):
        return error.strerror or first_line(error)
    return first_line(error)


def guess_white_levels(deep: Iterable[Sequence[Any]]) -> dict[str, float]:
    """Guesses the white level of each kind of values from the largest value of each file.

    Args:
        deep: the kind and the largest value of each file, as in `Decoded`.

    Raises:
        ValueError: if colors of 16 bits per channel use less than 15 of them: Pillow reads the upper 8.

    Example:
        >>> guess_white_levels([("integers", 900), ("integers", 4081), ("floats", 1.01)])
        {'integers': 4095.0, 'floats': 1.0}
    """
    largest = {}
    for kind, value in deep:
        largest[kind] = max(value, largest.get(kind, 0))
    if largest.get("floats", _OVERSHOOT) < _OVERSHOOT:
        largest["floats"] = min(largest["floats"], 1.0)
    levels = {
        kind: next(white for white in WHITE_LEVELS[kind] if value <= white)
        for kind, value in largest.items()
    }
    if levels.get("colors", 2**16) < 2**15:
        raise ValueError(
            f"colors of 16 bits a channel without a value above {levels['colors']:,.0f}: the upper 8 "
            "bits alone are read, which leaves next to nothing; write them with 8 bits a channel"
        )
    return levels


@functools.cache
def installed_formats() -> tuple[str, ...]:
    """Returns those of `FORMATS` that the installed Pillow has, the most common ones first."""
    Image.init()
    installed = [name for name in Image.ID if name in FORMATS]
    return tuple(sorted(installed, key=lambda name: name not in ("JPEG", "PNG", "WEBP", "TIFF")))


def _has_other_frames(image: Image.Image) -> bool:
    """Returns whether the file holds other frames or pages; layers are part of the image."""
    if image.format == "PSD":
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a later frame is broken, so there is one
        return True


def _apply_orientation(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation; returns the image unchanged if its EXIF data cannot be read."""
    image.load()
    with contextlib.suppress(Exception):  # broken EXIF data raise many types
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _reduce_to_8_bits(
    image: Image.Image, white_levels: Mapping[str, float] | None
) -> tuple[Image.Image, tuple[str, float] | None, bool]:
    """Reduces grey of more than 8 bits to 8.

    Returns:
        The image; the kind of its values and the largest one, or None if the file states its white level;
        and whether some pixels are transparent.
    """
    oriented = _apply_orientation(image)
    values = np.asarray(oriented)
    kind = "floats" if image.mode == "F" else "integers"
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite([low, high]).all() and low >= 0 and high <= WHITE_LEVELS[kind][-1]):
        raise ValueError(f"grey from {low:g} to {high:g}: what is white, of 1, 255 and 65535?")
    stated = (
        image.format == "PPM" and kind == "integers"
    )  # Pillow scales it to 16 bits by the maximum in its header
    deep = None if stated else (kind, high)
    white = WHITE_LEVELS[kind][-1] if stated else (white_levels or guess_white_levels([deep]))[kind]
    if kind == "integers":
        grey = values.astype(np.int64) * 256 // (int(white) + 1)
    else:
        grey = np.rint(values.astype(np.float64) * (255 / white))
    grey = np.clip(grey, 0, 255).astype(np.uint8)
    hidden = values == image.info["transparency"] if "transparency" in image.info else np.array(0)
    grey = np.where(hidden, np.uint8(255), grey)
    return Image.fromarray(grey).convert("RGB"), deep, bool(hidden.any())


def _composite_on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """Returns the image composited over white, and whether some pixels are transparent."""
    if not ({"A", "a"} & set(image.getbands()) or "transparency" in image.info):
        return image if image.mode == "RGB" else image.convert("RGB"), False
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB"), image.getextrema()[3][0] < 255


def _upper_bound(image: Image.Image) -> int:
    """Returns the largest 16-bit value that the upper 8 bits, which Pillow reads, allow."""
    colors = image.convert("RGB").getextrema()
    return max(high for _, high in colors) * 256 + 255
