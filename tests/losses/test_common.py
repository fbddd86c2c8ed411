"""What the losses share: masked codes, and means over what is valid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses._common import check_codes, pair_count
from jaxhash.ops.collectives import masked_mean


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("masked", [0.0, 1.0])
def test_masked_codes_hold_what_is_asked_for(masked):
    codes = jnp.array([[2.0, 3.0], [jnp.nan, jnp.inf]], jnp.bfloat16)
    codes, _ = check_codes(codes, jnp.array([True, False]), masked=masked)
    assert codes.dtype == jnp.float32
    np.testing.assert_array_equal(codes, [[2.0, 3.0], [masked, masked]])


@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_mean_of_rows_is_over_the_valid_ones(shape):
    where = np.array([True, False, True, True])
    values = normal(4, *shape).at[1].set(jnp.nan)
    mean = masked_mean(values, jnp.asarray(where), None)
    np.testing.assert_allclose(mean, np.asarray(values)[where].mean(axis=0), rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(masked_mean(x, jnp.asarray(where), None)))(values)
    np.testing.assert_allclose(slope[where], np.full((3, *shape), 1 / 3), rtol=1e-6)
    np.testing.assert_array_equal(slope[1], 0.0)
    np.testing.assert_array_equal(masked_mean(values, jnp.zeros(4, bool), None), np.zeros(shape))


def test_sums_over_devices():
    values, where = normal(16, 3), jnp.arange(16) < 11
    mean, pairs = jax.pmap(
        lambda x, valid: (
            masked_mean(x, valid, "device"),
            pair_count(valid[:, None] & jnp.ones((1, 5), bool), "device"),
        ),
        "device",
    )(values.reshape(8, 2, 3), where.reshape(8, 2))
    np.testing.assert_allclose(mean, np.tile(values[:11].mean(axis=0), (8, 1)), rtol=1e-5)
    np.testing.assert_array_equal(pairs, 55)
