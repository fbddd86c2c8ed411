"""Makes small images, as the bytes of JPEG files."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxhash.utils.errors import UserError

#: Longest side of a thumbnail in pixels, unless another is chosen, and the least and greatest choice.
THUMBNAIL_SIDE, LEAST_SIDE, GREATEST_SIDE = 96, 16, 1024


def encode_thumbnail(pixels: UInt8[np.ndarray, "h w c"], side: int = THUMBNAIL_SIDE) -> bytes:
    """Returns pixels as the bytes of a JPEG file of at most ``side`` pixels; nothing is enlarged.

    The same pixels give the same bytes with one version of Pillow.

    Args:
        pixels: pixels of 1 or 3 channels.
        side: longest side of the result.

    Example:
        >>> jpeg = encode_thumbnail(np.zeros((50, 300, 3), np.uint8))
        >>> Image.open(io.BytesIO(jpeg)).size
        (96, 16)
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return content.getvalue()


def check_thumbnail_side(side: int | None) -> None:
    """Raises a `UserError` unless thumbnails can have this longest side; None stands for none."""
    if side is not None and not LEAST_SIDE <= side <= GREATEST_SIDE:
        raise UserError(
            f"`thumbnails` must be from {LEAST_SIDE} to {GREATEST_SIDE:,} pixels, or 0 for none, got "
            f"{side}"
        )
