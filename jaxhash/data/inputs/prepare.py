"""Brings an image or vectors to the form that a hash function takes, or says why they do not fit."""

import io
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from jaxhash.data.input_form import InputForm
from jaxhash.data.readers.images import Decoded, Resize, decode_image, try_read_image
from jaxhash.utils.errors import UserError, first_line


def prepare_image(image: Any, form: InputForm) -> UInt8[np.ndarray, "height width channels"]:
    """Returns an image as a hash function takes it.

    A file is decoded as in training: by its orientation, over white, and brought to the size of the hash
    function where that takes images of any size (`resized_to`). A PIL image that was opened and not read
    counts as its file, and another one as its pixels. A large JPEG is decoded from its file at a
    fraction of its size, so its pixels give slightly other codes.

    Args:
        image: path of a file, a PIL image, or uint8 pixels [height, width] or [height, width, channels]
            of 1 or 3 channels. A hash function of gray images takes colors only if they are gray.
        form: form of the inputs.

    Raises:
        UserError: if it cannot be read, or is of another kind or size, or of more channels.

    Example:
        >>> form = InputForm("images", (2, 2, 1), "uint8", 0.0, 255.0, 100.0)
        >>> prepare_image(Image.new("RGB", (2, 2), "gray"), form)[..., 0]
        array([[128, 128],
               [128, 128]], dtype=uint8)
    """
    if form.kind != "images":
        raise UserError(f"the hash function takes {describe_form(form)}, not images")
    if isinstance(image, str | Path):
        decoded = try_read_image(Path(image), resized_to(form))
        if isinstance(decoded, str):
            raise UserError(f"{image}: {decoded}")
        return _fit(decoded.pixels, form, f"{image}: ")
    if isinstance(image, Image.Image):
        return _fit(_decode(image, form).pixels, form)
    pixels = _as_pixels(image)
    if pixels.shape[:2] != form.shape[:2] and resized_to(form) is not None:
        image = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())
        pixels = decode_image(image, resized_to(form)).pixels
    return _fit(pixels, form)


def resized_to(form: InputForm) -> Resize | None:
    """Returns how images of any size are brought to the one that fits; None if they are not."""
    return form.resize if form.shape == (form.image_size, form.image_size, 3) else None


def prepare_vectors(vectors: Any, form: InputForm) -> Float32[np.ndarray, "n dimensions"]:
    """Returns vectors as a hash function takes them: float32, and not scaled.

    Args:
        vectors: an array of floats [n, dimensions], or a list of vectors.
        form: form of the inputs.

    Raises:
        UserError: if they are of another kind or size.

    Example:
        >>> form = InputForm("vectors", (2,), "float32", -1.0, 1.0, 1.0, 1.0)
        >>> prepare_vectors([[0.5, -1.0]], form)
        array([[ 0.5, -1. ]], dtype=float32)
    """
    if form.kind != "vectors":
        raise UserError(f"the hash function takes {describe_form(form)}, not vectors")
    takes = f"the hash function takes {describe_form(form)}"
    if isinstance(vectors, list | tuple) and not vectors:
        return np.zeros((0, *form.shape), np.float32)
    try:
        array = np.asarray(vectors)
    except (ValueError, TypeError) as error:
        raise UserError(f"{takes}, and these are no array: {first_line(error)}") from error
    if array.dtype.kind in "OSUV" and array.dtype != jnp.bfloat16:
        found = type(vectors[0]).__name__ if isinstance(vectors, list | tuple) else array.dtype
        raise UserError(f"{takes} as arrays, not {found}; numpy.load reads a file of them")
    if array.ndim == 1 and array.shape == form.shape:
        raise UserError(f"{takes} [n, {form.shape[0]}]: put the single one in brackets")
    if array.ndim != 2 or array.shape[1:] != form.shape:
        raise UserError(f"{takes}, and these are of shape {array.shape}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise UserError(
            f"{takes} of floats, and these are {array.dtype}: convert them, by their scale if they have one"
        )
    if form.words is not None and (array < 0).any():
        raise UserError(f"{takes}, and the least of these is {array.min():g}")
    with np.errstate(over="ignore"):  # `Hasher.encode` refuses what becomes infinite
        return array.astype(np.float32, copy=False)


def _decode(image: Image.Image, form: InputForm) -> Decoded:
    """Decodes a PIL image and leaves it as it is."""
    file = getattr(image, "fp", None)
    try:
        if getattr(image, "tile", None) and file is not None and image.tell() == 0:  # not read yet
            place = file.tell()
            file.seek(0)
            content = io.BytesIO(file.read())
            file.seek(place)
            with Image.open(content, formats=[image.format]) as same:
                return decode_image(same, resized_to(form))
        return decode_image(image.copy(), resized_to(form))
    except Exception as error:  # the decoders raise many types for broken files
        raise UserError(f"the image cannot be read: {first_line(error)}") from error


def _as_pixels(image: Any) -> UInt8[np.ndarray, "height width channels"]:
    """Returns pixels with an axis of channels."""
    takes = "an image must be a file, a PIL image, or uint8 pixels [height, width, 1 or 3 channels]"
    if not hasattr(image, "shape") or not hasattr(image, "dtype"):
        raise UserError(f"{takes}, got {type(image).__name__}")
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise UserError(f"{takes}, got {image.dtype} of shape {tuple(image.shape)}")
    if not pixels.size:
        raise UserError(f"{takes}, got none: shape {tuple(image.shape)}")
    return pixels


def _fit(
    pixels: UInt8[np.ndarray, "h w c"], form: InputForm, where: str = ""
) -> UInt8[np.ndarray, "height width channels"]:
    """Returns pixels with the channels of the form.

    Args:
        pixels: pixels of 1 or 3 channels.
        form: form of the inputs.
        where: beginning of the message if they do not fit.
    """
    takes = f"{where}the hash function takes {describe_form(form)}"
    height, width, channels = pixels.shape
    if (height, width) != form.shape[:2]:
        raise UserError(f"{takes}, and this is {height} x {width}")
    if channels == form.shape[2]:
        return pixels
    if form.shape[2] == 3:
        return np.repeat(pixels, 3, axis=2)
    if form.shape[2] != 1 or not (pixels == pixels[..., :1]).all():
        raise UserError(f"{takes}, and this has colors; convert it first")
    return np.ascontiguousarray(pixels[..., :1])


def describe_form(form: InputForm) -> str:
    """Returns what a hash function takes, in words."""
    if form.words is not None:
        return f"counts of {form.shape[0]:,} words"
    if form.kind == "vectors":
        return f"vectors of {form.shape[0]} dimensions"
    if resized_to(form) is not None:
        return "images of any size"
    height, width, channels = form.shape
    of_channels = {1: "gray images", 3: "color images"}
    what = of_channels.get(channels, f"images of {channels} channels")
    return f"{what} of {height} x {width} pixels"
