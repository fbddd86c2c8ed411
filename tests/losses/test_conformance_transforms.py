"""Every public loss: gradients, scales, masks, order, precision, jit, vmap and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import (
    CONFORMANCE,
    ROWS,
    SCALED,
    TRAINED,
    all_finite,
    each,
    each_loss,
    parts,
    program,
    value_and_slope,
)

WHERE = np.arange(ROWS) != 2


def assert_close(found, expected, rtol=1e-5, atol=1e-6):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), found, expected
    )


def take(name, arrays, index):
    """The arrays at an index of each axis; axes that are not named stay whole."""
    for n, array in arrays.items():
        for axis, label in enumerate(CONFORMANCE[name].axes_of(n)):
            if label in index:
                array = jnp.take(array, index[label], axis=axis)
        arrays = arrays | {n: array}
    return arrays


def split(arrays):
    trained = {n: a for n, a in arrays.items() if n in TRAINED}
    return trained, {n: a for n, a in arrays.items() if n not in TRAINED}


# Gradients


@each
def test_float64_and_finite_differences(name):
    """The gradient is that of differences in float64, where a small step crosses no kink.

    Value and gradient match float32 within its rounding.
    """
    value, slope = program(name)(*parts(name))
    with jax.enable_x64(True):
        trained, rest = parts(name, np.float64)
        wide = jax.jit(functools.partial(value_and_slope, name))
        wide_value, wide_slope = wide(trained, rest)
        assert wide_value.dtype == np.float64
        np.testing.assert_allclose(wide_value, value, rtol=1e-5, atol=1e-6)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), wide_slope, slope)
        if CONFORMANCE[name].constants:
            return  # the gradient takes something for a constant: see the tests of the loss
        rng = np.random.default_rng(1)
        along = {n: rng.normal(size=array.shape) for n, array in trained.items()}
        ahead, behind = (
            wide({n: a + step * along[n] for n, a in trained.items()}, rest)[0]
            for step in (5e-6, -5e-6)
        )
        expected = sum(np.sum(wide_slope[n] * along[n]) for n in along)
        np.testing.assert_allclose((ahead - behind) / 1e-5, expected, rtol=1e-6, atol=1e-7)


@each
def test_codes_of_every_scale(name):
    """Where the value is finite, so is the gradient; only an overflow of its power is not finite."""
    row, (trained, rest) = CONFORMANCE[name], parts(name)
    usual, _ = program(name)(trained, rest)
    for exponent in range(-30, 31, 2):
        scale = np.float32(10.0**exponent)
        scaled = {n: a * scale if n in SCALED else a for n, a in trained.items()}
        value, slope = program(name)(scaled, rest)
        if np.isfinite(value):
            assert all_finite(slope), f"1e{exponent}"
        else:
            assert row.power * exponent > 36, f"1e{exponent}"
        if row.scale_free:
            np.testing.assert_allclose(value, usual, rtol=1e-4, err_msg=f"1e{exponent}")


@each
def test_nan_in_a_code_makes_the_loss_nan(name):
    trained, rest = parts(name)
    first = CONFORMANCE[name].first
    value, _ = program(name)(trained | {first: trained[first].at[3, 1].set(jnp.nan)}, rest)
    assert np.isnan(value)


@each
@pytest.mark.parametrize("size", [0.0, 1.0, 50.0])
def test_gradient_is_finite_on_signs_zeros_and_duplicates(name, size):
    trained, rest = parts(name)
    for rows in (slice(None), slice(0, 1)):
        codes = {
            n: jnp.broadcast_to(size * jnp.sign(a)[rows], a.shape) if n in SCALED else a
            for n, a in trained.items()
        }
        assert all_finite(program(name)(codes, rest))


# Masks and order


def masked(name):
    """Masks under which row 2 and column 3 are padding, and the indices of the others."""
    keep = {label: np.flatnonzero(WHERE) for label in ("n", "all")}
    axes = CONFORMANCE[name].axes_of("where")
    if axes == ("n",):
        return WHERE, keep
    columns = np.arange(len(CONFORMANCE[name].arrays["others"])) != 3
    return WHERE[:, None] & columns[None, :], keep | {"m": np.flatnonzero(columns)}


def is_padding(name, argument, shape, keep):
    """Which entries of an argument lie in a masked row or column."""
    padding = np.zeros(shape, bool)
    for axis, label in enumerate(CONFORMANCE[name].axes_of(argument)):
        if label in keep:
            outside = ~np.isin(np.arange(shape[axis]), keep[label])
            padding |= np.expand_dims(outside, [a for a in range(len(shape)) if a != axis])
    return padding


#: What stands in the padding of masks and of ids; floats get several values.
PADDING = {"b": np.logical_not, "i": np.zeros_like}


@each
def test_masked_batch_is_its_valid_rows(name):
    """Padding may hold anything, and the subset needs no mask."""
    arrays = CONFORMANCE[name].arrays
    where, keep = masked(name)
    subset = take(name, {n: a for n, a in arrays.items() if n != "where"}, keep)
    value, slope = program(name)(*split(subset))
    padding = {n: is_padding(name, n, a.shape, keep) for n, a in arrays.items()}
    for filling in (np.nan, np.inf, 1e30):
        padded = {"where": jnp.asarray(where)}
        for n, a in arrays.items():
            fill = PADDING.get(a.dtype.kind, lambda a, f=filling: np.full_like(a, f))
            padded = {n: jnp.asarray(np.where(padding[n], fill(a), a))} | padded
        found, of_padded = program(name)(*split(padded))
        assert_close(found, value)
        assert_close(take(name, of_padded, keep), slope)
        for n, gradient in of_padded.items():
            np.testing.assert_array_equal(gradient[padding[n]], 0.0)


@each
def test_batch_without_a_valid_row_costs_nothing(name):
    trained, rest = parts(name)
    first = CONFORMANCE[name].first
    trained = trained | {first: jnp.full_like(trained[first], np.nan)}
    value, slope = program(name)(trained, rest | {"where": jnp.zeros_like(rest["where"])})
    assert value == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope))


@each
def test_order_of_the_batch_does_not_matter(name):
    rng, arrays = np.random.default_rng(1), CONFORMANCE[name].arrays
    order = {"n": rng.permutation(ROWS)}
    order["all"] = order["n"]
    if CONFORMANCE[name].axes_of("where") == ("n", "m"):
        order["m"] = rng.permutation(len(arrays["others"]))
    value, slope = program(name)(*parts(name))
    found, of_shuffled = program(name)(*split(take(name, parts_of(name), order)))
    assert_close(found, value)
    assert_close(of_shuffled, take(name, slope, order))


def parts_of(name):
    trained, rest = parts(name)
    return trained | rest


# Precision


@each
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_low_precision_is_accumulated_in_float32(name, dtype):
    trained, rest = parts(name)
    low = {n: a.astype(dtype) for n, a in trained.items()}
    value, slope = program(name)(low, rest)
    exact, exact_slope = program(name)({n: a.astype(np.float32) for n, a in low.items()}, rest)
    assert value.dtype == jnp.float32
    assert_close(value, exact, rtol=2e-6)
    for n, each_slope in slope.items():
        assert each_slope.dtype == dtype
        epsilon = float(jnp.finfo(dtype).eps)
        assert_close(each_slope.astype(jnp.float32), exact_slope[n], rtol=epsilon)


# Transformations


@each_loss
def test_eager_is_jitted(name):
    trained, rest = parts(name)
    eager = CONFORMANCE[name].value(trained | rest)
    assert_close(eager, program(name)(trained, rest)[0])


@each_loss
def test_vmap_is_a_loop(name):
    """The value; its gradient under vmap as well where `test_eight_devices_are_one` has none."""
    trained, rest = parts(name)
    batches = [trained, jax.tree.map(lambda a: 0.5 * a[::-1], trained)]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *batches)
    row = CONFORMANCE[name]

    def value(trained, rest):
        return row.value(trained | rest), {}

    function = value if "axis_name" in row.signature else functools.partial(value_and_slope, name)
    found, slopes = jax.jit(jax.vmap(function, in_axes=(0, None)))(stacked, rest)
    for i, batch in enumerate(batches):
        expected, slope = program(name)(batch, rest)
        assert_close(found[i], expected)
        assert_close({n: of_all[i] for n, of_all in slopes.items()}, slope if slopes else {})


def over_eight_devices(name, mapping):
    """The value on each device, and the gradient that the devices make together."""
    row, arrays = CONFORMANCE[name], parts_of(name)
    spread = {n for n in arrays if row.axes_of(n)[0] == "n"}
    shards = {n: a.reshape(8, -1, *a.shape[1:]) if n in spread else a for n, a in arrays.items()}

    def step(arrays):
        trained, rest = split(arrays)
        given = functools.partial(row.loss, axis_name="device", **row.options)
        value, slope = jax.value_and_grad(lambda t: jnp.sum(given(**t, **rest)))(trained)
        # What all devices have in common has the sum of their shares for its gradient.
        return value, {n: s if n in spread else jax.lax.psum(s, "device") for n, s in slope.items()}

    mapped = jax.pmap if mapping == "pmap" else lambda f, **axes: jax.jit(jax.vmap(f, **axes))
    axes = ({n: 0 if n in spread else None for n in arrays},)
    values, slopes = mapped(step, in_axes=axes, axis_name="device")(shards)
    return values, {
        n: s.reshape(arrays[n].shape) if n in spread else s[0] for n, s in slopes.items()
    }


@each
@pytest.mark.parametrize("mapping", ["vmap", pytest.param("pmap", marks=pytest.mark.slow)])
def test_eight_devices_are_one(name, mapping):
    """A row a device, one of which is padding; the shares of the gradient add up to the whole."""
    if "axis_name" not in CONFORMANCE[name].signature:
        pytest.skip("a matrix of pairs, which needs no other device")
    value, slope = program(name)(*parts(name))
    values, slopes = over_eight_devices(name, mapping)
    assert len(set(np.asarray(values).tolist())) == 1
    assert_close(values[0], value)
    assert_close(slopes, slope)
