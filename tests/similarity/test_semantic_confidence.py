"""The confidence of pseudo-similarities against the laws of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jaxhash.similarity import semantic_confidence

LAW = dict(mode=0.6, left=0.15, right=0.12)


def formula(distance, threshold, mode, left, right):
    if distance <= threshold:
        whole = norm.cdf(threshold, mode, left)
        return (whole - norm.cdf(distance, mode, left)) / whole
    beyond = norm.cdf(distance, mode, right) - norm.cdf(threshold, mode, right)
    return beyond / (1 - norm.cdf(threshold, mode, right))


def test_by_hand():
    d = jnp.array([[0.02, 0.1, 0.3], [0.6, 0.9, 2.0]])
    expected = [[0.87142, 0, 0.00619], [0.49999, 0.99379, 1]]
    np.testing.assert_allclose(semantic_confidence(d, **LAW), expected, atol=6e-6)


@pytest.mark.parametrize("threshold", [0.1, 0.45, 0.8])
def test_is_the_formula(threshold):
    d = np.linspace(0, 2, 60).reshape(6, 10)
    expected = np.vectorize(formula)(d, threshold, **LAW)
    found = semantic_confidence(jnp.asarray(d, jnp.float32), **LAW, threshold=threshold)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_far_below_the_mode_it_is_still_a_number():
    """Where the laws themselves are 0 in float32, and under a deviation of nothing."""
    d = jnp.array([[0.0, 0.1, 0.2, 0.99, 1.0, 1.2]])
    for left, right in ((0.01, 0.01), (1e-6, 1e-6)):
        found = np.asarray(semantic_confidence(d, 1.0, left, right))
        assert ((found >= 0) & (found <= 1)).all()
        np.testing.assert_allclose(found[0, [0, 1, 2, 5]], [1, 0, 0, 1], atol=1e-6)


def test_distances_are_floating(unchecked):
    with pytest.raises(TypeError, match=r"\bdistances\b"):
        semantic_confidence(jnp.zeros((2, 2), int), 0.6, 0.1, 0.1)


def test_law_may_be_traced():
    d = jnp.array([[0.02, 0.3]])
    found = jax.jit(semantic_confidence)(d, *map(jnp.float32, LAW.values()))
    np.testing.assert_allclose(found, semantic_confidence(d, **LAW), rtol=1e-5)
