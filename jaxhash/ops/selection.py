"""Exact order statistics of each column without a sort, on one device or over a mapped axis.

A float's bits, read as an integer (two's complement where the float is negative), are in the order
of the floats: the *keys* here. The m largest entries of a column are found by counting how many
keys lie above a threshold, four thresholds a round, until a threshold has exactly m above it. A
round reads the batch once and moves four counts a column, so memory is that of the input, and over
devices (``axis_name``) the traffic is independent of the number of rows.

Thresholds are placed by interpolation, which ends after five to ten rounds on continuous data. If
it does not, because entries are equal or their scale spans many magnitudes, the bracket is drawn in
to the entries it holds, and then cut into five equal parts a round, which ends after some 14 rounds
more whatever the values.

Entries that are equal at the threshold are told apart by their row in the global batch (the rows of
device 0, then those of device 1, ...): the later rows count as larger. That is the order of a stable
ascending sort, and does not depend on how many devices hold the batch. -0 and +0 are equal;
infinities have their place; a NaN takes some place beyond them, the same every time.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Shaped

from jaxhash.ops.meshes import on_any_mesh

#: Thresholds a round: as many counts as one 32-bit word holds while a block is counted.
LANES = 4
#: Rows that are reduced together at first: few enough for a CPU's nearest cache, and each block is
#: work of its own for a thread.
BLOCK = 16
#: Rounds by interpolation, before the bracket is cut into equal parts.
INTERPOLATIONS = 10
#: Rows from which the first thresholds are guessed.
SAMPLE = 512


class Cut(NamedTuple):
    """Where each column is cut in two. An entry lies above if its (key, row) is the greater one."""

    key: Int[Array, "1 columns"]
    row: Int[Array, "1 columns"]


class _Bracket(NamedTuple):
    """Two thresholds a column, and how many keys lie above each: at least m, and at most m."""

    low: Int[Array, "..."]
    high: Int[Array, "..."]
    above_low: Int[Array, "..."]
    above_high: Int[Array, "..."]


Thresholds = Int[Array, "lanes columns"]
Place = Callable[[_Bracket], Thresholds]
CountAbove = Callable[[Thresholds], Int[Array, "lanes columns"]]


@on_any_mesh
def top_m_threshold(
    values: Float[Array, "n columns"],
    m: Int[ArrayLike, "..."],
    *,
    where: Bool[Array, " n"] | None = None,
    axis_name: str | None = None,
    kernel: bool = False,
) -> Cut:
    """Cut each column so that exactly its m largest entries lie above.

    Args:
        values: float32, bfloat16 or float16 (float64 where enabled); not differentiated.
        m: how many: one number, or one a column; may be traced. Clipped to 0 and the number of rows.
        where: True for the valid rows; the others lie above no cut.
        axis_name: mapped axis over which the rows are spread; m then counts rows of all devices.
        kernel: search in one Pallas kernel, for a GPU; see `jaxhash.ops._selection_kernel`.

    Returns:
        The cut, to be read by `above`.

    Raises:
        TypeError: if values are not floating.
        ValueError: if ``kernel`` is asked for float64 or together with ``axis_name``.

    Example:
        >>> values = jnp.array([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
        >>> above(top_m_threshold(values, jnp.array([1, 2])), values)
        Array([[ True, False],
               [False,  True],
               [False,  True]], dtype=bool)
    """
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"values must be floating, got {values.dtype}")
    if kernel and (axis_name is not None or jnp.finfo(values.dtype).bits > 32):
        raise ValueError("the kernel searches the batch of one device, of 32 bits at most")
    values = lax.stop_gradient(values)
    count = row_count(values, where, axis_name)
    none = jnp.full_like(values, 0, jnp.int32, (1, values.shape[1]))  # varies as the values do
    m = none + jnp.clip(jnp.broadcast_to(m, none.shape), 0, count).astype(jnp.int32)

    def keys_above(thresholds):
        # The barrier keeps XLA from storing the keys of the whole batch before the loop.
        fresh, thresholds = lax.optimization_barrier((values, thresholds))
        return _count_above(thresholds, _keys(fresh, where), axis_name)

    def tied_rows_above(key, thresholds):
        fresh, thresholds = lax.optimization_barrier((values, thresholds))
        tied = jnp.where(
            _keys(fresh, where) == key, row_numbers(values.shape[0], axis_name)[:, None], -1
        )
        return _count_above(thresholds, tied, axis_name)

    def through_ties(bracket):
        bracket = _drawn_in(bracket, m, values, where, axis_name)
        bracket = _search(bracket, m, _equal_parts(bracket), _equal_parts, keys_above)
        missing = jnp.where(bracket.above_low == m, 0, m - bracket.above_high)
        key = _end(bracket, m)
        rows = _whole(-1, last_row, count, m)
        rows = _search(
            rows, missing, _equal_parts(rows), _equal_parts, partial(tied_rows_above, key)
        )
        return Cut(key.astype(info.dtype), _end(rows, missing))

    def between_keys(bracket):
        return Cut(_end(bracket, m).astype(info.dtype), jnp.full_like(m, last_row))

    info = jnp.iinfo(_keys(values).dtype)
    last_row = values.shape[0] * _devices(axis_name) - 1
    if kernel:
        from jaxhash.ops._selection_kernel import search_in_kernel  # Pallas is slow to import

        bracket = search_in_kernel(_keys(values, where), m)
    else:
        bracket = _search(
            _whole(info.min, info.max, count, m, jnp.promote_types(info.dtype, jnp.int32)),
            m,
            _guess(values, m, count, where, axis_name),
            lambda bracket: _interpolated(bracket, m, values.dtype),
            keys_above,
            INTERPOLATIONS,
        )
    return lax.cond(jnp.all(_is_exact(bracket, m)), between_keys, through_ties, bracket)


def above(
    cut: Cut, values: Float[Array, "n columns"], *, axis_name: str | None = None
) -> Bool[Array, "n columns"]:
    """Which entries lie above the cut. Rows that were masked in finding it are to be masked again.

    Example:
        >>> values = jnp.array([[2.0], [2.0], [1.0]])
        >>> above(top_m_threshold(values, 1), values)[:, 0]
        Array([False,  True, False], dtype=bool)
    """
    keys = _keys(values)
    return (keys > cut.key) | (
        (keys == cut.key) & (row_numbers(values.shape[0], axis_name)[:, None] > cut.row)
    )


@on_any_mesh
def include_next(
    cut: Cut,
    values: Float[Array, "n columns"],
    *,
    where: Bool[Array, " n"] | None = None,
    axis_name: str | None = None,
) -> Cut:
    """The cut that has one entry more above it in each column: the largest of those below.

    Example:
        >>> values = jnp.array([[3.0], [1.0], [2.0]])
        >>> above(include_next(top_m_threshold(values, 1), values), values)[:, 0]
        Array([ True, False,  True], dtype=bool)
    """
    below = ~above(cut, values, axis_name=axis_name)
    keys = jnp.where(below, _keys(values, where), jnp.iinfo(cut.key.dtype).min)
    key = _over_devices(lax.pmax, _reduce_rows(jnp.max, keys), axis_name)
    row = jnp.where(keys == key, row_numbers(values.shape[0], axis_name)[:, None], -1)
    return Cut(key, _over_devices(lax.pmax, _reduce_rows(jnp.max, row), axis_name) - 1)


@on_any_mesh
def mth_largest(
    values: Float[Array, "n columns"],
    m: Int[ArrayLike, "..."],
    *,
    where: Bool[Array, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " columns"]:
    """The m-th largest value of each column, m = 1 being the maximum; arguments as in `top_m_threshold`.

    NaN where m is not between 1 and the number of valid rows.

    Example:
        >>> mth_largest(jnp.array([[3.0, 0.5], [1.0, 0.5], [2.0, 0.7]]), jnp.array([2, 3]))
        Array([2. , 0.5], dtype=float32)
    """
    cut = top_m_threshold(values, m, where=where, axis_name=axis_name)
    inside = above(cut, values, axis_name=axis_name)
    if where is not None:
        inside &= where[:, None]
    keys = jnp.where(inside, _keys(values), jnp.iinfo(cut.key.dtype).max)
    least = _over_devices(lax.pmin, _reduce_rows(jnp.min, keys), axis_name)
    exists = (m >= 1) & (m <= row_count(values, where, axis_name))
    return jnp.where(exists, _floats(least, values.dtype)[0], jnp.nan)


def row_count(
    values: Float[Array, "n columns"], where: Bool[Array, " n"] | None, axis_name: str | None
) -> Int[ArrayLike, ""]:
    """The number of valid rows on all devices; a Python integer where it is known beforehand."""
    if where is None:
        return values.shape[0] * _devices(axis_name)
    return _over_devices(lax.psum, jnp.sum(where, dtype=jnp.int32), axis_name)


def _search(
    bracket: _Bracket,
    m: Int[Array, "1 columns"],
    thresholds: Thresholds,
    place: Place,
    count_above: CountAbove,
    rounds: int | None = None,
) -> _Bracket:
    """Narrow the bracket until all is settled or the rounds end.

    The first thresholds are given, later ones are placed in the bracket. The loop's state is two
    arrays, thresholds beside the bracket and the number of the round: with an array for each, XLA
    on a CPU spends more time on starting kernels than in them.
    """

    def goes_on(state):
        *ends, round = jnp.split(state[0], 5)
        unsettled = ~_settled(_Bracket(*ends), m)
        return jnp.any(unsettled if rounds is None else unsettled & (round < rounds))

    def narrow(state):
        *ends, round = jnp.split(state[0], 5)
        lanes = (jnp.split(lane, LANES) for lane in (state[1], count_above(state[1])))
        bracket = _narrowed(_Bracket(*ends), m, zip(*lanes, strict=True))
        return jnp.concatenate([*bracket, round + 1]), _inside(bracket, place(bracket))

    start = jnp.concatenate([*bracket, jnp.zeros_like(bracket.low)])
    state = lax.while_loop(goes_on, narrow, (start, _inside(bracket, thresholds)))
    return _Bracket(*jnp.split(state[0], 5)[:4])


def _whole(
    least: int,
    most: int,
    count: Int[ArrayLike, ""],
    m: Int[Array, "1 columns"],
    integer: jnp.dtype = jnp.int32,
) -> _Bracket:
    """The bracket that holds all keys: more than ``least``, at most ``most``."""
    return _Bracket(*(jnp.full_like(m, value, integer) for value in (least, most, count, 0)))


def _inside(bracket: _Bracket, thresholds: Thresholds) -> Thresholds:
    """The thresholds moved between the bracket's ends."""
    least = bracket.low + 1
    return jnp.clip(thresholds, least, jnp.maximum(bracket.high - 1, least))


def _is_exact(bracket: _Bracket, m: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a threshold has exactly m keys above it."""
    return (bracket.above_low == m) | (bracket.above_high == m)


def _end(bracket: _Bracket, m: Int[Array, "..."]) -> Int[Array, "..."]:
    """The threshold with m keys above it; the higher one where there is none."""
    return jnp.where(bracket.above_low == m, bracket.low, bracket.high)


def _settled(bracket: _Bracket, m: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a threshold has exactly m keys above it, or all keys in between are equal."""
    return _is_exact(bracket, m) | (bracket.high - bracket.low == 1)


def _narrowed(
    bracket: _Bracket, m: Int[Array, "..."], counted: Iterable[tuple[Array, Array]]
) -> _Bracket:
    """The bracket with the closest thresholds as its ends, given the count above each."""
    low, high, above_low, above_high = bracket
    for threshold, count in counted:
        low = jnp.where(count >= m, jnp.maximum(low, threshold), low)
        above_low = jnp.where(count >= m, jnp.minimum(above_low, count), above_low)
        high = jnp.where(count <= m, jnp.minimum(high, threshold), high)
        above_high = jnp.where(count <= m, jnp.maximum(above_high, count), above_high)
    return _Bracket(low, high, above_low, above_high)


def _count_above(
    thresholds: Thresholds, keys: Int[Array, "n columns"], axis_name: str | None
) -> Int[Array, "lanes columns"]:
    """How many keys of each column lie above each threshold, on all devices.

    One addition counts for all thresholds: a block's counts have eight bits each of one word. They
    are added up as 16 bits each of two words, and at last as numbers.
    """
    thresholds = thresholds.astype(keys.dtype)
    word = sum(
        jnp.where(keys > threshold, jnp.uint32(1 << 8 * lane), jnp.uint32(0))
        for lane, threshold in enumerate(jnp.split(thresholds, LANES))
    )
    words = _reduce_blocks(jnp.sum, word, BLOCK)
    halves = jnp.concatenate([words, words >> 8], axis=1) & 0x00FF00FF
    halves = _reduce_blocks(jnp.sum, halves, 0xFFFF // BLOCK)
    lanes = jnp.concatenate([halves, halves >> 16], axis=1) & 0xFFFF
    counts = jnp.sum(lanes, axis=0).reshape(LANES, keys.shape[1]).astype(jnp.int32)
    return _over_devices(lax.psum, counts, axis_name)


def _equal_parts(bracket: _Bracket) -> Thresholds:
    """Thresholds that cut the bracket into LANES + 1 equal parts."""
    integer = bracket.low.dtype
    unsigned = jnp.dtype(f"uint{jnp.iinfo(integer).bits}")
    width = (bracket.high - bracket.low).astype(unsigned).astype(jnp.float32)
    part = jnp.arange(1, LANES + 1, dtype=jnp.float32)[:, None] / (LANES + 1)
    return bracket.low + (part * width).astype(unsigned).astype(integer)


def _interpolated(bracket: _Bracket, m: Int[Array, "1 columns"], dtype: jnp.dtype) -> Thresholds:
    """Two thresholds about the place where m is expected, and two at the thirds of the bracket.

    If the k keys wanted below the threshold, of c in the bracket, were uniform in it, the gap would
    lie at (k + 1/2)/(c + 1), give or take a standard deviation; the outer thresholds shorten the
    bracket to a third where they are not, as at the edge of a cluster.
    """
    low, high, above_low, above_high = (
        jnp.broadcast_to(row, (LANES, m.shape[1])) for row in bracket
    )
    unit = 1.0 / (above_low - above_high + 1)
    expected = (above_low - m + 0.5) * unit
    deviation = jnp.sqrt(expected * (1.0 - expected) * unit)
    place = expected + jnp.array([-1.0, 1.0, 0.0, 0.0])[:, None] * deviation
    thirds = jnp.array([0.0, 0.0, 1 / 3, 2 / 3])[:, None]
    place = jnp.clip(jnp.where(thirds > 0, thirds, place), 0.25 * unit, 1.0 - 0.25 * unit)
    value = _floats(low, dtype) * (1.0 - place) + _floats(high, dtype) * place
    keys = _keys(value.astype(dtype)).astype(low.dtype)
    return jnp.where(jnp.isfinite(value), keys, _equal_parts(bracket))


def _guess(
    values: Float[Array, "n columns"],
    m: Int[Array, "1 columns"],
    count: Int[ArrayLike, ""],
    where: Bool[Array, " n"] | None,
    axis_name: str | None,
) -> Thresholds:
    """First thresholds, from mean and deviation of a sample of rows.

    The quantile of a normal law, give or take a tenth of the deviation, and the bounds that
    Cantelli's inequality gives for every law.
    """
    stride = max(1, values.shape[0] // SAMPLE)
    sample = values[::stride].astype(jnp.float32)
    weight = jnp.ones(sample.shape[:1]) if where is None else where[::stride].astype(jnp.float32)

    def mean_of(x):
        x = jnp.where(weight[:, None] > 0, x, 0.0)
        total = _over_devices(lax.psum, jnp.sum(x, axis=0, keepdims=True), axis_name)
        return total / jnp.maximum(_over_devices(lax.psum, jnp.sum(weight), axis_name), 1.0)

    mean = mean_of(sample)
    deviation = jnp.sqrt(mean_of((sample - mean) ** 2))
    below = jnp.clip(1.0 - m / jnp.maximum(count, 1), 1e-3, 1.0 - 1e-3)
    odds = below / (1.0 - below)
    normal = jnp.log(odds) / 1.702  # the logistic approximation of the probit
    scores = jnp.concatenate(
        [-1.01 / jnp.sqrt(odds), normal - 0.1, normal + 0.1, 1.01 * jnp.sqrt(odds)]
    )
    return _keys((mean + scores * deviation).astype(values.dtype)).astype(m.dtype)


def _drawn_in(
    bracket: _Bracket,
    m: Int[Array, "1 columns"],
    values: Float[Array, "n columns"],
    where: Bool[Array, " n"] | None,
    axis_name: str | None,
) -> _Bracket:
    """The bracket drawn in to the keys it holds: to a single one if they are all equal."""
    keys = _keys(values, where)
    inside = (keys > bracket.low) & (keys <= bracket.high)
    info = jnp.iinfo(keys.dtype)
    least = _reduce_rows(jnp.min, jnp.where(inside, keys, info.max))
    most = _reduce_rows(jnp.max, jnp.where(inside, keys, info.min))
    done = _settled(bracket, m)
    return bracket._replace(
        low=jnp.where(done, bracket.low, _over_devices(lax.pmin, least, axis_name) - 1),
        high=jnp.where(done, bracket.high, _over_devices(lax.pmax, most, axis_name)),
    )


def _keys(values: Float[Array, "..."], where: Bool[Array, " n"] | None = None) -> Int[Array, "..."]:
    """Integers in the order of the floats; rows that are masked get the least one."""
    integer = jnp.dtype(f"int{jnp.finfo(values.dtype).bits}")
    least = jnp.iinfo(integer).min
    bits = lax.bitcast_convert_type(values, integer)
    keys = jnp.where(bits < 0, least - bits, bits)
    return keys if where is None else jnp.where(where[:, None], keys, least)


def _floats(keys: Int[Array, "..."], dtype: jnp.dtype) -> Float[Array, "..."]:
    """The floats of keys, which may have been widened; the inverse of `_keys`."""
    keys = keys.astype(f"int{jnp.finfo(dtype).bits}")
    bits = jnp.where(keys < 0, jnp.iinfo(keys.dtype).min - keys, keys)
    return lax.bitcast_convert_type(bits, dtype)


def _reduce_blocks(
    reduction: Callable[..., Array], array: Shaped[Array, "n columns"], rows: int
) -> Shaped[Array, "blocks columns"]:
    """Reduce each block of consecutive rows to one row; the last block may be shorter."""
    full = array.shape[0] // rows * rows
    blocks = reduction(array[:full].reshape(-1, rows, array.shape[1]), axis=1)
    if full == array.shape[0]:
        return blocks
    return jnp.concatenate([blocks, reduction(array[full:], axis=0, keepdims=True)])


def _reduce_rows(
    reduction: Callable[..., Array], array: Shaped[Array, "n columns"]
) -> Shaped[Array, "1 columns"]:
    """Reduce all rows to one. Without the barrier XLA would store the array to reduce it."""
    blocks = lax.optimization_barrier(_reduce_blocks(reduction, array, BLOCK))
    return reduction(blocks, axis=0, keepdims=True)


def row_numbers(rows: int, axis_name: str | None) -> Int[Array, " rows"]:
    """The number in the global batch of each of this device's rows."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * rows
    return first + jnp.arange(rows, dtype=jnp.int32)


def _devices(axis_name: str | None) -> int:
    return 1 if axis_name is None else lax.axis_size(axis_name)


def _over_devices(
    collective: Callable[[Array, str], Array], value: Array, axis_name: str | None
) -> Array:
    return value if axis_name is None else collective(value, axis_name)
