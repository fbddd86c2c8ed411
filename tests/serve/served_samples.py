"""Indexes of images with hostile names, and of vectors, and a server over them in a thread."""

import contextlib
import threading

import jax
import numpy as np
import uvicorn
from PIL import Image
from rich.console import Console

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs import open_inputs
from jaxhash.models import Encoder, backbone_factory, preprocessing_of
from jaxhash.retrieval.encode_index import encode_into
from jaxhash.retrieval.hasher import Hasher
from jaxhash.retrieval.index import Index
from jaxhash.serve.app import make_app
from jaxhash.serve.server import open_socket, url_of

NAMES = [
    "<img src=x onerror=alert(1)>.png",
    "\"quotes\" & 'more' &amp;.png",
    "new\nline.png",
    "\u202egnp.exe.png",
    "日本語 עברית.png",
    "#id=3&label=x?%2e%2e.png",
    "x" * 200 + ".png",
]
LABELS = ['<b onclick="alert(2)">', "ö & 'ü'", "plain"]


def make_hasher(kind):
    """Returns a hash function of 16 random hyperplanes, of images of 4 x 4 pixels or 5 numbers."""
    shape, dtype = ((4, 4, 3), "uint8") if kind == "images" else ((5,), "float32")
    model = Encoder(backbone_factory("linear"), 16)
    variables = jax.device_get(model.init(jax.random.key(0), np.zeros((1, *shape), dtype)))
    if kind == "vectors":
        return Hasher(model, variables, InputForm(kind, shape, dtype, -3.0, 3.0, 1.0, 0.5))
    preprocessing = dict(preprocessing_of(model))
    form = InputForm(kind, shape, dtype, 0.0, 255.0, 100.0, None, 4, preprocessing)
    return Hasher(model, variables, form)


def make_images(folder):
    """Makes 75 images in folders that are their labels, 7 of hostile names."""
    rng = np.random.default_rng(0)
    names = NAMES + [f"{row}.png" for row in range(75 - len(NAMES))]
    for row, name in enumerate(names):
        path = folder / LABELS[row % 3] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        Image.fromarray(pixels).save(path)


def make_served(folder, inputs, kind):
    hasher = make_hasher(kind)
    root, opened = open_inputs([inputs], hasher.form)
    index = Index.create(folder, hasher, root=root)
    encode_into(index, opened, Console(quiet=True))
    return index


@contextlib.contextmanager
def serving(folder, **options):
    """Serves an index in a thread, and yields its address."""
    with open_socket("127.0.0.1", 0) as opened:
        config = uvicorn.Config(make_app(folder, **options), log_level="error", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield url_of(opened)
        finally:
            server.should_exit = True
            thread.join()
