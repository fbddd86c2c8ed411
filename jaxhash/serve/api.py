"""The routes of the JSON API over an index.

    GET  /health                 what is served
    GET  /labels                 the labels, most items first
    GET  /items                  items in order of id; offset, limit, label
    GET  /items/ID               an item; /thumbnail and /image are JPEGs of it
    GET  /search                 the ranking of an item (id) or of a code (code); label, offset, limit
    POST /search                 the ranking of an image, or of a vector; label, limit

A ranking belongs to a code, a label and a state of the index, and holds at most `MAX_RANKED` items: its
pages are not searched again. Answers that are errors hold one line, ``{"error": ...}``.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int, UInt8
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jaxhash import __version__
from jaxhash.data.writers.thumbnails import THUMBNAIL_SIDE
from jaxhash.retrieval.index import IndexItem, MissingItem
from jaxhash.serve import uploads
from jaxhash.serve.cache import ByteCache
from jaxhash.serve.encoder import EncoderService
from jaxhash.serve.errors import RequestError
from jaxhash.serve.images import has_image, image_file, scaled_jpeg
from jaxhash.serve.parameters import Parameters, parse_number
from jaxhash.serve.served_index import ServedIndex, View
from jaxhash.utils.hardware import cores_used

T = TypeVar("T")

#: Items of a page if the request does not say, and at most.
PAGE, MAX_PAGE = 60, 1000

#: Labels that are listed.
MAX_LABELS = 10_000

#: Longest side of an image in pixels.
IMAGE_SIDE = 1024

#: Uploads whose bytes are in memory at once, and images that are decoded at once.
_UPLOADS, _DECODERS = 4, 2

#: Bytes of the JPEGs that are kept.
_JPEG_BYTES = 2**26


class Api:
    """The JSON API over an index.

    Args:
        folder: folder of the index.
        max_upload_bytes: most bytes of an upload.
        max_pixels: most pixels of an image that is decoded.

    Raises:
        UserError: if the folder is no index.
    """

    def __init__(self, folder: Path, *, max_upload_bytes: int, max_pixels: int):
        self._served = ServedIndex(folder)
        self._encoder = EncoderService(self._served.view.index)
        self._max_bytes, self._max_pixels = max_upload_bytes, max_pixels
        self._readers = ThreadPoolExecutor(max(2, cores_used() or 1), "reader")
        self._decoders = ThreadPoolExecutor(_DECODERS, "decoder")
        self._uploads = asyncio.Semaphore(_UPLOADS)
        self._jpegs = ByteCache[bytes | None](_JPEG_BYTES, lambda jpeg: len(jpeg or b"") + 500)

    def routes(self) -> list[Route]:
        """Returns the routes."""
        return [
            Route("/health", self.health),
            Route("/labels", self.labels),
            Route("/items", self.items),
            Route("/items/{id}", self.item),
            Route("/items/{id}/thumbnail", self.thumbnail),
            Route("/items/{id}/image", self.image),
            Route("/search", self.search, methods=["GET"]),
            Route("/search", self.search_upload, methods=["POST"]),
        ]

    def close(self) -> None:
        """Ends the threads."""
        self._encoder.close()
        for pool in (self._readers, self._decoders):
            pool.shutdown(wait=False, cancel_futures=True)

    # Routes

    async def health(self, request: Request) -> Response:
        """Answers what is served, and whether the hash function is loaded."""
        Parameters(request)
        view = await self._read(lambda view: view)
        index = view.index
        return JSONResponse(
            {
                "status": "ok",
                "name": index.folder.resolve().name,
                "items": len(index),
                "bits": index.bits,
                "digest": index.digest,
                "version": __version__,
                "takes": view.takes,
                "root": index.root is not None and index.root.is_dir(),
                "ready": self._encoder.is_ready,
            }
        )

    async def labels(self, request: Request) -> Response:
        """Answers the labels and their numbers of items, most first; at most `MAX_LABELS`."""
        Parameters(request)
        counts = list((await self._read(View.labels)).items())[:MAX_LABELS]
        return JSONResponse([{"label": label, "items": items} for label, items in counts])

    async def items(self, request: Request) -> Response:
        """Answers items in order of id."""
        parameters = Parameters(request, "offset", "limit", "label")
        label, (offset, limit) = parameters.text("label"), _page(parameters)

        def read(view: View) -> dict[str, Any]:
            total = _count(view, label)
            ids = view.page(label, offset, limit)
            return {"total": total, "offset": offset, "items": _describe(view, ids)}

        return JSONResponse(await self._read(read))

    async def item(self, request: Request) -> Response:
        """Answers one item."""
        Parameters(request)
        id = _id(request.path_params["id"])
        [item] = await self._read(lambda view: _describe(view, np.array([id])))
        return JSONResponse(item)

    async def thumbnail(self, request: Request) -> Response:
        """Answers a small JPEG of an item."""
        return await self._jpeg(request, THUMBNAIL_SIDE)

    async def image(self, request: Request) -> Response:
        """Answers a JPEG of an item at a size to look at."""
        return await self._jpeg(request, IMAGE_SIDE)

    async def search(self, request: Request) -> Response:
        """Answers the items that are nearest to an item or a code."""
        parameters = Parameters(request, "id", "code", "label", "offset", "limit")
        id, code = parameters.text("id"), parameters.text("code")
        if (id is None) == (code is None):
            raise RequestError(400, "name either an id or a code to search by")
        page = _page(parameters)

        def read(view: View) -> dict[str, Any]:
            packed = _parse_code(code, view) if id is None else view.index.codes([_id(id, 400)])[0]
            return _search(view, packed, parameters.text("label"), *page)

        return JSONResponse(await self._read(read))

    async def search_upload(self, request: Request) -> Response:
        """Answers the items that are nearest to an image or a vector."""
        parameters = Parameters(request, "label", "limit")
        label, (offset, limit) = parameters.text("label"), _page(parameters)
        try:
            code = await self._encode_upload(request)
        except RequestError:
            await uploads.drain(request)
            raise
        found = await self._read(lambda view: _search(view, code, label, offset, limit))
        return JSONResponse(found)

    # Parts

    async def _encode_upload(self, request: Request) -> UInt8[np.ndarray, " bytes"]:
        """Returns the code of what is uploaded; its bytes are in memory until it is decoded."""
        kind = uploads.content_kind(request)
        uploads.check_length(request, self._max_bytes)
        hasher = await self._encoder.hasher((await self._read(lambda view: view)).index)
        max_bytes = uploads.most_bytes(kind, hasher.form, self._max_bytes)
        uploads.check_length(request, max_bytes)
        async with self._uploads:
            content = await uploads.read_body(request, max_bytes)
            inputs = await _run(
                self._decoders, uploads.prepare_upload, content, hasher.form, self._max_pixels
            )
        return await self._encoder.encode(hasher, inputs)

    async def _jpeg(self, request: Request, side: int) -> Response:
        """Answers a JPEG of an item; 304 if the browser has it."""
        Parameters(request)
        id = _id(request.path_params["id"])
        view, item = await self._read(lambda view: (view, view.index.items([id])[0]))
        tag = f'"{item.digest or id}-{item.size}-{side}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}  # ask again, as ids are of an index
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        jpeg = await _run(self._decoders, self._make_jpeg, view, item, side)
        if jpeg is None:
            raise RequestError(404, f"there is no image of item {id}")
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    def _make_jpeg(self, view: View, item: IndexItem, side: int) -> bytes | None:
        """Returns a JPEG of an item: its thumbnail in the index, or one of its file."""

        def make() -> bytes | None:
            path = image_file(view.index, item)
            return path and scaled_jpeg(path, side, self._max_pixels)

        [stored] = view.index.thumbnails([item.id])
        if stored is not None and side == THUMBNAIL_SIDE:
            return stored
        return self._jpegs.get((view.number, item.id, side), make) or stored

    async def _read(self, function: Callable[[View], T]) -> T:
        """Returns what a function of the index returns, which is called in a thread."""
        try:
            return await _run(self._readers, self._served.read, function)
        except MissingItem:
            raise RequestError(404, "there is no item of that id") from None


async def _run(pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    """Returns what a function returns, which is called in a thread of a pool."""
    return await asyncio.wrap_future(pool.submit(functools.partial(function, *arguments)))


def _page(parameters: Parameters) -> tuple[int, int]:
    """Returns the offset and the length of the page that a request names."""
    return parameters.number("offset", 0, 0), parameters.number("limit", PAGE, 1, MAX_PAGE)


def _id(text: str, status: int = 404) -> int:
    """Returns an id; raises an error of that status if the text is none."""
    number = parse_number(text)
    if number is None:
        raise RequestError(status, f"there is no item {text[:40]!r}: an id is a whole number")
    return number


def _count(view: View, label: str | None) -> int:
    """Returns the number of items of a label or of all; raises if there is no such label."""
    items = view.count(label)
    if label is not None and not items:
        raise RequestError(404, f"no item has the label {label[:100]!r}")
    return items


def _parse_code(text: str, view: View) -> UInt8[np.ndarray, " bytes"]:
    """Returns a code from hexadecimal digits."""
    bits, size = view.index.bits, view.index.manifest.code_bytes
    message = f"code must be {2 * size} hexadecimal digits, of {bits} bits, got {text[:40]!r}"
    try:
        code = np.frombuffer(bytes.fromhex(text), np.uint8)
    except ValueError:
        raise RequestError(400, message) from None
    if len(text) != 2 * size or np.unpackbits(code)[bits:].any():
        raise RequestError(400, message)
    return code


def _search(
    view: View, code: UInt8[np.ndarray, " bytes"], label: str | None, offset: int, limit: int
) -> dict[str, Any]:
    """Returns a page of the ranking of a code."""
    _count(view, label)
    ranking = view.ranking(code, label)
    page = slice(offset, offset + limit)
    items = _describe(view, ranking.ids[page])
    distances = ranking.distances[page].tolist()
    return {
        "code": code.tobytes().hex(),
        "label": label,
        "offset": offset,
        "total": len(ranking.ids),
        "items_in_all": ranking.items_in_all,
        "ties": ranking.ties and ranking.ties._asdict(),
        "results": [
            {**item, "distance": distance} for item, distance in zip(items, distances, strict=True)
        ],
    }


def _describe(view: View, ids: Int[np.ndarray, " n"]) -> Sequence[dict[str, Any]]:
    """Returns items as the API has them."""
    items, codes = view.index.items(ids), view.index.codes(ids)
    return [
        {
            "id": item.id,
            "path": item.path,
            "label": item.label,
            "code": code.tobytes().hex(),
            "has_image": has_image(view.index, item),
        }
        for item, code in zip(items, codes, strict=True)
    ]
