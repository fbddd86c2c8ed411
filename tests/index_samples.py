"""Small indexes with a made-up hash function, and what is compared of them."""

import itertools
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxhash.data.input_form import InputForm
from jaxhash.data.writers.thumbnails import encode_thumbnail
from jaxhash.models import Encoder, backbone_factory
from jaxhash.retrieval.hasher import Hasher
from jaxhash.retrieval.index import Index, Source
from jaxhash.training.digests import file_digest


class Item(NamedTuple):
    path: str
    size: int | None = 10
    mtime_ns: int | None = 1_700_000_000_123_456_789
    label: str | None = None


class MadeHasher:
    """What an index needs of a hash function."""

    bits, digest, check_code = 12, "ab" * 32, "fff0"

    def save(self, folder):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")


def codes_of(count, seed=0):
    codes = np.random.default_rng(seed).integers(0, 256, (count, 2), np.uint8)
    codes[:, 1] &= 0xF0
    return codes


def digests_of(count):
    return [f"{row:032x}" for row in range(count)]


def thumbnails_of(count, seed=0):
    """Bytes of small images, each of one gray."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 1, 1, 1), np.uint8)
    return [encode_thumbnail(each) for each in np.tile(pixels, (1, 8, 9, 1))]


def make_index(folder, keep=None, thumbnails=None):
    return Index.create(folder, MadeHasher(), root=folder.parent, keep=keep, thumbnails=thumbnails)


def fill(index):
    """Adds three shards: two with labels, and one with a broken file; ids 0 to 8."""
    for seed, labels in enumerate(["aba", "bca", "..."]):
        items = [Item(f"{seed}/{row}.png", label=label) for row, label in enumerate(labels)]
        broken = [(Item("bad.png", 0), "it is empty")] if seed == 2 else ()
        vectors = np.arange(6.0).reshape(3, 2) + 10 * seed if index.keep else None
        thumbnails = thumbnails_of(3, seed) if index.thumbnail_side else ()
        index.add(
            *(codes_of(3, seed), items, digests_of(3)),
            broken=broken,
            vectors=vectors,
            thumbnails=thumbnails,
        )
    return index


def everything(index):
    """Every live item and its code, as blocks and items tell it."""
    found = []
    for ids, codes in index.blocks():
        assert ids.dtype == np.int64 and codes.dtype == np.uint8 and len(ids) == len(codes)
        items = index.items(ids)
        assert [item.id for item in items] == ids.tolist()
        found += [(item, code.tobytes()) for item, code in zip(items, codes, strict=True)]
    assert len(found) == len(index)
    return found


def linear_hasher(seed=0):
    """A hash function of vectors of 4 dimensions, 12 bits."""
    model = Encoder(backbone_factory("linear"), 12)
    variables = model.init(jax.random.key(seed), np.zeros((1, 4), np.float32))
    form = InputForm("vectors", (4,), "float32", -1.0, 1.0, 1.0, 1.0)
    return Hasher(model, jax.device_get(variables), form)


def make_files(folder):
    """Makes files below ``root`` and their index: ids 0 to 5, and an item that is a row, id 6."""
    index = Index.create(
        folder / "index", linear_hasher(), root=folder / "root", keep={"floats": "float32"}
    )
    for shard in (0, 1):
        paths = [folder / "root" / f"{shard}" / f"{row}.png" for row in range(3)]
        items, digests = [], []
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{shard} {path.name}")
            size, digest = file_digest(path)
            items.append(Item(f"{shard}/{path.name}", size, path.stat().st_mtime_ns, "ab"[shard]))
            digests.append(digest)
        broken = [(Item("bad.png", 0), "it is empty")]
        index.add(codes_of(3), items, digests, broken=broken, vectors=np.ones((3, 12), np.float32))
    path = folder / "root" / "x.npy"
    path.write_text("an array")
    source = Source("x.npy", file_digest(path)[1], 0, 1)
    items, vectors = [Item("x.npy#0", 4, 0)], np.ones((1, 12))
    index.add(codes_of(1), items, digests_of(1), vectors=vectors, source=source)
    return index


def killed_after(count, monkeypatch, change):
    """Runs a change that is killed before write number ``count`` takes its name; returns if it was."""

    class Killed(BaseException):
        pass

    replace, written = Path.replace, itertools.count()

    def or_die(path, target):
        if next(written) == count:
            raise Killed
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", or_die)
        try:
            change()
        except Killed:
            return True
    return False
