"""Options of all backbones: precision, freezing, rematerialization, dropout, devices."""

import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import models
from jaxhash.models._base import Backbone, Block
from jaxhash.models._cifar_resnet import CifarResNet
from jaxhash.models._fully_connected import (
    FullyConnected,
    adaptive_average_pool,
    pytorch_flattened_dense,
)

STAGES = 4  # of the small network
small = partial(CifarResNet, blocks=1)


def images(n=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)


def variables_of(model, inputs):
    """Makes variables without scales of 1 or biases and means of 0; faster than `init`."""
    rng = np.random.default_rng(1)

    def draw(leaf):
        if leaf.ndim == 1:
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return rng.normal(0, spread, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), inputs))


def train(model, variables, inputs, **arguments):
    """Returns training features, statistics, and gradients of an asymmetric sum."""

    @jax.jit
    def run(variables, inputs, arguments):
        def loss(params):
            features, updates = model.apply(
                variables | {"params": params},
                inputs,
                train=True,
                mutable=["batch_stats"],
                **arguments,
            )
            return jnp.sin(
                features + jnp.arange(1.0, features.size + 1).reshape(features.shape)
            ).sum(), (features, updates)

        grads, (features, updates) = jax.grad(loss, has_aux=True)(variables["params"])
        return features, updates.get("batch_stats", {}), grads

    return run(variables, inputs, arguments)


def assert_equal(got, expected, tolerance=0.0):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, expected
    )


def changed(before, after):
    """Returns, per leaf, whether it changed."""
    return jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), before, after)


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


class Dropping(Block):
    rate: float

    @nn.compact
    def __call__(self, x, train, mask):
        return self.dropout(self.dense(64, name="dense")(x), self.rate, train)


class Dropped(Backbone):
    """A linear layer and dropout, twice."""

    rate: float = 0.5

    def stages(self):
        yield [partial(Dropping, rate=self.rate)]
        yield [partial(Dropping, rate=self.rate)]


@pytest.mark.parametrize("make", [small, models.CNN, models.MLP])
def test_bfloat16_is_close_and_leaves_parameters_and_features_float32(make):
    variables = variables_of(make(), images())
    half = make(dtype=jnp.bfloat16)
    assert dtypes(jax.eval_shape(half.init, jax.random.key(0), images())) == {"float32"}

    @partial(jax.jit, static_argnums=0)
    def apply(model, variables):
        return model.apply(variables, images(), train=True, mutable=["batch_stats"])

    expected, _ = apply(make(), variables)
    got, updates = apply(half, variables)
    assert got.dtype == jnp.float32 and dtypes(updates) == {"float32"}
    error = jnp.abs(got - expected).max() / jnp.abs(expected).max()
    assert 0 < error < 0.03  # 2^-8 a rounding, some tens of them


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11_bn", "resnet18", "resnet50", "mobilenet_v2", "squeezenet1_1"]
)
def test_bfloat16_reaches_every_convolution_and_matrix(name):
    model = getattr(models, name)(dtype=jnp.bfloat16, classes=10)
    variables = jax.eval_shape(model.init, jax.random.key(0), model.example())
    program = str(jax.make_jaxpr(model.apply)(variables, model.example()))
    made = re.findall(r":(\w+)\[[\d,]*\] = (?:conv_general_dilated|dot_general)", program)
    assert len(made) >= 8 and set(made) == {"bf16"}


def test_parameters_in_bfloat16():
    variables = jax.eval_shape(small(param_dtype=jnp.bfloat16).init, jax.random.key(0), images())
    assert dtypes(variables["params"]) == {"bfloat16"}
    assert dtypes(variables["batch_stats"]) == {"float32"}


@pytest.mark.parametrize("frozen, remat", [(0, False), (2, True), (STAGES, False)])
def test_frozen_stages_have_no_gradient_and_keep_their_statistics(frozen, remat):
    model = small(freeze_stages=frozen, remat=remat)
    variables = variables_of(model, images())
    features, stats, grads = train(model, variables, images())
    moved = changed(variables["batch_stats"], stats)
    learning = changed(jax.tree.map(jnp.zeros_like, grads), grads)
    for block in grads:
        expected = models.stage_index(block) >= frozen
        assert set(jax.tree.leaves(moved[block])) == {expected}
        assert set(jax.tree.leaves(learning[block])) == {expected}
    if frozen == STAGES:  # then training is evaluation
        assert_equal(features, model.apply(variables, images()), 1e-5)


def test_frozen_normalization_keeps_its_statistics_and_learns_its_scale():
    model = small(freeze_norm=True)
    variables = variables_of(model, images())
    features, stats, grads = train(model, variables, images())
    assert_equal(stats, variables["batch_stats"])
    assert_equal(features, model.apply(variables, images()), 1e-5)
    learning = changed(jax.tree.map(jnp.zeros_like, grads), grads)
    assert all(jax.tree.leaves(learning))


@pytest.mark.parametrize("make", [small, Dropped])
def test_remat_changes_no_value_and_no_gradient(make):
    inputs = images() if make is small else np.ones((8, 5), np.float32)
    variables = variables_of(make(), inputs)
    arguments = {"rngs": {"dropout": jax.random.key(3)}}
    plain = train(make(), variables, inputs, **arguments)
    again = train(make(remat=True), variables, inputs, **arguments)
    assert_equal(again, plain, 3e-5)  # sums in another order
    programs = [
        str(jax.make_jaxpr(make(remat=remat).apply)(variables, inputs)) for remat in (False, True)
    ]
    assert ["remat" in program for program in programs] == [False, True]


