"""The server as a process: its port, its end, and clients that send too much or too slowly."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from index_samples import Item, linear_hasher
from served_samples import make_hasher, serving

from jaxhash.retrieval.index import Index
from jaxhash.serve import uploads
from jaxhash.serve.server import is_being_written, open_socket, url_of
from jaxhash.utils.errors import UserError

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("made") / "index", linear_hasher(), root=None)
    index.add(np.array([[255, 240]], np.uint8), [Item("v#0", 4, 0)], [""])
    return index.folder


@contextlib.contextmanager
def started(*words):
    """Starts ``jaxhash serve``; yields the process and what it printed up to its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxhash", "serve", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        lines = []
        while not lines or "http" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        yield process, lines
    finally:
        process.kill()
        process.communicate()


def test_a_free_port_is_printed_and_ctrl_c_ends_it_with_a_line(folder):
    names = sorted(os.listdir(folder))
    with started(folder, "--port", "0") as (process, lines):
        assert "1 items of 12 bits" in lines[0]
        url = re.search(r"http://127\.0\.0\.1:\d+/", lines[-1])[0]
        assert httpx.get(url + "search?id=0", timeout=60).json()["total"] == 1
        taken = url.rpartition(":")[2].strip("/")
        second = subprocess.run(
            [sys.executable, "-m", "jaxhash", "serve", folder, "--port", taken],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert second.returncode == 2 and second.stdout == ""
        assert f"--port {taken}" in second.stderr and second.stderr.count("\n") == 1
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, "")
        assert error.startswith("jaxhash: ") and error.count("\n") == 1
    assert sorted(os.listdir(folder)) == names


def test_a_port_in_use(folder, refusal):
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}" in refusal("serve", str(folder), "--port", f"{port}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the folder"),
        (("nothing",), "nothing: there is no such folder"),
        (("FOLDER", "--port", "65536"), "--port must be from 0 to 65,535"),
        (("FOLDER", "--port", "-1"), "--port"),
        (("FOLDER", "--port", "x"), "--port"),
        (("FOLDER", "--host", "no.such.host.invalid"), "--host no.such.host.invalid"),
        (("FOLDER", "--host", "192.0.2.1", "--port", "0"), "--host 192.0.2.1"),
        (("FOLDER", "--host", ""), "--host"),
        (("FOLDER", "--max-upload-mb", "0"), "--max-upload-mb"),
    ],
)
def test_mistakes(folder, refusal, monkeypatch, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refusal("serve", *(str(folder) if word == "FOLDER" else word for word in words))


@pytest.mark.parametrize("name", ["starlette", "uvicorn"])
def test_an_extra_that_is_not_installed_is_named(folder, refusal, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    line = refusal("serve", str(folder))
    assert name in line and 'pip install "jaxhash[serve]"' in line


def test_an_index_that_is_being_written(folder):
    index = Index.open(folder)
    assert not is_being_written(folder)
    with index.writing():
        assert is_being_written(folder)
    assert not is_being_written(folder) and not is_being_written(folder.parent)


def test_addresses(monkeypatch):
    with open_socket("localhost", 0) as opened:
        assert re.fullmatch(r"http://(127\.0\.0\.1|\[::1\]):\d+/", url_of(opened))
    with open_socket("0.0.0.0", 0) as opened:
        assert url_of(opened) == f"http://{socket.gethostname()}:{opened.getsockname()[1]}/"
    with pytest.raises(UserError, match="`port`"):
        open_socket("127.0.0.1", -1).__enter__()

    def bind(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(UserError, match="`port=80`"):
        open_socket("127.0.0.1", 80).__enter__()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A server in a thread, over an index of one image, that takes 100,000 bytes."""
    index = Index.create(
        tmp_path_factory.mktemp("made") / "index", make_hasher("images"), root=None
    )
    index.add(np.array([[255, 240]], np.uint8), [Item("v#0", 4, 0)], [""])
    with serving(index.folder, max_upload_bytes=100_000) as url:
        yield url


def test_uploads_that_are_too_large_are_told_so(url):
    """Declared and in chunks; the client sends all of it before it looks at the answer."""
    content = bytes(30_000_000)
    chunks = (content[start : start + 65536] for start in range(0, len(content), 65536))
    for body in (content, chunks):
        answer = httpx.post(url + "search", content=body, headers=PNG, timeout=60)
        assert answer.status_code == 413 and "100,000 bytes" in answer.json()["error"]
    assert httpx.get(url + "health", timeout=60).status_code == 200


def talk(url, content, seconds=10):
    """Sends bytes and returns what comes back."""
    host, port = re.search(r"//(.*):(\d+)/", url).groups()
    with socket.create_connection((host, int(port)), timeout=seconds) as opened:
        opened.sendall(content)
        return opened.recv(10_000)


POST = b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"


def test_uploads_that_are_too_slow_or_end_early_hold_nobody_up(url, monkeypatch):
    httpx.post(url + "search", content=b"x", headers=PNG, timeout=60)  # it is loaded
    monkeypatch.setattr(uploads, "SECONDS", 0.2)
    monkeypatch.setattr(uploads, "_DRAIN_SECONDS", 0.2)
    begun = time.monotonic()
    for _ in range(6):  # more than are read at once
        assert talk(url, POST + b"Content-Length: 5000\r\n\r\nabc").startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begun < 60
    host, port = re.search(r"//(.*):(\d+)/", url).groups()
    for _ in range(6):
        with socket.create_connection((host, int(port))) as opened:
            opened.sendall(POST + b"Content-Length: 5000\r\n\r\nabc")
    answer = httpx.post(url + "search", content=b"x", headers=PNG, timeout=60)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /items/0 HTTP/1.0\r\n\r\n",
        b"GET http://evil.example/items/0 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /items/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        POST + b"Content-Length: 5, 6\r\n\r\nabcde",
        POST + b"Content-Length: -5\r\n\r\nabcde",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabcde",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=range(9),
)
def test_requests_that_are_none(url, content):
    with contextlib.suppress(ConnectionError):
        assert talk(url, content)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 404", b"")
    assert httpx.get(url + "health", timeout=60).status_code == 200
