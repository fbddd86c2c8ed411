"""The quantization penalties of single codes against their formulas and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses
from jaxhash.losses import (
    cauchy_quantization,
    gaussian_bce_quantization,
    hswd,
)


def cosine(row):
    """Returns the value for a row and its signs, in float64."""
    return np.abs(row).sum() / np.sqrt(len(row) * np.sum(row**2))


def cross_entropy(chance, label):
    return -label * np.log(chance) - (1 - label) * np.log(1 - chance)


def gaussian_bce(u, sigma=0.5):
    """As defined: two cross-entropies, of which 0 log 0 is left out."""
    sign = 1 if u >= 0 else -1
    at_one, at_minus_one = (np.exp(-((u - level) ** 2) / (2 * sigma**2)) for level in (1, -1))
    if sign > 0:
        return -np.log(at_one) + cross_entropy(at_minus_one, 0)
    return cross_entropy(at_one, 0) - np.log(at_minus_one)


#: The cost of one entry, for the losses of entries.
OF_ENTRIES = {
    "l2_quantization": lambda u: (abs(u) - 1) ** 2,
    "l1_quantization": lambda u: abs(abs(u) - 1),
    "cubic_quantization": lambda u: abs(abs(u) - 1) ** 3,
    "log_cosh_quantization": lambda u: np.log(np.cosh(abs(u) - 1)),
    "gaussian_bce_quantization": gaussian_bce,
}

#: The cost of one row, for the losses of rows.
OF_ROWS = {
    "cosine_quantization": lambda row: 1 - cosine(row),
    "cauchy_quantization": lambda row: np.log(1 + len(row) / 2 * (1 - cosine(row)) / 20),
}

LOSSES = {name: getattr(losses, name) for name in (*OF_ENTRIES, *OF_ROWS)}
OPTIONS = ("axis_name", "reduce_fn")

loss = {
    name: jax.jit(f, static_argnames=[o for o in OPTIONS if name in OF_ENTRIES or o != "reduce_fn"])
    for name, f in LOSSES.items()
}
loss_and_gradient = {name: jax.jit(jax.value_and_grad(f)) for name, f in LOSSES.items()}
per_bit = partial(loss["l2_quantization"], reduce_fn=None)

each_loss = pytest.mark.parametrize("name", LOSSES)
each_of_entries = pytest.mark.parametrize("name", OF_ENTRIES)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def formula(name, codes):
    """The loss by loops, in float64; of entries, that of each bit."""
    codes = np.asarray(codes, float)
    if name in OF_ROWS:
        return sum(OF_ROWS[name](row) for row in codes) / len(codes)
    cost = np.zeros(codes.shape[1])
    for j in range(codes.shape[1]):
        for u in codes[:, j]:
            cost[j] += OF_ENTRIES[name](u) / len(codes)
    return cost


# Values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("l2_quantization", (1 + 0.25 + 1 + 0) / 4),
        ("l1_quantization", (1 + 0.5 + 1 + 0) / 4),
        ("cubic_quantization", (1 + 0.125 + 1 + 0) / 4),
        ("log_cosh_quantization", (2 * 0.4337808 + 0.1201145 + 0) / 4),
        (
            "gaussian_bce_quantization",
            (2 + 0.5 + 2 + 0 - np.log1p(-np.exp([-18, -4.5, -2, -8])).sum()) / 4,
        ),
        ("cosine_quantization", (1 - 2.5 / np.sqrt(2 * 4.25) + 1 - 1 / np.sqrt(2)) / 2),
        (
            "cauchy_quantization",
            np.log1p([(1 - 2.5 / np.sqrt(8.5)) / 20, (1 - 0.5**0.5) / 20]).sum() / 2,
        ),
    ],
)
def test_by_hand(name, value):
    """Distances to the sign of 1 and 1/2 in the first row, of 1 and 0 in the second."""
    assert loss[name](jnp.array([[2.0, -0.5], [0.0, 1.0]])) == pytest.approx(value, rel=1e-5)


def test_l2_of_each_bit_by_hand():
    codes = jnp.array([[2.0, 1.0], [-0.5, -1.0], [0.0, 1.0]])
    assert per_bit(codes)[0] == pytest.approx((1 + 0.25 + 1) / 3)
    assert per_bit(codes)[1] == 0


@each_loss
@pytest.mark.parametrize("n", [1, 9, 1000])
def test_is_the_formula(name, n):
    codes = normal(n, 4)
    expected = formula(name, codes)
    if name in OF_ENTRIES:
        value = loss[name](codes, reduce_fn=None)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss[name](codes), expected.mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_sigma(sigma):
    codes = normal(9, 4)
    expected = np.mean([gaussian_bce(u, sigma) for u in np.asarray(codes, float).ravel()])
    value = jax.jit(partial(gaussian_bce_quantization, sigma=sigma))(codes)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 100.0])
def test_gamma(gamma):
    codes = normal(9, 4)
    distances = [2 * (1 - cosine(row)) for row in np.asarray(codes, float)]
    value = jax.jit(partial(cauchy_quantization, gamma=gamma))(codes)
    np.testing.assert_allclose(value, np.mean(np.log1p(np.array(distances) / gamma)), rtol=1e-5)


@each_loss
def test_signs_cost_nothing(name):
    """But for the Gaussians, each of which reaches the other's sign."""
    signs = jnp.where(normal(9, 4) > 0, 1.0, -1.0)
    expected = -np.log1p(-np.exp(-8)) if "gaussian" in name else 0
    assert loss[name](signs) == pytest.approx(expected, abs=2e-7)


