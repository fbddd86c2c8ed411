"""Properties of every objective in the training step, on one device and on eight."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from objective_cases import (
    BITS,
    CASES,
    CLASSES,
    ITEMS,
    KINDS,
    QUANTIZER_CASES,
    batch_of,
    objective_of,
)

from jaxhash.models import Encoder, linear
from jaxhash.objectives import (
    METHODS,
    QUANTIZERS,
    TableSharding,
    _asymmetric,
    _tables,
    combine,
    sharded_leaves,
    weighted,
)
from jaxhash.training.parallel import DataParallel
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

ROWS = 16
TABLES = TableSharding(items=ITEMS, classes=CLASSES)


def parts_of(objective):
    return dict(model=Encoder(linear, BITS), objective=objective, optimizer=optax.sgd(0.1))


def state_of(objective, batch, **options):
    create = functools.partial(
        create_state, items=ITEMS, classes=CLASSES, **parts_of(objective), **options
    )
    inputs = jax.tree.map(lambda view: view[:1], batch.inputs)
    return jax.jit(create)(jax.random.key(0), inputs)


def all_finite(*trees):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(trees))]
    return all(np.isfinite(leaf).all() for leaf in leaves if leaf.dtype.kind == "f")


def assert_close(one, other, rtol=2e-4, atol=2e-5):
    def compare(path, a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            return
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=atol,
            err_msg=jax.tree_util.keystr(path),
        )  # fmt: skip

    jax.tree.map_with_path(compare, one, other)


def on_devices(step, devices, table_sharding=None):
    """The compiled step, what places a state for it, and what brings a state back."""
    if devices == 1:
        return jax.jit(step), lambda state: state, lambda state: state
    options = {} if table_sharding is None else {"table_sharding": table_sharding}
    parallel = DataParallel(step, jax.devices()[:devices], **options)
    return (
        lambda state, batch: parallel(state, parallel.shard_batch(batch)),
        lambda state: parallel.to_local(parallel.replicate(state)),
        parallel.to_global,
    )


def two_steps(name, multi_label, state, devices, table_sharding=None):
    """Two epochs of one batch each, so that what happens once an epoch happens.

    Starts from a copy of the state.
    """
    objective, batches = objective_of(name), batches_of(name, multi_label)
    step = functools.partial(train_step, steps_per_epoch=1, total_steps=4, **parts_of(objective))
    step, place, gather = on_devices(step, devices, table_sharding)
    state, metrics = place(jax.tree.map(jnp.copy, state)), []
    for batch in batches:
        state, found = step(state, batch)
        metrics.append(jax.device_get(found))
    return gather(state), metrics


def batches_of(name, multi_label):
    case = CASES[name]._replace(multi_label=multi_label)
    return [batch_of(case, ROWS, valid=ROWS - 3, seed=seed) for seed in (1, 2)]


def new_state(name, multi_label, **options):
    batch, similarity = batches_of(name, multi_label)[0], CASES[name].class_similarity
    options |= {"multi_label": multi_label, "class_similarity": similarity}
    return state_of(objective_of(name), batch, **options)


def has_tables(state):
    return any(jax.tree.leaves(sharded_leaves(state.objective_state, TABLES)))


def situations():
    """A method of each kind on class ids; slowly the others, variants, and kinds on multi-hot rows."""
    for name, case in CASES.items():
        if name not in QUANTIZER_CASES:
            marks = [] if name in KINDS else [pytest.mark.slow]
            yield pytest.param(name, case.multi_label, marks=marks)
    for name in KINDS:
        yield pytest.param(name, True, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "multi_label"), situations())
def test_eight_devices_train_as_one_does(monkeypatch, name, multi_label):
    """With whole tables and, where there are some, with tables sharded over the devices."""
    state = new_state(name, multi_label)
    one, metrics_of_one = two_steps(name, multi_label, state, 1)
    assert all_finite(one.params, one.objective_state, metrics_of_one)
    assert metrics_of_one[0]["grad_norm"] > 0
    eight, metrics = two_steps(name, multi_label, state, 8)
    assert_close(metrics_of_one, metrics)
    assert_close(one, eight)
    if not has_tables(one):
        return
    monkeypatch.setattr(_tables, "ROW_MULTIPLE", 8)
    state = new_state(name, multi_label, table_sharding=TABLES)
    sharded, metrics = two_steps(name, multi_label, state, 8, TABLES)
    assert_close(metrics_of_one, metrics)
    assert_close(one.params, sharded.params)
    leaves = map(jax.tree.leaves, (one.objective_state, sharded.objective_state))
    for whole, rows in zip(*leaves, strict=True):
        assert_close(whole, rows[: len(whole)] if whole.ndim else rows)


def test_sets_of_labels_are_compared_over_devices(monkeypatch):
    """ADSH with multi-hot labels, of so many images that those of equal labels are added first."""
    for name, value in {"_GROUPED_FROM": 1, "_ROWS_PER_STEP": 2, "_SETS_PER_BLOCK": 3}.items():
        monkeypatch.setattr(_asymmetric, name, value)
    test_eight_devices_train_as_one_does(monkeypatch, "asymmetric-dsh", True)


def weighted_grid(name):
    """The method with all quantizers, each times an entry of a traced vector."""

    def objective(weights):
        quantizers = [
            weighted(weight, objective_of(quantizer))
            for weight, quantizer in zip(weights, QUANTIZER_CASES, strict=True)
        ]
        no_penalty = {} if METHODS[name].published_penalty is None else {"penalty": 0.0}
        return combine(METHODS[name].make(**no_penalty), *quantizers)

    return objective


@pytest.mark.slow
@pytest.mark.parametrize(("name", "devices"), zip(KINDS, itertools.cycle([8, 1])))
def test_every_quantizer_trains_with_every_kind_of_method(name, devices):
    """One compiled step with all quantizers, of which each run turns on one.

    Every other kind is on one device: alone, each method and each quantizer is on one and on eight.
    """
    grid = weighted_grid(name)
    none = jnp.zeros(len(QUANTIZERS))
    batch = batch_of(CASES[name], ROWS, valid=ROWS - 3)
    start = state_of(grid(none), batch)

    def step(state, batch, *, axis_name=None):
        weights, inputs = batch.inputs
        parts = parts_of(grid(weights[0]))
        batch = batch._replace(inputs=inputs)
        return train_step(
            state, batch, steps_per_epoch=1, total_steps=4, axis_name=axis_name, **parts
        )

    def with_weights(weights):  # a row for each row of the batch, which goes to the devices
        return batch._replace(inputs=(jnp.tile(weights[None], (ROWS, 1)), batch.inputs))

    train, place, _ = on_devices(step, devices)

    def after(weights):
        state, metrics = train(place(jax.tree.map(jnp.copy, start)), with_weights(weights))
        return jax.device_get((state.params, metrics)), state.objective_state

    (without, _), _ = after(none)
    for number, chosen in enumerate(QUANTIZERS):
        (params, metrics), memory = after(none.at[number].set(1.0))
        assert all_finite(metrics, params, memory), chosen
        pairs = zip(*map(jax.tree.leaves, (params["model"], without["model"])), strict=True)
        assert any(np.any(a != b) for a, b in pairs), f"{chosen} changes nothing"