@pytest.mark.parametrize("make", [small, partial(Dropped, rate=0.3)])
def test_eight_devices_equal_one(make):
    """Devices have 2, 2, 2, 2, 2, 1, 0, 0 valid rows; dropout draws per global row."""
    inputs = images(16) if make is small else np.ones((16, 5), np.float32)
    mask = jnp.arange(16) < 11
    rngs = {"dropout": jax.random.key(3)}
    variables = variables_of(make(), inputs)

    def apply(model, inputs, mask):
        arguments = {"train": True, "mask": mask, "rngs": rngs, "mutable": ["batch_stats"]}
        return model.apply(variables, inputs, **arguments)

    shared = (inputs.reshape(8, 2, *inputs.shape[1:]), mask.reshape(8, 2))
    spread = partial(apply, make(axis_name="devices"))
    features, updates = jax.pmap(spread, axis_name="devices")(*shared)
    expected, updates_of_one = jax.jit(partial(apply, make()))(inputs, mask)
    assert_equal(features.reshape(16, -1)[:11], expected[:11], 1e-4)
    for device in range(8):
        assert_equal(jax.tree.map(lambda x, d=device: x[d], updates), updates_of_one, 1e-4)


class TestDropout:
    def drop(self, rate=0.25, train=True, key=0, x=None):
        block = Dropping(rate=rate)
        x = jnp.ones((40, 500)) if x is None else x
        rngs = {"dropout": jax.random.key(key)}
        return block.apply({}, x, rate, train, rngs=rngs, method="dropout")

    def test_keeps_a_share_and_scales_it_up(self):
        dropped = np.asarray(self.drop())
        assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
        assert abs((dropped > 0).mean() - 0.75) < 0.02  # 6 standard deviations of 20,000 draws

    def test_each_row_and_each_key_has_its_own_draw(self):
        dropped = np.asarray(self.drop())
        assert len(np.unique(dropped, axis=0)) == 40
        assert (dropped != np.asarray(self.drop(key=1))).any()

    def test_nothing_in_evaluation_or_at_rate_0(self):
        x = jnp.ones((4, 5))
        block = Dropping(rate=0.5)  # without a key: none is asked for
        assert block.apply({}, x, 0.5, False, method="dropout") is x
        assert block.apply({}, x, 0.0, True, method="dropout") is x

    def test_keeps_the_dtype(self):
        assert self.drop(x=jnp.ones((4, 5), jnp.bfloat16)).dtype == jnp.bfloat16

    @pytest.mark.parametrize(
        "make, values",
        [
            # 1 + (0 or 2) where dropout comes before the linear layer, 2 (0 or 2) where after it
            (models.alexnet, {1.0, 3.0}),
            (models.vgg16, {0.0, 4.0}),
            (partial(models.alexnet, dropout=0.0), {2.0}),
            (partial(models.vgg16, dropout=0.0), {2.0}),
        ],
    )
    def test_of_fully_connected_layers(self, make, values):
        """An identity with a bias of 1 on ones."""
        variables = {"params": {"dense": {"kernel": jnp.eye(98, 4096), "bias": jnp.ones(4096)}}}
        for (block,) in list(make().stages())[-2:]:
            assert block.func is FullyConnected
            layer = block(name=None) if "grid" not in block.keywords else block(name=None, grid=7)
            x = jnp.ones((2, 7, 7, 2)) if layer.grid else jnp.ones((2, 98))
            y = layer.apply(variables, x, True, None, rngs={"dropout": jax.random.key(0)})
            assert set(np.unique(np.asarray(y)[:, :98])) == values


@pytest.mark.parametrize("height, width, size", [(1, 5, 6), (7, 7, 7), (13, 6, 6), (23, 8, 7)])
def test_adaptive_pooling(height, width, size):
    """Compares cell by cell with the definition of the borders."""
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    expected = np.empty((2, size, size, 3), np.float32)
    for i in range(size):
        for j in range(size):
            rows = slice(int(np.floor(i * height / size)), int(np.ceil((i + 1) * height / size)))
            columns = slice(int(np.floor(j * width / size)), int(np.ceil((j + 1) * width / size)))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    got = jax.jit(adaptive_average_pool, static_argnums=1)(x, size)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_order_of_flattening():
    """The file orders inputs by channel, row, column; Linen by row, column, channel."""
    rng = np.random.default_rng(0)
    x, theirs = rng.normal(size=(4, 3, 3, 5)), rng.normal(size=(7, 5 * 3 * 3))
    tensor = pytorch_flattened_dense("fc6", "classifier.1", grid=3)["params/fc6/kernel"]
    assert tensor.name == "classifier.1.weight"
    expected = x.transpose(0, 3, 1, 2).reshape(4, -1) @ theirs.T
    np.testing.assert_allclose(x.reshape(4, -1) @ tensor.transform(theirs), expected)


@pytest.mark.parametrize("name, size", [("alexnet", 32), ("vgg11", 28), ("squeezenet1_1", 8)])
def test_images_that_are_too_small(name, size):
    model = getattr(models, name)()
    black = np.zeros((1, size, size, 3), np.uint8)
    with pytest.raises(ValueError, match=rf"\({size}, {size}, 3\) are too small"):
        jax.eval_shape(model.init, jax.random.key(0), black)
