"""Runs the application on an address of this machine."""

import contextlib
import errno
import fcntl
import logging
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from jaxhash.utils.errors import UserError

#: Connections that are open at once; more are answered by 503.
MAX_CONNECTIONS = 4096

#: Files that are open beside the connections: of the index, of images, of libraries.
_OTHER_FILES = 1024


@contextlib.contextmanager
def open_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Opens a socket that listens to an address, and closes it at the end.

    Args:
        host: name or address of this machine.
        port: the port; 0 takes a free one.

    Raises:
        UserError: if the port is taken or may not be used, or the host is not this machine.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"`port` must be from 0 to 65,535, got {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserError(f"`host={host}` is no address of this machine ({error})") from None
    with opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
            opened.listen(2048)
        except OSError as error:
            raise UserError(_describe(error, host, port)) from None
        yield opened


def run_server(app: Starlette, opened: socket.socket) -> None:
    """Answers requests until the process is interrupted.

    Args:
        app: the application.
        opened: the socket that listens.
    """
    _allow_files(MAX_CONNECTIONS + _OTHER_FILES)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[opened])


def url_of(opened: socket.socket) -> str:
    """Returns the address at which a socket is reached; one of all addresses, by this machine's name."""
    host, port = opened.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_being_written(folder: Path) -> bool:
    """Returns whether another process is writing into an index; changes nothing."""
    try:
        file = os.open(folder / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks here
    finally:
        os.close(file)
    return False


def _describe(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"`port={port}` is in use; name another one, or 0 for a free one"
    if error.errno == errno.EACCES:
        return f"`port={port}` may not be used here; name one from 1,024 on, or 0 for a free one"
    return f"`host={host}` is no address of this machine ({error.strerror})"


def _allow_files(files: int) -> None:
    """Raises the number of files that this process may have open, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        files = min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
