"""Single training steps on small batches, on one device and on several, to be compared."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxhash.models import CNN, Encoder
from jaxhash.objectives import Batch, combine, hashnet, hswd, weighted
from jaxhash.training.parallel import DataParallel
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

ITEMS, ROWS, CLASSES, BITS, STEPS = 40, 22, 13, 6, 5


def batches(padding=0):
    """Yields batches of 22 rows, no multiple of 8, the last ``padding`` of them masked."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (ITEMS, 8, 8, 1)).astype(np.uint8)
    labels = rng.integers(0, CLASSES, ITEMS).astype(np.int32)
    for _ in range(STEPS):
        index = rng.permutation(ITEMS)[:ROWS].astype(np.int32)
        yield Batch(images[index], labels[index], index, np.arange(ROWS) < ROWS - padding)


def make_parts(target="sampled", unseen="ignored"):
    # By default Adam divides rounding noise by itself if a gradient is 0. A larger epsilon makes the
    # comparison depend on the step, not on noise.
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3, eps=1e-3, weight_decay=1e-2)
    )
    return dict(
        model=Encoder(partial(CNN, widths=(4, 8)), BITS),
        objective=combine(hashnet(unseen=unseen), weighted(0.1, hswd(target=target))),
        optimizer=optimizer,
    )


def new_state(parts, views=1, **options):
    parts = {name: parts[name] for name in ("model", "objective", "optimizer")}
    image = jnp.zeros((1, 8, 8, 1), jnp.uint8)
    return create_state(
        jax.random.key(0),
        image if views == 1 else (image,) * views,
        items=ITEMS,
        classes=CLASSES,
        **parts,
        **options,
    )


def make_step(parts, devices, state, mapping="pmap", **options):
    """Returns a compiled step and its state; on one device if ``devices`` is None."""
    step = partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts, **options)
    if devices is None:
        return jax.jit(step), state
    parallel_step = DataParallel(step, devices, mapping=mapping)
    return lambda state, batch: parallel_step(
        state, parallel_step.shard_batch(batch)
    ), parallel_step.to_local(parallel_step.replicate(state))


def train(parts, devices, batches, mapping="pmap", **options):
    step, state = make_step(parts, devices, new_state(parts, **options), mapping)
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
