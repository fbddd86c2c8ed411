"""Exact order statistics of each column without a sort, on one device or over a mapped axis.

The bits of a float, read as an integer (two's complement for negative floats), sort as the floats
do; these integers are the *keys*. The m largest entries of a column are found by counting the keys
above a threshold, four thresholds per round, until a threshold has exactly m keys above it. A round
reads the batch once and moves four counts per column, so the search needs no more memory than the
input, and over devices (``axis_name``) the traffic is independent of the number of rows.

Thresholds are placed by interpolation, which takes five to ten rounds on continuous data. If the
search has not ended by then, because entries are equal or span many magnitudes, the bracket is
shrunk to the entries inside it and then divided into five equal parts per round, which ends after
about 14 more rounds for any values.

Entries equal to the threshold are ordered by their row in the global batch (the rows of device 0,
then those of device 1, ...): later rows count as larger. This is the order of a stable ascending
sort, and is independent of the number of devices. -0 and +0 are equal; infinities are ordered as
usual; a NaN sorts beyond them, at a position that is the same every time.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Shaped

from jaxhash.ops._bracket import Bracket, choose_end, is_exact, is_settled, narrow
from jaxhash.ops.collectives import pmax, pmin, psum, row_count, row_indices
from jaxhash.ops.meshes import on_any_mesh, row_groups

#: Thresholds per round: one 32-bit word holds this many counts while a block is counted.
LANES = 4
#: Rows reduced in the first step: few enough for a CPU's nearest cache; threads take whole blocks.
BLOCK = 16
#: Rounds of interpolation before the bracket is divided into equal parts.
INTERPOLATION_ROUNDS = 10
#: Rows sampled to place the first thresholds.
SAMPLE = 512


class Threshold(NamedTuple):
    """The threshold of each column; an entry is above it if its (key, row) is greater."""

    key: Int[Array, "1 columns"]
    row: Int[Array, "1 columns"]


Thresholds = Int[Array, "lanes columns"]
PlaceThresholds = Callable[[Bracket], Thresholds]
CountAbove = Callable[[Thresholds], Int[Array, "lanes columns"]]


@on_any_mesh
def top_m_threshold(
    values: Float[Array, "n columns"],
    m: Int[ArrayLike, "..."],
    *,
    where: Bool[Array, " n"] | None = None,
    axis_name: str | None = None,
) -> Threshold:
    """Finds the threshold of each column with exactly its m largest entries above it.

    Args:
        values: float32, bfloat16 or float16 (float64 where enabled); not differentiated.
        m: number of entries above the threshold, one for all columns or one per column; may be
            traced. Clipped to 0 and the number of valid rows.
        where: True for the valid rows; the others are above no threshold.
        axis_name: mapped axis over which the rows are sharded; m then counts rows of all devices.

    Returns:
        The threshold, an argument of `is_above`.

    Raises:
        TypeError: if values are not floating.

    Example:
        >>> from jax import jit
        >>> values = jnp.array([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
        >>> is_above(jit(top_m_threshold)(values, jnp.array([1, 2])), values)
        Array([[ True, False],
               [False,  True],
               [False,  True]], dtype=bool)
    """
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"values must be floating, got {values.dtype}")
    values = lax.stop_gradient(values)
    count = row_count(values, where, axis_name)
    zeros = jnp.full_like(values, 0, jnp.int32, (1, values.shape[1]))  # varies as the values do
    m = zeros + jnp.clip(jnp.broadcast_to(m, zeros.shape), 0, count).astype(jnp.int32)

    def keys_above(thresholds):
        # The barrier keeps XLA from storing the keys of the whole batch before the loop.
        batch, thresholds = lax.optimization_barrier((values, thresholds))
        return _count_above(thresholds, to_keys(batch, where), axis_name)

    def tied_rows_above(key, thresholds):
        batch, thresholds = lax.optimization_barrier((values, thresholds))
        tied = jnp.where(
            to_keys(batch, where) == key, row_indices(values.shape[0], axis_name)[:, None], -1
        )
        return _count_above(thresholds, tied, axis_name)

    def through_ties(bracket):
        bracket = _shrink_to_keys(bracket, m, values, where, axis_name)
        bracket = _search(bracket, m, _divide_equally(bracket), _divide_equally, keys_above)
        missing = jnp.where(bracket.above_low == m, 0, m - bracket.above_high)
        key = choose_end(bracket, m)
        rows = _full_bracket(-1, last_row, count, m)
        rows = _search(
            rows, missing, _divide_equally(rows), _divide_equally, partial(tied_rows_above, key)
        )
        return Threshold(key.astype(info.dtype), choose_end(rows, missing))

    def at_exact_end(bracket):
        return Threshold(choose_end(bracket, m).astype(info.dtype), jnp.full_like(m, last_row))

    info = jnp.iinfo(to_keys(values).dtype)
    last_row = row_count(values, None, axis_name) - 1
    bracket = _search(
        _full_bracket(info.min, info.max, count, m, jnp.promote_types(info.dtype, jnp.int32)),
        m,
        _initial_thresholds(values, m, count, where, axis_name),
        lambda bracket: _interpolate(bracket, m, values.dtype),
        keys_above,
        INTERPOLATION_ROUNDS,
    )
    return lax.cond(jnp.all(is_exact(bracket, m)), at_exact_end, through_ties, bracket)


def is_above(
    threshold: Threshold, values: Float[Array, "n columns"], *, axis_name: str | None = None
) -> Bool[Array, "n columns"]:
    """Returns which entries are above the threshold; rows that were masked must be masked again.

    Example:
        >>> from jax import jit
        >>> values = jnp.array([[2.0], [2.0], [1.0]])
        >>> is_above(jit(top_m_threshold)(values, 1), values)[:, 0]
        Array([False,  True, False], dtype=bool)
    """
    keys = to_keys(values)
    rows = row_indices(values.shape[0], axis_name)[:, None]
    return (keys > threshold.key) | ((keys == threshold.key) & (rows > threshold.row))


@on_any_mesh
def include_next(
    threshold: Threshold,
    values: Float[Array, "n columns"],
    *,
    where: Bool[Array, " n"] | None = None,
    axis_name: str | None = None,
) -> Threshold:
    """Lowers the threshold of each column below one more entry, the largest of those not above it.

    Example:
        >>> from jax import jit
        >>> values = jnp.array([[3.0], [1.0], [2.0]])
        >>> @jit
        ... def largest_two(values):
        ...     return is_above(include_next(top_m_threshold(values, 1), values), values)
        >>> largest_two(values)[:, 0]
        Array([ True, False,  True], dtype=bool)
    """
    below = ~is_above(threshold, values, axis_name=axis_name)
    keys = jnp.where(below, to_keys(values, where), jnp.iinfo(threshold.key.dtype).min)
    key = pmax(_reduce_rows(jnp.max, keys), axis_name)
    row = jnp.where(keys == key, row_indices(values.shape[0], axis_name)[:, None], -1)
    return Threshold(key, pmax(_reduce_rows(jnp.max, row), axis_name) - 1)


@on_any_mesh
def mth_largest(
    values: Float[Array, "n columns"],
    m: Int[ArrayLike, "..."],
    *,
    where: Bool[Array, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " columns"]:
    """Returns the m-th largest value of each column, where m = 1 is the maximum.

    Arguments are those of `top_m_threshold`. The value is NaN where m is not between 1 and the
    number of valid rows.

    Example:
        >>> from jax import jit
        >>> values = jnp.array([[3.0, 0.5], [1.0, 0.5], [2.0, 0.7]])
        >>> jit(mth_largest)(values, jnp.array([2, 3]))
        Array([2. , 0.5], dtype=float32)
    """
    threshold = top_m_threshold(values, m, where=where, axis_name=axis_name)
    selected = is_above(threshold, values, axis_name=axis_name)
    if where is not None:
        selected &= where[:, None]
    keys = jnp.where(selected, to_keys(values), jnp.iinfo(threshold.key.dtype).max)
    least = pmin(_reduce_rows(jnp.min, keys), axis_name)
    exists = (m >= 1) & (m <= row_count(values, where, axis_name))
    return jnp.where(exists, _from_keys(least, values.dtype)[0], jnp.nan)


def _search(
    bracket: Bracket,
    m: Int[Array, "1 columns"],
    thresholds: Thresholds,
    place: PlaceThresholds,
    count_above: CountAbove,
    rounds: int | None = None,
) -> Bracket:
    """Narrows the bracket until every column is settled or the rounds are used up.

    The first thresholds are given; ``place`` chooses those of later rounds. The state of the loop
    is two arrays, the thresholds, and the bracket with the number of the round: with more arrays
    XLA on a CPU spends more time starting kernels than running them.
    """

    def is_unfinished(state):
        *ends, round = jnp.split(state[0], 5)
        unsettled = ~is_settled(Bracket(*ends), m)
        return jnp.any(unsettled if rounds is None else unsettled & (round < rounds))

    def next_round(state):
        *ends, round = jnp.split(state[0], 5)
        lanes = (jnp.split(lane, LANES) for lane in (state[1], count_above(state[1])))
        bracket = narrow(Bracket(*ends), m, zip(*lanes, strict=True))
        return jnp.concatenate([*bracket, round + 1]), _clip_inside(bracket, place(bracket))

    start = jnp.concatenate([*bracket, jnp.zeros_like(bracket.low)])
    state = lax.while_loop(is_unfinished, next_round, (start, _clip_inside(bracket, thresholds)))
    return Bracket(*jnp.split(state[0], 5)[:4])


def _full_bracket(
    least: int,
    most: int,
    count: Int[ArrayLike, ""],
    m: Int[Array, "1 columns"],
    integer: jnp.dtype = jnp.int32,
) -> Bracket:
    """Returns the bracket of all keys, which are greater than ``least`` and at most ``most``."""
    return Bracket(*(jnp.full_like(m, value, integer) for value in (least, most, count, 0)))


def _clip_inside(bracket: Bracket, thresholds: Thresholds) -> Thresholds:
    """Clips the thresholds to the inside of the bracket."""
    least = bracket.low + 1
    return jnp.clip(thresholds, least, jnp.maximum(bracket.high - 1, least))


def _count_above(
    thresholds: Thresholds, keys: Int[Array, "n columns"], axis_name: str | None
) -> Int[Array, "lanes columns"]:
    """Counts the keys of each column above each threshold, on all devices.

    One addition counts for all thresholds: within a block each count takes eight bits of one word.
    Blocks are added with 16 bits per count, two counts per word, and at last as int32.
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
    return psum(counts, axis_name)


def _divide_equally(bracket: Bracket) -> Thresholds:
    """Returns thresholds that divide the bracket into LANES + 1 equal parts."""
    integer = bracket.low.dtype
    unsigned = jnp.dtype(f"uint{jnp.iinfo(integer).bits}")
    width = (bracket.high - bracket.low).astype(unsigned).astype(jnp.float32)
    part = jnp.arange(1, LANES + 1, dtype=jnp.float32)[:, None] / (LANES + 1)
    return bracket.low + (part * width).astype(unsigned).astype(integer)


def _interpolate(bracket: Bracket, m: Int[Array, "1 columns"], dtype: jnp.dtype) -> Thresholds:
    """Returns two thresholds around the expected place of m, and two at the thirds of the bracket.

    Of the c keys in the bracket k are wanted below the threshold. If keys were uniform, the gap
    would be expected at (k + 1/2)/(c + 1), and the two thresholds lie one standard deviation to
    either side. Where keys are not uniform, as at the edge of a cluster, the thirds still shorten
    the bracket.
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
    value = _from_keys(low, dtype) * (1.0 - place) + _from_keys(high, dtype) * place
    keys = to_keys(value.astype(dtype)).astype(low.dtype)
    return jnp.where(jnp.isfinite(value), keys, _divide_equally(bracket))


def _initial_thresholds(
    values: Float[Array, "n columns"],
    m: Int[Array, "1 columns"],
    count: Int[ArrayLike, ""],
    where: Bool[Array, " n"] | None,
    axis_name: str | None,
) -> Thresholds:
    """Places the first thresholds by the mean and standard deviation of a sample of rows.

    Two lie a tenth of the deviation to either side of the quantile of a normal distribution; the
    outer two are the bounds of Cantelli's inequality, which hold for any distribution.
    """
    stride = max(1, values.shape[0] // SAMPLE)
    sample = values[::stride].astype(jnp.float32)
    weight = jnp.ones(sample.shape[:1]) if where is None else where[::stride].astype(jnp.float32)

    def mean_of(x):
        x = jnp.where(weight[:, None] > 0, x, 0.0)
        total = psum(jnp.sum(x, axis=0, keepdims=True), axis_name)
        return total / jnp.maximum(psum(jnp.sum(weight), axis_name), 1.0)

    mean = mean_of(sample)
    deviation = jnp.sqrt(mean_of((sample - mean) ** 2))
    below = jnp.clip(1.0 - m / jnp.maximum(count, 1), 1e-3, 1.0 - 1e-3)
    odds = below / (1.0 - below)
    normal = jnp.log(odds) / 1.702  # the logistic approximation of the probit
    scores = jnp.concatenate(
        [-1.01 / jnp.sqrt(odds), normal - 0.1, normal + 0.1, 1.01 * jnp.sqrt(odds)]
    )
    return to_keys((mean + scores * deviation).astype(values.dtype)).astype(m.dtype)


def _shrink_to_keys(
    bracket: Bracket,
    m: Int[Array, "1 columns"],
    values: Float[Array, "n columns"],
    where: Bool[Array, " n"] | None,
    axis_name: str | None,
) -> Bracket:
    """Shrinks the bracket to the keys inside it, to a single key if they are all equal."""
    keys = to_keys(values, where)
    inside = (keys > bracket.low) & (keys <= bracket.high)
    info = jnp.iinfo(keys.dtype)
    least = _reduce_rows(jnp.min, jnp.where(inside, keys, info.max))
    most = _reduce_rows(jnp.max, jnp.where(inside, keys, info.min))
    done = is_settled(bracket, m)
    return bracket._replace(
        low=jnp.where(done, bracket.low, pmin(least, axis_name) - 1),
        high=jnp.where(done, bracket.high, pmax(most, axis_name)),
    )


def to_keys(
    values: Float[Array, "..."], where: Bool[Array, " n"] | None = None
) -> Int[Array, "..."]:
    """Converts floats to integers of the same order; masked rows get the least integer."""
    integer = jnp.dtype(f"int{jnp.finfo(values.dtype).bits}")
    least = jnp.iinfo(integer).min
    bits = lax.bitcast_convert_type(values, integer)
    keys = jnp.where(bits < 0, least - bits, bits)
    return keys if where is None else jnp.where(where[:, None], keys, least)


def _from_keys(keys: Int[Array, "..."], dtype: jnp.dtype) -> Float[Array, "..."]:
    """Converts keys, which may have been widened, back to floats; the inverse of `to_keys`."""
    keys = keys.astype(f"int{jnp.finfo(dtype).bits}")
    bits = jnp.where(keys < 0, jnp.iinfo(keys.dtype).min - keys, keys)
    return lax.bitcast_convert_type(bits, dtype)


def _reduce_blocks(
    reduction: Callable[..., Array], array: Shaped[Array, "n columns"], most: int
) -> Shaped[Array, "blocks columns"]:
    """Reduces each block of at most ``most`` consecutive rows to one row."""
    rows = _block_rows(array.shape[0], most)
    full = array.shape[0] // rows * rows
    blocks = reduction(array[:full].reshape(-1, rows, array.shape[1]), axis=1)
    if full == array.shape[0]:
        return blocks
    return jnp.concatenate([blocks, reduction(array[full:], axis=0, keepdims=True)])


def _block_rows(rows: int, most: int) -> int:
    """Returns the rows of a block; under ``jax.jit`` with a mesh no block lies on two devices.

    The compiler would gather all rows on each device to make a block that does.
    """
    groups = row_groups(rows)
    if groups == 1:
        return most
    own = rows // groups
    return max(size for size in range(1, min(most, own) + 1) if own % size == 0)


def _reduce_rows(
    reduction: Callable[..., Array], array: Shaped[Array, "n columns"]
) -> Shaped[Array, "1 columns"]:
    """Reduces all rows to one; without the barrier XLA would store the array before reducing it."""
    blocks = lax.optimization_barrier(_reduce_blocks(reduction, array, BLOCK))
    return reduction(blocks, axis=0, keepdims=True)
