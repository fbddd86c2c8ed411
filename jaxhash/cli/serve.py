"""``jaxhash serve``: a page and a JSON API over an index."""

import dataclasses
import ipaddress
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxhash.cli.parsing import parse
from jaxhash.retrieval.index import Index
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError

#: Where it is served unless the user says otherwise.
HOST, PORT = "127.0.0.1", 8000


@dataclasses.dataclass(frozen=True)
class ServeArguments:
    """Serve a page to search an index by image, and a JSON API, until Ctrl-C.

    Nothing on disk is changed. What another process adds to the index, or removes, is seen at once.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder of the index."""
    port: int = PORT
    """Port; 0 takes a free one."""
    host: str = HOST
    """Address of this machine to serve at; 0.0.0.0 serves all who reach it, without a password."""
    max_upload_mb: int = 20
    """Largest upload in MiB."""


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash serve``.
        console: where to print.
        command: the whole command line; not used.
    """
    if not arguments:
        raise UserError("name the folder of an index; jaxhash serve --help lists what is allowed")
    parsed = parse(ServeArguments, arguments, prog="jaxhash serve")
    serve(
        parsed.path,
        console,
        host=parsed.host,
        port=parsed.port,
        max_upload_mb=parsed.max_upload_mb,
    )


def serve(
    folder: Path,
    console: Console,
    *,
    host: str = HOST,
    port: int = PORT,
    max_upload_mb: int = ServeArguments.max_upload_mb,
) -> None:
    """Serves an index until the process is interrupted.

    Args:
        folder: folder of the index.
        console: where to print the address.
        host: address of this machine to serve at.
        port: its port; 0 takes a free one.
        max_upload_mb: largest upload in MiB.

    Raises:
        UserError: if the folder is no index, the port is in use, or the extra is not installed.
    """
    if max_upload_mb < 1:
        raise UserError(f"`max_upload_mb` must be at least 1, got {max_upload_mb}")
    _check_installed()
    from jaxhash.serve.app import make_app
    from jaxhash.serve.server import is_being_written, open_socket, run_server, url_of

    index = Index.open(folder, read_only=True)
    with open_socket(host, port) as opened:
        print_line(console, f"{folder}: {len(index):,} items of {index.bits} bits")
        if is_being_written(folder):
            print_line(console, f"{folder} is being written; what is added is seen at once")
        if index.root is not None and not index.root.is_dir():
            print_line(
                console,
                f"the items are to lie in {index.root}, which is not there; name their folder by "
                f"jaxhash index {folder} --root DIR",
            )
        if not _is_loopback(opened.getsockname()[0]):
            print_line(
                console, "whoever reaches this machine can see the items, without a password"
            )
        app = make_app(folder, max_upload_bytes=max_upload_mb * 2**20, hosts=[host])
        print_line(console, f"{url_of(opened)} (Ctrl-C ends it)")
        run_server(app, opened)


def check_serve(*, host: str = HOST, port: int = PORT) -> None:
    """Raises a `UserError` if the extra is not installed, or the port is in use.

    For a command that serves when it is done, so that the user knows before it starts.
    """
    _check_installed()
    from jaxhash.serve.server import open_socket

    with open_socket(host, port):
        pass


def _check_installed() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f'jaxhash serve needs {error.name}, which is not installed: pip install "jaxhash[serve]"'
        ) from None


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
