"""A thousand requests at once: none is lost, memory is held, and nothing on disk changes."""

import asyncio
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from search_oracle import all_distances
from served_samples import make_hasher, make_images, make_served

from jaxhash.data.inputs.prepare import prepare_image

REQUESTS = 1000
KINDS = ("search", "code", "thumbnail", "image", "items", "upload")
#: How far the memory may rise above that after one request of each kind, while 500 MB are uploaded at once.
MAX_RISE_MB = 150


def _files(folder):
    """Returns content, size and time of every file."""
    return {
        str(path.relative_to(folder)): (hashlib.md5(path.read_bytes()).digest(), path.stat()[6:9:2])
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _memory_mb(process):
    """Returns the memory in use now and at most so far, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return [int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ("VmRSS", "VmHWM")]


def _large_images(count, side=1000):
    """Returns images as bytes of about 3 MB."""
    found = []
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        found.append(file.getvalue())
    return found


async def _ask_all(url, kinds, numbers, uploads):
    """Sends requests at once; returns their kinds, numbers and answers."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=300) as client:

        def ask(kind, number):
            if kind == "upload":
                content = uploads[number % len(uploads)]
                return client.post("search", content=content, headers={"Content-Type": "image/png"})
            path = {
                "search": f"search?id={number}",
                "code": f"search?code={number:04x}",
                "thumbnail": f"items/{number}/thumbnail",
                "image": f"items/{number}/image",
                "items": f"items?offset={number}&limit=9",
            }[kind]
            return client.get(path)

        answers = await asyncio.gather(*map(ask, kinds, numbers))
    return list(zip(kinds, numbers, answers, strict=True))


def _check(index, found, upload_codes):
    """Every answer is right: rankings as by NumPy, images as JPEG, items by their ids."""
    [(ids, codes)] = index.blocks()
    for kind, number, answer in found:
        assert answer.status_code == 200, (kind, answer.text[:200])
        if kind in ("thumbnail", "image"):
            assert Image.open(io.BytesIO(answer.content)).size == (64, 64)
        elif kind == "items":
            expected = list(range(number, min(75, number + 9)))
            assert [item["id"] for item in answer.json()["items"]] == expected
        else:
            code = {
                "search": codes[number],
                "code": np.array(divmod(number, 256), np.uint8),
                "upload": upload_codes[number % len(upload_codes)],
            }[kind]
            distances = all_distances(code[None], codes)[0]
            rows = np.argsort(distances, kind="stable")[:60]
            results = answer.json()["results"]
            assert [each["id"] for each in results] == ids[rows].tolist()
            assert [each["distance"] for each in results] == distances[rows].tolist()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_thousand_requests_at_once(tmp_path):
    make_images(tmp_path / "images")
    index = make_served(tmp_path / "index", tmp_path / "images", "images")
    uploads = _large_images(8)
    form = make_hasher("images").form
    prepared = [prepare_image(Image.open(io.BytesIO(each)), form) for each in uploads]
    upload_codes = make_hasher("images").encode(np.stack(prepared))
    before = _files(tmp_path)
    command = [sys.executable, "-m", "jaxhash", "serve", str(index.folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            url = next(filter(None, (re.search(r"http://\S+", line) for line in process.stdout)))[0]
            memory = []
            for requests in (len(KINDS), REQUESTS, REQUESTS):
                kinds = [KINDS[row % len(KINDS)] for row in range(requests)]
                numbers = np.random.default_rng(requests).integers(0, 75, requests).tolist()
                found = asyncio.run(_ask_all(url, kinds, numbers, uploads))
                _check(index, found, upload_codes)
                memory.append((requests, *_memory_mb(process)))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    for requests, now, most in memory:
        print(f"{requests:,} requests at once: then {now:.0f} MiB, at most {most:.0f} MiB")
    assert _files(tmp_path) == before
    assert memory[-1][-1] < memory[0][-1] + MAX_RISE_MB
