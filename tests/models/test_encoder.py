"""The encoder: parameters, views, statistics and the axis name."""

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
        # kernels, two per channel of batch normalization, then the head
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


# Several views


def two_views(n=6):
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(n, 5)).astype(np.float32) for _ in range(2))


@pytest.fixture(scope="module")
def small():
    """Returns a model and its variables, with statistics other than the initial ones."""
    model = Encoder(partial(MLP, widths=(7,)), bits=3)
    variables = model.init(jax.random.key(0), two_views()[0])
    statistics = jax.tree.map(lambda x: x + 0.5, variables["batch_stats"])
    return model, variables | {"batch_stats": statistics}


@pytest.mark.parametrize("return_features", [False, True])
def test_views_are_encoded_as_each_is(small, return_features):
    model, variables = small
    codes = model.apply(variables, two_views(), return_features=return_features)
    assert isinstance(codes, tuple)
    for of_view, view in zip(codes, two_views(), strict=True):
        assert of_view.shape == (6, 7 if return_features else 3)
        alone = model.apply(variables, view, return_features=return_features)
        np.testing.assert_allclose(of_view, alone, rtol=1e-5, atol=1e-6)


def test_a_tuple_of_one_view_stays_a_tuple(small):
    model, variables = small
    (codes,) = model.apply(variables, two_views()[:1])
    np.testing.assert_array_equal(codes, model.apply(variables, two_views()[0]))


def test_statistics_are_those_of_all_views_without_the_padding(small):
    """In training, two views form one batch of twice the rows, each with the same padding."""
    model, variables = small
    mask, rows = np.arange(6) < 4, np.concatenate([view[:4] for view in two_views()])
    train = dict(train=True, mutable=["batch_stats"])
    codes, updates = model.apply(variables, two_views(), mask=mask, **train)
    joined, expected = model.apply(variables, rows, **train)
    kept = np.concatenate([of_view[:4] for of_view in codes])
    np.testing.assert_allclose(kept, joined, rtol=1e-5, atol=1e-6)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), updates, expected)


def test_several_views_have_the_parameters_of_one(small):
    model, _ = small
    one, two = (model.init(jax.random.key(0), x) for x in (two_views()[0], two_views()))
    jax.tree.map(np.testing.assert_array_equal, one, two)
