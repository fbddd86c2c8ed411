"""Encodes the queries of a search by the hash function of the index."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from rich.console import Console

from jaxhash.data.inputs import Inputs, open_inputs
from jaxhash.data.writers.thumbnails import encode_thumbnail
from jaxhash.retrieval.index import Index
from jaxhash.retrieval.item_images import item_image
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError, printable

if TYPE_CHECKING:  # it loads flax, without which items of the index are searched for
    from jaxhash.retrieval.hasher import Hasher

#: Begins a query that is an item of the index.
ID_PREFIX = "id:"


class Query(NamedTuple):
    """A query as results show it.

    Attributes:
        name: its path below the folder of the queries, ``FILE#ROW``, or ``id:ID``.
        image: its image file, or a small JPEG of it; None if there is none.
    """

    name: str
    image: Path | bytes | None


class EncodedQueries(NamedTuple):
    """The queries of a search, in the order in which they were named.

    Attributes:
        queries: names and files.
        codes: packed codes.
        vectors: what the index keeps beside its codes, of the queries; None unless asked for.
    """

    queries: list[Query]
    codes: UInt8[np.ndarray, "n bytes"]
    vectors: Float[np.ndarray, "n d"] | None


def encode_queries(
    index: Index,
    names: Sequence[str],
    console: Console,
    *,
    hasher: "Hasher | None" = None,
    with_vectors: bool = False,
    with_images: bool = False,
    batch_size: int = 256,
) -> EncodedQueries:
    """Encodes queries by the hash function of an index, or another whose codes compare with its codes.

    Args:
        index: the index.
        names: whatever `jaxhash.data.inputs.open_inputs` opens, and ``id:ID`` for items of the index.
        console: where to show progress, and what was guessed of the inputs.
        hasher: the hash function; that of the index if not given.
        with_vectors: whether to compute the vectors that the index keeps, too.
        with_images: whether to make small images, too, of queries that are rows of images of an array.
        batch_size: number of queries that are read and encoded at a time.

    Raises:
        UserError: if a query cannot be read or is not what the hash function takes, or if the index keeps
            no vectors.
    """
    if with_vectors:
        index.vectors([])  # raises if there are none
        if hasher is not None and "features" in index.keep:
            raise UserError(
                f"{index.folder} keeps features, which do not compare with those of another hash function"
            )
    asked = _Asked(with_vectors, with_images, batch_size)
    found = list(_encode(index, hasher, names, console, asked))
    queries = [query for part in found for query in part.queries]
    codes = np.concatenate([part.codes for part in found])
    vectors = np.concatenate([part.vectors for part in found]) if with_vectors else None
    return EncodedQueries(queries, codes, vectors)


class _Asked(NamedTuple):
    """What is asked of `encode_queries`."""

    with_vectors: bool
    with_images: bool
    batch_size: int


def _encode(
    index: Index,
    hasher: "Hasher | None",
    names: Sequence[str],
    console: Console,
    asked: _Asked,
) -> Iterator[EncodedQueries]:
    for name in names:
        if name.startswith(ID_PREFIX):
            yield _from_index(index, name, asked)
            continue
        hasher = hasher or index.hasher()
        root, opened = open_inputs([name], hasher.form, labels="none")
        for inputs in opened:
            for note in inputs.notes:
                print_line(console, printable(note))
            yield from _encode_inputs(index, hasher, inputs, root, console, asked)


def _from_index(index: Index, name: str, asked: _Asked) -> EncodedQueries:
    """Returns the code of an item of the index as a query."""
    text = name.removeprefix(ID_PREFIX)
    if not text.isdecimal() or int(text) >= 2**63:
        raise UserError(f"{name}: expected the id of an item after {ID_PREFIX}")
    ids = [int(text)]
    [item] = index.items(ids)
    vectors = index.vectors(ids)[1] if asked.with_vectors else None
    return EncodedQueries([Query(name, item_image(index, item))], index.codes(ids), vectors)


def _encode_inputs(
    index: Index,
    hasher: "Hasher",
    inputs: Inputs,
    root: Path,
    console: Console,
    asked: _Asked,
) -> Iterator[EncodedQueries]:
    starts = range(0, len(inputs), asked.batch_size)
    blocks = starts if len(starts) < 2 else track_progress(starts, "encoding", len(starts), console)
    for start in blocks:
        rows = slice(start, min(start + asked.batch_size, len(inputs)))
        block, items = inputs.read(rows, hasher.form), inputs.items(rows)
        for row, reason in block.broken.items():
            raise UserError(f"{root / items[row - start].path}: cannot be read: {reason}")
        vectors, images = None, [None] * len(items)
        if asked.with_vectors:
            compute = hasher.encode_floats if "floats" in index.keep else hasher.features
            vectors = compute(block.inputs)
        if inputs.source is None:
            images = [root / item.path for item in items]
        elif asked.with_images and inputs.kind == "images":
            images = [encode_thumbnail(each) for each in block.inputs]
        queries = [Query(item.path, image) for item, image in zip(items, images, strict=True)]
        yield EncodedQueries(queries, hasher.encode(block.inputs), vectors)
