"""HSWD does not depend on order, padding, precision or the way to rank, for any batch."""

from functools import partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hswd_oracles import (
    KEY,
    WAYS,
    columns,
    each_symmetric_way,
    each_way,
    formula,
    loss_and_gradient,
    minus_chances,
    normal,
    per_bit,
)
from hypothesis.extra.numpy import arrays

from jaxhash.losses import hswd

# Invariances


@each_symmetric_way
def test_bits_are_treated_alike(target, method):
    codes, order = normal(9, 4), np.array([2, 0, 3, 1])
    value, expected = (per_bit(u, target=target, method=method) for u in (codes[:, order], codes))
    np.testing.assert_array_equal(value, expected[order])


@each_symmetric_way
@pytest.mark.parametrize("n", [8, 9])
def test_sign_does_not_matter(target, method, n):
    codes = normal(n, 4)
    value, expected = (per_bit(u, target=target, method=method) for u in (-codes, codes))
    np.testing.assert_allclose(value, expected, 1e-6)


def test_gradient_of_vmap_is_that_of_each_batch():
    batches = normal(3, 9, 4)
    cost = partial(hswd, key=KEY, target="balanced")
    slopes = jax.jit(jax.grad(lambda batches: jnp.sum(jax.vmap(cost)(batches))))(batches)
    for codes, slope in zip(batches, slopes, strict=True):
        expected = loss_and_gradient(codes, key=KEY, target="balanced")[1]
        np.testing.assert_allclose(slope, expected, rtol=1e-6)


# Masks, precision, broken codes


@each_way
@pytest.mark.parametrize("broken", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [None, np.arange(9) < 8])
def test_broken_code_shows_in_its_bit_and_in_no_other(target, method, broken, where):
    where = None if where is None else jnp.asarray(where)
    codes, options = normal(9, 4), {"target": target, "method": method, "where": where}
    healthy = per_bit(codes, **options)
    value = per_bit(codes.at[1, 3].set(broken), **options)
    np.testing.assert_array_equal(value[:3], healthy[:3])
    assert jnp.isnan(value[3]) or (jnp.isinf(value[3]) and np.isinf(broken))


# Selecting is sorting


@partial(jax.jit, static_argnames=("target", "method"))
def losses_and_gradient(codes, *, target, method, mass=None, where=None):
    """The loss of each bit, and the gradient of their sum."""
    options = {} if mass is None else {"mass": mass}

    def cost(codes):
        losses = hswd(
            codes, key=KEY, target=target, method=method, where=where, reduce_fn=None, **options
        )
        return jnp.sum(losses), losses

    (_, losses), slope = jax.value_and_grad(cost, has_aux=True)(codes)
    return losses, slope.astype(jnp.float32)


def assert_select_is_sort(codes, **options):
    found = losses_and_gradient(codes, method="select", **options)
    expected = losses_and_gradient(codes, method="sort", **options)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    return found[0]


@pytest.mark.parametrize("target", ["sampled", "balanced"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_select_is_sort_on_tiny_batches(target, n):
    assert_select_is_sort(columns(n), target=target)


@pytest.mark.parametrize("target", ["sampled", "balanced"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_select_is_sort_on_masked_batches_for_any_mass(target, dtype):
    """The masses are sums of powers of two, so that both methods split the same code exactly."""
    codes = columns(257, dtype)
    rng = np.random.default_rng(0)
    masks = [np.arange(257) < n for n in (0, 1, 2, 3, 200, 257)] + [rng.random(257) < 0.5]
    for where in masks:
        for mass in (np.array([0, 1, 0.25, 0.5, 0.5, 0.875, 0.125, 1]), np.full(8, 0.375)):
            assert_select_is_sort(
                codes, target=target, mass=jnp.asarray(mass, jnp.float32), where=jnp.asarray(where)
            )


@pytest.mark.parametrize("target", ["sampled", "balanced"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_select_is_sort_and_the_formula_on_a_large_batch(target, dtype):
    n = 65_536
    codes = columns(n, dtype)
    losses = assert_select_is_sort(codes, target=target)
    ordered = np.sort(np.asarray(codes, np.float64), axis=0)
    signs = 1 - 2 * minus_chances(target, n, codes.shape[1])
    exact = np.mean((ordered - signs) ** 2 + 1 - signs**2, axis=0)
    np.testing.assert_allclose(losses, exact, rtol=1e-6)


# Any batch


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    codes=arrays(
        np.float32,
        (9, 4),
        elements=st.floats(-3, 3, width=32) | st.sampled_from([-1.0, 0.0, 0.5, 1.0]),  # with ties
    ),
    where=arrays(bool, 9).filter(np.any),
)
def test_any_batch_of_up_to_nine_rows(codes, where):
    """The cost is convex in the count K, so K = N/2 for sure costs at most its average (Jensen)."""
    valid = codes[where]
    cost = {}
    for target, method in WAYS:
        value = per_bit(codes, target=target, method=method, where=jnp.asarray(where))
        cost[target] = np.asarray(value)
        expected = formula(valid, minus_chances(target, *valid.shape))
        np.testing.assert_allclose(cost[target], expected, rtol=1e-5, atol=1e-6)
    to_own_signs = np.mean((np.abs(valid) - 1) ** 2, axis=0) - 1e-5
    assert np.all(cost["sampled"] >= to_own_signs) and np.all(cost["balanced"] >= to_own_signs)
    assert np.all(cost["expected"] >= cost["balanced"] - 1e-5)
