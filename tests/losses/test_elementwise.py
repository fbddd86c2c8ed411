"""The L2 quantization penalty against its formula, its gradient and its invariances."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash.losses import hswd, l2_quantization

loss = jax.jit(l2_quantization, static_argnames=("axis_name", "reduce_fn"))
loss_and_gradient = jax.jit(jax.value_and_grad(l2_quantization))
per_bit = partial(loss, reduce_fn=None)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def formula(codes):
    """The loss of each bit by a double loop, in float64."""
    codes = np.asarray(codes, float)
    n, bits = codes.shape
    cost = np.zeros(bits)
    for j in range(bits):
        for u in codes[:, j]:
            cost[j] += (abs(u) - 1) ** 2 / n
    return cost


# Values


def test_by_hand():
    codes = jnp.array([[2.0, 1.0], [-0.5, -1.0], [0.0, 1.0]])
    assert per_bit(codes)[0] == pytest.approx((1 + 0.25 + 1) / 3)
    assert per_bit(codes)[1] == 0
    assert loss(codes) == pytest.approx((1 + 0.25 + 1) / 6)


@pytest.mark.parametrize("n", [1, 9, 1000])
def test_is_the_formula(n):
    codes = normal(n, 4)
    np.testing.assert_allclose(per_bit(codes), formula(codes), rtol=1e-6)
    np.testing.assert_allclose(loss(codes), formula(codes).mean(), rtol=1e-6)


def test_many_rows_lose_no_digits():
    codes = jnp.full((65_536, 2), 0.1)
    np.testing.assert_allclose(per_bit(codes), (1 - np.float32(0.1)) ** 2, rtol=1e-6)


def test_is_hswd_with_as_many_targets_of_each_sign_as_codes():
    """Four codes below 0 and four above: nothing has to cross, so HSWD is this penalty."""
    size = jnp.abs(normal(8, 4))
    codes = size * jnp.where(jnp.arange(8) % 2 == 0, 1.0, -1.0)[:, None]
    balanced = hswd(codes, target="balanced", reduce_fn=None)
    np.testing.assert_allclose(per_bit(codes), balanced, rtol=1e-5)


# The gradient


def test_gradient_is_twice_the_way_to_the_sign():
    codes = normal(9, 4)
    value, slope = loss_and_gradient(codes)
    np.testing.assert_allclose(value, formula(codes).mean(), rtol=1e-6)
    np.testing.assert_allclose(slope, 2 / codes.size * (codes - np.sign(codes)), atol=1e-7)


def test_gradient_is_that_of_finite_differences():
    codes = jnp.array([[0.3, -1.2], [-0.5, 2.0], [1.7, 0.9]])
    check_grads(loss, (codes,), order=1, modes=("fwd", "rev"), eps=0.05)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_is_drawn_to_plus_one(zero):
    _, slope = loss_and_gradient(jnp.full((5, 1), zero))
    np.testing.assert_allclose(slope, -2 / 5, rtol=1e-6)


# Invariances


def test_rows_bits_and_signs_are_treated_alike():
    codes = normal(9, 4)
    rows, bits = np.random.default_rng(2).permutation(9), np.array([2, 0, 3, 1])
    np.testing.assert_allclose(per_bit(codes[rows]), per_bit(codes), rtol=1e-6)
    np.testing.assert_array_equal(per_bit(codes[:, bits]), per_bit(codes)[bits])
    np.testing.assert_array_equal(per_bit(-codes), per_bit(codes))


def test_eager_is_jitted():
    codes = normal(9, 4)
    eager = l2_quantization(codes, reduce_fn=None)
    np.testing.assert_allclose(eager, per_bit(codes), rtol=1e-6)


def test_vmap_is_a_loop():
    batches = normal(3, 9, 4)
    np.testing.assert_allclose(jax.vmap(loss)(batches), [loss(b) for b in batches], rtol=1e-6)


# Masks, precision, broken codes


@pytest.mark.parametrize("filling", [0.0, 1e30, np.nan, np.inf, -np.inf])
def test_masked_batch_is_its_valid_rows(filling):
    where = np.isin(np.arange(11), [1, 4], invert=True)
    valid = normal(9, 4)
    padded = jnp.full((11, 4), filling).at[where].set(valid)
    value, slope = loss_and_gradient(padded, where=jnp.asarray(where))
    expected_value, expected_slope = loss_and_gradient(valid)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(slope[where], expected_slope, atol=1e-7)
    np.testing.assert_array_equal(slope[~where], 0.0)


@pytest.mark.parametrize("filling", [0.5, np.nan])
def test_batch_without_a_valid_row_costs_nothing(filling):
    value, slope = loss_and_gradient(jnp.full((11, 4), filling), where=jnp.zeros(11, bool))
    assert value == 0
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_accumulated_in_float32(dtype):
    codes = normal(9, 4).astype(dtype)
    value, slope = loss_and_gradient(codes)
    exact, exact_slope = loss_and_gradient(codes.astype(jnp.float32))
    assert value.dtype == jnp.float32 and slope.dtype == dtype
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    epsilon = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(slope.astype(jnp.float32), exact_slope, rtol=epsilon, atol=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_broken_code_shows_in_its_bit_and_in_no_other(broken):
    codes = normal(9, 4)
    value = per_bit(codes.at[1, 3].set(broken))
    np.testing.assert_array_equal(value[:3], per_bit(codes)[:3])
    assert jnp.isnan(value[3]) if np.isnan(broken) else jnp.isinf(value[3])


# Several devices


def cost_and_gradients(weights, images, where, *, axis_name=None):
    def cost(weights, images):
        return l2_quantization(images @ weights, where=where, axis_name=axis_name)

    value, (of_weights, of_images) = jax.value_and_grad(cost, argnums=(0, 1))(weights, images)
    if axis_name is not None:
        of_weights = jax.lax.psum(of_weights, axis_name)
    return value, of_weights, of_images


@cache
def over_devices(mapping):
    mapped = jax.pmap if mapping == "pmap" else lambda f, **axes: jax.jit(jax.vmap(f, **axes))
    step = partial(cost_and_gradients, axis_name="device")
    return mapped(step, axis_name="device", in_axes=(None, 0, 0))


@pytest.mark.parametrize("mapping", ["pmap", "vmap"])
@pytest.mark.parametrize("valid", [16, 11])
def test_eight_devices_are_one(mapping, valid):
    """Two rows a device; with 11 valid rows one device is half padding and two are nothing else."""
    images, weights, where = normal(16, 3), normal(3, 4, seed=1), jnp.arange(16) < valid
    value, of_weights, of_images = over_devices(mapping)(
        weights, images.reshape(8, 2, 3), where.reshape(8, 2)
    )
    whole = jax.jit(cost_and_gradients)(weights, images, where)
    assert len(set(np.asarray(value).tolist())) == 1
    np.testing.assert_allclose(value[0], whole[0], rtol=1e-6)
    for each in of_weights:
        np.testing.assert_allclose(each, whole[1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(of_images.reshape(16, 3), whole[2], rtol=1e-5, atol=1e-7)


# Errors


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "codes", {"codes": jnp.ones((4, 2), int)}),
        (ValueError, "codes", {"codes": jnp.ones(4)}),
        (ValueError, "where", {"where": jnp.ones(3, bool)}),
    ],
)
def test_errors_name_the_argument(monkeypatch, error, name, arguments):
    """Without the type checks of the test run, which would speak before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=rf"\b{name}\b"):
        l2_quantization(**{"codes": jnp.ones((4, 2))} | arguments)
