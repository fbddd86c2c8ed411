"""The step that `DataParallel.lower` compiles is the one that a call takes."""

from functools import partial

import jax
import pytest
from steps import ITEMS, STEPS, batches, make_parts, new_state

from jaxhash.objectives import TableSharding, _tables
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.training.parallel import DataParallel
from jaxhash.training.step import train_step
from jaxhash.utils.errors import UserError

MAPPINGS = ("pmap", "shard_map", "jit")


def shapes(tree):
    return jax.eval_shape(lambda: jax.tree.map(jax.numpy.asarray, tree))


def without_names(text):
    """Returns the operations of a program without their locations and the name of the program."""
    return [line.split(" loc(")[0] for line in text.splitlines() if "module @" not in line]


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("sharding", [TableSharding(), TableSharding(items=ITEMS)])
def test_the_lowered_step_is_the_step_that_is_taken(monkeypatch, mapping, sharding):
    monkeypatch.setattr(_tables, "ROW_MULTIPLE", 16)
    parts, batch = make_parts(), next(batches())
    state = new_state(parts, table_sharding=sharding)
    step = DataParallel(
        partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts),
        mapping=mapping,
        table_sharding=sharding,
    )
    lowered = step.lower(shapes(state), shapes(batch))
    local, rows = step.to_local(step.replicate(state)), step.shard_batch(batch)
    taken = step._make_program(state).lower(local, rows)
    assert without_names(lowered.as_text()) == without_names(taken.as_text())
    assert jax.tree.map(lambda leaf: leaf.shape, rows) == jax.tree.map(
        lambda leaf: leaf.shape, step.abstract_batch(shapes(batch))
    )
    compiled = lowered.compile()
    state_bytes = sum(
        leaf.addressable_shards[0].data.nbytes
        for leaf in jax.tree.leaves(local.replace(key=jax.random.key_data(state.key)))
    )
    assert compiled.memory_analysis().alias_size_in_bytes >= 0.9 * state_bytes  # it is donated


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_an_experiment_says_what_its_step_takes(mapping):
    config = digits_hashnet_hswd().replace(parallel=mapping, batch_size=100)
    experiment = Experiment.open(config)
    step = experiment.make_step(jax.devices()[:4])
    batch = next(experiment.batches())
    assert experiment.abstract_batch() == shapes(batch)
    lowered = step.lower(experiment.abstract_state(jax.devices()[:4]), experiment.abstract_batch())
    assert "25x8x8x1xui8" in lowered.as_text() or mapping == "jit"
    assert lowered.compile().input_shardings[0]


def test_augmentation_on_the_device_is_in_the_shapes():
    config = digits_hashnet_hswd().replace(augment_on="device", crop=1)
    experiment = Experiment.open(config)
    assert experiment.abstract_batch() == shapes(next(experiment.batches()))


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_batch_that_cannot_be_spread_is_refused(mapping):
    step = DataParallel(lambda state, batch, axis_name=None: (state, {}), mapping=mapping)
    batch = shapes(jax.tree.map(lambda array: array[:5], next(batches())))
    with pytest.raises(UserError, match="`batch_size=5` .*divisible by 8"):
        step.abstract_batch(batch)
