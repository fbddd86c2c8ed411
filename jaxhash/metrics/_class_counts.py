"""Counts per distance and similarity of classes: what hierarchical precision needs of a ranking."""

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
from jaxhash.metrics._inputs import CodeFormat, Zero, check_labels, code_format
from jaxhash.ops.arguments import Whole, whole_number

#: The most items of a block on a device: their number is exact in float32.
_EXACT = 2**24


def similarity_counts(
    query_codes: Shaped[np.ndarray, "queries columns"],
    query_labels: Shaped[np.ndarray, " queries"],
    database_codes: Shaped[np.ndarray, "items columns"],
    database_labels: Shaped[np.ndarray, " items"],
    similarity: Shaped[np.ndarray, "classes classes"],
    *,
    bits: Whole | None = None,
    zero: Zero = "+1",
    block: Whole | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> SimilarityCounts:
    """Count the database by Hamming distance from each query and by similarity to it, in integers.

    As `jaxhash.metrics.distance_counts`, with the items of a block sorted by class: a machine word
    holds 32 items of one class, which all have one similarity to a query. So the time hardly
    depends on the number of classes, as long as each has more than a few words in a block.

    What comes back has queries x (bits + 1) x levels integers; a level is a value that occurs in a
    row of the table. Where these are too many, count some of the queries at a time.

    Args:
        query_codes: packed uint8, bool, 0/1, -1/+1 or real-valued codes; see
            `jaxhash.metrics.code_format`.
        query_labels: class ids, rows of the table; -1 for no label, to which nothing is similar.
        database_codes: codes of the same form; a memory-mapped file is read block by block.
        database_labels: class ids, columns of the table; -1 for no label, similar to nothing.
        similarity: similarity of a query's class (row) and an item's class (column), 0 or above in
            any unit; it need not be symmetric.
        bits: length of a code, where packed codes do not fill their last byte.
        zero: what an exact zero of real-valued codes counts as: ``"+1"``, ``"-1"`` or ``"error"``.
        block: items counted at a time.
        devices: where to count; all local devices by default.

    Raises:
        ValueError: if codes or labels are empty, do not match, or hold what they cannot mean; if
            the table is not square, has negative or infinite values or not all of the classes.
        TypeError: if they hold no numbers.

    Example:
        >>> codes, labels = np.array([[1, 1], [1, -1], [-1, -1]], np.int8), np.array([0, 1, 2])
        >>> tree = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> counts = similarity_counts(codes[:1], labels[:1], codes, labels, tree)
        >>> counts.similarity, counts.items[0].tolist()
        (array([[1. , 0.5]]), [[1, 0], [0, 1], [0, 0]])
    """
    query_codes, database_codes = np.asanyarray(query_codes), np.asanyarray(database_codes)
    codes = code_format(query_codes, database_codes, bits=bits, zero=zero)
    similarity = _read_table(similarity)
    query = _read_classes("query ", query_labels, len(query_codes), len(similarity))
    database = _read_classes("database ", database_labels, len(database_codes), len(similarity))
    devices = tuple(jax.local_devices() if devices is None else devices)
    block = BLOCK * len(devices) if block is None else whole_number("block", block)
    if block < 1 or not devices:
        raise ValueError(f"block and devices must be at least 1, got {block} and {len(devices)}")
    values, level = _levels(similarity, np.unique(query))
    count = _make_counter(codes.bits, values.shape[1], devices, queries_at_once(devices))

    def counter(words, classes, *planes):
        return count(words, level[classes[:, 0]], *planes)

    counts = count_blocks(
        counter,
        (as_words(codes.read(query_codes)), query[:, None]),
        _planes(database_codes, database, codes, min(block, _EXACT * len(devices)), len(devices)),
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


def similarity_score_counts(
    scores: Float[np.ndarray, " items"], similarity: Shaped[np.ndarray, " items"]
) -> SimilarityCounts:
    """The counts of one query for a ranking by real-valued scores, highest first.

    Equal scores share a column, so the metrics treat them as ties. An item that searches the others
    is left out by leaving it out of both arrays.

    Args:
        scores: score of each database item, such as a cosine.
        similarity: similarity of each item to the query, 0 or above.

    Raises:
        ValueError: if there are no items, or a score or a similarity is not finite, or negative.

    Example:
        >>> counts = similarity_score_counts(np.array([0.5, 0.9, 0.5]), np.array([0.0, 0.5, 1.0]))
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
    """Raise unless there are scores, finite, and as many similarities, finite and not negative."""
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


def _read_table(similarity: np.ndarray) -> Float[np.ndarray, "classes classes"]:
    """The table with a row and a column more, for no label, which the index -1 finds."""
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or len(similarity) != similarity.shape[1] or not len(similarity):
        raise ValueError(f"similarity must be a table [classes, classes], got {similarity.shape}")
    _check_similarity(similarity)
    return np.pad(similarity.astype(np.float64), ((0, 1), (0, 1)))


def _read_classes(name: str, labels: np.ndarray, items: int, rows: int) -> Int[np.ndarray, " n"]:
    """Rows of the table, of which the last is that of no label."""
    labels = check_labels(name, labels, items)
    if labels.ndim != 1:
        raise ValueError(f"{name}labels must be class ids [items], got shape {labels.shape}")
    if labels.max() > rows - 2:
        raise ValueError(f"{name}labels have class {labels.max()}, the table has {rows - 1}")
    return labels % rows


def _levels(
    similarity: Float[np.ndarray, "classes classes"], present: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "classes levels"], Int32[np.ndarray, "classes classes"]]:
    """The positive values of each row, greatest first, and each class's place among them.

    A similarity of 0 has the place behind all levels. Only rows of classes that are present matter.
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
    """The planes of the codes, the class of each word and the plane of the items, block by block."""
    starts = range(0, len(classes), block)
    filled = [-(-np.bincount(classes[start : start + block]) // WORD) for start in starts]
    words = -(-max(int(of_class.sum()) for of_class in filled) // devices) * devices
    for start, of_class in zip(starts, filled, strict=True):
        part = classes[start : start + block]
        order = np.argsort(part, kind="stable")
        size = np.bincount(part)
        first = WORD * (np.cumsum(of_class) - of_class) - (np.cumsum(size) - size)
        at = np.arange(len(part)) + np.repeat(first, size)  # items, each class from a new word on
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
    """The compiled count of some queries on a block, ``at_once`` of them side by side or each alone.

    Each word's items at each distance are summed over the words of a level by a product with zeros
    and ones: float32 holds the sums exactly, and bfloat16 what a word adds, 32 at most.
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
