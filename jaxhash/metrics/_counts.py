"""Counts per distance: all that a metric needs to know of a ranking by Hamming distance."""

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
from jaxhash.metrics._inputs import CodeFormat, Labels, Relevance, Zero, code_format, read_labels
from jaxhash.ops.arguments import Whole, check_shape, whole_number, zeros_and_ones

#: Items counted at a time on each device: planes of 64 bits take 1 MiB, which a cache holds.
BLOCK = 2**17
#: Queries of one call.
_QUERIES = 64

#: How XLA for a CPU compiles the counts before jax 0.11.2, where it drops the barriers before it fuses
#: and computes a carry again in all that it enters: without fusion they take a twentieth of the time.
_BEFORE_BARRIERS = {"xla_disable_hlo_passes": "fusion"}


class DistanceCounts(NamedTuple):
    """How many database items lie at each distance from each query, nearest distance first."""

    total: Int[np.ndarray, "queries distances"]
    relevant: Int[np.ndarray, "queries distances"]
    gains: Int[np.ndarray, "queries distances levels"] | None = None
    """Where relevance is graded: items of gain 1, 2, ...; they sum to ``relevant``."""

    @property
    def levels(self) -> Int[np.ndarray, "queries distances levels"]:
        """Items of gain 1, 2, ...; the relevant ones have gain 1 where relevance is not graded."""
        return self.relevant[..., None] if self.gains is None else self.gains


class SimilarityCounts(NamedTuple):
    """How many database items of each similarity lie at each distance, nearest distance first.

    A level is a positive value of similarity to the query. A query with fewer levels than another
    has levels without items at the end, of similarity 0.
    """

    total: Int[np.ndarray, "queries distances"]
    items: Int[np.ndarray, "queries distances levels"]
    """Items of each level; the rest of ``total`` has similarity 0."""
    similarity: Float[np.ndarray, "queries levels"]
    """The similarity of each level, greatest first."""
    own: Int[np.ndarray, " queries"] | None = None
    """The level of items of the query's own class, -1 where there is none; None if not known."""


#: Takes the blocks of a count, and how many there are; returns them.
Track = Callable[[Iterator[tuple[np.ndarray, ...]], int], Iterable[tuple[np.ndarray, ...]]]

_Counts = TypeVar("_Counts", DistanceCounts, SimilarityCounts)


def distance_counts(
    query_codes: Shaped[np.ndarray, "queries columns"],
    query_labels: Shaped[np.ndarray, " queries *classes"],
    database_codes: Shaped[np.ndarray, "items columns"],
    database_labels: Shaped[np.ndarray, " items *classes"],
    *,
    bits: Whole | None = None,
    zero: Zero = "+1",
    relevance: Relevance = "shared",
    block: Whole | None = None,
    devices: Sequence[jax.Device] | None = None,
    track: Track | None = None,
) -> DistanceCounts:
    """Count the database by Hamming distance from each query, in integers.

    The database is streamed in blocks, each spread over the devices, and what they count is summed
    by one psum; the counts do not depend on any of that. Distances are never stored: 32 items at a
    time are compared, added up and counted as the bits of machine words.

    Args:
        query_codes: packed uint8, bool, 0/1, -1/+1 or real-valued codes; see
            `jaxhash.metrics.code_format`.
        query_labels: class ids [queries] with -1 for none, or multi-hot rows [queries, classes].
        database_codes: codes of the same form; a memory-mapped file is read block by block.
        database_labels: labels of the same kind.
        bits: length of a code, where packed codes do not fill their last byte.
        zero: what an exact zero of real-valued codes counts as: ``"+1"``, ``"-1"`` or ``"error"``.
        relevance: relevant is an item with a label in common (``"shared"``), with the same set of
            labels (``"equal"``), or to the degree of labels in common (``"graded"``).
        block: items counted at a time.
        devices: where to count; all local devices by default.
        track: shows how far the count is: takes the blocks, as they are read, and their number.

    Returns:
        Integer arrays [queries, bits + 1]; column d counts the items at distance d.

    Raises:
        ValueError: if codes or labels are empty, do not match, or hold what they cannot mean.
        TypeError: if they hold no numbers.

    Example:
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]], np.int8)
        >>> labels = np.array([0, 0, 1])
        >>> counts = distance_counts(codes[:1], labels[:1], codes, labels)
        >>> counts.total, counts.relevant
        (array([[1, 1, 1]]), array([[1, 1, 0]]))
    """
    query_codes, database_codes = np.asanyarray(query_codes), np.asanyarray(database_codes)
    codes = code_format(query_codes, database_codes, bits=bits, zero=zero)
    labels = read_labels(
        query_labels,
        database_labels,
        queries=len(query_codes),
        items=len(database_codes),
        relevance=relevance,
    )
    devices = tuple(jax.local_devices() if devices is None else devices)
    block = BLOCK * len(devices) if block is None else whole_number("block", block)
    if block < 1 or not devices:
        raise ValueError(f"block and devices must be at least 1, got {block} and {len(devices)}")
    counts = _count(query_codes, database_codes, codes, labels, block, devices, track)
    if relevance == "graded":
        return DistanceCounts(counts[:, 0], counts[:, 1:].sum(axis=1), counts[:, 1:].swapaxes(1, 2))
    return DistanceCounts(counts[:, 0], counts[:, 1])


