"""Small images for pages, as JPEG."""

import base64
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxhash.data.readers.images import try_read_image
from jaxhash.data.writers.thumbnails import THUMBNAIL_SIDE, encode_thumbnail
from jaxhash.report.html.page import escape


def image_element(
    image: Path | bytes | UInt8[np.ndarray, "h w c"], *, side: int = THUMBNAIL_SIDE
) -> str:
    """Returns an image as an HTML element that holds it, or a box with the reason why there is none.

    Args:
        image: an image file, the bytes of a JPEG file, or pixels of 1 or 3 channels.
        side: longest side in pixels; the bytes of a JPEG file stay as they are.
    """
    if isinstance(image, Path):
        found = try_read_image(image, None) if image.exists() else "the file is missing"
        if isinstance(found, str):
            return f'<div class="missing">{escape(found)}</div>'
        image = found.pixels
    if not isinstance(image, bytes):
        image = encode_thumbnail(image, side)
    data = base64.b64encode(image).decode()
    return f'<img class="thumbnail" alt="" src="data:image/jpeg;base64,{data}">'
