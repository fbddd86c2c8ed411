"""Sums, means, gathers and row indices over a mapped axis, against one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.ops.collectives import (
    all_gather,
    masked_mean,
    pmax,
    pmin,
    psum,
    psum_local_grad,
    psum_no_grad,
    row_count,
    row_indices,
    split_grad,
)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_masked_mean_is_over_the_valid_rows(shape):
    where = np.array([True, False, True, True])
    values = normal(4, *shape).at[1].set(jnp.nan)
    mean = masked_mean(values, jnp.asarray(where), None)
    np.testing.assert_allclose(mean, np.asarray(values)[where].mean(axis=0), rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(masked_mean(x, jnp.asarray(where), None)))(values)
    np.testing.assert_allclose(slope[where], np.full((3, *shape), 1 / 3), rtol=1e-6)
    np.testing.assert_array_equal(slope[1], 0.0)
    np.testing.assert_array_equal(masked_mean(values, jnp.zeros(4, bool), None), np.zeros(shape))


def test_masked_mean_over_devices():
    values, where = normal(16, 3), jnp.arange(16) < 11
    mean = jax.pmap(lambda x, valid: masked_mean(x, valid, "device"), "device")(
        values.reshape(8, 2, 3), where.reshape(8, 2)
    )
    np.testing.assert_allclose(mean, np.tile(values[:11].mean(axis=0), (8, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("reduce", "expected", "slope"),
    [(psum, 36.0, 8.0), (psum_no_grad, 36.0, 0.0), (psum_local_grad, 36.0, 1.0)],
)
def test_sums_over_devices(reduce, expected, slope):
    """Under vmap, as under pmap, the gradient of ``psum`` is summed over the devices."""
    values, slopes = jax.vmap(
        jax.value_and_grad(lambda x: reduce(x, "device")), axis_name="device"
    )(jnp.arange(1.0, 9.0))
    np.testing.assert_array_equal(values, np.full(8, expected))
    np.testing.assert_array_equal(slopes, np.full(8, slope))
    np.testing.assert_array_equal(reduce(jnp.float32(3.0), None), 3.0)


def test_extremes_over_devices():
    values = jnp.arange(8.0)
    least, most = jax.vmap(lambda x: (pmin(x, "device"), pmax(x, "device")), axis_name="device")(
        values
    )
    np.testing.assert_array_equal(least, np.zeros(8))
    np.testing.assert_array_equal(most, np.full(8, 7.0))


def test_shares_of_a_gathered_batch_add_up():
    """Every device computes the same value of the gathered rows; the gradient is counted once."""
    rows = normal(16, 3)

    def total(x, axis_name):
        return split_grad(jnp.sum(all_gather(x, axis_name) ** 3), axis_name)

    value, slope = jax.vmap(jax.value_and_grad(lambda x: total(x, "device")), axis_name="device")(
        rows.reshape(8, 2, 3)
    )
    np.testing.assert_allclose(value, np.full(8, total(rows, None)), rtol=1e-5)
    np.testing.assert_allclose(slope.reshape(16, 3), 3 * rows**2, rtol=1e-5)


def test_rows_are_numbered_over_devices():
    indices = jax.vmap(lambda x: row_indices(len(x), "device"), axis_name="device")(
        jnp.zeros((8, 2))
    )
    np.testing.assert_array_equal(indices.reshape(-1), np.arange(16))
    np.testing.assert_array_equal(row_indices(3, None), np.arange(3))


def test_row_count_is_known_beforehand_without_a_mask():
    counts = []

    def each(values):
        counts.append(row_count(values, None, "device"))
        return values

    jax.vmap(each, axis_name="device")(jnp.ones((8, 3, 2)))
    assert counts == [24] and type(counts[0]) is int
    assert row_count(jnp.ones((3, 2)), None, None) == 3
