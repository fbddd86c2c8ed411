"""A product quantizer, which takes as many bytes an item as a code does, and ranks by its distances."""

import dataclasses
from collections.abc import Iterator

import faiss
import numpy as np
from jaxtyping import Float32, Int, UInt8
from threadpoolctl import threadpool_limits

from jaxhash.retrieval.baselines.training_vectors import Features
from jaxhash.retrieval.vectors import (
    LazyVectors,
    ProgressTracker,
    as_lazy_vectors,
    no_progress,
    normalize_rows,
)

#: Items that a quantizer is fitted to at most, evenly spaced: 40 a centroid; faiss asks for 39.
MAX_ITEMS = 40 * 2**8

#: Distances of vectors to centroids that are computed together: 1 MiB, which stays in a cache.
_CACHED = 2**18

#: Items whose distances to a query are looked up together, likewise.
_ITEMS = 2**14


@dataclasses.dataclass(frozen=True)
class ProductQuantizer:
    """A product quantizer of vectors at length 1.

    A vector is cut into parts, and each part is stored as the number of its nearest centroid.

    Attributes:
        centroids: a table of centroids for each part.
        dimensions: length of a vector; zeros fill up its last parts.
    """

    centroids: Float32[np.ndarray, "parts centroids part_dimensions"]
    dimensions: int

    @property
    def name(self) -> str:
        """The name in faiss: number of parts and bits of each."""
        parts, centroids, _ = self.centroids.shape
        return f"PQ{parts}x{centroids.bit_length() - 1}"

    @threadpool_limits.wrap(limits=1)  # for products this small threads cost more than they save
    def encode(self, vectors: Float32[np.ndarray, "n dimensions"]) -> UInt8[np.ndarray, "n parts"]:
        """Returns the number of the nearest centroid of each part."""
        parts, rows = self._split(vectors), max(1, _CACHED // self.centroids[:, :, 0].size)
        codes = np.empty(parts.shape[:2], np.uint8)
        for at in range(0, len(parts), rows):
            codes[at : at + rows] = self._distances(parts[at : at + rows]).argmin(axis=2)
        return codes

    def compare(
        self,
        query: LazyVectors | Float32[np.ndarray, "queries dimensions"],
        database: LazyVectors | Float32[np.ndarray, "items dimensions"],
        *,
        memory_bytes: int = 2**30,
        track: ProgressTracker = no_progress,
        description: str = "ranking",
    ) -> Iterator[tuple[Int[np.ndarray, " rows"], Float32[np.ndarray, "rows items"]]]:
        """Yields the negative squared distances of queries to the decoded items, a few queries at a time.

        The queries are not quantized. A constant of each query is left out. Items of one code have one
        distance, to the last bit.

        Args:
            query: vectors of the queries.
            database: vectors of the items.
            memory_bytes: bound on the memory in bytes, beside the codes of the items.
            track: shows the progress.
            description: text beside the progress.
        """
        query, database = as_lazy_vectors(query), as_lazy_vectors(database)
        blocks = database.row_blocks(memory_bytes // 32)
        codes = np.concatenate(
            [
                self.encode(database[rows])
                for rows in track(blocks, f"{description}, coding", len(blocks))
            ]
        ).T.copy()
        step = min(64, max(1, memory_bytes // 8 // (4 * len(database))))
        groups = [np.arange(at, min(at + step, len(query))) for at in range(0, len(query), step)]
        for rows in track(groups, description, len(groups)):
            tables = self._distances(self._split(query[rows[0] : rows[-1] + 1]))
            scores = np.zeros((len(rows), len(database)), np.float32)
            for at in range(0, len(database), _ITEMS):
                block = slice(at, at + _ITEMS)
                for part, numbers in enumerate(codes[:, block].astype(np.intp)):
                    for row, distances in zip(scores[:, block], tables[:, part], strict=True):
                        row -= distances[numbers]
            yield rows, scores

    def _split(
        self, vectors: Float32[np.ndarray, "n dimensions"]
    ) -> Float32[np.ndarray, "n parts part_dimensions"]:
        """Cuts vectors at length 1 into parts."""
        return _split(vectors, len(self.centroids))

    def _distances(
        self, parts: Float32[np.ndarray, "n parts part_dimensions"]
    ) -> Float32[np.ndarray, "n parts centroids"]:
        """Returns squared distances to all centroids, without the square of the part itself."""
        squares = np.square(self.centroids).sum(axis=2)
        products = parts.transpose(1, 0, 2) @ self.centroids.transpose(0, 2, 1)
        products *= -2
        return (products + squares[:, None]).transpose(1, 0, 2)


def quantizer_shape(num_bytes: int, items: int) -> tuple[int, int]:
    """Returns the number of parts and the bits of each, of a quantizer that is fitted to some items.

    A part has 8 bits, or fewer where there are fewer items than centroids, and then more parts share
    the bytes.

    Args:
        num_bytes: bytes of a code.
        items: number of training items, 2 or more.

    Example:
        >>> quantizer_shape(8, items=5000), quantizer_shape(8, items=100)
        ((8, 8), (10, 6))
    """
    bits = min(8, items.bit_length() - 1)
    return 8 * num_bytes // bits, bits


@threadpool_limits.wrap(limits=1)  # two threads take many times as long on a machine that is busy
def fit_product_quantizer(
    train: Features, num_bytes: int, *, seed: int = 0, memory_bytes: int = 2**30
) -> ProductQuantizer:
    """Fits faiss's product quantizer to vectors at length 1.

    Args:
        train: the vectors, 2 or more, at any length.
        num_bytes: bytes of a code; `quantizer_shape` divides them into parts.
        seed: seed of k-means.
        memory_bytes: bound on the memory in bytes, beside the vectors.

    References:
        Jégou, Douze, Schmid, "Product quantization for nearest neighbor search", PAMI 2011.

    Example:
        >>> vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
        >>> quantizer = fit_product_quantizer(vectors, num_bytes=2)
        >>> quantizer.name, quantizer.encode(vectors).shape
        ('PQ2x8', (300, 2))
    """
    items, dimensions = train.shape
    allowed = min(MAX_ITEMS, memory_bytes // 16 // (4 * dimensions))
    some = train[:: -(-items // max(2, allowed))].astype(np.float32)
    parts, bits = quantizer_shape(num_bytes, len(some))
    vectors = _split(some, parts)
    quantizer = faiss.ProductQuantizer(parts * vectors.shape[2], parts, bits)
    quantizer.cp.seed, quantizer.cp.min_points_per_centroid = seed + 1, 1
    quantizer.train(np.ascontiguousarray(vectors.reshape(len(vectors), -1)))
    centroids = faiss.vector_to_array(quantizer.centroids)
    return ProductQuantizer(centroids.reshape(parts, 2**bits, -1), dimensions)


def _split(
    vectors: Float32[np.ndarray, "n dimensions"], parts: int
) -> Float32[np.ndarray, "n parts part_dimensions"]:
    """Cuts vectors at length 1 into parts of one length, the last ones filled up with zeros."""
    missing = -vectors.shape[1] % parts
    return np.pad(normalize_rows(vectors), ((0, 0), (0, missing))).reshape(len(vectors), parts, -1)
