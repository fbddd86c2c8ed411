"""HSWD with distances instead of squares, and with other targets than -1 and +1."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hswd_oracles import KEY, WAYS, columns, each_method, each_way, minus_chances, normal

from jaxhash.losses import hswd, l1_quantization

#: Lower and upper target: of all bits, or one of each.
LEVELS = {
    "signs": (-1.0, 1.0),
    "bits": (0.0, 1.0),
    "of each bit": (jnp.array([-2.0, 0.0, -1.0, 1.0]), jnp.array([1.0, 3.0, 1.0, 2.0])),
}

each_order = pytest.mark.parametrize("order", [1, 2])


@cache
def compiled(target, method, order, levels):
    """The loss of each bit and the gradient of their sum, as one program."""

    @jax.jit
    def both(codes, where=None, mass=None):
        def cost(codes):
            options = {} if mass is None else {"mass": mass}
            losses = hswd(
                codes,
                key=KEY,
                target=target,
                method=method,
                order=order,
                levels=LEVELS[levels],
                where=where,
                reduce_fn=None,
                **options,
            )
            return jnp.sum(losses), losses

        (_, losses), slope = jax.value_and_grad(cost, has_aux=True)(codes)
        return losses, slope

    return both


def formula(codes, chances, order, levels):
    """The loss of each bit, and its gradient, by a double loop in float64."""
    codes = np.asarray(codes, float)
    n, bits = codes.shape
    low, high = (np.broadcast_to(np.asarray(level, float), bits) for level in LEVELS[levels])
    cost, slope = np.zeros(bits), np.zeros((n, bits))
    for j in range(bits):
        for i, p in zip(np.argsort(codes[:, j], kind="stable"), chances[:, j], strict=True):
            for chance, level in ((p, low[j]), (1 - p, high[j])):
                gap = codes[i, j] - level
                cost[j] += chance * abs(gap) ** order / n
                slope[i, j] += chance * (np.sign(gap) if order == 1 else 2 * gap) / n
    return cost, slope


@each_way
@pytest.mark.parametrize(
    ("order", "levels"), [(1, "signs"), (1, "of each bit"), (2, "bits"), (2, "of each bit")]
)
def test_value_and_gradient_are_the_formula(target, method, order, levels):
    codes = normal(9, 4)
    value, slope = compiled(target, method, order, levels)(codes)
    expected = formula(codes, minus_chances(target, 9, 4), order, levels)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("target", "method"), WAYS[:4])
def test_distances_for_unequal_masses(target, method):
    mass = (0.0, 0.3, 0.5, 1.0)
    codes = normal(9, 4)
    value, slope = compiled(target, method, 1, "of each bit")(codes, mass=jnp.array(mass))
    expected = formula(codes, minus_chances(target, 9, 4, mass), 1, "of each bit")
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-5, atol=1e-6)


@each_method
def test_by_hand(method):
    """Three codes: the lowest goes to 0, the highest to 1, the middle one half to each."""
    codes = jnp.array([[1.5], [-0.5], [0.2]])
    value = partial(hswd, codes, target="balanced", levels=(0.0, 1.0), method=method)
    assert value(order=1) == pytest.approx((0.5 + (0.2 + 0.8) / 2 + 0.5) / 3)
    assert value(order=2) == pytest.approx((0.25 + (0.2**2 + 0.8**2) / 2 + 0.25) / 3)


@pytest.mark.parametrize(("target", "method"), [WAYS[0], WAYS[4]])
@each_order
def test_levels_are_an_affine_map(target, method, order):
    """Codes and levels moved and stretched alike cost the power of the stretch as much."""
    codes = normal(9, 4)
    options = {"key": KEY, "target": target, "method": method, "order": order}
    value = hswd(3 * codes + 2, levels=(-1.0, 5.0), **options)
    np.testing.assert_allclose(value, 3**order * hswd(codes, **options), rtol=1e-5)


def test_distances_are_the_l1_penalty_where_nothing_has_to_cross():
    codes = jnp.abs(normal(8, 4)) * jnp.where(jnp.arange(8) % 2 == 0, 1.0, -1.0)[:, None]
    value = hswd(codes, target="balanced", order=1)
    np.testing.assert_allclose(value, l1_quantization(codes), rtol=1e-6)


@each_method
@each_order
def test_codes_on_their_targets_have_no_gradient(method, order):
    """The slope of a distance at 0 is 0, not 1."""
    codes = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    value, slope = compiled("balanced", method, order, "bits")(codes)
    assert not value.any() and not slope.any()


@pytest.mark.parametrize(
    ("target", "order", "dtype"),
    [("sampled", 1, jnp.float32), ("balanced", 1, jnp.bfloat16), ("balanced", 2, jnp.float32)],
)
def test_select_is_sort_with_ties_and_masks(target, order, dtype):
    """Four bits of each kind at a time; the masses split the same code exactly."""
    codes, mass = columns(33, dtype), jnp.array([0.25, 0.5, 0.875, 1.0])
    for where in (np.arange(33) < 33, np.arange(33) < 1, np.arange(33) % 3 > 0):
        for bits in (slice(0, 4), slice(4, 8)):
            selected, ordered = (
                compiled(target, method, order, "of each bit")(
                    codes[:, bits], where=jnp.asarray(where), mass=mass
                )
                for method in ("select", "sort")
            )
            np.testing.assert_allclose(selected[0], ordered[0], rtol=1e-5)
            slopes = (each[1].astype(jnp.float32) for each in (selected, ordered))
            np.testing.assert_allclose(*slopes, rtol=1e-5)


@each_way
@pytest.mark.parametrize("filling", [1e30, np.nan, -np.inf])
def test_masked_batch_is_its_valid_rows(target, method, filling):
    where = np.isin(np.arange(11), [1, 4], invert=True)
    valid = normal(9, 4)
    padded = jnp.full((11, 4), filling).at[where].set(valid)
    both = compiled(target, method, 1, "of each bit")
    value, slope = both(padded, where=jnp.asarray(where))
    expected_value, expected_slope = both(valid)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(slope[where], expected_slope, atol=1e-7)
    np.testing.assert_array_equal(slope[~where], 0.0)
    value, slope = both(padded, where=jnp.zeros(11, bool))
    assert not value.any() and not slope.any()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@each_way
def test_broken_code_shows_in_its_bit_and_in_no_other(target, method, broken):
    codes, both = normal(9, 4), compiled(target, method, 1, "signs")
    value = both(codes.at[1, 3].set(broken))[0]
    np.testing.assert_array_equal(value[:3], both(codes)[0][:3])
    assert not jnp.isfinite(value[3])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("order", {"order": 3}),
        ("levels", {"levels": (1.0, -1.0)}),
        ("levels", {"levels": (0.0, 0.0)}),
        ("levels", {"levels": (jnp.zeros(3), 1.0)}),
    ],
)
def test_errors_name_the_argument_in_one_line(unchecked, name, arguments):
    with pytest.raises(ValueError, match=rf"\b{name}\b") as raised:
        hswd(jnp.ones((4, 2)), target="balanced", **arguments)
    assert "\n" not in str(raised.value)
