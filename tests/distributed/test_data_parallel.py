"""Training steps over eight devices give the results of a single device."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from steps import (
    ROWS,
    STEPS,
    assert_close,
    batches,
    make_parts,
    make_step,
    new_state,
    train,
)

from jaxhash.objectives import hashnet
from jaxhash.training.optimizer import make_optimizer
from jaxhash.training.parallel import DataParallel, split_batch
from jaxhash.training.step import train_step


@pytest.mark.parametrize(
    "mapping, padding, target, unseen",
    [
        ("pmap", 0, "sampled", "ignored"),
        ("pmap", 7, "balanced", "dissimilar"),
        ("shard_map", 7, "sampled", "ignored"),
        ("shard_map", 0, "balanced", "dissimilar"),
        ("jit", 7, "sampled", "dissimilar"),
        ("jit", 0, "balanced", "ignored"),
    ],
)
def test_eight_devices_equal_one(mapping, padding, target, unseen):
    """Compares metrics, parameters, optimizer state, batch statistics and the bank."""
    one, single_metrics = train(make_parts(target, unseen), None, batches(padding))
    eight, eight_metrics = train(
        make_parts(target, unseen), jax.devices(), batches(padding), mapping
    )
    assert_close(single_metrics, eight_metrics)
    assert all({"bit_balance", "dead_bits"} <= metrics.keys() for metrics in eight_metrics)
    assert_close(one, eight)
    # Each part changes in training, so its equality is no trivial one.
    start, _ = train(make_parts(target, unseen), None, [])
    for part in ("params", "batch_stats", "opt_state", "objective_state"):
        before, after = (jax.tree.leaves(getattr(state, part)) for state in (start, one))
        assert any(np.any(a != b) for a, b in zip(before, after, strict=True)), part


@pytest.mark.parametrize("mapping", ["pmap", "shard_map", "jit"])
def test_a_bank_of_the_last_rows_on_eight_devices(mapping):
    """Of 18 rows, where a batch has 15 and many images come again; the ring itself is equal."""
    parts = make_parts() | {"objective": hashnet(bank_size=18)}
    one, single_metrics = train(parts, None, batches(padding=7))
    eight, eight_metrics = train(parts, jax.devices(), batches(padding=7), mapping)
    assert (one.objective_state.items < 0).any()
    assert_close(single_metrics, eight_metrics)
    assert_close(one, eight)


def test_equal_to_the_rows_without_padding():
    padded, padded_metrics = train(make_parts("balanced"), jax.devices(), batches(padding=7))
    rows = [jax.tree.map(lambda array: array[: ROWS - 7], batch) for batch in batches(padding=7)]
    whole, losses = train(make_parts("balanced"), None, rows)
    assert_close(losses, padded_metrics)
    assert_close(whole, padded)


def test_the_optimizer_of_the_command_line():
    """With two learning rates and no decay on vectors."""
    parts = make_parts()
    parts["optimizer"] = make_optimizer(
        learning_rate=1e-3,
        backbone_rate=0.1,
        freeze_stages=0,
        weight_decay=1e-2,
        clip_norm=1.0,
        warmup_steps=1,
        total_steps=STEPS,
    )
    one, single_metrics = train(parts, None, batches())
    eight, eight_metrics = train(parts, jax.devices(), batches())
    assert_close(single_metrics, eight_metrics)
    assert_close(one.params, eight.params)


mappings = pytest.mark.parametrize("mapping", ["pmap", "shard_map", "jit"])


@mappings
def test_all_devices_hold_the_same_bits(mapping):
    """JAX does not check that replicated outputs are equal: the shards are compared."""
    state, metrics = train(make_parts(), jax.devices(), batches(padding=7), mapping)
    for leaf in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key))):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == 8 and all(np.array_equal(shards[0], other) for other in shards[1:])


@mappings
def test_the_step_is_traced_once_and_the_state_is_donated(mapping):
    parts, traces = make_parts(), []

    def counted(*args, **kwargs):
        traces.append(1)
        return train_step(*args, **kwargs)

    step = DataParallel(
        partial(counted, steps_per_epoch=2, total_steps=STEPS, **parts), mapping=mapping
    )
    first = state = step.to_local(step.replicate(new_state(parts)))
    for batch in batches():
        state, metrics = step(state, step.shard_batch(batch))
        assert metrics["loss"].sharding.is_fully_replicated
    assert len(traces) == 1
    assert first.params["model"]["head"]["kernel"].is_deleted()


def not_finite_for(objective, item):
    """Makes an objective whose loss is NaN on the device that has this item."""

    def loss(variables, codes, batch, context):
        part = objective.loss(variables, codes, batch, context)
        broken = jnp.any((jnp.asarray(batch.index) == item) & batch.mask)
        return part._replace(value=part.value * jnp.where(broken, jnp.nan, 1.0))

    return objective._replace(loss=loss)


@pytest.mark.parametrize("devices", [None, jax.devices], ids=["one", "eight"])
def test_a_broken_update_is_skipped_on_all_devices(devices):
    """One of eight devices holds the item; the others skip the update too."""
    devices = devices and devices()
    parts, all_batches = make_parts(), list(batches())
    item = all_batches[0].index[0]
    holds = [bool((batch.index == item).any()) for batch in all_batches]
    assert 0 < sum(holds) < STEPS
    broken = parts | {"objective": not_finite_for(parts["objective"], item)}
    step, state = make_step(broken, devices, new_state(parts), skip_broken=True)
    for batch, breaks in zip(all_batches, holds, strict=True):
        before = jax.device_get(state.replace(key=None))
        state, metrics = step(state, batch)
        after = jax.device_get(state.replace(key=None))
        assert metrics["skipped"] == breaks and after.step == before.step + 1
        same = jax.tree.map(np.array_equal, before.replace(step=0), after.replace(step=0))
        assert all(jax.tree.leaves(same)) == breaks
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
        for leaf in jax.tree.leaves(state.params):
            for shard in leaf.addressable_shards:
                np.testing.assert_array_equal(shard.data, leaf.addressable_shards[0].data)


def test_skipping_changes_nothing_where_nothing_breaks():
    parts = make_parts()
    kept, losses = train(parts, None, batches())
    step = jax.jit(
        partial(train_step, steps_per_epoch=2, total_steps=STEPS, skip_broken=True, **parts)
    )
    state = new_state(parts)
    for batch, loss in zip(batches(), losses, strict=True):
        state, metrics = step(state, batch)
        assert metrics.pop("skipped") == 0
        assert metrics.keys() == loss.keys()
    assert_close(kept, state)


def test_split_pads_with_masked_rows():
    batch = next(batches())
    sharded = split_batch(batch, 8)
    assert sharded.mask.shape == (8, 3) and sharded.mask.sum() == ROWS
    np.testing.assert_array_equal(sharded.inputs.reshape(-1, 8, 8, 1)[:ROWS], batch.inputs)
    with pytest.raises(ValueError, match="22 rows.* over 23 devices"):
        split_batch(batch, 23)
