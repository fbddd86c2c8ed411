"""Estimators of the gradient over random bits, against the exact one by enumeration."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses

LOGITS = np.array([0.4, -0.9, 1.3], np.float32)
ESTIMATORS = ("arm", "masked-arm", "disarm")


def cost(bits):
    """A cost with interactions, and with no gradient that anyone may use."""
    bits = jax.lax.stop_gradient(bits)
    return (bits @ jnp.array([1.0, 2.0, -1.0]) - 0.7) ** 2 + 3.0 * bits[:, 0] * bits[:, 2]


def exact_gradient():
    """The sum over all codes of f(z) and the slope of its probability."""
    p = 1 / (1 + np.exp(-LOGITS.astype(float)))
    total = np.zeros(3)
    for bits in itertools.product((0.0, 1.0), repeat=3):
        bits = np.array(bits)
        probability = np.prod(np.where(bits == 1, p, 1 - p))
        total += float(cost(jnp.asarray(bits[None], jnp.float32))[0]) * probability * (bits - p)
    return total


@partial(jax.jit, static_argnums=1)
def draws(uniform, estimator):
    logits = jnp.tile(LOGITS[None], (len(uniform), 1))
    first, second = losses.antithetic_bits(logits, uniform)
    return losses.bernoulli_gradient(
        logits, uniform, cost(first), cost(second), estimator=estimator
    )


def samples(estimator):
    uniform = jax.random.uniform(jax.random.key(0), (200_000, 3))
    return np.asarray(draws(uniform, estimator), float)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_mean_is_the_exact_gradient(estimator):
    """Within five standard errors."""
    found = samples(estimator)
    error = 5 * found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - exact_gradient()) < error).all()


def test_variance_falls_from_arm_to_disarm():
    arm, masked, disarm = (samples(estimator).var(axis=0) for estimator in ESTIMATORS)
    assert (masked <= arm * 1.001).all() and masked.sum() < 0.99 * arm.sum()
    assert (disarm < masked).all()


def test_both_draws_are_bernoulli():
    uniform = jax.random.uniform(jax.random.key(1), (200_000, 3))
    logits = jnp.tile(LOGITS[None], (len(uniform), 1))
    for bits in losses.antithetic_bits(logits, uniform):
        np.testing.assert_allclose(bits.mean(axis=0), jax.nn.sigmoid(LOGITS), atol=5e-3)


def test_a_bit_of_both_draws_has_no_gradient_but_by_arm():
    logits, uniform = jnp.array([[5.0, 0.0]]), jnp.array([[0.6, 0.3]])
    value = [
        losses.bernoulli_gradient(
            logits, uniform, jnp.array([2.0]), jnp.array([5.0]), estimator=estimator
        )
        for estimator in ESTIMATORS
    ]
    np.testing.assert_allclose(value[0], [[0.3, -0.6]], rtol=1e-6)
    np.testing.assert_allclose(value[1], [[0.0, -0.6]], rtol=1e-6)
    np.testing.assert_allclose(value[2], [[0.0, -0.75]], rtol=1e-6)


def test_an_unknown_estimator_is_refused(unchecked):
    one = jnp.zeros((1, 1))
    with pytest.raises(ValueError, match="estimator"):
        losses.bernoulli_gradient(one, one, one[0], one[0], estimator="reinforce")
