"""HSWD by a kernel: the GPU's and the TPU's in Pallas's interpreter, and what is chosen where."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hswd_oracles import KEY, columns, normal

from jaxhash.losses import _hswd_kernel, hswd

#: What a lowered program calls on each platform.
CALLS = {"tpu": "tpu_custom_call", "cuda": "triton"}


@pytest.fixture(params=["gpu", "tpu"])
def interpreted(request, monkeypatch):
    """The platform whose kernel is interpreted."""
    kernel = partial(getattr(_hswd_kernel, f"on_{request.param}"), interpret=True)
    monkeypatch.setattr(_hswd_kernel, "on_platform", kernel)
    return request.param


def both(method, **options):
    """The loss of each bit, and the gradient of a weighted sum of them."""
    weights = jnp.arange(1.0, 9.0)

    def weighted(codes, where):
        losses = hswd(codes, key=KEY, method=method, where=where, reduce_fn=None, **options)
        return jnp.sum(weights[: len(losses)] * losses), losses

    return jax.jit(jax.value_and_grad(weighted, has_aux=True))


def check_against_select(codes, where=None, **options):
    (_, losses), slopes = both("kernel", **options)(codes, where)
    (_, expected), expected_slopes = both("select", **options)(codes, where)
    assert slopes.dtype == codes.dtype
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    rtol = {4: 1e-6, 2: 1e-2}[codes.dtype.itemsize]
    slopes, expected_slopes = (np.asarray(each, float) for each in (slopes, expected_slopes))
    np.testing.assert_allclose(slopes, expected_slopes, rtol=rtol)


@pytest.mark.parametrize(
    ("rows", "dtype", "options"),
    [
        (33, jnp.float32, {"target": "balanced"}),
        (64, jnp.float32, {"target": "sampled"}),
        (33, jnp.bfloat16, {"target": "sampled", "order": 1, "levels": (0.0, 1.0)}),
        (33, jnp.float16, {"target": "balanced", "order": 1, "mass": 0.3}),
        (1, jnp.float32, {"target": "balanced", "levels": (-2.0, jnp.arange(8.0))}),
    ],
)
def test_value_and_gradient_are_those_of_select(interpreted, rows, dtype, options):
    check_against_select(jnp.clip(columns(rows), -6e4, 6e4).astype(dtype), **options)


def test_masked_rows_count_for_nothing(interpreted):
    codes = columns(33).at[::3].set(jnp.nan)
    check_against_select(codes, jnp.arange(33) % 3 > 0, target="balanced", mass=0.3)
    check_against_select(codes, jnp.zeros(33, bool), target="balanced")


def test_more_columns_than_a_program_takes(interpreted):
    """The last program of a TPU has fewer columns than the others."""
    codes = normal(40, 11)
    value, slope = jax.jit(jax.value_and_grad(partial(hswd, target="balanced", method="kernel")))(
        codes
    )
    expected = jax.jit(jax.value_and_grad(partial(hswd, target="balanced")))(codes)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_of_any_order_and_mode_are_those_of_select(order):
    """Their rules are the same on every platform."""
    codes, where = normal(5, 2), jnp.arange(5) < 4

    def derivatives(method):
        loss = partial(hswd, target="balanced", method=method, order=order, where=where)
        moved = jnp.cos(codes)

        @jax.jit
        def all_of_them(codes):
            return (
                jax.jvp(loss, (codes,), (moved,)),
                jax.hessian(loss)(codes),
                jax.grad(lambda codes: jnp.sum(jax.grad(loss)(codes) ** 2))(codes),
            )

        return all_of_them(codes)

    found, expected = derivatives("kernel"), derivatives("select")
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), found, expected)


def test_members_of_a_sweep_are_batched(interpreted):
    codes, levels = normal(3, 9, 2), jnp.array([0.5, 1.0, 2.0])

    def losses(method):
        def loss(codes, high):
            return hswd(codes, target="balanced", method=method, levels=(-1.0, high))

        return jax.jit(jax.vmap(jax.value_and_grad(loss)))(codes, levels)

    for found, expected in zip(losses("kernel"), losses("select"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@cache
def lowered(platform):
    codes = jnp.zeros((1000, 12))
    loss = jax.value_and_grad(partial(hswd, key=KEY, method="kernel"))
    return jax.jit(loss).trace(codes).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", CALLS)
def test_the_platform_that_is_lowered_for_chooses(platform):
    """Not that of the machine, which has CPUs."""
    try:
        text = lowered(platform)
    except RuntimeError as error:
        if "No supported GPU" not in str(error):
            raise
        pytest.skip("this version of JAX lowers Pallas for a GPU only where it knows which")
    assert text.count(CALLS[platform]) == 1


def test_a_cpu_computes_the_plain_form():
    """Neither a kernel nor its interpreter: the program is that of select."""
    text = lowered("cpu")
    assert not any(call in text for call in CALLS.values())
    assert "dynamic_slice" not in text  # how the interpreter reads a block
    check_against_select(columns(33), target="balanced")


@pytest.mark.parametrize("name", ["mass", "levels"])
def test_derivatives_in_what_the_kernel_holds_constant_are_refused(name):
    def loss(value):
        options = {"mass": value} if name == "mass" else {"levels": (-1.0, value)}
        return hswd(normal(5, 2), target="balanced", method="kernel", **options)

    with pytest.raises(ValueError, match='method="select"') as raised:
        jax.eval_shape(jax.grad(loss), 0.4)
    assert "\n" not in str(raised.value)


def test_a_column_must_fit_the_chip():
    with pytest.raises(ValueError, match=r'method="kernel".*65536.*65537'):
        jax.eval_shape(partial(hswd, target="balanced", method="kernel"), jnp.zeros((65_537, 1)))


def test_several_devices_are_not_for_the_kernel():
    loss = partial(hswd, target="balanced", method="kernel", axis_name="devices")
    with pytest.raises(ValueError, match="axis_name"):
        jax.vmap(loss, axis_name="devices")(jnp.zeros((4, 6, 2)))
