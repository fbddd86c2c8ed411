"""Makes the application: the page, the API, and what is around both."""

import contextlib
import functools
import importlib.resources
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jaxhash.report.html.page import read_style
from jaxhash.serve.api import Api
from jaxhash.serve.errors import RequestError, error_response
from jaxhash.serve.security import HEADERS, SecurityMiddleware
from jaxhash.utils.errors import UserError

#: Most bytes of an upload, and most pixels of an image that is decoded.
MAX_UPLOAD_BYTES, MAX_PIXELS = 20 * 2**20, 2**26

#: Files of the page: path, name and content type.
_ASSETS = (
    ("/", "page.html", "text/html"),
    ("/page.js", "page.js", "text/javascript"),
    ("/page.css", "page.css", "text/css"),
)


def make_app(
    folder: Path,
    *,
    max_upload_bytes: int = MAX_UPLOAD_BYTES,
    max_pixels: int = MAX_PIXELS,
    hosts: Iterable[str] = (),
) -> Starlette:
    """Makes the application over an index; it changes nothing on disk.

    The hash function is loaded in the background from now on.

    Args:
        folder: folder of the index.
        max_upload_bytes: most bytes of an upload.
        max_pixels: most pixels of an image that is decoded, of an upload or of an item.
        hosts: names under which the server is reached, beside its address, ``localhost`` and the name of
            this machine.

    Raises:
        UserError: if the folder is no index.
    """
    api = Api(folder, max_upload_bytes=max_upload_bytes, max_pixels=max_pixels)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        api.close()

    return Starlette(
        routes=[*map(_asset, *zip(*_ASSETS, strict=True)), *api.routes()],
        middleware=[Middleware(SecurityMiddleware, hosts=tuple(hosts))],
        exception_handlers={
            RequestError: _request_error,
            UserError: _user_error,
            HTTPException: _http_error,
            Exception: _server_error,
        },
        lifespan=lifespan,
    )


@functools.cache
def _read_asset(name: str) -> str:
    text = importlib.resources.files(__package__).joinpath(name).read_text("utf-8")
    return read_style() + text if name.endswith(".css") else text


def _asset(path: str, name: str, media_type: str) -> Route:
    async def answer(request: Request) -> Response:
        content = _read_asset(name)
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return Route(path, answer, name=name)


async def _request_error(request: Request, error: RequestError) -> Response:
    return error_response(error.status, f"{error}", error.headers)


async def _user_error(request: Request, error: UserError) -> Response:
    """Answers that the index cannot be read now, as it is damaged or has gone."""
    return error_response(503, f"{error}")


async def _http_error(request: Request, error: HTTPException) -> Response:
    return error_response(error.status_code, error.detail, error.headers)


async def _server_error(request: Request, error: Exception) -> Response:
    """Answers without the error, which the server's log has."""
    return error_response(500, "the server failed; its log says how", HEADERS)
