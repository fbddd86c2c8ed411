"""DCH, DSH, QSMIH and WGLHH: their terms, their weights and their pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses
from jaxhash.objectives import (
    Batch,
    Context,
    Setup,
    dch,
    dsh,
    qsmih,
    wglhh,
)

BITS, ITEMS, CLASSES = 4, 8, 3
LABELS = np.array([0, 1, 0, 2, 1, 0, 2, 1], np.int32)
METHODS = {"dch": dch, "dsh": dsh, "qsmih": qsmih, "wglhh": wglhh}
OPTIONS = {
    "dch": {"gamma": 5.0},
    "dsh": {"margin": 3.0},
    "qsmih": {"needs": 4.0},
    "wglhh": {"alpha": 0.2, "similar_weight": 1.5},
}
LOSSES = {"dch": losses.dch, "dsh": losses.dsh, "qsmih": losses.qsmi, "wglhh": losses.wglhh}
each_method = pytest.mark.parametrize("name", METHODS)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def context():
    return Context(jax.random.key(0), jnp.float32(0), jnp.bool_(False), None, None, None)


def batch(index, labels=LABELS, mask=None):
    index = np.array(index, np.int32)
    mask = np.ones(len(index), bool) if mask is None else np.array(mask)
    return Batch(None, *map(jnp.asarray, (labels[index], index, mask)))


def step(objective, codes, data, multi_label=False):
    setup = Setup(BITS, ITEMS, CLASSES, multi_label, None, None)
    variables = objective.init(jax.random.key(0), setup)
    return objective.loss(variables, codes, data, context())


def alike(rows):
    return jnp.asarray(LABELS[:rows, None] == LABELS[None, :rows])


@each_method
@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["defaults", "options"])
@pytest.mark.parametrize("pairs", ["batch", "bank"])
def test_the_loss_of_raw_codes(name, options, pairs):
    """In a batch no row is paired with itself; in a bank each row is."""
    u, options = normal(6, BITS), options.get(name, {})
    where = ~jnp.eye(6, dtype=bool) if pairs == "batch" else jnp.ones((6, 6), bool)
    result = step(METHODS[name](pairs=pairs, **options), u, batch(range(6)))
    expected = LOSSES[name](u, u, alike(6), where=where, **options)
    assert result.terms[name] == pytest.approx(float(expected), rel=1e-5)


def cauchy(u, gamma):
    signs = np.ones(u.shape[1])
    cosines = [np.abs(row) @ signs / np.sqrt((row @ row) * len(row)) for row in u]
    return np.mean([np.log(1 + len(signs) / 2 * (1 - cosine) / gamma) for cosine in cosines])


@pytest.mark.parametrize(
    ("name", "weight", "penalty"),
    [
        ("dch", 0.1, lambda u: cauchy(u, 5.0)),
        ("dsh", 0.01, lambda u: 2 * np.abs(np.abs(u) - 1).sum(axis=1).mean()),
        ("qsmih", 0.01, lambda u: np.abs(np.abs(u) - 1).mean()),
        ("wglhh", 0.001, lambda u: ((np.abs(u) - 1) ** 2).sum(axis=1).mean()),
    ],
)
def test_own_penalty(name, weight, penalty):
    u = normal(6, BITS)
    result = step(METHODS[name](**OPTIONS[name]), u, batch(range(6)))
    expected = penalty(np.asarray(u, float))
    assert result.terms[f"{name}_penalty"] == pytest.approx(expected, rel=1e-5)
    total = float(result.terms[name]) + weight * expected
    assert result.value == pytest.approx(total, rel=1e-5)


@each_method
def test_multi_hot_rows(name):
    """Images that share one of two labels are similar; an image without a label is so to none."""
    rows = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]], np.uint8)
    similar = jnp.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    u = normal(4, BITS)
    result = step(METHODS[name](), u, batch(range(4), rows), multi_label=True)
    expected = LOSSES[name](u, u, similar, where=~jnp.eye(4, dtype=bool))
    assert result.terms[name] == pytest.approx(float(expected), rel=1e-5)
