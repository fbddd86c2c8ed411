"""Counts per Hamming distance, the input of every ranking metric."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Int32, Shaped, UInt32

from jaxhash.metrics._bitslice import ONES, WORD, Plane, count_ones, minterms, slice_bits
from jaxhash.metrics._inputs import CodeFormat, ZeroSign, infer_code_format
from jaxhash.metrics._labels import Labels, Relevance, read_labels
from jaxhash.metrics._lists import ItemLists, check_lists, list_counts
from jaxhash.ops.arguments import UNLABELLED, IntLike, as_bool, as_int, check_shape

#: Items per block and device: planes of 64 bits take 1 MiB, which fits a cache.
BLOCK = 2**17
#: Queries per call.
_QUERIES = 64
#: Queries of a call that an accelerator compares at a time: with more, the planes of a block and these
#: queries leave the vector memory of a TPU, and fill the cache of a GPU.
_AT_ONCE = 16

#: Compiler options for CPUs before jax 0.11.2, which dropped barriers before fusion and so recomputed
#: carries wherever they are used; without fusion the counts take a twentieth of the time.
_NO_FUSION = {"xla_disable_hlo_passes": "fusion"}


class DistanceCounts(NamedTuple):
    """The number of database items at each distance from each query, nearest distance first."""

    total: Int[np.ndarray, "queries distances"]
    relevant: Int[np.ndarray, "queries distances"]
    gains: Int[np.ndarray, "queries distances levels"] | None = None
    """Under graded relevance, the items of gain 1, 2, ...; they sum to ``relevant``."""

    @property
    def levels(self) -> Int[np.ndarray, "queries distances levels"]:
        """The items of gain 1, 2, ...; without graded relevance, relevant items have gain 1."""
        return self.relevant[..., None] if self.gains is None else self.gains


class SimilarityCounts(NamedTuple):
    """The number of database items at each distance and level, nearest distance first.

    A level is a positive value of similarity to the query. Queries with fewer levels than others end
    with levels of similarity 0 without items.
    """

    total: Int[np.ndarray, "queries distances"]
    items: Int[np.ndarray, "queries distances levels"]
    """The items of each level; the rest of ``total`` has similarity 0."""
    similarity: Float[np.ndarray, "queries levels"]
    """The similarity of each level, descending."""
    own: Int[np.ndarray, " queries"] | None = None
    """The level of items of the query's own class, -1 if there is none; None if unknown."""


#: Takes an iterator of blocks and their number, and returns the blocks, to show the progress.
Track = Callable[[Iterator[tuple[np.ndarray, ...]], int], Iterable[tuple[np.ndarray, ...]]]

_Counts = TypeVar("_Counts", DistanceCounts, SimilarityCounts)


def distance_counts(
    query_codes: Shaped[np.ndarray, "queries columns"],
    query_labels: Shaped[np.ndarray, " queries *classes"] | None,
    database_codes: Shaped[np.ndarray, "items columns"],
    database_labels: Shaped[np.ndarray, " items *classes"] | None,
    *,
    bits: IntLike | None = None,
    zero: ZeroSign = "+1",
    relevance: Relevance | ItemLists = "shared",
    excluded: ItemLists | None = None,
    block: IntLike | None = None,
    devices: Sequence[jax.Device] | None = None,
    track: Track | None = None,
) -> DistanceCounts:
    """Counts the database by Hamming distance from each query, in integers.

    The database is streamed in blocks, each sharded over the devices, whose counts are summed by one
    psum; the result does not depend on blocks or devices. Distances are never stored: 32 items at a
    time are compared, added and counted as the bits of machine words.

    Args:
        query_codes: packed uint8, bool, 0/1, -1/+1 or real-valued codes; see
            `jaxhash.metrics.infer_code_format`.
        query_labels: class ids [queries] with -1 for none, or multi-hot rows [queries, classes]. Not
            read where ``relevance`` is lists.
        database_codes: codes of the same form; a memory-mapped file is read block by block.
        database_labels: labels of the same kind.
        bits: length of a code, if packed codes do not fill their last byte.
        zero: meaning of an exact zero of real-valued codes: ``"+1"``, ``"-1"`` or ``"error"``.
        relevance: an item is relevant if it has a label in common (``"shared"``) or the same set of
            labels (``"equal"``); with ``"graded"`` its gain is the number of labels in common. Or the
            relevant items of each query, such as what a user has listened to.
        excluded: items that each query must not find: they are not counted, and so are no part of any
            ranking, such as what the user's training has shown already.
        block: number of items per block.
        devices: devices to count on; all local devices by default.
        track: wraps the iterator of blocks, given their number, to show the progress.

    Returns:
        Integer arrays [queries, bits + 1]; column d counts the items at distance d.

    Raises:
        ValueError: if codes or labels are empty, do not match or have invalid values; or if an item
            is both excluded and in a list of relevant items.
        TypeError: if codes or labels are not numbers.

    Example:
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]], np.int8)
        >>> labels = np.array([0, 0, 1])
        >>> counts = distance_counts(codes[:1], labels[:1], codes, labels)
        >>> counts.total, counts.relevant
        (array([[1, 1, 1]]), array([[1, 1, 0]]))
        >>> itself = ItemLists(np.array([0, 1]), np.array([0]))
        >>> distance_counts(codes[:1], labels[:1], codes, labels, excluded=itself).total
        array([[0, 1, 1]])
    """
    query_codes, database_codes = np.asanyarray(query_codes), np.asanyarray(database_codes)
    return count_by_distance(
        (query_codes, query_labels),
        (database_codes, database_labels),
        infer_code_format(query_codes, database_codes, bits=bits, zero=zero),
        relevance=relevance,
        excluded=excluded,
        block=block,
        devices=devices,
        track=track,
    )


