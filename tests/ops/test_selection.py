"""Selection against NumPy's stable sort: the m largest are the last m of the ascending order.

The oracle sees the values in float64, where every float32, bfloat16 and float16 is exact, and orders
equal ones by their row in the global batch.
"""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis.extra.numpy import arrays

from jaxhash.ops.collectives import row_count
from jaxhash.ops.selection import include_next, is_above, mth_largest, top_m_threshold

DEVICES = 8


def kinds(n, dtype=jnp.float32, seed=0):
    """Draws n rows with one column for each kind of values."""
    rng, info = np.random.default_rng([seed, n]), jnp.finfo(dtype)
    normal, sign = rng.normal(size=n), rng.choice([-1.0, 1.0], n)
    least = float(info.smallest_subnormal)
    most = float(info.max)
    decades = np.log10(most) / 4
    columns = {
        "normal": normal,
        "two clusters": sign + 0.01 * normal,
        "many magnitudes": np.clip(10.0 ** (decades * rng.normal(size=n)), -most, most),
        "magnitudes of both signs": np.clip(sign * 10.0 ** (decades * normal), -most, most),
        "few values": rng.choice([-1.0, 0.5, 2.0], n),
        "all equal": np.full(n, 0.3),
        "all zero": np.zeros(n),
        "a grid": np.round(4 * normal) / 4,
        "zeros of both signs": rng.choice([-0.0, 0.0], n),
        "about zero": rng.choice([-0.0, 0.0, least, -least], n),
        "infinities": rng.choice([-np.inf, np.inf, 1.0, most, -most], n),
        "only infinities": rng.choice([-np.inf, np.inf], n),
        "subnormal": rng.integers(-50, 50, n) * least,
        "huge": rng.uniform(-1, 1, n) * most,
        "one far out": np.where(np.arange(n) == n // 2, most, 1e-3 * normal),
        "neighbors": np.nextafter(np.float32(1), np.float32(2)) ** rng.integers(0, 4, n),
        "ascending": np.arange(n),
        "descending": -np.arange(n),
    }
    return jnp.asarray(np.stack(list(columns.values()), axis=1).astype(dtype))


def counts_of(n, columns, seed=0):
    """Returns rows [columns] of numbers m, equal in all columns or different."""
    same = [-3, 0, 1, n // 2, n - 1, n, n + 5]
    each = np.random.default_rng([seed, n]).integers(-1, n + 2, (3, columns))
    return np.concatenate([np.repeat(np.array(same)[:, None], columns, axis=1), each])


def last_of_stable_order(values, m, where=None):
    values = np.asarray(values).astype(np.float64)
    n, columns = values.shape
    valid = np.arange(n) if where is None else np.flatnonzero(where)
    chosen = np.zeros((n, columns), bool)
    for j, wanted in enumerate(np.broadcast_to(m, columns)):
        order = valid[np.argsort(values[valid, j], kind="stable")]
        chosen[order[len(order) - np.clip(wanted, 0, len(order)) :], j] = True
    return chosen


def sets(values, m, where=None, axis_name=None):
    """Returns the m largest of each column, the m + 1 largest, and the m-th largest value."""
    cut = top_m_threshold(values, m, where=where, axis_name=axis_name)
    further = include_next(cut, values, where=where, axis_name=axis_name)
    chosen = [is_above(c, values, axis_name=axis_name) for c in (cut, further)]
    if where is not None:
        chosen = [c & where[:, None] for c in chosen]
    return chosen


select = jax.jit(sets)
statistic = jax.jit(mth_largest)


def check_sets(found, values, m, where=None):
    """Asserts that `found` is exactly the m and the m + 1 entries of the oracle."""
    m = np.clip(m, 0, len(values))
    np.testing.assert_array_equal(found[0], last_of_stable_order(values, m, where))
    np.testing.assert_array_equal(found[1], last_of_stable_order(values, m + 1, where))


def check_statistic(found, values, m, where=None):
    values, m = np.asarray(values), np.broadcast_to(m, values.shape[1:])
    values = values if where is None else values[np.asarray(where)]
    exists = (m >= 1) & (m <= len(values))
    assert found.dtype == values.dtype
    assert np.isnan(found[~exists]).all()
    ordered = np.sort(values.astype(np.float64), axis=0)
    for j in np.flatnonzero(exists):
        assert float(found[j]) == ordered[-m[j], j]


# One device


@pytest.mark.parametrize(
    ("dtype", "n"),
    [(jnp.float32, n) for n in (1, 2, 3, 15, 16, 17, 255, 256, 257, 1000, 4097)]
    + [(jnp.bfloat16, 3), (jnp.bfloat16, 257), (jnp.float16, 257)],
)
def test_the_m_largest_are_the_last_of_the_stable_order(dtype, n):
    values = kinds(n, dtype)
    for m in counts_of(n, values.shape[1]):
        check_sets(select(values, m), values, m)


def test_counts_of_a_very_tall_batch_do_not_overflow():
    """There are more rows than 16 bits can count, all of them above some thresholds."""
    n = 70_001
    values = kinds(n)[:, [0, 4, 5]]
    for m in (1, 65_536, n - 1):
        m = np.full(3, m)
        check_sets(select(values, m), values, m)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_masked_rows_are_no_rows(dtype):
    """Masked rows are ignored even if they are NaN or infinite."""
    values, n = kinds(257, dtype), 257
    rng = np.random.default_rng(0)
    masks = [rng.random(n) < share for share in (0.5, 0.03, 0.98)]
    masks += [np.arange(n) >= 250, np.arange(n) == 7, np.ones(n, bool), np.zeros(n, bool)]
    for where, filling in zip(
        masks, [np.nan, np.inf, -np.inf, -np.nan, np.nan, 0.0, 0.0], strict=True
    ):
        filled = jnp.where(where[:, None], values, jnp.asarray(filling, dtype))
        for m in counts_of(where.sum(), values.shape[1]):
            check_sets(select(filled, m, where), values, m, where)
            if dtype == jnp.float32:
                check_statistic(statistic(filled, m, where=where), values, m, where)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_mth_largest_is_that_of_a_sort(dtype):
    values = kinds(33, dtype)
    for m in counts_of(33, values.shape[1]):
        check_statistic(statistic(values, m), values, m)


def test_m_may_be_a_number_or_an_array_traced_or_not():
    values = kinds(17)
    expected = last_of_stable_order(values, 5)
    known = jax.jit(lambda values: sets(values, 5)[0])(values)
    scalar = select(values, jnp.int32(5))[0]
    for found in (known, scalar):
        np.testing.assert_array_equal(found, expected)


def test_mth_largest_ascends_with_m():
    """For m = 1 and m = n it is the maximum and the minimum."""
    values = kinds(33)
    largest = np.stack([statistic(values, np.full(values.shape[1], m)) for m in range(1, 34)])
    assert np.all(largest[1:] <= largest[:-1])
    np.testing.assert_array_equal(largest[0], np.max(np.asarray(values), axis=0))
    np.testing.assert_array_equal(largest[-1], np.min(np.asarray(values), axis=0))


def test_nan_is_beyond_the_infinities_and_always_at_the_same_place():
    """With NaN of any sign and payload m entries are above, and numbers keep their order."""
    quiet = np.array([0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32)
    rng = np.random.default_rng(0)
    values = np.array(kinds(257))
    hit = rng.random(values.shape) < 0.1
    hit[:, 0] = True
    hit[:, 1] = False
    values[hit] = rng.choice(quiet, hit.sum()).view(np.float32)
    for m in counts_of(257, values.shape[1]):
        found, further = (np.asarray(chosen) for chosen in select(values, m))
        again = select(values, m)
        np.testing.assert_array_equal(found, again[0])
        np.testing.assert_array_equal(found.sum(axis=0), np.clip(m, 0, 257))
        np.testing.assert_array_equal(further.sum(axis=0), np.clip(m, 0, 257) + (m < 257))
        for j in range(values.shape[1]):
            number = ~np.isnan(values[:, j : j + 1])
            kept = found[number[:, 0], j : j + 1]
            numbers = values[number[:, 0], j : j + 1]
            np.testing.assert_array_equal(kept, last_of_stable_order(numbers, kept.sum()))
            if 0 < kept.sum() < number.sum():  # then no NaN lies between numbers
                positive = np.signbit(values[:, j]) < np.isnan(values[:, j])
                assert found[positive, j].all()


def test_vmap_is_a_loop():
    values = jnp.stack([kinds(17, seed=seed) for seed in range(3)])
    m = np.stack([counts_of(17, values.shape[2], seed)[-1] for seed in range(3)])
    where = np.random.default_rng(0).random((3, 17)) < 0.7
    found = jax.jit(jax.vmap(sets))(values, m, where)
    for i in range(3):
        check_sets([chosen[i] for chosen in found], values[i], m[i], where[i])


def test_is_a_constant_to_differentiation():
    values = kinds(17)[:, :2]
    slope = jax.jit(jax.grad(lambda v: jnp.sum(jnp.where(sets(v, 5)[0], v, 0.0))))(values)
    np.testing.assert_array_equal(slope, last_of_stable_order(values, 5).astype(float))


def test_float64_where_enabled():
    """Values that are equal in float32."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        values = np.stack([rng.normal(size=33), 1 + 1e-14 * rng.integers(-9, 9, 33)], axis=1)
        values = np.concatenate([values, 1e300 * values, 5e-324 * rng.integers(-9, 9, (33, 1))], 1)
        for m in (0, 1, 16, 33):
            found = jax.jit(sets)(jnp.asarray(values), m)
            check_sets(found, values, m)
            check_statistic(jax.jit(mth_largest)(jnp.asarray(values), m), values, np.array(m))


def test_values_must_be_floating(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match=r"\bvalues\b.*int32"):
        top_m_threshold(jnp.arange(6).reshape(3, 2), 1)


# Several devices


def over_devices(mapping):
    def each(values, m, where):
        count = row_count(values, where, "device")
        largest = mth_largest(values, m, where=where, axis_name="device")
        return sets(values, m, where, "device"), largest, count

    mapped = jax.pmap if mapping == "pmap" else lambda f, **axes: jax.jit(jax.vmap(f, **axes))
    return mapped(each, axis_name="device", in_axes=(0, None, 0))


@pytest.mark.parametrize("mapping", ["pmap", "vmap"])
def test_eight_devices_are_one(mapping):
    """Equal values are on several devices; those of the later device count as larger."""
    rows = 3
    values, mapped = kinds(DEVICES * rows), over_devices(mapping)
    rng = np.random.default_rng(0)
    masks = [np.ones(24, bool), np.arange(24) < 17, rng.random(24) < 0.5, np.zeros(24, bool)]
    for where in masks:
        shards = values.reshape(DEVICES, rows, -1), where.reshape(DEVICES, rows)
        for m in counts_of(where.sum(), values.shape[1]):
            found, largest, count = mapped(shards[0], m, shards[1])
            check_sets([chosen.reshape(values.shape) for chosen in found], values, m, where)
            for each in largest:
                check_statistic(each, values, m, where)
            assert np.all(count == where.sum())


# Any values


@st.composite
def problems(draw):
    """Draws float32 values, many of them equal, a number m for each column, and a mask."""
    n, columns = draw(st.sampled_from([(1, 1), (5, 3), (33, 2)]))
    number = st.floats(width=32, allow_nan=False, allow_infinity=True, allow_subnormal=True)
    pool = draw(st.lists(number, min_size=1, max_size=5))
    elements = draw(st.sampled_from([st.sampled_from(pool), st.sampled_from(pool) | number]))
    values = draw(arrays(np.float32, (n, columns), elements=elements))
    m = draw(arrays(np.int32, columns, elements=st.integers(-1, n + 1)))
    where = draw(st.just(np.ones(n, bool)) | arrays(bool, n))
    return values, m, where


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
@hypothesis.given(problem=problems())
def test_any_values(problem):
    values, m, where = problem
    check_sets(select(values, m, where), values, m, where)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    values=arrays(
        np.float32,
        (33, 2),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True),
    ),
    m=st.integers(0, 33),
)
def test_order_is_all_that_counts(values, m):
    """Ranks have the threshold of their values, and negated values that of the complement."""
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in values.T], axis=1)

    def cut(values, m):
        return np.asarray(select(values, np.full(2, m, np.int32), np.ones(33, bool))[0])

    found = cut(values, m)
    np.testing.assert_array_equal(found, cut(ranks.astype(np.float32), m))
    rest = cut(-values[::-1], 33 - m)[::-1]
    np.testing.assert_array_equal(found, ~rest)