def test_many_rows_lose_no_digits():
    codes = jnp.full((65_536, 2), 0.1)
    np.testing.assert_allclose(per_bit(codes), (1 - np.float32(0.1)) ** 2, rtol=1e-6)


def test_is_hswd_with_as_many_targets_of_each_sign_as_codes():
    """Four codes below 0 and four above: nothing has to cross, so HSWD is the L2 penalty."""
    size = jnp.abs(normal(8, 4))
    codes = size * jnp.where(jnp.arange(8) % 2 == 0, 1.0, -1.0)[:, None]
    balanced = hswd(codes, target="balanced", reduce_fn=None)
    np.testing.assert_allclose(per_bit(codes), balanced, rtol=1e-5)


# The gradient


@pytest.mark.parametrize(
    ("name", "slope_of"),
    [
        ("l2_quantization", lambda gap: 2 * gap),
        ("l1_quantization", np.sign),
        ("cubic_quantization", lambda gap: 3 * gap * np.abs(gap)),
        ("log_cosh_quantization", np.tanh),
    ],
)
def test_gradient_is_a_function_of_the_way_to_the_sign(name, slope_of):
    codes = np.array(normal(9, 4))
    codes[0] = 1, -1, 0, -0.0  # on a sign, and drawn to +1
    gap = codes - np.where(codes >= 0, 1, -1)
    value, slope = loss_and_gradient[name](jnp.asarray(codes))
    np.testing.assert_allclose(value, formula(name, codes).mean(), rtol=1e-5)
    np.testing.assert_allclose(slope, slope_of(gap) / codes.size, rtol=1e-5, atol=1e-7)


@each_of_entries
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_is_drawn_to_plus_one(name, zero):
    _, slope = loss_and_gradient[name](jnp.full((5, 1), zero))
    assert np.all(slope < -0.1)


@each_loss
@pytest.mark.parametrize("size", [0.0, 1.0, 50.0, 1e4])
def test_gradient_is_finite_on_and_far_from_the_signs(name, size):
    codes = size * jnp.where(normal(9, 4) > 0, 1.0, -1.0)
    value, slope = loss_and_gradient[name](codes)
    assert jnp.isfinite(value) and jnp.isfinite(slope).all()
    if name in OF_ENTRIES and size > 1:  # and leads back
        assert np.all(slope * codes > 0)


@pytest.mark.parametrize(("name", "value"), [("cosine", 1), ("cauchy", np.log1p(4 / 2 / 20))])
def test_row_of_zeros_is_at_right_angles_to_all_signs(name, value):
    value_of_zeros, slope = loss_and_gradient[f"{name}_quantization"](jnp.zeros((3, 4)))
    assert value_of_zeros == pytest.approx(value)
    np.testing.assert_array_equal(slope, 0.0)


# Invariances


@each_loss
def test_rows_bits_and_signs_are_treated_alike(name):
    codes = normal(9, 4)
    rows, bits = np.random.default_rng(2).permutation(9), np.array([2, 0, 3, 1])
    for other in (codes[rows], codes[:, bits], -codes):
        np.testing.assert_allclose(loss[name](other), loss[name](codes), rtol=1e-5)


@each_of_entries
def test_bits_do_not_mix(name):
    codes, bits = normal(9, 4), np.array([2, 0, 3, 1])
    shuffled = loss[name](codes[:, bits], reduce_fn=None)
    np.testing.assert_array_equal(shuffled, loss[name](codes, reduce_fn=None)[bits])


# Masks, precision, broken codes


@each_loss
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_broken_code_shows(name, broken):
    codes = normal(9, 4)
    where = jnp.arange(9) < 8
    assert not jnp.isfinite(loss[name](codes.at[1, 3].set(broken)))
    assert not jnp.isfinite(loss[name](codes.at[1, 3].set(broken), where=where))


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_broken_code_shows_in_its_bit_and_in_no_other(broken):
    codes = normal(9, 4)
    value = per_bit(codes.at[1, 3].set(broken))
    np.testing.assert_array_equal(value[:3], per_bit(codes)[:3])
    assert jnp.isnan(value[3]) if np.isnan(broken) else jnp.isinf(value[3])


# Errors


@pytest.mark.parametrize(
    ("loss", "error", "name", "arguments"),
    [
        (gaussian_bce_quantization, ValueError, "sigma", {"sigma": 0.0}),
        (cauchy_quantization, ValueError, "gamma", {"gamma": -1.0}),
    ],
)
def test_errors_name_the_argument(unchecked, loss, error, name, arguments):
    with pytest.raises(error, match=rf"\b{name}\b"):
        loss(**{"codes": jnp.ones((4, 2))} | arguments)