def count_by_distance(
    query: tuple[np.ndarray, np.ndarray | None],
    database: tuple[np.ndarray, np.ndarray | None],
    codes: CodeFormat,
    *,
    relevance: Relevance | ItemLists = "shared",
    excluded: ItemLists | None = None,
    block: IntLike | None = None,
    devices: Sequence[jax.Device] | None = None,
    track: Track | None = None,
) -> DistanceCounts:
    """Counts as `distance_counts` does codes and labels of both sides, of a format that is known."""
    (query_codes, query_labels), (database_codes, database_labels) = query, database
    sizes = {"queries": len(query_codes), "items": len(database_codes)}
    lists = relevance if isinstance(relevance, ItemLists) else None
    check_lists(lists, excluded, **sizes)
    if lists is not None:  # labels without an item in common
        query_labels, database_labels = (np.broadcast_to(UNLABELLED, n) for n in sizes.values())
        relevance = "shared"
    labels = read_labels(query_labels, database_labels, **sizes, relevance=relevance)
    devices = tuple(jax.local_devices() if devices is None else devices)
    block = BLOCK * len(devices) if block is None else as_int("block", block)
    if block < 1 or not devices:
        raise ValueError(f"block and devices must be at least 1, got {block} and {len(devices)}")
    counts = _count(query_codes, database_codes, codes, labels, block, devices, track)
    sides = query_codes, database_codes, codes
    if lists is not None:
        counts[:, 1] = list_counts(*sides, lists)[:, 0]
    if excluded is not None:
        counts -= list_counts(*sides, excluded, labels)
    if relevance == "graded":
        return DistanceCounts(counts[:, 0], counts[:, 1:].sum(axis=1), counts[:, 1:].swapaxes(1, 2))
    return DistanceCounts(counts[:, 0], counts[:, 1])


def leave_one_out(counts: _Counts) -> _Counts:
    """Removes each query from its own counts, if the queries are items of the database.

    The level of an item with itself is that of its class in `SimilarityCounts`; under graded
    relevance it is the highest level at distance 0, since no item shares more labels with it.

    Args:
        counts: counts of queries that are items of the database, in any order.

    Raises:
        ValueError: if a query has no item at distance 0, or in `SimilarityCounts` none of its class,
            so that it is not an item of the database; or if ``own`` is None.

    Example:
        >>> codes, labels = np.array([[1, 1], [1, -1], [1, 1]], np.int8), np.array([0, 0, 1])
        >>> counts = leave_one_out(distance_counts(codes, labels, codes, labels))
        >>> counts.total.tolist()
        [[1, 1, 0], [0, 2, 0], [1, 1, 0]]
        >>> counts.relevant.tolist()
        [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    """
    total = _without_one(counts.total[..., None], np.zeros(len(counts.total), int))[..., 0]
    if isinstance(counts, SimilarityCounts):
        if counts.own is None:
            raise ValueError("leave_one_out needs counts with the level of each query's own class")
        return counts._replace(total=total, items=_without_one(counts.items, counts.own))
    occupied = (counts.levels[:, 0] > 0) * np.arange(1, counts.levels.shape[2] + 1)
    own = occupied.max(axis=1) - 1  # -1 for an item without labels
    levels = _without_one(counts.levels, own)
    return DistanceCounts(total, levels.sum(axis=2), None if counts.gains is None else levels)


