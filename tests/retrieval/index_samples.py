"""Small indexes with a made-up hash function, and what is compared of them."""

from typing import NamedTuple

import numpy as np

from jaxhash.retrieval.index import Index


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


def make_index(folder, keep=None):
    return Index.create(folder, MadeHasher(), root=folder.parent, keep=keep)


def fill(index):
    """Adds three shards: two with labels, and one with a broken file; ids 0 to 8."""
    for seed, labels in enumerate(["aba", "bca", "..."]):
        items = [Item(f"{seed}/{row}.png", label=label) for row, label in enumerate(labels)]
        broken = [(Item("bad.png", 0), "it is empty")] if seed == 2 else ()
        vectors = np.arange(6.0).reshape(3, 2) + 10 * seed if index.keep else None
        index.add(codes_of(3, seed), items, digests_of(3), broken=broken, vectors=vectors)
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
