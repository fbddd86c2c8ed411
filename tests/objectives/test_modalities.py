"""Objectives of one modality on codes of two: the union of the rows, tables of items, and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhash.models import Encoder, Modalities, linear
from jaxhash.objectives import (
    METHODS,
    Batch,
    Context,
    Setup,
    TableSharding,
    cibhash,
    combine,
    cross_modal,
    csq,
    dch,
    dcw_autoencoder,
    hashnet,
    hswd,
    weighted,
)
from jaxhash.objectives._modalities import merge_rows
from jaxhash.training.parallel import DataParallel
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

ROWS, BITS, ITEMS, CLASSES = 16, 8, 24, 3
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.permutation(ROWS).astype(np.int32) % CLASSES
INDEX = RANDOM.permutation(ITEMS)[:ROWS].astype(np.int32)
CODES = tuple(jnp.asarray(RANDOM.normal(size=(2, ROWS, BITS)), jnp.float32))
INPUTS = {
    "title": RANDOM.normal(size=(ROWS, 5)).astype(np.float32),
    "body": RANDOM.normal(size=(ROWS, 7)).astype(np.float32),
}
CONTEXT = Context(jax.random.key(3), jnp.float32(0.3), jnp.bool_(True), None, None, None)


def batch_of(valid=ROWS, inputs=None):
    mask = np.arange(ROWS) < valid
    return Batch(inputs, LABELS, np.where(mask, INDEX, -1), mask)


def on_device(batch):
    return jax.tree.map(jnp.asarray, batch)


def setup(items=ITEMS):
    return Setup(BITS, items, CLASSES, False, {}, {})


def loss_of(objective, codes, batch, items=ITEMS):
    variables = objective.init(jax.random.key(0), setup(items))
    return objective.loss(variables, codes, on_device(batch), CONTEXT)


@pytest.mark.parametrize("make", [dch, hashnet, csq])
def test_the_rows_of_all_modalities_are_one_batch(make):
    found = loss_of(cross_modal(make()), CODES, batch_of(valid=13))
    # One modality after the other: a loss does not depend on the order of the rows.
    first = batch_of(valid=13)
    union = Batch(
        None,
        np.concatenate([LABELS, LABELS]),
        np.concatenate([np.where(first.mask, 2 * INDEX + m, -1) for m in range(2)]),
        np.concatenate([first.mask, first.mask]),
    )
    expected = loss_of(make(), jnp.concatenate(CODES), union, items=2 * ITEMS)
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-5)


def test_a_bank_has_a_row_for_each_modality_of_an_item():
    bank = loss_of(cross_modal(hashnet(pairs="bank")), CODES, batch_of(valid=13)).state
    assert bank.codes.shape == (2 * ITEMS, BITS)
    seen = np.zeros((ITEMS, 2), bool)
    seen[INDEX[:13]] = True
    np.testing.assert_array_equal(np.asarray(bank.seen).reshape(ITEMS, 2), seen)
    for m in range(2):
        found = np.sign(bank.codes[2 * INDEX[:13] + m])
        np.testing.assert_array_equal(found, np.sign(CODES[m][:13]))


def test_two_views_are_the_two_modalities():
    found = loss_of(cross_modal(cibhash()), CODES, batch_of())
    np.testing.assert_array_equal(found.value, loss_of(cibhash(), CODES, batch_of()).value)
    with pytest.raises(ValueError, match="2 views"):
        cross_modal(cibhash(), modalities=3)


def test_a_quantizer_is_the_mean_over_modalities():
    assert cross_modal(hswd()) == hswd() or cross_modal(hswd()).any_views
    both = combine(cross_modal(dch()), weighted(0.5, hswd()))
    apart = loss_of(both, CODES, batch_of())
    assert set(apart.terms) > {"hswd"}


def test_what_reads_the_inputs_is_refused_by_a_message():
    with pytest.raises(ValueError, match="reads the inputs"):
        cross_modal(dcw_autoencoder()).init(jax.random.key(0), setup())


def test_gradient_reaches_both_modalities_and_no_padding():
    def value(codes):
        return loss_of(cross_modal(dch()), codes, batch_of(valid=10)).value

    for gradient in jax.grad(value)(CODES):
        assert np.abs(gradient[:10]).min(axis=1).max() > 0 and not np.any(gradient[10:])


def test_merged_rows_of_an_item_stay_beside_one_another():
    merged = merge_rows(CODES)
    np.testing.assert_array_equal(merged[0::2], CODES[0])
    np.testing.assert_array_equal(merged[1::2], CODES[1])


def make_step(objective, sharding, mapping, devices):
    encoder = functools.partial(Encoder, linear, BITS)
    model = Modalities({"title": encoder, "body": encoder})
    parts = dict(model=model, objective=objective, optimizer=optax.sgd(0.1))
    step = functools.partial(train_step, steps_per_epoch=1, total_steps=4, **parts)
    create = functools.partial(
        create_state, items=ITEMS, classes=CLASSES, table_sharding=sharding, **parts
    )
    example = jax.tree.map(lambda rows: rows[:1], INPUTS)
    return (
        DataParallel(step, jax.devices()[:devices], table_sharding=sharding, mapping=mapping),
        jax.jit(create)(jax.random.key(0), example),
    )


@pytest.mark.parametrize(
    ("method", "mapping"), [("dch", "jit"), ("hashnet", "pmap"), ("robust-multilevel", "pmap")]
)
def test_eight_devices_train_as_one(method, mapping):
    sharding = TableSharding(items=ITEMS) if method == "hashnet" else TableSharding()
    if method not in METHODS:
        pytest.skip(f"there is no method {method}")
    objective = cross_modal(METHODS[method].make())
    found = []
    for devices in (1, 8):
        step, state = make_step(objective, sharding, mapping, devices)
        state = step.to_local(step.replicate(state))
        for _ in range(2):
            state, metrics = step(state, step.shard_batch(batch_of(13, INPUTS)))
        found.append(
            (jax.device_get(step.to_global(state).params), jax.device_get(metrics["loss"]))
        )
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
