from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.models import CNN, MLP, Encoder


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "backbone, shape, parameters",
    [
        # kernels, two per channel of batch normalisation, then the head
        (MLP, (512,), 512 * 256 + 2 * 256 + 257 * 16),
        (partial(MLP, widths=(8, 4)), (8, 8, 1), 64 * 8 + 16 + 8 * 4 + 8 + 5 * 16),
        (CNN, (28, 28, 1), 9 * (32 + 32 * 64 + 64 * 128) + 2 * 224 + (4 * 4 * 128 + 1) * 16),
        (CNN, (32, 32, 3), 9 * (96 + 32 * 64 + 64 * 128) + 2 * 224 + (4 * 4 * 128 + 1) * 16),
    ],
)
def test_parameters_and_shape(backbone, shape, parameters):
    model = Encoder(backbone, bits=16)
    codes, variables = model.init_with_output(jax.random.key(0), jnp.zeros((2, *shape)))
    assert codes.shape == (2, 16)
    assert count(variables["params"]) == parameters
    assert set(variables["params"]) == {"backbone", "head"}


def test_bytes_are_mapped_to_minus_one_and_one():
    images = np.array([0, 255], np.uint8).reshape(1, 2, 1, 1)
    model = Encoder(MLP, bits=4)
    variables = model.init(jax.random.key(0), images)
    same = np.array([-1.0, 1.0], np.float32).reshape(1, 2, 1, 1)
    np.testing.assert_array_equal(model.apply(variables, images), model.apply(variables, same))


def test_the_axis_name_reaches_the_backbone_and_changes_no_parameter():
    images = jnp.zeros((2, 8, 8, 1))
    alone, spread = Encoder(CNN, 4), Encoder(CNN, 4, axis_name="devices")
    jax.tree.map(
        np.testing.assert_array_equal,
        alone.init(jax.random.key(0), images),
        spread.init(jax.random.key(0), images),
    )
    with pytest.raises(NameError, match="devices"):  # it really sums over the axis
        spread.apply(
            spread.init(jax.random.key(0), images), images, train=True, mutable=["batch_stats"]
        )
