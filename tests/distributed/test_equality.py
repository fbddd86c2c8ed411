"""Eight devices make of a batch what one device makes of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhash.models import CNN, Encoder
from jaxhash.objectives import Batch, combine, hashnet, hswd, weighted
from jaxhash.training.optimizer import make_optimizer
from jaxhash.training.parallel import AXIS, data_parallel, replicate, split
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

ITEMS, ROWS, CLASSES, BITS, STEPS = 40, 22, 3, 6, 5


def batches(padding=0):
    """Batches whose last rows are padding; 22 rows are no multiple of 8 either."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (ITEMS, 8, 8, 1)).astype(np.uint8)
    labels = rng.integers(0, CLASSES, ITEMS).astype(np.int32)
    for _ in range(STEPS):
        index = rng.permutation(ITEMS)[:ROWS].astype(np.int32)
        yield Batch(images[index], labels[index], index, np.arange(ROWS) < ROWS - padding)


def parts(target="sampled", unseen="ignored"):
    # In the usual units Adam divides rounding noise by itself where a gradient is 0; its epsilon is
    # raised so that the comparison is of the step, not of noise.
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3, eps=1e-3, weight_decay=1e-2)
    )
    return dict(
        model=Encoder(partial(CNN, widths=(4, 8)), BITS),
        objective=combine(hashnet(unseen=unseen), weighted(0.1, hswd(target=target))),
        optimizer=optimizer,
    )


def train(parts, devices, batches):
    made = create_state(
        jax.random.key(0),
        jnp.zeros((1, 8, 8, 1), jnp.uint8),
        items=ITEMS,
        classes=CLASSES,
        **parts,
    )
    step = partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts)
    if devices is None:
        step, state = jax.jit(step), made
    else:
        step, state = data_parallel(step, devices), replicate(made, devices)
    losses = []
    for batch in batches:
        state, metrics = step(state, batch)
        losses.append(jax.device_get(metrics))
    return state, losses


def assert_close(one, eight):
    def compare(path, a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(
            np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6, err_msg=jax.tree_util.keystr(path)
        )

    jax.tree.map_with_path(compare, one, eight)


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize("target, unseen", [("sampled", "ignored"), ("balanced", "dissimilar")])
def test_eight_devices_equal_one(padding, target, unseen):
    """Loss and terms, parameters, optimizer state, BatchNorm statistics, and the bank."""
    one, losses_of_one = train(parts(target, unseen), None, batches(padding))
    eight, losses_of_eight = train(parts(target, unseen), jax.devices(), batches(padding))
    assert_close(losses_of_one, losses_of_eight)
    assert all({"bit_balance", "dead_bits"} <= metrics.keys() for metrics in losses_of_eight)
    assert_close(one, eight)
    # All of it has changed since the start, so that its equality means something.
    start, _ = train(parts(target, unseen), None, [])
    for part in ("params", "batch_stats", "opt_state", "objective_state"):
        before, after = (jax.tree.leaves(getattr(state, part)) for state in (start, one))
        assert any(np.any(a != b) for a, b in zip(before, after, strict=True)), part


def test_equal_to_the_rows_without_padding():
    padded, losses_of_padded = train(parts("balanced"), jax.devices(), batches(padding=7))
    rows = [jax.tree.map(lambda array: array[: ROWS - 7], batch) for batch in batches(padding=7)]
    whole, losses = train(parts("balanced"), None, rows)
    assert_close(losses, losses_of_padded)
    assert_close(whole, padded)


def test_the_optimizer_of_the_command_line():
    """Two groups of rates and no decay on vectors, all of it equal over devices."""
    made = parts()
    made["optimizer"] = make_optimizer(
        learning_rate=1e-3,
        backbone_rate=0.1,
        freeze_stages=0,
        weight_decay=1e-2,
        clip_norm=1.0,
        warmup_steps=1,
        total_steps=STEPS,
    )
    one, losses_of_one = train(made, None, batches())
    eight, losses_of_eight = train(made, jax.devices(), batches())
    assert_close(losses_of_one, losses_of_eight)
    assert_close(one.params, eight.params)


def test_all_devices_hold_the_same_bits():
    state, _ = train(parts(), jax.devices(), batches(padding=7))
    for leaf in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key))):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == 8 and all(np.array_equal(shards[0], other) for other in shards[1:])


