"""Counts per distance and class similarity, the input of hierarchical precision."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Int32, Shaped, UInt32

from jaxhash.metrics._bitslice import WORD, count_ones, slice_bits
from jaxhash.metrics._counts import (
    BLOCK,
    SimilarityCounts,
    as_words,
    check_scores,
    count_blocks,
    count_in_words,
    over_blocks,
    queries_at_once,
)
from jaxhash.metrics._inputs import CodeFormat, ZeroSign, infer_code_format
from jaxhash.metrics._labels import check_labels
from jaxhash.ops.arguments import IntLike, as_int

#: The largest number of items of a block per device; up to it counts are exact in float32.
_MAX_BLOCK = 2**24


def similarity_counts(
    query_codes: Shaped[np.ndarray, "queries columns"],
    query_labels: Shaped[np.ndarray, " queries"],
    database_codes: Shaped[np.ndarray, "items columns"],
    database_labels: Shaped[np.ndarray, " items"],
    similarity: Shaped[np.ndarray, "classes classes"],
    *,
    bits: IntLike | None = None,
    zero: ZeroSign = "+1",
    block: IntLike | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> SimilarityCounts:
    """Counts the database by Hamming distance from each query and similarity to it, in integers.

    It works like `jaxhash.metrics.distance_counts`, with the items of a block sorted by class, so that
    a machine word holds 32 items of one class, which have the same similarity to a query. The time
    hardly depends on the number of classes, if each has more than a few words in a block.

    The result has queries x (bits + 1) x levels integers; a level is a value that occurs in a row of
    the table. If that is too much memory, count some of the queries at a time.

    Args:
        query_codes: packed uint8, bool, 0/1, -1/+1 or real-valued codes; see
            `jaxhash.metrics.infer_code_format`.
        query_labels: class ids, which index rows of the table; -1 for no label, similar to nothing.
        database_codes: codes of the same form; a memory-mapped file is read block by block.
        database_labels: class ids, which index columns of the table; -1 for no label.
        similarity: table of similarities of a query's class (row) and an item's class (column), at
            least 0, in any unit; it need not be symmetric.
        bits: length of a code, if packed codes do not fill their last byte.
        zero: meaning of an exact zero of real-valued codes: ``"+1"``, ``"-1"`` or ``"error"``.
        block: number of items per block.
        devices: devices to count on; all local devices by default.

    Raises:
        ValueError: if codes or labels are empty, do not match or have invalid values; if the table is
            not square, has negative or infinite values or lacks a class.
        TypeError: if codes, labels or the table are not numbers.

    Example:
        >>> codes, labels = np.array([[1, 1], [1, -1], [-1, -1]], np.int8), np.array([0, 1, 2])
        >>> tree = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> counts = similarity_counts(codes[:1], labels[:1], codes, labels, tree)
        >>> counts.similarity, counts.items[0].tolist()
        (array([[1. , 0.5]]), [[1, 0], [0, 1], [0, 0]])
    """
    query_codes, database_codes = np.asanyarray(query_codes), np.asanyarray(database_codes)
    codes = infer_code_format(query_codes, database_codes, bits=bits, zero=zero)
    similarity = _check_table(similarity)
    query = _check_class_labels("query ", query_labels, len(query_codes), len(similarity))
    database = _check_class_labels(
        "database ", database_labels, len(database_codes), len(similarity)
    )
    devices = tuple(jax.local_devices() if devices is None else devices)
    block = BLOCK * len(devices) if block is None else as_int("block", block)
    if block < 1 or not devices:
        raise ValueError(f"block and devices must be at least 1, got {block} and {len(devices)}")
    values, level = _similarity_levels(similarity, np.unique(query))
    count = _make_counter(codes.bits, values.shape[1], devices, queries_at_once(devices))

    def counter(words, classes, *planes):
        return count(words, level[classes[:, 0]], *planes)

    counts = count_blocks(
        counter,
        (as_words(codes.read(query_codes)), query[:, None]),
        _planes(
            database_codes, database, codes, min(block, _MAX_BLOCK * len(devices)), len(devices)
        ),
        (codes.bits + 1, values.shape[1] + 1),
        devices,
    )
    own = level[query, query]
    return SimilarityCounts(
        counts.sum(axis=2),
        counts[..., :-1],
        values[query],
        np.where(own == values.shape[1], -1, own).astype(np.int64),
    )


def similarity_counts_from_scores(
    scores: Float[np.ndarray, " items"], similarity: Shaped[np.ndarray, " items"]
) -> SimilarityCounts:
    """Counts a ranking of one query by real-valued scores, highest first.

    Equal scores share a column, so metrics treat them as ties. To leave out the query itself, leave
    it out of both arrays.

    Args:
        scores: score of each database item, such as a cosine.
        similarity: similarity of each item to the query, at least 0.

    Raises:
        ValueError: if there are no items, or a score or a similarity is not finite, or negative.

    Example:
        >>> counts = similarity_counts_from_scores(np.array([0.5, 0.9, 0.5]), np.array([0.0, 0.5, 1.0]))
        >>> counts.total, counts.similarity, counts.items[0].tolist()
        (array([[1, 2]]), array([[1. , 0.5]]), [[0, 1], [1, 0]])
    """
    check_ranking(scores, similarity)
    values, level = np.unique(similarity, return_inverse=True)
    _, column, total = np.unique(-scores, return_inverse=True, return_counts=True)
    items = np.bincount(column * len(values) + level, minlength=len(total) * len(values))
    levels = np.flatnonzero(values > 0)[::-1]
    items = items.reshape(len(total), len(values))[:, levels]
    return SimilarityCounts(total[None], items[None], values[None, levels].astype(np.float64))


def check_ranking(scores: np.ndarray, similarity: np.ndarray) -> None:
    """Raises unless scores are finite, and similarities are as many, finite and not negative."""
    _check_similarity(similarity)
    check_scores(scores)
    if similarity.shape != scores.shape:
        raise ValueError(
            f"scores and similarity must be of the same items, got {scores.shape} and "
            f"{similarity.shape}"
        )


def _check_similarity(similarity: np.ndarray) -> None:
    if similarity.dtype.kind not in "buif":
        raise TypeError(f"similarity must be numbers, got {similarity.dtype}")
    wrong = ~np.isfinite(similarity) | (similarity < 0)
    if wrong.any():
        raise ValueError(f"similarity must be finite, 0 or above, got {similarity[wrong][0]}")


def _check_table(similarity: np.ndarray) -> Float[np.ndarray, "classes classes"]:
    """Checks the table and appends a row and a column of zeros, which the index -1 selects."""
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or len(similarity) != similarity.shape[1] or not len(similarity):
        raise ValueError(f"similarity must be a table [classes, classes], got {similarity.shape}")
    _check_similarity(similarity)
    return np.pad(similarity.astype(np.float64), ((0, 1), (0, 1)))


def _check_class_labels(
    name: str, labels: np.ndarray, items: int, rows: int
) -> Int[np.ndarray, " n"]:
    """Checks labels and converts them to rows of the table; the last row is that of no label."""
    labels = check_labels(name, labels, items)
    if labels.ndim != 1:
        raise ValueError(f"{name}labels must be class ids [items], got shape {labels.shape}")
    if labels.max() > rows - 2:
        raise ValueError(f"{name}labels have class {labels.max()}, the table has {rows - 1}")
    return labels % rows


def _similarity_levels(
    similarity: Float[np.ndarray, "classes classes"], present: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "classes levels"], Int32[np.ndarray, "classes classes"]]:
    """Returns the positive values of each row, descending, and the level of each class in them.

    A similarity of 0 has the level after all others. Rows of absent classes are not filled.
    """
    values = [np.unique(similarity[row][similarity[row] > 0])[::-1] for row in present]
    levels = max(map(len, values))
    table, place = np.zeros((len(similarity), levels)), np.full(similarity.shape, levels, np.int32)
    for row, of_row in zip(present, values, strict=True):
        table[row, : len(of_row)] = of_row
        found = np.searchsorted(-of_row, -similarity[row])
        place[row] = np.where(similarity[row] > 0, found, levels)
    return table, place


def _planes(
    database_codes: np.ndarray,
    classes: Int[np.ndarray, " items"],
    codes: CodeFormat,
    block: int,
    devices: int,
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields, per block, the planes of the codes, the class of each word and the plane of the items."""
    starts = range(0, len(classes), block)
    filled = [-(-np.bincount(classes[start : start + block]) // WORD) for start in starts]
    words = -(-max(int(of_class.sum()) for of_class in filled) // devices) * devices
    for start, of_class in zip(starts, filled, strict=True):
        part = classes[start : start + block]
        order = np.argsort(part, kind="stable")
        size = np.bincount(part)
        first = WORD * (np.cumsum(of_class) - of_class) - (np.cumsum(size) - size)
        at = np.arange(len(part)) + np.repeat(first, size)  # items, with a new word for each class
        bits = np.zeros((words * WORD, 1 + codes.bits), bool)
        bits[at, 0] = True
        bits[at, 1:] = codes.read(database_codes[start : start + block])[order]
        of_word = np.zeros((1, words), np.int32)
        of_word[0, : of_class.sum()] = np.repeat(np.arange(len(of_class)), of_class)
        planes = slice_bits(bits, words)
        yield planes[1:], of_word, planes[:1]


@functools.lru_cache(maxsize=32)
def _make_counter(
    bits: int, levels: int, devices: tuple[jax.Device, ...], at_once: int | None
) -> Callable[..., Int32[Array, "queries distances levels"]]:
    """Compiles the count of queries on a block, with ``at_once`` of them batched, or one by one.

    The items of each word at each distance are summed over the words of a level by a product with
    zeros and ones. The sums are exact in float32, and the summands, at most 32, in bfloat16.
    """

    def count(
        query_words: UInt32[Array, "queries bits"],
        level: Int32[Array, "queries classes"],
        code_planes: UInt32[Array, "bits words"],
        class_of_word: Int32[Array, "1 words"],
        valid: UInt32[Array, "1 words"],
    ):
        def one(query):
            code, level = query
            distance = count_ones(code_planes ^ code[:, None])
            distance, kinds = lax.optimization_barrier((distance, valid))
            items = count_in_words(distance, kinds, bits).reshape(-1, valid.shape[1])[: bits + 1]
            of_level = level[class_of_word[0]][:, None] == jnp.arange(levels + 1)[None]
            return (items.astype(jnp.float32) @ of_level.astype(jnp.float32)).astype(jnp.int32)

        counts = lax.map(one, (query_words, level), batch_size=at_once)
        return lax.psum(counts, "items")

    return over_blocks(count, devices)
