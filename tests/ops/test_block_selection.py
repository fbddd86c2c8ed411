"""Selection on the chip against NumPy's stable sort, with the values of `test_selection`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_selection import counts_of, kinds, last_of_stable_order

from jaxhash.ops import block_selection

choose = jax.jit(block_selection.choose_top_m)


@pytest.mark.parametrize(
    ("dtype", "n"),
    [(jnp.float32, 1), (jnp.float32, 2), (jnp.float32, 257), (jnp.bfloat16, 33), (jnp.float16, 33)],
)
def test_the_m_largest_and_the_next_are_those_of_the_stable_order(dtype, n):
    values = kinds(n, dtype)
    for m in np.clip(counts_of(n, values.shape[1]), 0, n):
        chosen = choose(values.astype(jnp.float32).T, jnp.asarray(m)[:, None])
        expected, further = (last_of_stable_order(values, each) for each in (m, m + 1))
        np.testing.assert_array_equal(chosen.above.T, expected)
        np.testing.assert_array_equal(chosen.next.T, further & ~expected)


def test_invalid_entries_are_never_chosen():
    values, rng = kinds(33), np.random.default_rng(0)
    for where in (rng.random(33) < 0.5, np.arange(33) == 7, np.ones(33, bool), np.zeros(33, bool)):
        filled = jnp.where(where[:, None], values, jnp.nan)
        for m in np.clip(counts_of(where.sum(), values.shape[1]), 0, where.sum()):
            chosen = choose(filled.T, jnp.asarray(m)[:, None], where[None])
            expected, further = (last_of_stable_order(values, each, where) for each in (m, m + 1))
            np.testing.assert_array_equal(chosen.above.T, expected)
            np.testing.assert_array_equal(chosen.next.T, further & ~expected)


def test_midpoint_does_not_overflow():
    ends = [-(2**31), -(2**31) + 1, -5, -1, 0, 4, 2**31 - 2, 2**31 - 1]
    for low in ends:
        for high in ends:
            middle = block_selection._midpoint(jnp.int32(low), jnp.int32(high))
            assert int(middle) == (low + high) // 2
