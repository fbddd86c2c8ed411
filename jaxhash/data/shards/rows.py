"""The records of shards as the inputs of a source, read on access."""

import functools
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, Int, Shaped, UInt8, UInt64
from PIL import Image

from jaxhash.data.readers.images import ImageSize, decode_image, installed_formats, reason_of
from jaxhash.data.rows import Blocks, Index, row_numbers
from jaxhash.data.shards.formats import FORMATS
from jaxhash.data.shards.index import ShardIndex
from jaxhash.data.shards.records import Content
from jaxhash.data.shards.scan import content_digest
from jaxhash.utils.errors import UserError
from jaxhash.utils.hardware import cores_used

#: Items up to which equal ones are looked for by their digests before a training.
MAX_COMPARED = 2**22


class ShardItems(Sequence[str]):
    """The names of the records that are items: all but those that are left out.

    Args:
        index: index of the shards.
        left_out: numbers of the records that are left out, sorted.
    """

    def __init__(self, index: ShardIndex, left_out: Int[np.ndarray, " n"]):
        self.index, self.left_out = index, left_out
        self._before = left_out - np.arange(len(left_out))

    def __len__(self) -> int:
        return len(self.index) - len(self.left_out)

    def __getitem__(self, item: int | np.integer) -> str:
        [record] = self.records(np.atleast_1d(row_numbers(item, len(self))))
        return self.index.name_of(int(record))

    def records(self, items: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Returns the record of each item."""
        return items + np.searchsorted(self._before, items, side="right")

    def keep(self, column: Shaped[np.ndarray, " records"]) -> Shaped[np.ndarray, " items"]:
        """Returns the entries of a column that belong to items, in memory."""
        return np.delete(column, self.left_out)


class _ShardRows:
    """What images and vectors of shards have in common; see `jaxhash.data.rows.StoredRows`.

    Args:
        items: which records are items.
    """

    def __init__(self, items: ShardItems):
        self._items = items
        self._read = FORMATS[items.index.format].open(items.index)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def left_unchecked(self) -> str | None:
        """What a training leaves out where there are more than `MAX_COMPARED` items."""
        if len(self) <= MAX_COMPARED:
            return None
        return (
            f"equal inputs are looked for among at most {MAX_COMPARED:,} records, and there are {len(self):,}"
            + "; the scale is that of a sample" * (self._items.index.kind == "vectors")
        )

    @property
    def fingerprint(self) -> str:
        """Digest of the labels and inputs of all records, when they were indexed."""
        return self._items.index.fingerprint

    @functools.cached_property
    def digests(self) -> UInt64[np.ndarray, " items"]:
        """Digest of the stored bytes of each item."""
        return self._items.keep(self._items.index.column("digest"))

    @functools.cached_property
    def blocks(self) -> Blocks | None:
        """Groups of items that are read as a whole; None if items, or all groups at once, can be read."""
        index = self._items.index
        starts = index.group_starts
        if len(starts) <= index.window:
            return None
        return Blocks(starts - np.searchsorted(self._items.left_out, starts), index.window)

    def _contents(self, numbers: Int[np.ndarray, " n"]) -> list[Content]:
        """Returns the stored inputs of some items; raises `UserError` if one is not the one that was indexed."""
        index, records = self._items.index, self._items.records(numbers)
        contents = self._read(records)
        for record, content, digest in zip(
            records.tolist(), contents, index.digests[records].tolist(), strict=True
        ):
            if content_digest(content) != digest:
                shard, number = (int(each[0]) for each in index.locate(np.array([record])))
                raise UserError(
                    f"{index.paths[shard]}: record {number:,}: its bytes are not those that were indexed; "
                    f"if the shard was changed on purpose, remove {index.folder}, and it is indexed anew"
                )
        return contents


class ShardVectors(_ShardRows):
    """Vectors of shards as float32."""

    def __getitem__(self, rows: Index) -> Float32[np.ndarray, "..."]:
        numbers = row_numbers(rows, len(self))
        vectors = np.empty((numbers.size, *self.shape[1:]), np.float32)
        for vector, content in zip(vectors, self._contents(numbers.reshape(-1)), strict=True):
            vector[:] = content
        return vectors.reshape(*numbers.shape, *self.shape[1:])

    @property
    def row_bytes(self) -> int:
        """Bytes of a vector."""
        return 4 * self.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of items and of dimensions."""
        shapes = (shape for facts in self._items.index.shards for shape in facts.shapes)
        return len(self), next(shapes)[0]


class ShardImages(_ShardRows):
    """Images of shards, which are decoded on access, by one thread per core.

    Args:
        items: which records are items.
        image_size: see `jaxhash.data.readers.images.read_image`.
        shape: height, width and 3 of each image.
    """

    def __init__(self, items: ShardItems, image_size: ImageSize | None, shape: tuple[int, ...]):
        super().__init__(items)
        self._size, self._shape = image_size, shape
        self._pool = ThreadPoolExecutor(cores_used())

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded image."""
        return int(np.prod(self._shape))

    def __reduce__(self) -> tuple[object, ...]:
        return ShardImages, (self._items, self._size, self._shape)

    def __getitem__(self, rows: Index) -> UInt8[np.ndarray, "*n height width 3"]:
        numbers = row_numbers(rows, len(self))
        images = np.empty((numbers.size, *self._shape), np.uint8)
        for place, found in enumerate(self.try_read(numbers.reshape(-1))):
            if isinstance(found, str):
                raise UserError(f"{self._items[int(numbers.reshape(-1)[place])]}: {found}")
            images[place] = found
        return images.reshape(*numbers.shape, *self._shape)

    def try_read(
        self, numbers: Int[np.ndarray, " n"]
    ) -> list[UInt8[np.ndarray, "height width 3"] | str]:
        """Returns the pixels of some items, or the reason why one cannot be read."""
        return list(self._pool.map(self._decode, self._contents(numbers)))

    def _decode(self, content: bytes) -> UInt8[np.ndarray, "height width 3"] | str:
        try:
            with Image.open(io.BytesIO(content), formats=installed_formats()) as image:
                pixels = decode_image(image, self._size).pixels
        except Exception as error:  # the decoders raise many types for broken files
            return reason_of(error)
        if pixels.shape != self._shape:
            found, others = (f"{shape[1]} x {shape[0]}" for shape in (pixels.shape, self._shape))
            return f"it is {found}, and others are {others}; `image_size=N` brings them to one"
        return pixels
