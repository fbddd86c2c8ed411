"""Sums of bits on bit planes against sums of the bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import frozen

from jaxhash.metrics._bitslice import WORD, count_ones, minterms, slice_bits


def unslice(planes):
    """The bits of the items, [items, planes]."""
    planes = np.stack([np.asarray(plane) for plane in planes])
    return (planes[..., None] >> np.arange(WORD, dtype=np.uint32) & 1).reshape(len(planes), -1).T


def random_bits(items, bits, seed=0):
    """The first item has no bit set, the second all of them."""
    some = np.random.default_rng(seed).random((items, bits)) < 0.5
    some[:2] = [[False], [True]]
    return frozen(some)


@pytest.mark.parametrize(
    ("items", "words"), [(2, 1), (7, 1), (8, 1), (31, 1), (32, 1), (33, 2), (33, 5), (100, 4)]
)
@pytest.mark.parametrize("bits", [1, 5])
def test_planes_hold_the_bits_and_zeros_after_them(items, words, bits):
    some = random_bits(items, bits)
    for layout in (some, np.asfortranarray(some), np.repeat(some, 2, axis=0)[::2]):
        planes = slice_bits(layout, words)
        assert planes.shape == (bits, words) and planes.dtype == np.uint32
        found = unslice(planes)
        np.testing.assert_array_equal(found[:items], some)
        assert not found[items:].any()


@pytest.mark.parametrize("n", [*range(1, 8), 13, 14, 15, 20, 21, 64, 98, 130])
def test_ones_of_n_planes(n):
    """There is an item for every number of ones from 0 to n."""
    rng = np.random.default_rng(n)
    some = rng.permuted(np.arange(n) < np.arange(n + 1)[:, None], axis=1)
    digits = jax.jit(count_ones)(slice_bits(some, -(-len(some) // WORD)))
    assert len(digits) >= n.bit_length()
    found = unslice(digits)[: len(some)]
    np.testing.assert_array_equal(found @ (1 << np.arange(len(digits))), np.arange(n + 1))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_item_has_the_minterm_of_its_number(n):
    number = np.arange(2**n)
    digits = slice_bits(number[:, None] >> np.arange(n) & 1 == 1, -(-(2**n) // WORD))
    found = unslice(minterms(list(jnp.asarray(digits))))
    assert found.shape[1] == 2**n
    np.testing.assert_array_equal(found[: 2**n], np.eye(2**n))
    assert not found[2**n :, 1:].any(), "items after the last have the number 0"
