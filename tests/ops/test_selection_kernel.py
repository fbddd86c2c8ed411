"""The kernel against the plain search, in Pallas's interpreter, and its lowering to Triton."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import hswd
from jaxhash.ops import _selection_kernel
from jaxhash.ops.selection import is_above, top_m_threshold

KINDS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "tied": lambda rng, shape: np.round(rng.normal(size=shape)),
    "constant": lambda rng, shape: np.full(shape, 0.3),
    "wide": lambda rng, shape: rng.normal(size=shape) * 10.0 ** rng.integers(-4, 4, shape),
    "infinite": lambda rng, shape: rng.choice([-np.inf, -0.0, 0.0, np.inf], shape),
}


cut = jax.jit(
    lambda values, m, where, kernel: is_above(
        top_m_threshold(values, m, where=where, kernel=kernel), values
    ),
    static_argnames="kernel",
)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("rows", [3, 5000])
def test_threshold_of_the_kernel_is_that_of_the_plain_search(rows, dtype, masked):
    rng = np.random.default_rng(rows)
    m = jnp.asarray([0, 1, rows // 3, rows - 1, rows])
    valid = rng.random(rows) < 0.7 if masked else np.ones(rows, bool)
    for kind, draw in KINDS.items():
        values = jnp.asarray(draw(rng, (rows, 5)), dtype)
        kernel, plain = (
            cut(values, m, jnp.asarray(valid) if masked else None, kernel=kernel)[valid]
            for kernel in (True, False)
        )
        np.testing.assert_array_equal(kernel, plain, err_msg=kind)


def test_loss_and_gradient_equal_those_of_select():
    codes = jax.random.normal(jax.random.key(0), (300, 4))

    def loss(codes, method):
        return hswd(codes, key=jax.random.key(1), method=method)

    value, gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)(codes, "kernel")
    expected, expected_gradient = jax.value_and_grad(loss)(codes, "select")
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)


def test_midpoint_does_not_overflow():
    ends = [-(2**31), -(2**31) + 1, -5, -1, 0, 4, 2**31 - 2, 2**31 - 1]
    for low in ends:
        for high in ends:
            middle = _selection_kernel._midpoint(jnp.int32(low), jnp.int32(high))
            assert int(middle) == (low + high) // 2


def test_it_lowers_to_triton(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    codes = jnp.zeros((1000, 8))
    traced = jax.jit(lambda codes: top_m_threshold(codes, 500, kernel=True)).trace(codes)
    try:
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    except RuntimeError as error:
        if "No supported GPU" not in str(error):
            raise
        pytest.skip("this version of JAX lowers Pallas for a GPU only where it sees one")
    assert "gpu.triton" in text


@pytest.mark.parametrize("method", ["select", "kernel"])
def test_several_devices_are_not_for_the_kernel(method):
    codes = jnp.zeros((4, 6, 2))
    loss = jax.vmap(
        lambda codes: hswd(codes, target="balanced", method=method, axis_name="devices"),
        axis_name="devices",
    )
    if method == "select":
        assert loss(codes).shape == (4,)
    else:
        with pytest.raises(ValueError, match='method="kernel" searches the batch of one device'):
            loss(codes)
