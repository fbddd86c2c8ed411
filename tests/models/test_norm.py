"""Batch normalization of masked and sharded batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.models._norm import BatchNorm


def inputs(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape) * 3 + 1


@pytest.mark.parametrize("shape", [(6, 4), (6, 5, 5, 4)])
def test_equals_linen_without_mask_and_axis(shape):
    x = inputs(shape)
    ours, theirs = BatchNorm(), nn.BatchNorm(use_running_average=False, momentum=0.9)
    variables = ours.init(jax.random.key(0), x)
    y, updates = ours.apply(variables, x, train=True, mutable=["batch_stats"])
    z, expected = theirs.apply(theirs.init(jax.random.key(0), x), x, mutable=["batch_stats"])
    np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), updates, expected)
    frozen = ours.apply(variables | updates, x)
    running = nn.BatchNorm(use_running_average=True).apply(
        {"params": variables["params"], **expected}, x
    )
    np.testing.assert_allclose(frozen, running, rtol=1e-4, atol=1e-5)


def test_mask_equals_subset_whatever_the_padding_holds():
    x = inputs((6, 3, 3, 4)).at[4:].set(1e6)
    mask = jnp.arange(6) < 4
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x)
    y, updates = norm.apply(variables, x, train=True, mask=mask, mutable=["batch_stats"])
    z, expected = norm.apply(variables, x[:4], train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y[:4], z, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates, expected)


def test_devices_with_different_numbers_of_valid_rows():
    """Averaging the masked means of the devices would be wrong here."""
    x, mask = inputs((16, 4)), jnp.arange(16) < 11  # 2, 2, 2, 2, 2, 1, 0, 0 valid rows
    norm = BatchNorm(axis_name="d")
    variables = norm.init(jax.random.key(0), x)

    def apply(x, mask):
        return norm.apply(variables, x, train=True, mask=mask, mutable=["batch_stats"])

    y, updates = jax.pmap(apply, axis_name="d")(x.reshape(8, 2, 4), mask.reshape(8, 2))
    z, expected = BatchNorm().apply(variables, x, train=True, mask=mask, mutable=["batch_stats"])
    np.testing.assert_allclose(y.reshape(16, 4), z, rtol=1e-5, atol=1e-6)
    for device in range(8):
        jax.tree.map(
            lambda a, b, d=device: np.testing.assert_allclose(a[d], b, rtol=1e-5), updates, expected
        )
