"""Classifiers, proxies and centers that are spread over devices give what one device gives."""

import re
from functools import partial

import jax
import numpy as np
import optax
import pytest
from steps import BITS, ITEMS, ROWS, STEPS, assert_close, batches

from jaxhash.data import from_arrays
from jaxhash.models import Encoder, linear
from jaxhash.objectives import METHODS, combine, hswd, weighted
from jaxhash.ops import class_blocks
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.parallel import DataParallel, find_class_axes
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step
from jaxhash.utils.errors import UserError

CLASSES, MODEL = 52, 4  # no multiple of 8, and the size of nothing else


def make_parts(name):
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, eps=1e-3))
    objective = combine(METHODS[name].make(), weighted(0.1, hswd(target="sampled")))
    return {"model": Encoder(linear, BITS), "objective": objective, "optimizer": optimizer}


def spread_rows(name, multi_label):
    """Batches with classes all over the range, one or two a row."""
    for batch in batches(padding=7):
        ids = (batch.index * 17 + batch.labels) % CLASSES
        labels = np.eye(CLASSES, dtype=np.uint8)[ids] | np.eye(CLASSES, dtype=np.uint8)[ids // 2]
        inputs = batch.inputs.reshape(ROWS, -1).astype(np.float32) / 255
        inputs = (inputs, inputs[:, ::-1]) if METHODS[name].make().views == 2 else inputs
        yield batch._replace(inputs=inputs, labels=labels if multi_label else ids.astype(np.int32))


def state_of(parts, inputs, multi_label, classes=CLASSES):
    create = partial(create_state, items=ITEMS, classes=classes, multi_label=multi_label, **parts)
    return create(jax.random.key(0), jax.tree.map(lambda view: view[:1], inputs))


def parallel_step(parts, inputs, multi_label=False, devices=None, **options):
    axes = find_class_axes(
        lambda classes: jax.eval_shape(lambda: state_of(parts, inputs, multi_label, classes)),
        CLASSES,
        MODEL,
    )
    step = partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts)
    options = {"mapping": "jit", "model_parallel": MODEL, "class_axes": axes} | options
    return DataParallel(step, devices, **options)


def has_classes(leaf):
    return leaf.ndim and CLASSES in leaf.shape


@pytest.mark.parametrize(
    "name, multi_label",
    [
        ("cross-entropy", False),
        ("hyp2", True),
        *[
            pytest.param(name, multi_label, marks=pytest.mark.slow)
            for name, multi_label in (
                ("orthohash", False),
                ("csq", False),
                ("dpn", True),
                ("dhd", False),
                ("hpdh", True),
                ("dsdh", False),
                ("shred", True),
            )
        ],
    ],
)
def test_spread_classes_train_as_whole_ones(name, multi_label):
    parts, rows = make_parts(name), list(spread_rows(name, multi_label))
    one, metrics_of_one = state_of(parts, rows[0].inputs, multi_label), []
    single = jax.jit(partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts))
    step = parallel_step(parts, rows[0].inputs, multi_label)
    eight, metrics = step.replicate(one), []
    for batch in rows:
        one, found = single(one, batch)
        metrics_of_one.append(jax.device_get(found))
        eight, found = step(eight, step.shard_batch(batch))
        metrics.append(jax.device_get(found))
    assert_close(metrics_of_one, metrics)
    assert_close(one, eight)
    tables = [leaf for leaf in jax.tree.leaves(eight) if has_classes(leaf)]
    assert tables
    for leaf in tables:  # the optimizer's moments as well
        axis = leaf.shape.index(CLASSES)
        assert leaf.addressable_shards[0].data.shape[axis] == CLASSES // MODEL


@pytest.mark.parametrize(
    "name, mapping", [("orthohash", "jit"), ("csq", "jit"), ("cross-entropy", "pmap")]
)
def test_many_classes_in_blocks(monkeypatch, name, mapping):
    """52 classes of 6 bits, the centers by their formula; spread, or whole on each device."""
    monkeypatch.setattr(class_blocks, "MANY_CLASSES", 13)
    monkeypatch.setattr(class_blocks, "BLOCK_SCORES", 5 * ROWS)
    if mapping == "jit":
        return test_spread_classes_train_as_whole_ones(name, False)
    parts, rows = make_parts(name), list(spread_rows(name, False))
    one = state_of(parts, rows[0].inputs, False)
    single = jax.jit(partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts))
    options = {"mapping": mapping, "model_parallel": 1, "class_axes": None}
    step = parallel_step(parts, rows[0].inputs, **options)
    eight = step.to_local(step.replicate(one))
    for batch in rows:
        (one, metrics_of_one), (eight, metrics) = (
            single(one, batch),
            step(eight, step.shard_batch(batch)),
        )
        assert_close(jax.device_get(metrics_of_one), jax.device_get(metrics))
    assert_close(one, eight)


