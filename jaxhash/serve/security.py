"""Who may ask, and what a browser may do with the answers.

A page of another site can make a browser send requests to this machine. It can read none of the answers,
as there is no CORS; it can post none, as the origin is checked; and it cannot bring its own name to point
here (DNS rebinding), as the name in Host must be one of this machine or an address.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxhash.serve.errors import error_response

#: Headers of every answer.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

#: A name or an address, an IPv6 address in brackets, and perhaps a port.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::\d*)?")


class SecurityMiddleware:
    """Refuses requests to other hosts and posts from other origins; adds `HEADERS` to every answer.

    Args:
        app: the application.
        hosts: names of this machine, beside addresses, ``localhost`` and its own name.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()):
        self._app = app
        self._hosts = {"localhost", socket.gethostname().lower(), *(each.lower() for each in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        host = headers.get("host", "")
        answer = None
        if not self._is_ours(host):
            answer = error_response(400, f"this server is not {host!r}: ask for it by its address")
        elif scope["method"] not in ("GET", "HEAD") and _is_cross_origin(headers, host):
            answer = error_response(403, "a page of another origin may not send this")
        await (answer or self._app)(scope, receive, send_with_headers)

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        return name in self._hosts or _is_address(name)


def _is_address(name: str) -> bool:
    """Returns whether a host is an IP address, which no other machine's name server has a say in."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_cross_origin(headers: Headers, host: str) -> bool:
    """Returns whether a browser says that the page that sends a request is of another origin."""
    origin = headers.get("origin")
    if origin is not None:
        return origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower())
    return headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