def _without_one(
    items: Int[np.ndarray, "queries distances levels"], level: Int[np.ndarray, " queries"]
) -> Int[np.ndarray, "queries distances levels"]:
    """Subtracts one item of each query's level at distance 0; a level of -1 subtracts nothing."""
    rows = np.flatnonzero(level >= 0)
    if (items[rows, 0, level[rows]] == 0).any():
        raise ValueError("leave_one_out needs queries that are items of the database")
    items = items.copy()
    items[rows, 0, level[rows]] -= 1
    return items


def _count(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    codes: CodeFormat,
    labels: Labels,
    block: int,
    devices: tuple[jax.Device, ...],
    track: Track | None,
) -> Int[np.ndarray, "queries kinds distances"]:
    """Counts all items, and the relevant ones by level, at each distance."""
    items = len(database_codes)
    blocks = -(-items // block)
    words = -(-items // (blocks * WORD * len(devices))) * len(devices)

    def planes() -> Iterator[tuple[np.ndarray, ...]]:
        for start in range(0, items, words * WORD):
            part = slice(start, start + words * WORD)
            bits = codes.read(database_codes[part])
            yield (
                slice_bits(bits, words),
                slice_bits(labels.read(part), words),
                slice_bits(np.ones((len(bits), 1), bool), words),
            )

    return count_blocks(
        _make_counter(
            codes.bits, labels.multi_hot, labels.levels, devices, queries_at_once(devices)
        ),
        (as_words(codes.read(query_codes)), as_words(labels.query)),
        planes() if track is None else track(planes(), blocks),
        (1 + labels.levels, codes.bits + 1),
        devices,
    )


def count_blocks(
    counter: Callable[..., Int32[Array, "queries ..."]],
    queries: tuple[Shaped[np.ndarray, "queries _"], ...],
    blocks: Iterable[tuple[np.ndarray, ...]],
    shape: tuple[int, ...],
    devices: tuple[jax.Device, ...],
) -> Int[np.ndarray, "queries ..."]:
    """Sums the counts of each query over all blocks, with a limited number of queries per call.

    Args:
        counter: function of arrays of queries and of arrays of a block that returns counts.
        queries: arrays with one row per query.
        blocks: arrays [rows, words] of each block, whose words are sharded over the devices.
        shape: shape of the counts of a query.
        devices: devices to count on.
    """
    total = len(queries[0])
    calls = -(-total // _QUERIES)
    rows = -(-total // calls)
    padding = ((0, calls * rows - total), (0, 0))
    sides = [np.pad(side, padding) for side in queries]
    counts = np.zeros((calls * rows, *shape), np.int64)
    # A single CPU device runs one call on one core; several devices already share the cores.
    threads = _cores() if _on_cpu(devices) and len(devices) == 1 else 1
    with ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            block = tuple(jax.device_put(planes, _sharding(devices)) for planes in block)

            def count(first, block=block):
                part = slice(first, first + rows)
                counts[part] += np.asarray(counter(*(side[part] for side in sides), *block))

            list(pool.map(count, range(0, len(counts), rows)))
    return counts[:total]


def queries_at_once(devices: tuple[jax.Device, ...]) -> int | None:
    """Returns the number of queries batched per device; None on CPUs, where one fills the cache."""
    return None if _on_cpu(devices) else _AT_ONCE


def _on_cpu(devices: tuple[jax.Device, ...]) -> bool:
    return devices[0].platform == "cpu"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_words(bits: np.ndarray) -> UInt32[np.ndarray, "queries bits"]:
    """Expands each bit to a word of equal bits."""
    return np.where(bits, ONES, np.uint32(0))


def _sharding(devices: tuple[jax.Device, ...]) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(_mesh(devices), PartitionSpec(None, "items"))


def over_blocks(count: Callable, devices: tuple[jax.Device, ...]) -> Callable:
    """Compiles a function of two arrays of queries and three arrays of words sharded over devices."""
    over_items = PartitionSpec(None, "items")
    sharded = jax.shard_map(
        count,
        mesh=_mesh(devices),
        in_specs=(PartitionSpec(), PartitionSpec(), over_items, over_items, over_items),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    unfused = _on_cpu(devices) and jax.__version_info__ < (0, 11, 2)
    return jax.jit(sharded, compiler_options=_NO_FUSION if unfused else None)


def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(np.array(devices), ("items",))


@functools.lru_cache(maxsize=32)
def _make_counter(
    bits: int,
    multi_hot: bool,
    levels: int,
    devices: tuple[jax.Device, ...],
    at_once: int | None,
) -> Callable[..., Int32[Array, "queries kinds distances"]]:
    """Compiles the count of queries on a block, with ``at_once`` of them batched, or one by one."""
    relevant = functools.partial(_relevant, multi_hot=multi_hot, levels=levels)

    def count(query_words, label_words, code_planes, label_planes, valid):
        def one(query):
            code, label = query
            distance = count_ones(code_planes ^ code[:, None])
            kinds = jnp.stack([valid[0], *relevant(label_planes, label)])
            return _count_levels(*lax.optimization_barrier((distance, kinds)), bits)

        counts = lax.map(one, (query_words, label_words), batch_size=at_once)
        return lax.psum(counts, "items")

    return over_blocks(count, devices)


def _relevant(
    planes: UInt32[Array, "digits words"],
    query: UInt32[Array, " digits"],
    *,
    multi_hot: bool,
    levels: int,
) -> list[Plane]:
    """Returns the planes of the items of each gain, from 1."""
    query = query[:, None]
    if not multi_hot:  # ids: all digits agree, and the query has a label
        differ = lax.reduce(planes ^ query, np.uint32(0), lax.bitwise_or, (0,))
        return [~differ & lax.reduce(query, np.uint32(0), lax.bitwise_or, (0,))]
    if levels == 1:
        return [lax.reduce(planes & query, np.uint32(0), lax.bitwise_or, (0,))]
    shared = count_ones(planes & query)[: levels.bit_length()]
    return list(minterms(shared)[1 : levels + 1])


def _count_levels(
    digits: list[Plane], kinds: UInt32[Array, "kinds words"], bits: int
) -> Int32[Array, "kinds distances"]:
    """Counts the items of each kind with each number from 0 to ``bits``."""
    counts = jnp.sum(count_in_words(digits, kinds, bits), axis=-1)
    return counts.reshape(len(kinds), -1)[:, : bits + 1]


def count_in_words(
    digits: list[Plane], kinds: UInt32[Array, "kinds words"], bits: int
) -> Int32[Array, "kinds high low words"]:
    """Counts the items of each word with each number, split in its high and low digits."""
    digits = digits[: bits.bit_length()]
    low, high = digits[:3], digits[3:]
    low_planes = minterms(low)
    high_planes = minterms(high) if high else jnp.full_like(kinds[:1], ONES)
    high_planes = high_planes[: bits // len(low_planes) + 1]
    of_kind = kinds[:, None] & low_planes[None]
    at_level = high_planes[None, :, None] & of_kind[:, None]
    return lax.population_count(at_level).astype(jnp.int32)


def counts_from_scores(
    scores: Float[np.ndarray, " items"], relevant: Shaped[np.ndarray, " items"]
) -> DistanceCounts:
    """Counts a ranking of one query by real-valued scores, highest first.

    There is a column for each score of a relevant item, and one for all items between two such
    scores, whose order is irrelevant. Equal scores share a column, so metrics treat them as ties.

    Args:
        scores: score of each database item, such as a cosine.
        relevant: True for the relevant items.

    Raises:
        TypeError: if scores are not floating, or ``relevant`` is not bool or numbers.
        ValueError: if scores are not finite, ``relevant`` is not 0 and 1, or the shapes differ.

    Example:
        >>> counts = counts_from_scores(np.array([0.5, 0.9, 0.5]), np.array([True, False, False]))
        >>> counts.total, counts.relevant
        (array([[1, 2]]), array([[0, 1]]))
    """
    relevant = as_bool("relevant", relevant)
    check_scores(scores)
    check_shape("relevant", relevant, scores.shape)
    scores, relevant = np.asarray(scores), np.asarray(relevant)  # they may be spread over a mesh
    order = np.sort(-scores)
    levels, hits = np.unique(-np.compress(relevant, scores), return_counts=True)
    starts = np.searchsorted(order, levels)
    ends = starts + hits  # unless an irrelevant item has the same score
    tied = np.flatnonzero(ends < len(order))
    tied = tied[order[ends[tied]] == levels[tied]]
    ends[tied] = np.searchsorted(order, levels[tied], "right")
    borders = np.stack([starts, ends], axis=1).ravel()
    total = np.diff(borders, prepend=0, append=len(scores))
    of_level = np.zeros_like(total)
    of_level[1::2] = hits
    held = np.flatnonzero(total)
    return DistanceCounts(total[held][None], of_level[held][None])


def check_scores(scores: np.ndarray) -> None:
    """Raises unless scores are floating, finite and at least one; unsigned ones cannot be negated."""
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        raise TypeError(f"scores must be floating, got {scores.dtype}")
    if scores.ndim != 1:
        raise ValueError(f"scores must have shape [items], got {scores.shape}")
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError("scores must be finite, at least one")
