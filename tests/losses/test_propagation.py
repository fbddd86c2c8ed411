"""Cross-entropy of probabilities averaged over similar rows, beside a loop over the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash.losses import cross_entropy, propagated_cross_entropy

ROWS, BITS, CLASSES = 7, 4, 3
RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(ROWS, BITS)).astype(np.float32)
LOGITS = (3 * RNG.normal(size=(ROWS, CLASSES))).astype(np.float32)
LABELS = np.eye(CLASSES, dtype=np.float32)[np.arange(ROWS) % CLASSES]
LABELS[1] = [1, 1, 0]
LABELS[4] = 0
WHERE = np.arange(ROWS) != 2
ARRAYS = jnp.asarray(CODES), jnp.asarray(LOGITS)


def by_loop(codes, logits, labels, where, temperature):
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.flatnonzero(where)
    costs = []
    for i in rows:
        if not labels[i].any():
            continue
        weights = np.array([np.exp(unit[i] @ unit[k] / temperature) for k in rows])
        mixed = sum(w * p[j] for w, j in zip(weights / weights.sum(), rows, strict=True))
        costs.append(-(labels[i] / labels[i].sum()) @ np.log(mixed))
    return np.mean(costs)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_value_is_that_of_the_formula(temperature):
    found = propagated_cross_entropy(*ARRAYS, LABELS, temperature=temperature, where=WHERE)
    expected = by_loop(CODES.astype(float), LOGITS.astype(float), LABELS, WHERE, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients_are_those_of_finite_differences():
    def loss(codes, logits):
        arrays = jnp.asarray(codes), jnp.asarray(logits)
        return propagated_cross_entropy(*arrays, LABELS, temperature=0.5, where=WHERE)

    check_grads(loss, ARRAYS, order=1, modes=["rev"], rtol=2e-2, atol=1e-3, eps=1e-2)


def test_a_row_without_a_label_still_passes_its_probabilities_on():
    """It changes the loss, and has a gradient; a masked one has none."""
    slope = jax.grad(propagated_cross_entropy, argnums=1)(
        *ARRAYS, LABELS, where=WHERE, temperature=1.0
    )
    assert np.any(slope[4] != 0) and not np.any(slope[2])


def test_probabilities_that_underflow_cost_much_and_stay_finite():
    logits = jnp.array([[500.0, 0.0], [500.0, 0.0]])
    labels, codes = jnp.array([[0, 1], [1, 0]]), jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    value, slopes = jax.value_and_grad(propagated_cross_entropy, argnums=(0, 1))(
        codes, logits, labels, temperature=0.05
    )
    assert value == pytest.approx(250)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_weights_are_repeated_rows():
    weights = np.array([0, 1, 2, 3, 1, 0, 2])
    repeated = np.repeat(np.arange(ROWS), weights)
    found = cross_entropy(ARRAYS[1], LABELS, weights=weights, where=WHERE)
    expected = cross_entropy(ARRAYS[1][repeated], LABELS[repeated], where=WHERE[repeated])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert cross_entropy(ARRAYS[1], LABELS, weights=0 * weights) == 0