def test_shard_map_without_vma_is_the_same_lift():
    made = parts()
    step = partial(train_step, steps_per_epoch=2, total_steps=STEPS, axis_name=AXIS, **made)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), (AXIS,))
    whole, rows = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(AXIS)
    mapped = jax.jit(
        jax.shard_map(
            step, mesh=mesh, in_specs=(whole, rows), out_specs=(whole, whole), check_vma=False
        )
    )
    state = create_state(
        jax.random.key(0), jnp.zeros((1, 8, 8, 1), jnp.uint8), items=ITEMS, classes=CLASSES, **made
    )
    for batch in batches(padding=7):
        padded = split(batch, 8)
        flat = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), padded)
        state, _ = mapped(state, flat)
    expected, _ = train(made, jax.devices(), batches(padding=7))
    assert_close(expected, state)


def test_the_step_is_traced_once_and_the_state_is_donated():
    made, traces = parts(), []

    def counted(*args, **kwargs):
        traces.append(1)
        return train_step(*args, **kwargs)

    step = data_parallel(
        partial(counted, steps_per_epoch=2, total_steps=STEPS, **made), jax.devices()
    )
    first = state = replicate(
        create_state(
            jax.random.key(0),
            jnp.zeros((1, 8, 8, 1), jnp.uint8),
            items=ITEMS,
            classes=CLASSES,
            **made,
        ),
        jax.devices(),
    )
    for batch in batches():
        state, _ = step(state, batch)
    assert len(traces) == 1
    assert first.params["model"]["head"]["kernel"].is_deleted()


def poisoned(objective, item):
    """An objective that is no number where a device has this item."""

    def loss(variables, codes, batch, context):
        part = objective.loss(variables, codes, batch, context)
        broken = jnp.any((jnp.asarray(batch.index) == item) & batch.mask)
        return part._replace(value=part.value * jnp.where(broken, jnp.nan, 1.0))

    return objective._replace(loss=loss)


@pytest.mark.parametrize("devices", [None, jax.devices], ids=["one", "eight"])
def test_a_broken_update_is_skipped_on_all_devices(devices):
    """One device of eight holds the item that breaks a step; the others drop their shares too."""
    devices = devices and devices()
    made, given = parts(), list(batches())
    item = given[0].index[0]
    holds = [bool((batch.index == item).any()) for batch in given]
    assert 0 < sum(holds) < STEPS
    broken = made | {"objective": poisoned(made["objective"], item)}
    step = partial(train_step, steps_per_epoch=2, total_steps=STEPS, skip_broken=True, **broken)
    state = create_state(
        jax.random.key(0), jnp.zeros((1, 8, 8, 1), jnp.uint8), items=ITEMS, classes=CLASSES, **made
    )
    step = jax.jit(step) if devices is None else data_parallel(step, devices)
    if devices is not None:
        state = replicate(state, devices)
    for batch, breaks in zip(given, holds, strict=True):
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
    made = parts()
    kept, losses = train(made, None, batches())
    step = jax.jit(
        partial(train_step, steps_per_epoch=2, total_steps=STEPS, skip_broken=True, **made)
    )
    state = create_state(
        jax.random.key(0), jnp.zeros((1, 8, 8, 1), jnp.uint8), items=ITEMS, classes=CLASSES, **made
    )
    for batch, loss in zip(batches(), losses, strict=True):
        state, metrics = step(state, batch)
        assert metrics.pop("skipped") == 0
        assert metrics.keys() == loss.keys()
    assert_close(kept, state)


def test_split_pads_with_masked_rows():
    batch = next(batches())
    spread = split(batch, 8)
    assert spread.mask.shape == (8, 3) and spread.mask.sum() == ROWS
    np.testing.assert_array_equal(spread.inputs.reshape(-1, 8, 8, 1)[:ROWS], batch.inputs)
    with pytest.raises(ValueError, match="22 cannot be spread over 23"):
        split(batch, 23)