def shapes_in(text):
    return {tuple(map(int, dims.split(","))) for dims in re.findall(r"\w\[([\d,]+)\]", text)}


@pytest.mark.parametrize(
    "name",
    ["cross-entropy", *(pytest.param(n, marks=pytest.mark.slow) for n in ("orthohash", "dhd"))],
)
def test_no_device_has_all_scores_of_a_row(name):
    parts = make_parts(name)
    batch = next(spread_rows(name, False))
    shapes = jax.eval_shape(lambda: state_of(parts, batch.inputs, False))
    compiled = parallel_step(parts, batch.inputs).lower(shapes, batch).compile()
    found = shapes_in(compiled.as_text())
    assert not [shape for shape in found if CLASSES in shape]
    assert [shape for shape in found if CLASSES // MODEL in shape]


def test_the_axis_of_the_classes_is_found_by_more_than_its_size():
    """A kernel [bits, classes] that is square, moments of Adam, and nothing else."""
    parts = make_parts("cross-entropy")
    inputs = np.zeros((1, 9), np.float32)

    def shapes_of(classes):
        return jax.eval_shape(lambda: state_of(parts, inputs, False, classes))

    axes = find_class_axes(shapes_of, BITS, 2)
    found = jax.tree_util.tree_leaves_with_path(axes)
    tables = {jax.tree_util.keystr(path): axis for path, axis in found if axis >= 0}
    assert len(tables) == 6  # kernel and bias, each with two moments
    assert {axis for path, axis in tables.items() if "kernel" in path} == {1}
    assert all("objective" in path for path in tables)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"objective": "cross-entropy", "model_parallel": 4}, "divide the number of classes, 10"),
        ({"objective": "hashnet", "model_parallel": 2}, "no classifier"),
        ({"objective": "cross-entropy", "model_parallel": 5}, "divide the number of devices, 8"),
    ],
)
def test_classes_that_cannot_be_spread_are_refused(options, message):
    config = digits_hashnet_hswd().replace(parallel="jit", **options)
    with pytest.raises(UserError, match=f"`model_parallel=.*{message}"):
        Experiment.open(config).make_step()


def test_only_the_global_program_spreads_classes():
    with pytest.raises(UserError, match="`model_parallel=2` needs `parallel=jit`"):
        digits_hashnet_hswd().replace(model_parallel=2).check()


def test_checkpoints_restore_onto_other_topologies(tmp_path):
    """Classes in four parts, whole on one device, in two parts, and whole under pmap: the same bits."""
    parts = make_parts("hyp2")
    inputs = np.zeros((1, 9), np.float32)
    state = parallel_step(parts, inputs).replicate(state_of(parts, inputs, False))
    expected = jax.device_get(state.replace(key=jax.random.key_data(state.key)))
    shapes = jax.eval_shape(lambda: state_of(parts, inputs, False))
    layouts = (
        {"devices": jax.devices()[:1], "model_parallel": 1, "class_axes": None},
        {"model_parallel": 2},
        {"mapping": "pmap", "model_parallel": 1, "class_axes": None},
    )
    for number, options in enumerate(layouts):
        step = parallel_step(parts, inputs, **options)
        with Checkpoints(tmp_path / str(number)) as checkpoints:
            checkpoints.save(1, state)
            state = checkpoints.restore(step.abstract(shapes))
        found = jax.device_get(state.replace(key=jax.random.key_data(state.key)))
        jax.tree.map(np.testing.assert_array_equal, expected, found)


def test_spread_parameters_leave_the_classes_where_they_are():
    """`shard_params` beside `model_parallel`, in the step of the objective alone as well."""
    config = digits_hashnet_hswd().replace(
        objective="cross-entropy", parallel="jit", shard_params=True, model_parallel=MODEL,
        queries_per_class=1, train_per_class=10, batch_size=96,
    )  # fmt: skip
    features = np.random.default_rng(0).normal(size=(800, 300)).astype(np.float32)
    experiment = Experiment.open(config, source=from_arrays(features, np.arange(800) % CLASSES))
    kernel = experiment.initial_state().params["objective"][0]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (32, CLASSES // MODEL)
    for step in (experiment.make_step(), experiment.make_loss_step()):
        compiled = step.lower(experiment.abstract_state(), experiment.abstract_batch()).compile()
        assert not [shape for shape in shapes_in(compiled.as_text()) if CLASSES in shape]
