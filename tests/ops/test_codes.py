"""Codes: the sign of zero, the gradient through a sign, bytes and bits."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxhash.ops.codes import binarize, hamming_distance, pack, relax, straight_through, unpack


def signs(n, bits, seed=0):
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), size=(n, bits))


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_relax_is_an_odd_function_with_slope_beta_at_zero(beta):
    codes = jnp.linspace(-2, 2, 5)[None, :]
    np.testing.assert_allclose(relax(-codes, beta), -relax(codes, beta))
    assert jax.grad(lambda u: relax(u, beta).sum())(jnp.zeros((1, 1))) == pytest.approx(beta)


def test_relax_tends_to_the_sign_and_to_zero():
    codes = jnp.array([[-2.0, -0.1, 0.0, 0.1, 2.0]])
    np.testing.assert_array_equal(relax(codes, 1e6), jnp.sign(codes))
    np.testing.assert_array_equal(relax(codes, 0.0), jnp.zeros_like(codes))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_real_codes_keep_their_dtype(dtype):
    codes = jnp.ones((2, 3), dtype)
    assert relax(codes, beta=2.0).dtype == straight_through(codes).dtype == dtype


@pytest.mark.parametrize("array", [np.array, jnp.array])
def test_binarize_counts_zero_as_plus_one(array):
    codes = binarize(array([[-2.0, -1e-30, -0.0, 0.0, 1e-30, 2.0]]))
    assert isinstance(codes, type(array(0)) if array is not np.array else np.ndarray)
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(codes, [[-1, -1, 1, 1, 1, 1]])


def test_straight_through_has_the_gradient_of_the_identity():
    codes, weights = jnp.array([[-3.0, 0.0, 0.5]]), jnp.array([[1.0, 2.0, 3.0]])
    slope = jax.grad(lambda u: jnp.sum(weights * straight_through(u)))(codes)
    np.testing.assert_array_equal(slope, weights)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("size", [0.0, 1e-3, 0.3, 1.0, 3.3, 301.0, 30_001.0])
def test_straight_through_is_exactly_the_sign(dtype, size):
    codes = jnp.array([[-size, size]], dtype)
    np.testing.assert_array_equal(straight_through(codes), binarize(codes).astype(dtype))


@pytest.mark.parametrize("bits", [1, 7, 8, 9, 33, 64])
def test_bytes_hold_the_codes(bits):
    codes = signs(5, bits)
    packed = pack(codes)
    assert packed.shape == (5, -(-bits // 8)) and packed.dtype == jnp.uint8
    np.testing.assert_array_equal(unpack(packed, bits), codes)
    np.testing.assert_array_equal(pack(jnp.asarray(codes)), packed)


def test_pack_cuts_real_codes_at_zero_and_keeps_leading_axes():
    codes = np.random.default_rng(0).normal(size=(2, 3, 9)).astype(np.float32)
    codes[0, 0, 0] = 0.0
    np.testing.assert_array_equal(unpack(pack(codes), 9), binarize(codes))


@pytest.mark.parametrize("bits", [1, 7, 8, 9, 33, 64])
def test_hamming_distance_counts_the_bits_that_differ(bits):
    codes, others = signs(5, bits), signs(4, bits, seed=1)
    differing = (codes[:, None, :] != others[None, :, :]).sum(axis=-1)
    np.testing.assert_array_equal(hamming_distance(pack(codes), pack(others)), differing)


@pytest.mark.parametrize("bits", [0, 8, 17])
def test_unpack_wants_the_bits_to_fit_the_bytes(monkeypatch, bits):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=f"bits={bits}"):
        unpack(jnp.zeros((3, 2), jnp.uint8), bits)


@pytest.mark.parametrize("function", [pack, binarize])
@pytest.mark.parametrize("array", [np.array, jnp.array])
def test_codes_that_zero_does_not_cut_are_refused(unchecked, function, array):
    """Every bit of 0/1 codes, bools and bytes would count as +1."""
    for dtype in (bool, np.uint8):
        with pytest.raises(TypeError, match="^codes must be -1 and"):
            function(array([[0, 1]], dtype=dtype))
    with pytest.raises(ValueError, match="^codes must be -1 and"):
        function(array([[0, 1]], dtype=np.int8))
    with pytest.raises(TypeError, match="^codes must be an array"):
        function([[-1.0, 1.0]])
    np.testing.assert_array_equal(
        function(array([[-1, 1]], dtype=np.int8)), function(array([[-1.0, 1.0]]))
    )


@pytest.mark.parametrize(
    ("error", "words", "codes", "others"),
    [
        (ValueError, "codes have 2 bytes, others 1", jnp.zeros((2, 2)), jnp.ones((2, 1))),
        (ValueError, "others must have shape", jnp.zeros((2, 1)), jnp.zeros(1)),
        (TypeError, "codes must be packed", jnp.array([[1, -1]], jnp.int8), jnp.zeros((1, 2))),
        (TypeError, "others must be packed", jnp.zeros((1, 2)), jnp.ones((1, 2), bool)),
    ],
)
def test_distances_of_other_than_packed_codes_are_refused(unchecked, error, words, codes, others):
    packed = (s.astype(jnp.uint8) if s.dtype == jnp.float32 else s for s in (codes, others))
    with pytest.raises(error, match=words):
        hamming_distance(*packed)


def test_unpack_takes_bits_of_numpy_and_bytes_alone(unchecked):
    packed = pack(jnp.array([[1, -1, 1]]))
    np.testing.assert_array_equal(unpack(packed, np.int64(3)), [[1, -1, 1]])
    with pytest.raises(TypeError, match="^packed must be packed codes"):
        unpack(packed.astype(jnp.int32), 3)
    with pytest.raises(TypeError, match="^bits must be an integer"):
        unpack(packed, 3.0)
