"""Sums of exponentials over classes: block by block, and of a sample."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from jax.test_util import check_grads

from jaxhash.ops import class_blocks
from jaxhash.ops.class_blocks import other_classes_logsumexp, sampled_classes_logsumexp

ROWS, CLASSES, BITS = 5, 52, 4
LABELS = jnp.array([0, 51, -1, 7, 7])
_RNG = np.random.default_rng(0)
CODES = jnp.asarray(_RNG.normal(size=(ROWS, BITS)), jnp.float32)
WEIGHTS = jnp.asarray(3.0 * _RNG.normal(size=(CLASSES, BITS)), jnp.float32)


def scores_of(weights):
    return CODES @ weights.T


def naive(codes, weights):
    scores = np.asarray(codes, np.float64) @ np.asarray(weights, np.float64).T
    return [
        np.logaddexp.reduce([z for c, z in enumerate(row) if c != label])
        for row, label in zip(scores, LABELS, strict=True)
    ]


def of_blocks(codes, weights):
    return other_classes_logsumexp(lambda part: codes @ part.T, weights, LABELS)


@pytest.mark.parametrize("size", [1, 5, 26, 64])
def test_blocks_are_all_other_classes(monkeypatch, size):
    monkeypatch.setattr(class_blocks, "BLOCK_SCORES", size * ROWS)
    np.testing.assert_allclose(jax.jit(of_blocks)(CODES, WEIGHTS), naive(CODES, WEIGHTS), rtol=1e-5)
    check_grads(jax.jit(of_blocks), (CODES, WEIGHTS), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


def test_scores_of_a_thousand_do_not_overflow(monkeypatch):
    monkeypatch.setattr(class_blocks, "BLOCK_SCORES", 5 * ROWS)
    value, slopes = jax.jit(jax.value_and_grad(lambda c: of_blocks(c, WEIGHTS).sum()))(
        300.0 * CODES
    )
    np.testing.assert_allclose(value, sum(naive(300.0 * CODES, WEIGHTS)), rtol=1e-5)
    assert np.isfinite(slopes).all()


def test_classes_spread_over_devices(monkeypatch):
    """A block has as many classes of each device, so that none has all weights or scores."""
    monkeypatch.setattr(class_blocks, "BLOCK_SCORES", 3 * ROWS)
    weights = jnp.concatenate([WEIGHTS, WEIGHTS[:4]])  # 7 for each of 8 devices
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, PartitionSpec("model"))

    def on_mesh(codes, weights):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.value_and_grad(lambda *args: of_blocks(*args).sum(), argnums=(0, 1))(
                codes, weights
            )

    found = jax.jit(on_mesh, in_shardings=(None, rows))
    expected = jax.value_and_grad(lambda *args: of_blocks(*args).sum(), argnums=(0, 1))
    compare = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(compare, found(CODES, weights), jax.jit(expected)(CODES, weights))
    text = found.lower(CODES, weights).compile().as_text()
    assert f"[56,{BITS}]" not in text and f"[{ROWS},24]" not in text


def temporary_bytes(classes):
    """Memory of value and gradient in the codes, of weights of one byte."""

    def loss(codes, weights):
        def scores(part):
            return codes @ part.astype(jnp.float32).T

        return other_classes_logsumexp(scores, weights, jnp.zeros(32, jnp.int32)).sum()

    codes = jax.ShapeDtypeStruct((32, 8), jnp.float32)
    weights = jax.ShapeDtypeStruct((classes, 8), jnp.int8)
    program = jax.jit(jax.value_and_grad(loss)).lower(codes, weights).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_memory_is_that_of_a_block_and_of_copies_of_the_classes():
    """Of 32 scores of 4 bytes of a class nothing is left: a copy of its weights, and its number."""
    many = 1 << 18
    few, more = (temporary_bytes(classes) for classes in (many, 4 * many))
    assert more - few < 3 * many * (8 + 8)
    assert few < 4 * 4 * class_blocks.BLOCK_SCORES + many * (8 + 8)


def test_the_sum_over_drawn_classes_is_unbiased():
    """Over 4,000 draws of 6 of 52 classes."""

    def draw(key):
        return jnp.exp(
            sampled_classes_logsumexp(scores_of, 0.3 * WEIGHTS, LABELS, key=key, samples=6)
        )

    found = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 4000))
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (error < 0.03 * found.mean(axis=0)).all()
    expected = np.exp(naive(CODES, 0.3 * WEIGHTS))
    assert (np.abs(found.mean(axis=0) - expected) < 4 * error).all()


def test_more_draws_are_closer():
    errors = [
        np.abs(
            sampled_classes_logsumexp(
                scores_of, WEIGHTS, LABELS, key=jax.random.key(1), samples=number
            )
            - np.array(naive(CODES, WEIGHTS))
        ).max()
        for number in (20, 20_000)
    ]
    assert errors[1] < 0.1 < errors[0]
