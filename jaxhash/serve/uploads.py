"""Reads an upload: within limits of bytes, pixels and time, which are checked before it is decoded."""

import asyncio
import contextlib
import io
import json
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from starlette.requests import ClientDisconnect, Request

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs.prepare import describe_form, prepare_image
from jaxhash.serve.errors import RequestError
from jaxhash.serve.images import open_image
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import is_number

#: Seconds within which an upload must have come.
SECONDS = 60.0

#: Seconds for which the rest of an upload that is refused is read and thrown away: a browser shows
#: the answer only after it has sent all.
_DRAIN_SECONDS = 10.0

#: Bytes of JSON for a number of a vector, and beside the vector.
_NUMBER_BYTES, _JSON_BYTES = 32, 1024


async def read_body(request: Request, max_bytes: int) -> io.BytesIO:
    """Returns the body of a request.

    Args:
        request: the request.
        max_bytes: most bytes that it may have.

    Raises:
        RequestError: 400 if it is empty or ends early, 408 if it is too slow, 413 if it has more bytes.
    """
    content = io.BytesIO()
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                if content.tell() + len(chunk) > max_bytes:
                    raise too_many_bytes(max_bytes)
                content.write(chunk)
    except TimeoutError:
        raise RequestError(408, f"the upload took more than {SECONDS:.0f} seconds") from None
    except ClientDisconnect:
        raise RequestError(400, "the upload ended early") from None
    if not content.tell():
        raise RequestError(400, "the body is empty; it must be the bytes of an image")
    content.seek(0)
    return content


def check_length(request: Request, max_bytes: int) -> None:
    """Raises a `RequestError`, 413, if a request declares a body of more bytes."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 18 or int(declared) > max_bytes:
        raise too_many_bytes(max_bytes)


async def drain(request: Request) -> None:
    """Reads the rest of a body, for a while, and throws it away."""
    if "expect" in request.headers:  # the client waits for the answer before it sends anything
        return
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in request.stream():
                pass


def too_many_bytes(max_bytes: int) -> RequestError:
    """Returns the error of a body that is too large."""
    return RequestError(413, f"the body has more than {max_bytes:,} bytes, the most allowed")


def content_kind(request: Request) -> str:
    """Returns what a body is by its content type: ``image`` or ``json``.

    Raises:
        RequestError: 415 if it is something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return "json"
    if kind.startswith("image/") or kind == "application/octet-stream":
        return "image"
    raise RequestError(
        415,
        "the body must be an image with Content-Type image/* or application/octet-stream, or "
        f"JSON with application/json, got {kind or 'no Content-Type'}",
    )


def most_bytes(kind: str, form: InputForm, max_bytes: int) -> int:
    """Returns the most bytes of a body.

    Args:
        kind: ``image`` or ``json``.
        form: what the hash function takes.
        max_bytes: most bytes of an image.

    Raises:
        RequestError: 415 if the hash function takes another kind.
    """
    if (kind == "image") != (form.kind == "images"):
        content = {"images": "an image", "vectors": 'JSON, {"vector": [...]}'}[form.kind]
        raise RequestError(415, f"the index takes {describe_form(form)}: send {content}")
    return max_bytes if kind == "image" else _JSON_BYTES + _NUMBER_BYTES * form.shape[0]


def prepare_upload(
    content: io.BytesIO, form: InputForm, max_pixels: int
) -> UInt8[np.ndarray, "1 h w c"] | Float32[np.ndarray, "1 d"]:
    """Returns the bytes of an image, or JSON with a vector, as the hash function takes them.

    Args:
        content: the bytes.
        form: what the hash function takes.
        max_pixels: most pixels that an image may have.

    Raises:
        RequestError: 400 if they are something else, 413 if the image has more pixels.
    """
    if form.kind == "vectors":
        return _read_vector(content.getvalue(), form.shape[0])[None]
    with open_image(content, max_pixels) as image:
        try:
            return prepare_image(image, form)[None]
        except UserError as error:
            raise RequestError(400, f"{error}") from error


def _read_vector(content: bytes, dimensions: int) -> Float32[np.ndarray, " d"]:
    """Reads ``{"vector": [...]}``."""
    takes = f'the body must be {{"vector": [...]}} with {dimensions:,} numbers'
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise RequestError(400, f"{takes}, and this is no JSON") from None
    vector = found.get("vector") if isinstance(found, dict) and len(found) == 1 else None
    if not isinstance(vector, list) or not all(map(is_number, vector)):
        raise RequestError(400, takes)
    if len(vector) != dimensions:
        raise RequestError(400, f"{takes}, got {len(vector):,}")
    with np.errstate(over="ignore"):  # the hash function refuses what becomes infinite
        return np.asarray(vector, np.float64).astype(np.float32)
