"""Parameters and optimizer state that are spread over eight devices equal those of one."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from steps import STEPS, assert_close, batches, make_parts, new_state

from jaxhash.models import Encoder
from jaxhash.objectives import cibhash, combine, csq, hswd, weighted
from jaxhash.runs.config import Config
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.parallel import DataParallel
from jaxhash.training.step import train_step
from jaxhash.utils.errors import UserError

WIDTH = 256


class Wide(nn.Module):
    """Three layers of 256 features, which eight devices divide."""

    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs, train=False, mask=None):
        features = inputs.reshape(len(inputs), -1).astype(self.dtype) / 255
        for _ in range(3):
            features = nn.gelu(nn.Dense(WIDTH, dtype=self.dtype)(features))
        return features


class Hidden(nn.Module):
    """A residual block with a wide hidden layer; the carry of a scan."""

    @nn.compact
    def __call__(self, x, _=None):
        return x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(8 * WIDTH)(x))), None


class Deep(nn.Module):
    """Six residual blocks, apart or stacked, that are computed again in the backward pass or not."""

    remat: bool = False
    scan: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs, train=False, mask=None):
        x = nn.Dense(WIDTH)(inputs.reshape(len(inputs), -1) / 255)
        block = nn.remat(Hidden) if self.remat else Hidden
        if self.scan:
            layers = nn.scan(block, {"params": 0}, split_rngs={"params": True}, length=6)
            return layers()(x, None)[0]
        for _ in range(6):
            x, _ = block()(x)
        return x


def wide_parts(**options):
    """A network, an objective with a trained part, and AdamW without a division of noise by itself."""
    return make_parts() | {
        "model": Encoder(partial(Wide, **options), 16),
        "objective": combine(csq(), weighted(0.1, hswd(target="balanced"))),
    }


def sharded_step(parts, devices, *, mapping="jit", shard_params=True, remat=False, **options):
    return DataParallel(
        partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts, **options),
        devices,
        mapping=mapping,
        shard_params=shard_params,
        remat=remat,
    )


def run(step, state, rows):
    """Returns the state in the global form after steps on these batches, and the metrics."""
    state, metrics = step.to_local(step.replicate(state)), []
    for batch in rows:
        state, found = step(state, step.shard_batch(batch))
        metrics.append(jax.device_get(found))
    return step.to_global(state), metrics


@pytest.mark.slow
def test_two_views_are_merged_on_each_device():
    """No image and no activation of the global step moves; its codes and its mask do, to be compared."""
    parts = wide_parts() | {"objective": combine(cibhash(), weighted(0.1, hswd(target="balanced")))}
    views = [b._replace(inputs=(b.inputs, b.inputs[:, ::-1])) for b in batches(padding=7)][:2]
    start = new_state(parts, views=2)
    single = jax.jit(partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts))
    one, expected = start, []
    for batch in views:
        one, metrics = single(one, batch)
        expected.append(jax.device_get(metrics))
    step = sharded_step(parts, jax.devices(), shard_params=False)
    text = step.lower(shapes(start), shapes(views[0])).compile().as_text()
    moved = [
        line
        for line in text.splitlines()
        if any(f" {kind}(" in line for kind in ("all-gather", "all-to-all", "collective-permute"))
    ]
    assert not [line for line in moved if "u8[" in line or f"{WIDTH}]" in line.split("{")[0]]
    eight, found = run(step, start, views)
    assert_close(expected, found)
    assert_close(one, eight)


@pytest.mark.parametrize("options", [{}, {"skip_broken": True}, {"micro_batch_size": 2}], ids=str)
def test_eight_devices_equal_one(options):
    """24 rows on eight devices are encoded by two at a time: a device has a chunk of 2 and one of 1."""
    parts, rows = wide_parts(), list(batches(padding=7))
    single = partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts)
    one, expected = new_state(parts), []
    for batch in rows:
        one, metrics = jax.jit(single)(one, batch)
        expected.append(jax.device_get(metrics))
    eight, found = run(sharded_step(parts, jax.devices(), **options), new_state(parts), rows)
    for metrics in found:
        assert metrics.pop("skipped", 0) == 0
    assert_close(expected, found)
    assert_close(one, eight)


def test_each_device_has_an_eighth():
    """Of kernels and of their moments; biases are too small to be worth a message."""
    parts = wide_parts()
    state, _ = run(sharded_step(parts, jax.devices()), new_state(parts), [next(batches())])
    (adam,) = [s for s in jax.tree.leaves(state.opt_state, is_leaf=is_adam) if is_adam(s)]
    for tree in (state.params, adam.mu, adam.nu):
        kernel, bias = (tree["model"]["backbone"]["Dense_1"][name] for name in ("kernel", "bias"))
        assert kernel.addressable_shards[3].data.shape == (WIDTH // 8, WIDTH)
        assert bias.is_fully_replicated
    first = state.params["model"]["backbone"]["Dense_0"]["kernel"]  # [64, 256]: the larger axis
    assert first.addressable_shards[0].data.shape == (64, WIDTH // 8)


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_blocks_that_are_computed_again_gather_again(scan):
    """Neither their activations nor their parameters stay on a device between the passes."""
    parts = wide_parts() | {"model": Encoder(partial(Deep, remat=True, scan=scan), 16)}
    rows = list(batches(padding=7))
    one, expected = new_state(parts), []
    single = jax.jit(partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts))
    for batch in rows:
        one, metrics = single(one, batch)
        expected.append(jax.device_get(metrics))
    step = sharded_step(parts, jax.devices(), remat=True)
    eight, found = run(step, new_state(parts), rows)
    assert_close(expected, found)
    assert_close(one, eight)
    lowered = step.lower(shapes(new_state(parts)), shapes(rows[0]))
    hidden = f"tensor<24x{8 * WIDTH}xf32>"
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    blocks = 1 if scan else 6  # forwards, once more, and the gradient
    assert sum(line.endswith(hidden) or f"-> {hidden}" in line for line in products) == 3 * blocks
    gathered = [
        line
        for line in lowered.compile().as_text().splitlines()
        if " all-gather(" in line and f"{8 * WIDTH}" in line.split(" all-gather(")[0]
    ]
    assert len(gathered) == 2 * 2 * blocks


def test_parameters_of_a_scan_are_whole_one_layer_at_a_time():
    """XLA:CPU runs a scan as a loop, so that its memory shows what is whole together."""
    parts = wide_parts() | {"model": Encoder(partial(Deep, remat=True, scan=True), 16)}
    state, batch = shapes(new_state(parts)), shapes(next(batches()))

    def temporaries(shard_params):
        step = sharded_step(parts, jax.devices(), shard_params=shard_params, remat=True)
        return step.lower(state, batch).compile().memory_analysis().temp_size_in_bytes

    layers = 6 * 4 * 16 * WIDTH**2
    assert temporaries(shard_params=False) > 2 * layers  # and their gradients
    assert temporaries(shard_params=True) < 0.6 * layers


def is_adam(state):
    return isinstance(state, optax.ScaleByAdamState)


def shapes(tree):
    return jax.eval_shape(lambda: jax.tree.map(jnp.asarray, tree))


def test_memory_of_a_device_falls_with_their_number():
    """The state that a program takes and gives back in place; what is whole is a thousandth of it."""
    parts = wide_parts()
    state, batch = shapes(new_state(parts)), shapes(next(batches()))
    sizes = []
    for number in (1, 2, 4, 8):
        program = sharded_step(parts, jax.devices()[:number]).lower(state, batch).compile()
        sizes.append(program.memory_analysis())
    whole = sizes[0].alias_size_in_bytes
    assert whole > 3 * 4 * 2 * WIDTH**2
    for number, size in zip((1, 2, 4, 8), sizes, strict=True):
        assert size.alias_size_in_bytes < whole / number + 0.03 * whole
        assert size.argument_size_in_bytes < whole / number + 0.1 * whole


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_parameters_are_gathered_again_in_the_backward_pass(dtype):
    """Otherwise all of them would be whole on a device between the passes.

    The backward pass needs no kernel of the first layer.
    """
    parts = wide_parts(dtype=dtype)
    state, batch = shapes(new_state(parts)), shapes(next(batches()))
    text = sharded_step(parts, jax.devices()).lower(state, batch).compile().as_text()
    gathers = [line for line in text.splitlines() if " all-gather(" in line]
    assert sum(f"{WIDTH},{WIDTH}]" in line.split(" all-gather(")[0] for line in gathers) == 4
    assert sum(f"[64,{WIDTH}]" in line.split(" all-gather(")[0] for line in gathers) == 1
    # No activations: whatever is gathered has the shape of a kernel, or is of the 24 labels.
    for line in gathers:
        shape = line.split("[")[1].split("]")[0]
        assert shape in (f"{WIDTH},{WIDTH}", f"64,{WIDTH}") or f"{WIDTH}" not in shape, line


@pytest.mark.parametrize("mapping", ["pmap", "shard_map", "jit"])
def test_checkpoints_restore_onto_other_topologies(tmp_path, mapping):
    """From eight shards to one device, to four, and back, with equal bits."""
    parts = wide_parts()
    first = sharded_step(parts, jax.devices())
    state, _ = run(first, new_state(parts), [next(batches())])
    expected = jax.device_get(state.replace(key=jax.random.key_data(state.key)))
    layouts = [
        sharded_step(parts, jax.devices()[:1], shard_params=False),
        sharded_step(parts, jax.devices()[:4], mapping=mapping, shard_params=False),
        sharded_step(parts, jax.devices()[2:6]),
        first,
    ]
    for number, step in enumerate(layouts):
        with Checkpoints(tmp_path / str(number)) as checkpoints:
            checkpoints.save(1, state)
        with Checkpoints(tmp_path / str(number)) as checkpoints:
            state = checkpoints.restore(step.abstract(shapes(new_state(parts))))
        found = jax.device_get(state.replace(key=jax.random.key_data(state.key)))
        jax.tree.map(np.testing.assert_array_equal, expected, found)
        state, _ = run(step, state, [])  # it is as the step takes it
    kernel = state.params["model"]["backbone"]["Dense_1"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (WIDTH // 8, WIDTH)


@pytest.mark.parametrize("mapping", ["pmap", "shard_map"])
def test_sharded_parameters_need_jit(mapping):
    with pytest.raises(UserError, match="`shard_params` needs `parallel=jit`"):
        Config().replace(shard_params=True, parallel=mapping).check()
    Config().replace(shard_params=True, parallel="jit").check()
