"""Brings an image or vectors to the form that a hash function takes, or says why it does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from PIL import Image

from jaxhash.data.input_form import InputForm
from jaxhash.data.readers.images import try_read_image
from jaxhash.utils.errors import UserError


def prepare_image(
    image: Path | str | Image.Image | np.ndarray, form: InputForm
) -> UInt8[np.ndarray, "height width channels"]:
    """Returns an image as a hash function takes it.

    Args:
        image: a file, a PIL image, or uint8 pixels [height, width] or [height, width, channels].
        form: form of the inputs.
    """
    if form.kind != "images":
        raise UserError("the hash function takes vectors, not images")
    size = resized_to(form)
    if isinstance(image, str | Path):
        decoded = try_read_image(Path(image), size)
        if isinstance(decoded, str):
            raise UserError(f"{image}: {decoded}")
        return _fit(decoded.pixels, form, str(image))
    if isinstance(image, Image.Image):
        return _fit(np.asarray(image.convert("RGB")), form, "an image")
    return _fit(np.asarray(image), form, "an image")


def resized_to(form: InputForm) -> int | None:
    """Returns the height and width that images of any size are brought to; None if only one size fits."""
    fits = form.image_size is not None and form.shape == (form.image_size, form.image_size, 3)
    return form.image_size if fits else None


def prepare_vectors(vectors: Any, form: InputForm) -> Float32[np.ndarray, "n dimensions"]:
    """Returns vectors as a hash function takes them."""
    if form.kind != "vectors":
        raise UserError("the hash function takes images, not vectors")
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1:] != form.shape or array.dtype.kind != "f":
        raise UserError(f"expected floats [n, {form.shape[0]}], got {array.dtype} {array.shape}")
    return array.astype(np.float32)


def _fit(
    pixels: Shaped[np.ndarray, "..."], form: InputForm, name: str
) -> UInt8[np.ndarray, "h w c"]:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if form.shape[2] == 1 and pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    if form.shape[2] == 3 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape != form.shape or pixels.dtype != np.uint8:
        raise UserError(
            f"{name}: the hash function takes images {' x '.join(map(str, form.shape))} of uint8, and "
            f"this is {' x '.join(map(str, pixels.shape))} of {pixels.dtype}"
        )
    return pixels
