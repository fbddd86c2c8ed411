"""What holds for every method and every quantizer, alone and together."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhash.models import Encoder, linear
from jaxhash.objectives import METHODS, QUANTIZERS, Batch, Context, Setup, combine, weighted
from jaxhash.runs.composition import published_weight
from jaxhash.training.parallel import DataParallel
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

ITEMS, CLASSES, BITS, WIDTH = 16, 3, 8, 5

#: Options that make a quantizer small.
SMALL = {"swd": {"projections": 20, "block": 10}}


def method(name, **options):
    return METHODS[name].make(**options)


def bare(name):
    """The method without its own penalty."""
    return method(name, **({} if published_weight(name) is None else {"penalty": 0.0}))


def quantizer(name):
    return QUANTIZERS[name](**SMALL.get(name, {}))


def labels_of(rng, multi_label):
    if not multi_label:
        return rng.integers(0, CLASSES, ITEMS).astype(np.int32)
    return (rng.random((ITEMS, CLASSES)) < 0.5).astype(np.uint8)  # some rows without a label


def batch_of(views, multi_label=False, seed=0):
    rng = np.random.default_rng(seed)
    inputs = tuple(rng.normal(size=(ITEMS, WIDTH)).astype(np.float32) for _ in range(views))
    index = rng.permutation(ITEMS).astype(np.int32)
    mask = np.arange(ITEMS) < ITEMS - 3
    labels = labels_of(rng, multi_label)
    return Batch(inputs if views > 1 else inputs[0], labels, index, mask)


def parts_of(objective):
    return dict(model=Encoder(linear, BITS), objective=objective, optimizer=optax.sgd(0.1))


def state_of(objective, batch, multi_label=False):
    create = functools.partial(
        create_state, items=ITEMS, classes=CLASSES, multi_label=multi_label, **parts_of(objective)
    )
    inputs = jax.tree.map(lambda view: view[:1], batch.inputs)
    return jax.jit(create)(jax.random.key(0), inputs)


def floats(tree):
    leaves = jax.tree.leaves(jax.device_get(tree))
    return [leaf for leaf in leaves if np.issubdtype(np.asarray(leaf).dtype, np.floating)]


def all_finite(*trees):
    return all(np.isfinite(leaf).all() for tree in trees for leaf in floats(tree))


def assert_close(one, other, rtol=2e-4, atol=2e-5):
    def compare(path, a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            return
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=atol,
            err_msg=jax.tree_util.keystr(path),
        )  # fmt: skip

    jax.tree.map_with_path(compare, one, other)


def parallelize(step, devices):
    """The compiled step, and what places a state for it."""
    if devices == 1:
        return jax.jit(step), lambda state: state
    parallel_step = DataParallel(step, jax.devices()[:devices])
    return (
        lambda state, batch: parallel_step(state, parallel_step.shard_batch(batch)),
        lambda state: parallel_step.to_local(parallel_step.replicate(state)),
    )


def two_steps(objective, multi_label, devices):
    """Two epochs of one batch each, so that what happens once an epoch happens."""
    batches = [batch_of(objective.views, multi_label, seed) for seed in (1, 2)]
    step = functools.partial(train_step, steps_per_epoch=1, total_steps=4, **parts_of(objective))
    step, place = parallelize(step, devices)
    state, metrics = place(state_of(objective, batches[0], multi_label)), []
    for batch in batches:
        state, found = step(state, batch)
        metrics.append(jax.device_get(found))
    return state, metrics


@pytest.mark.parametrize(
    "multi_label", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ids", "multi-label"]
)
@pytest.mark.parametrize("name", METHODS)
def test_eight_devices_train_as_one_does(name, multi_label):
    objective = method(name)
    one, metrics_of_one = two_steps(objective, multi_label, 1)
    eight, metrics_of_eight = two_steps(objective, multi_label, 8)
    assert_close(metrics_of_one, metrics_of_eight)
    assert_close(one, eight)
    assert all_finite(one.params, one.objective_state, metrics_of_one)
    assert metrics_of_one[0]["grad_norm"] > 0


def weighted_grid(name):
    """The method with all quantizers, each times an entry of a traced vector."""

    def objective(weights):
        quantizers = [weighted(w, quantizer(q)) for w, q in zip(weights, QUANTIZERS, strict=True)]
        return combine(bare(name), *quantizers)

    return objective


@pytest.mark.slow
@pytest.mark.parametrize(("name", "devices"), zip(METHODS, itertools.cycle([8, 1])))
def test_every_quantizer_trains_with_every_method(name, devices):
    """One compiled step with all quantizers, of which each run turns on one.

    Every other method on one device: alone each method, and each quantizer, is on one and on eight.
    """
    grid = weighted_grid(name)
    none = jnp.zeros(len(QUANTIZERS))
    batch = batch_of(grid(none).views)
    start = state_of(grid(none), batch)

    def step(state, batch, *, axis_name=None):
        weights, inputs = batch.inputs
        parts = parts_of(grid(weights[0]))
        batch = batch._replace(inputs=inputs)
        return train_step(
            state, batch, steps_per_epoch=1, total_steps=4, axis_name=axis_name, **parts
        )

    def with_weights(weights):  # a row for each row of the batch, which goes to the devices
        return batch._replace(inputs=(jnp.tile(weights[None], (ITEMS, 1)), batch.inputs))

    parallel_step, place = parallelize(step, devices)
    without = jax.device_get(
        parallel_step(place(jax.tree.map(jnp.copy, start)), with_weights(none))[0].params["model"]
    )
    for number, chosen in enumerate(QUANTIZERS):
        after, metrics = parallel_step(
            place(jax.tree.map(jnp.copy, start)), with_weights(none.at[number].set(1.0))
        )
        assert all_finite(metrics, after.params, after.objective_state), chosen
        pairs = zip(floats(after.params["model"]), floats(without), strict=True)
        assert any(np.any(a != b) for a, b in pairs), f"{chosen} changes nothing"


EVERYTHING = [*METHODS, *(f"quantizer {name}" for name in QUANTIZERS)]

ROWS = 8


@functools.cache
def gradient_program(name, dtype):
    """From codes, labels and mask to the value and its gradient in codes and parameters."""
    kind, _, quantizer_name = name.partition(" ")
    objective = quantizer(quantizer_name) if quantizer_name else method(kind)
    rng = np.random.default_rng(0)
    views = tuple(rng.normal(size=(ROWS, WIDTH)).astype(np.float32) for _ in range(objective.views))
    inputs = views if objective.views > 1 else views[0]
    index = np.arange(ROWS, dtype=np.int32)
    setup = Setup(BITS, ROWS, CLASSES, False, inputs, {})
    context = Context(jax.random.key(3), jnp.float32(0.0), jnp.bool_(True), None, None, None)

    def run(codes, labels, mask):
        variables = objective.init(jax.random.key(0), setup)
        batch = Batch(jax.tree.map(jnp.asarray, inputs), labels, jnp.asarray(index), mask)

        def value(codes, params):
            views = (codes,) * objective.views if objective.views > 1 else codes
            loss = objective.loss(variables._replace(params=params), views, batch, context)
            return loss.value

        return jax.value_and_grad(value, argnums=(0, 1))(codes, variables.params)

    examples = jnp.zeros((ROWS, BITS), dtype), jnp.zeros(ROWS, jnp.int32), jnp.ones(ROWS, bool)
    return jax.jit(run).lower(*examples).compile()


def gradient(name, codes, labels, valid=ROWS, dtype=jnp.float32):
    arrays = jnp.asarray(codes, dtype), jnp.asarray(labels, jnp.int32), jnp.arange(ROWS) < valid
    value, (in_codes, in_params) = gradient_program(name, dtype)(*arrays)
    return value, in_codes, in_params


RANDOM = np.random.default_rng(0).normal(size=(ROWS, BITS))
THREE = np.arange(ROWS) % CLASSES

#: Codes, labels, and how many of the rows are valid.
SITUATIONS = {
    "zero": (np.zeros((ROWS, BITS)), THREE, ROWS),
    "fifty": (50.0 * np.sign(RANDOM), THREE, ROWS),
    "equal rows of fifty": (np.full((ROWS, BITS), -50.0), THREE, ROWS),
    "one class": (RANDOM, np.ones(ROWS), ROWS),
    "no positive pair": (RANDOM, THREE, CLASSES),
    "one row": (RANDOM, THREE, 1),
    "no row": (RANDOM, THREE, 0),
    "no label": (RANDOM, np.full(ROWS, -1), ROWS),
    "padding of NaN": (np.where(np.arange(ROWS)[:, None] < 6, RANDOM, np.nan), THREE, 6),
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_value_and_gradient_are_finite(name):
    for situation, (codes, labels, valid) in SITUATIONS.items():
        value, in_codes, in_params = gradient(name, codes, labels, valid)
        assert all_finite(value, in_codes, in_params), situation
        assert not np.any(in_codes[valid:]), f"{situation}: padding has a gradient"


@pytest.mark.parametrize("name", EVERYTHING)
def test_bfloat16_within_its_precision(name):
    """Codes that bfloat16 holds exactly: only what is computed after them may differ."""
    codes = jnp.asarray(RANDOM, jnp.bfloat16)
    exact, in_codes, _ = gradient(name, codes.astype(jnp.float32), THREE)
    value, rounded, _ = gradient(name, codes, THREE, dtype=jnp.bfloat16)
    np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-6)
    assert rounded.dtype == jnp.bfloat16
    scale = 2**-7 * float(jnp.abs(in_codes).max())
    np.testing.assert_allclose(rounded.astype(jnp.float32), in_codes, rtol=2**-7, atol=scale)
