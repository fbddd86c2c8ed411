"""Checked codes, and the number of pairs over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses._common import check_codes, pair_count


@pytest.mark.parametrize("masked", [0.0, 1.0])
def test_masked_codes_hold_what_is_asked_for(masked):
    codes = jnp.array([[2.0, 3.0], [jnp.nan, jnp.inf]], jnp.bfloat16)
    codes, _ = check_codes(codes, jnp.array([True, False]), masked=masked)
    assert codes.dtype == jnp.float32
    np.testing.assert_array_equal(codes, [[2.0, 3.0], [masked, masked]])


def test_pairs_of_all_devices_are_counted():
    where = jnp.arange(16) < 11
    pairs = jax.pmap(
        lambda valid: pair_count(valid[:, None] & jnp.ones((1, 5), bool), "device"), "device"
    )(where.reshape(8, 2))
    np.testing.assert_array_equal(pairs, 55)
