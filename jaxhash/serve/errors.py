"""Answers of the API that are errors: JSON with one line."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from jaxhash.utils.errors import printable


class RequestError(Exception):
    """An error of a request, or of the moment that it came at.

    Attributes:
        status: status of HTTP.
        headers: headers of the answer.

    Args:
        status: status of HTTP.
        message: one line that says what is wrong and what is allowed.
        headers: headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, headers


def error_response(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Returns the answer to a request that failed: ``{"error": message}``."""
    return JSONResponse({"error": printable(message)}, status, headers)
