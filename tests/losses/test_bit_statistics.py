"""Balance, decorrelation, entropy and spread against their formulas and invariances."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.linalg import hadamard

from jaxhash.losses import bernoulli_kl, bit_balance_penalty, bit_decorrelation, koleo

LOSSES = {
    "balance": bit_balance_penalty,
    "decorrelation": bit_decorrelation,
    "covariance": partial(bit_decorrelation, centered=True),
    "entropy": bernoulli_kl,
    "entropy of mass": partial(bernoulli_kl, mass=0.2),
    "spread": koleo,
}

loss = {name: jax.jit(f, static_argnames="axis_name") for name, f in LOSSES.items()}
loss_and_gradient = {name: jax.jit(jax.value_and_grad(f)) for name, f in LOSSES.items()}

each_loss = pytest.mark.parametrize("name", LOSSES)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def copies(n, bits):
    """Codes of balanced signs, every bit the same."""
    return jnp.asarray(np.where(np.arange(n) % 2, -1.0, 1.0)[:, None].repeat(bits, axis=1))


# Values


def frequency(bit, p):
    """The divergence of one bit, in float64."""
    q = np.mean([1 / (1 + np.exp(-2 * u)) for u in bit])
    return q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))


def formula(name, codes):
    """By loops, in float64."""
    codes = np.asarray(codes, float)
    n, bits = codes.shape
    if name == "balance":
        return np.mean([codes[:, j].mean() ** 2 for j in range(bits)])
    if name.startswith("entropy"):
        return np.mean(
            [frequency(codes[:, j], 0.2 if "mass" in name else 0.5) for j in range(bits)]
        )
    if name == "spread":
        v = [row / np.linalg.norm(row) for row in codes]
        rho = [min(np.sum((v[i] - v[j]) ** 2) for j in range(n) if j != i) for i in range(n)]
        return -np.mean([np.log(np.sqrt(1e-4 + square)) for square in rho])
    mean = codes.mean(axis=0) if name == "covariance" else np.zeros(bits)
    moments = [
        np.mean([(row[j] - mean[j]) * (row[k] - mean[k]) for row in codes])
        for j in range(bits)
        for k in range(bits)
        if j != k
    ]
    return np.mean(np.square(moments))


@each_loss
@pytest.mark.parametrize("n", [2, 9, 100])
def test_is_the_formula(name, n):
    codes = normal(n, 4)
    np.testing.assert_allclose(loss[name](codes), formula(name, codes), rtol=1e-5)


def test_balance_by_hand():
    codes = jnp.array([[1.0, 0.5], [1.0, -1.0], [1.0, 0.2], [-1.0, 0.1]])
    value = jax.jit(partial(bit_balance_penalty, reduce_fn=None))(codes)
    np.testing.assert_allclose(value, [0.5**2, 0.05**2], rtol=1e-5)
    assert loss["balance"](codes) == pytest.approx((0.5**2 + 0.05**2) / 2)


def test_decorrelation_by_hand():
    """C is 1/2 for bits 1 and 2, 1 for 1 and 3, 1/2 for 2 and 3; the means are 1/2, 0 and 1/2."""
    codes = jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, -1.0, -1.0]])
    assert loss["decorrelation"](codes) == pytest.approx((0.5**2 + 1 + 0.5**2) / 3)
    assert loss["covariance"](codes) == pytest.approx((0.5**2 + 0.75**2 + 0.5**2) / 3)


def test_entropy_by_hand():
    """Frequencies of 3/4 and 1: tanh(u) = 1/2 is a chance of 3/4."""
    codes = jnp.array([[np.arctanh(0.5), 50.0]])
    expected = [np.log(2) - (0.25 * np.log(4) + 0.75 * np.log(4 / 3)), np.log(2)]
    value = jax.jit(partial(bernoulli_kl, reduce_fn=None))(codes)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    value = bernoulli_kl(codes, mass=jnp.array([0.75, 0.125]), reduce_fn=None)
    np.testing.assert_allclose(value, [0, np.log(8)], rtol=1e-5, atol=1e-6)


def test_spread_by_hand():
    """Directions at 0, 60 and 180 degrees: the nearest are 1, 1 and sqrt 3 away."""
    codes = jnp.array([[3.0, 0.0], [0.5, np.sqrt(3) / 2], [-0.1, 0.0]])
    assert koleo(codes, epsilon=1e-6) == pytest.approx(-np.log(3) / 2 / 3, rel=1e-5)


def test_padding_is_nobodys_neighbor():
    """Not even of codes that lie opposite each other, 2 apart."""
    codes, where = jnp.array([[1.0, 0.0], [-3.0, 0.0], [0.0, 0.0]]), jnp.arange(3) < 2
    assert koleo(codes, where=where, epsilon=1e-6) == pytest.approx(-np.log(2))


def test_what_costs_nothing_and_what_most():
    independent = jnp.asarray(hadamard(8)[:, 1:5], jnp.float32)
    same = copies(8, 4)
    assert loss["balance"](independent) == loss["balance"](same) == 0
    assert loss["decorrelation"](independent) == loss["covariance"](independent) == 0
    assert loss["decorrelation"](same) == loss["covariance"](same) == 1
    assert loss["entropy"](independent) == pytest.approx(0, abs=1e-6)
    assert loss["entropy of mass"](jnp.full((8, 4), np.arctanh(2 * 0.2 - 1))) < 1e-6
    assert loss["spread"](independent) < loss["spread"](same)


def test_decorrelation_of_independent_signs_is_one_over_n():
    draws = np.random.default_rng(0).choice([-1.0, 1.0], size=(200, 50, 8))
    values = jax.vmap(loss["decorrelation"])(jnp.asarray(draws, jnp.float32))
    assert values.mean() == pytest.approx(1 / 50, rel=0.05)


def test_length_of_a_row_does_not_spread():
    codes = normal(9, 4)
    for length in (1e-30, 1e30):
        np.testing.assert_allclose(koleo(length * codes), koleo(codes), rtol=1e-5)


# The gradient


@each_loss
def test_gradient_is_that_of_finite_differences(name):
    codes = 1.5 * normal(7, 3)
    check_grads(loss[name], (codes,), order=1, modes=("fwd", "rev"), eps=1e-2, rtol=0.01)


@each_loss
@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("filling", [0.0, 1.0, 50.0, -50.0, "copies", "duplicates"])
def test_gradient_is_finite(name, filling, n):
    fillings = {"copies": copies(n, 4), "duplicates": jnp.tile(normal(1, 4), (n, 1))}
    codes = fillings.get(filling, jnp.full((n, 4), filling if filling not in fillings else 0.0))
    value, slope = loss_and_gradient[name](codes)
    assert jnp.isfinite(value) and jnp.isfinite(slope).all()


def test_entropy_draws_a_bit_from_zero_to_its_mass():
    _, slope = loss_and_gradient["entropy of mass"](jnp.zeros((5, 3)))
    q, p = 0.5, 0.2  # dL/dq = log(q / p) - log((1 - q) / (1 - p)), dq/du = 2 q (1 - q) / n
    expected = (np.log(q / p) - np.log((1 - q) / (1 - p))) * 2 * q * (1 - q) / 5 / 3
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_near_duplicates_are_pushed_apart():
    codes = jnp.array([[1.0, 0.0], [1.0, 1e-3], [-1.0, 0.0]])
    _, slope = loss_and_gradient["spread"](codes)
    assert slope[0, 1] > 0 > slope[1, 1]
    assert koleo(codes[:1]) == 0


# Invariances


@each_loss
def test_order_of_the_batch_and_of_the_bits_does_not_matter(name):
    codes = normal(9, 4)
    rows, bits = np.random.default_rng(2).permutation(9), np.array([2, 0, 3, 1])
    for other in (codes[rows], codes[:, bits]):
        np.testing.assert_allclose(loss[name](other), loss[name](codes), rtol=1e-5)
    if "mass" not in name:
        np.testing.assert_allclose(loss[name](-codes), loss[name](codes), rtol=1e-5)


@each_loss
def test_eager_is_jitted(name):
    codes = normal(9, 4)
    np.testing.assert_allclose(LOSSES[name](codes), loss[name](codes), rtol=1e-5)


@each_loss
@pytest.mark.parametrize("filling", [0.0, 1e30, np.nan, np.inf])
def test_masked_batch_is_its_valid_rows(name, filling):
    where = np.isin(np.arange(11), [1, 4], invert=True)
    valid = normal(9, 4)
    padded = jnp.full((11, 4), filling).at[where].set(valid)
    value, slope = loss_and_gradient[name](padded, where=jnp.asarray(where))
    expected_value, expected_slope = loss_and_gradient[name](valid)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    np.testing.assert_allclose(slope[where], expected_slope, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(slope[~where], 0.0)


@each_loss
@pytest.mark.parametrize("filling", [0.5, np.nan])
def test_batch_without_a_valid_row_costs_nothing(name, filling):
    codes, where = jnp.full((11, 4), filling), jnp.zeros(11, bool)
    value, slope = loss_and_gradient[name](codes, where=where)
    assert value == 0
    np.testing.assert_array_equal(slope, 0.0)


@each_loss
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_accumulated_in_float32(name, dtype):
    codes = normal(9, 4).astype(dtype)
    value, slope = loss_and_gradient[name](codes)
    exact, exact_slope = loss_and_gradient[name](codes.astype(jnp.float32))
    assert value.dtype == jnp.float32 and slope.dtype == dtype
    np.testing.assert_allclose(value, exact, rtol=1e-5)
    epsilon = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(slope.astype(jnp.float32), exact_slope, rtol=epsilon, atol=1e-6)


@each_loss
def test_broken_code_shows(name):
    codes = normal(9, 4).at[1, 3].set(np.nan)
    assert jnp.isnan(loss[name](codes))
    assert jnp.isnan(loss[name](codes, where=jnp.arange(9) < 8))


# Several devices


def cost_and_gradients(weights, images, where, *, name, axis_name=None):
    def cost(weights, images):
        return LOSSES[name](images @ weights, where=where, axis_name=axis_name)

    value, (of_weights, of_images) = jax.value_and_grad(cost, argnums=(0, 1))(weights, images)
    if axis_name is not None:
        of_weights = jax.lax.psum(of_weights, axis_name)
    return value, of_weights, of_images


@cache
def over_devices(mapping, name):
    mapped = jax.pmap if mapping == "pmap" else lambda f, **axes: jax.jit(jax.vmap(f, **axes))
    step = partial(cost_and_gradients, name=name, axis_name="device")
    return mapped(step, axis_name="device", in_axes=(None, 0, 0))


on_one = {name: jax.jit(partial(cost_and_gradients, name=name)) for name in LOSSES}


@pytest.mark.parametrize(
    ("mapping", "name"), [("pmap", "covariance"), *(("vmap", name) for name in LOSSES)]
)
@pytest.mark.parametrize("valid", [16, 11])
def test_eight_devices_are_one(mapping, name, valid):
    """Two rows a device; with 11 valid rows one device is half padding and two are nothing else."""
    images, weights, where = normal(16, 3), normal(3, 4, seed=1), jnp.arange(16) < valid
    value, of_weights, of_images = over_devices(mapping, name)(
        weights, images.reshape(8, 2, 3), where.reshape(8, 2)
    )
    whole = on_one[name](weights, images, where)
    assert len(set(np.asarray(value).tolist())) == 1
    np.testing.assert_allclose(value[0], whole[0], rtol=1e-5, atol=1e-6)
    for each in of_weights:
        np.testing.assert_allclose(each, whole[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of_images.reshape(16, 3), whole[2], rtol=1e-4, atol=1e-6)


# Errors


@pytest.mark.parametrize(
    ("loss", "error", "name", "arguments"),
    [
        (loss, *wrong)
        for loss in (bit_balance_penalty, bit_decorrelation, bernoulli_kl, koleo)
        for wrong in (
            (TypeError, "codes", {"codes": jnp.ones((4, 2), int)}),
            (ValueError, "codes", {"codes": jnp.ones(4)}),
            (ValueError, "where", {"where": jnp.ones(3, bool)}),
        )
    ]
    + [
        (bernoulli_kl, ValueError, "mass", {"mass": 1.0}),
        (bernoulli_kl, ValueError, "mass", {"mass": 0}),
        (bernoulli_kl, ValueError, "mass", {"mass": jnp.ones(3)}),
        (koleo, ValueError, "epsilon", {"epsilon": 0.0}),
    ],
)
def test_errors_name_the_argument(monkeypatch, loss, error, name, arguments):
    """Without the type checks of the test run, which would speak before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=rf"\b{name}\b"):
        loss(**{"codes": jnp.ones((4, 2))} | arguments)
