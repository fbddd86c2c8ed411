"""Arithmetic at every scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash.ops.numerics import normalize_rows


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("size", [1e-25, 1e-3, 1.0, 1e25])
def test_rows_of_any_size_become_one_long(size):
    rows = jnp.array([[3.0, -4.0], [0.0, 2.0]])
    np.testing.assert_allclose(normalize_rows(size * rows), [[0.6, -0.8], [0.0, 1.0]], rtol=1e-6)
    # The slope along (1, 0) is (0.64, 0.48) / 5 for a row along (0.6, -0.8).
    _, slope = jax.jvp(
        normalize_rows, (size * rows,), (size * jnp.array([[1.0, 0.0], [0.0, 1.0]]),)
    )
    np.testing.assert_allclose(slope, [[0.128, 0.096], [0.0, 0.0]], rtol=1e-5, atol=1e-7)
    weights = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    slope = size * jax.grad(lambda rows: jnp.sum(weights * normalize_rows(rows)))(size * rows)
    np.testing.assert_allclose(slope, [[0.128, 0.096], [0.5, 0.0]], rtol=1e-5, atol=1e-7)


def test_a_row_of_zeros_stays_one_without_a_gradient():
    rows = jnp.array([[0.0, 0.0], [5.0, 0.0]])
    value, slope = jax.value_and_grad(lambda rows: jnp.sum(normalize_rows(rows)))(rows)
    assert value == 1
    np.testing.assert_allclose(slope, [[0.0, 0.0], [0.0, 0.2]], rtol=1e-6)


def test_gradient_of_unit_rows_is_that_of_finite_differences():
    check_grads(jax.jit(normalize_rows), (normal(4, 3),), order=1, modes=("rev",))