def leave_one_out(counts: _Counts) -> _Counts:
    """The counts of items that search one another, each without itself.

    The counts tell which level an item is at with itself: that of its class in `SimilarityCounts`;
    with graded relevance the highest at distance 0, since an item shares as many labels with itself
    as it has, and more with none.

    Args:
        counts: of queries that are the database, in any order.

    Raises:
        ValueError: if a query has nothing at distance 0, or in `SimilarityCounts` nothing of its
            class there, so that it is no item of the database; or the counts do not know its class.

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
            raise ValueError("leave_one_out takes counts that know the class of each query")
        return counts._replace(total=total, items=_without_one(counts.items, counts.own))
    occupied = (counts.levels[:, 0] > 0) * np.arange(1, counts.levels.shape[2] + 1)
    own = occupied.max(axis=1) - 1  # -1 for an item without labels
    levels = _without_one(counts.levels, own)
    return DistanceCounts(total, levels.sum(axis=2), None if counts.gains is None else levels)


def _without_one(
    items: Int[np.ndarray, "queries distances levels"], level: Int[np.ndarray, " queries"]
) -> Int[np.ndarray, "queries distances levels"]:
    """One item less at distance 0 of this level; -1 for no level."""
    rows = np.flatnonzero(level >= 0)
    if (items[rows, 0, level[rows]] == 0).any():
        raise ValueError("leave_one_out takes counts of items that search one another")
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
    """Counts of all items, and of the relevant ones by level, at each distance."""
    items = len(database_codes)
    blocks = -(-items // block)
    words = -(-items // (blocks * WORD * len(devices))) * len(devices)

    def planes() -> Iterator[tuple[np.ndarray, ...]]:
        for start in range(0, items, words * WORD):
            part = slice(start, start + words * WORD)
            bits = codes.read(database_codes[part])
            yield (
                slice_bits(bits, words),
                slice_bits(labels.database[part], words),
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
    """The counts, of this shape, of each query in all blocks; a few queries a call.

    Args:
        counter: takes some queries and a block, both as below.
        queries: what there is to know of the queries, a row each.
        blocks: what there is to know of the items, arrays [rows, words], words over the devices.
        shape: of the counts of a query.
        devices: where to count.
    """
    number = len(queries[0])
    calls = -(-number // _QUERIES)
    rows = -(-number // calls)
    padding = ((0, calls * rows - number), (0, 0))
    sides = [np.pad(side, padding) for side in queries]
    counts = np.zeros((calls * rows, *shape), np.int64)
    # One device computes one call at a time on one core; several devices share the cores already.
    threads = _cores() if _on_cpu(devices) and len(devices) == 1 else 1
    with ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            block = tuple(jax.device_put(planes, _sharding(devices)) for planes in block)

            def count(first, block=block):
                mine = slice(first, first + rows)
                counts[mine] += np.asarray(counter(*(side[mine] for side in sides), *block))

            list(pool.map(count, range(0, len(counts), rows)))
    return counts[:number]


def queries_at_once(devices: tuple[jax.Device, ...]) -> int | None:
    """How many queries a device counts side by side: on a CPU the planes of one fill the cache."""
    return None if _on_cpu(devices) else _QUERIES


def _on_cpu(devices: tuple[jax.Device, ...]) -> bool:
    return devices[0].platform == "cpu"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_words(bits: np.ndarray) -> UInt32[np.ndarray, "queries bits"]:
    """Each bit spread over a whole word."""
    return np.where(bits, ONES, np.uint32(0))


def _sharding(devices: tuple[jax.Device, ...]) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(_mesh(devices), PartitionSpec(None, "items"))


def over_blocks(count: Callable, devices: tuple[jax.Device, ...]) -> Callable:
    """``count(queries, of queries, planes, of items, valid)``, compiled, the words over devices."""
    over_items = PartitionSpec(None, "items")
    sharded = jax.shard_map(
        count,
        mesh=_mesh(devices),
        in_specs=(PartitionSpec(), PartitionSpec(), over_items, over_items, over_items),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    unfused = _on_cpu(devices) and jax.__version_info__ < (0, 11, 2)
    return jax.jit(sharded, compiler_options=_BEFORE_BARRIERS if unfused else None)


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
    """The compiled count of some queries on a block, ``at_once`` of them side by side or each alone."""
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
    """The planes of the items of each gain, from 1."""
    query = query[:, None]
    if not multi_hot:  # ids: all digits agree, and the query's are not those of "no label"
        differ = lax.reduce(planes ^ query, np.uint32(0), lax.bitwise_or, (0,))
        return [~differ & lax.reduce(query, np.uint32(0), lax.bitwise_or, (0,))]
    if levels == 1:
        return [lax.reduce(planes & query, np.uint32(0), lax.bitwise_or, (0,))]
    shared = count_ones(planes & query)[: levels.bit_length()]
    return list(minterms(shared)[1 : levels + 1])


def _count_levels(
    digits: list[Plane], kinds: UInt32[Array, "kinds words"], bits: int
) -> Int32[Array, "kinds distances"]:
    """How many items of each kind have each number from 0 to ``bits``."""
    counts = jnp.sum(count_in_words(digits, kinds, bits), axis=-1)
    return counts.reshape(len(kinds), -1)[:, : bits + 1]


def count_in_words(
    digits: list[Plane], kinds: UInt32[Array, "kinds words"], bits: int
) -> Int32[Array, "kinds high low words"]:
    """How many items of each word have each number, of which the low digits are an axis."""
    digits = digits[: bits.bit_length()]
    low, high = digits[:3], digits[3:]
    low_planes = minterms(low)
    high_planes = minterms(high) if high else jnp.full_like(kinds[:1], ONES)
    high_planes = high_planes[: bits // len(low_planes) + 1]
    of_kind = kinds[:, None] & low_planes[None]
    at_level = high_planes[None, :, None] & of_kind[:, None]
    return lax.population_count(at_level).astype(jnp.int32)


def score_counts(
    scores: Float[np.ndarray, " items"], relevant: Shaped[np.ndarray, " items"]
) -> DistanceCounts:
    """The counts of one query for a ranking by real-valued scores, highest first.

    Each score of a relevant item has a column, and so have the items between two such scores, whose
    order changes nothing. Equal scores share a column, so the metrics treat them as ties too.

    Args:
        scores: score of each database item, such as a cosine.
        relevant: True for the relevant items.

    Raises:
        TypeError: if scores are not floating, or relevant not 0 and 1.
        ValueError: if scores are not finite, relevant is not 0 and 1, or the two are not of the same items.

    Example:
        >>> counts = score_counts(np.array([0.5, 0.9, 0.5]), np.array([True, False, False]))
        >>> counts.total, counts.relevant
        (array([[1, 2]]), array([[0, 1]]))
    """
    relevant = zeros_and_ones("relevant", relevant)
    check_scores(scores)
    check_shape("relevant", relevant, scores.shape)
    order = np.sort(-scores)
    levels, hits = np.unique(-scores[relevant], return_counts=True)
    starts, ends = (np.searchsorted(order, levels, side) for side in ("left", "right"))
    borders = np.stack([starts, ends], axis=1).ravel()
    total = np.diff(borders, prepend=0, append=len(scores))
    of_level = np.zeros_like(total)
    of_level[1::2] = hits
    held = total > 0
    return DistanceCounts(total[None, held], of_level[None, held])


def check_scores(scores: np.ndarray) -> None:
    """Raise unless scores can be ranked; of unsigned integers not even the sign can be turned."""
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        raise TypeError(f"scores must be floating, got {scores.dtype}")
    if scores.ndim != 1:
        raise ValueError(f"scores must have shape [items], got {scores.shape}")
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError("scores must be finite, at least one")
