"""Codes of a set of items: all of them, in order, whatever the batches and the devices."""

from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxhash.models import MLP, Encoder
from jaxhash.objectives import Batch
from jaxhash.retrieval import encode
from jaxhash.retrieval.encode import make_encoder

MODEL = Encoder(MLP, bits=4)
INPUTS = np.random.default_rng(0).normal(size=(37, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    """With running statistics as training leaves them, not those of initialization."""
    created = MODEL.init(jax.random.key(0), INPUTS)
    _, trained = MODEL.apply(created, INPUTS, train=True, mutable="batch_stats")
    return created | trained


def padded(batch_size):
    """The inputs in batches, the last one filled up with rows that are no zeros."""
    for start in range(0, len(INPUTS), batch_size):
        rows = np.arange(start, start + batch_size)
        mask = rows < len(INPUTS)
        yield Batch(INPUTS[np.where(mask, rows, 0)], np.zeros_like(rows), rows, mask)


def replicated_on_all(tree):
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("devices",))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


@pytest.mark.parametrize("batch_size", [1, 7, 8, 16, 37, 40, 48])
@pytest.mark.parametrize("replicated", [False, True])
def test_codes_are_those_of_the_model(variables, batch_size, replicated):
    """In batches that are a multiple of the eight devices, and in others."""
    expected = MODEL.apply(variables, INPUTS)
    if replicated:  # as training leaves them
        variables = replicated_on_all(variables)
    codes = make_encoder(MODEL)(variables, padded(batch_size))
    np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=1e-6)


def test_variables_are_placed_once_a_call(variables, monkeypatch):
    placed = []
    put = jax.device_put
    monkeypatch.setattr(
        encode.jax, "device_put", lambda tree, *at: (placed.append(tree), put(tree, *at))[1]
    )
    make_encoder(MODEL)(variables, padded(8))
    leaves = jax.tree.leaves(variables)
    assert [sum(tree is leaf for tree in placed) for leaf in leaves] == [1] * len(leaves)


def test_the_encoder_is_compiled_once_for_all_variables():
    """Those of initialization, and those that training leaves on the devices."""
    compiled = []

    class Spy(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train):
            jax.debug.inspect_array_sharding(inputs, callback=compiled.append)
            return nn.Dense(2)(inputs)

    created = jax.jit(partial(Spy().init, train=False))(jax.random.key(0), INPUTS)
    compiled.clear()
    encoder = make_encoder(Spy())
    for variables in (created, replicated_on_all(created)):
        encoder(variables, padded(8))
    assert len(compiled) == 1


def test_a_batch_is_spread_over_the_devices():
    shardings = []

    class Spy(nn.Module):
        def __call__(self, inputs, *, train):
            jax.debug.inspect_array_sharding(inputs, callback=shardings.append)
            return inputs

    codes = make_encoder(Spy())({}, padded(40))
    np.testing.assert_array_equal(codes, INPUTS)
    [sharding] = shardings
    assert sharding.shard_shape((40, 5)) == (5, 5)
