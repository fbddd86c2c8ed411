"""The pairwise likelihoods against loops, by hand, and at extremes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import (
    hashnet,
    idhn,
    lcdsh_locality,
    mean_likelihood,
    pairwise_likelihood,
)

likelihood = jax.jit(pairwise_likelihood, static_argnames=("scale", "reduce_fn"))
jit_hashnet = jax.jit(hashnet, static_argnames=("scale", "axis_name"))
jit_mean = jax.jit(mean_likelihood, static_argnames=("scale", "margin", "axis_name"))
jit_locality = jax.jit(lcdsh_locality, static_argnames=("scale", "axis_name"))
jit_idhn = jax.jit(idhn, static_argnames=("scale", "gamma", "axis_name"))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def pairs(n, m, bits=4, seed=0):
    """Codes, others, and which of their pairs are similar: some are, some are not."""
    similar = np.random.default_rng(seed).random((n, m)) < 0.3
    return normal(n, bits, seed=seed), normal(m, bits, seed=seed + 1), jnp.asarray(similar)


def formula(codes, others, similar, scale):
    """The likelihood loss pair by pair, in float64."""
    codes, others = np.asarray(codes, float), np.asarray(others, float)
    loss = np.empty(similar.shape)
    for i, j in np.ndindex(loss.shape):
        theta = scale * sum(u * v for u, v in zip(codes[i], others[j], strict=True))
        loss[i, j] = np.log(1 + np.exp(theta)) - (theta if similar[i, j] else 0)
    return loss


# The likelihood of each pair


def test_likelihood_by_hand():
    loss = likelihood(
        jnp.array([[1.0, 2.0]]), jnp.array([[2.0, 1.0], [-1.0, 0.0]]), jnp.array([[True, False]])
    )
    agree, differ = (1 * 2 + 2 * 1) / 2, (1 * -1 + 2 * 0) / 2  # halves of the inner products
    np.testing.assert_allclose(
        loss, [[np.log(1 + np.exp(agree)) - agree, np.log(1 + np.exp(differ))]], rtol=1e-6
    )


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_likelihood_is_the_formula(scale):
    batch = pairs(5, 7)
    np.testing.assert_allclose(likelihood(*batch, scale=scale), formula(*batch, scale), atol=1e-5)


def test_likelihood_reduces_over_all_pairs_masked_ones_as_zeros():
    batch, where = pairs(5, 7), np.random.default_rng(2).random((5, 7)) < 0.5
    expected = np.where(where, formula(*batch, 0.5), 0.0)
    options = {"scale": 0.5, "where": jnp.asarray(where)}
    np.testing.assert_allclose(likelihood(*batch, **options), expected, rtol=1e-5)
    mean = likelihood(*batch, **options, reduce_fn=jnp.mean)
    np.testing.assert_allclose(mean, expected.sum() / (5 * 7), rtol=1e-5)


@pytest.mark.parametrize("theta", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("similar", [False, True])
def test_likelihood_at_extremes(theta, similar):
    """The slope in theta is sigmoid(theta) - s."""
    value, slope = jax.value_and_grad(
        lambda u: likelihood(u, jnp.ones((1, 1)), jnp.array([[similar]]), scale=1.0)[0, 0]
    )(jnp.array([[theta]]))
    x = -theta if similar else theta  # not log(1 + e^50) - 50, which is 0 in any precision
    np.testing.assert_allclose(value, max(x, 0) + np.log1p(np.exp(-abs(x))), rtol=1e-6)
    np.testing.assert_allclose(slope, [[1 / (1 + np.exp(-theta)) - similar]], atol=1e-7)


# HashNet


def test_hashnet_by_hand():
    """One similar pair with theta = 1, two dissimilar ones with theta = -1 and 2."""
    loss = hashnet(
        jnp.array([[1.0]]),
        jnp.array([[1.0], [-1.0], [2.0]]),
        jnp.array([[True, False, False]]),
        scale=1.0,
    )
    positive = np.log(1 + np.exp(1.0)) - 1.0
    negative = (np.log(1 + np.exp(-1.0)) + np.log(1 + np.exp(2.0))) / 2
    assert loss == pytest.approx(positive + negative, rel=1e-6)


def test_hashnet_is_the_papers_weighted_sum():
    """Each pair weighs |S|/|S1| or |S|/|S0|, and the sum is divided by |S|."""
    batch, where = pairs(5, 7), np.random.default_rng(2).random((5, 7)) < 0.7
    similar = np.asarray(batch[2])
    size = where.sum()
    weights = np.where(similar, size / (where & similar).sum(), size / (where & ~similar).sum())
    expected = np.sum(where * weights * formula(*batch, 0.3)) / size
    loss = jit_hashnet(*batch, scale=0.3, where=jnp.asarray(where))
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("similar", [False, True])
def test_hashnet_without_one_kind_of_pair_is_the_mean_of_the_other(similar):
    codes, others, _ = pairs(5, 7)
    batch = codes, others, jnp.full((5, 7), similar)
    value, slope = jax.value_and_grad(partial(jit_hashnet, scale=0.3))(*batch)
    assert value == pytest.approx(formula(*batch, 0.3).mean(), rel=1e-5)
    assert jnp.isfinite(slope).all() and slope.any()


# The mean likelihood, with a margin and without


def test_mean_likelihood_by_hand():
    """A similar pair with theta = 2 and a dissimilar one with theta = 3, margin 1."""
    batch = jnp.array([[2.0]]), jnp.array([[2.0], [3.0]]), jnp.array([[True, False]])
    expected = (np.log(1 + np.exp(1 - 2)) + np.log(1 + np.exp(1 + 3))) / 2
    assert jit_mean(*batch, margin=1.0) == pytest.approx(expected, rel=1e-6)


def test_mean_likelihood_is_the_mean_of_the_formula():
    batch, where = pairs(5, 7), np.random.default_rng(2).random((5, 7)) < 0.7
    expected = formula(*batch, 0.3)[where].mean()
    loss = jit_mean(*batch, scale=0.3, where=jnp.asarray(where))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert jit_mean(*batch) == pytest.approx(formula(*batch, 0.5).mean(), rel=1e-5)


def test_margin_is_the_papers_two_terms():
    batch, where = pairs(5, 7), np.random.default_rng(2).random((5, 7)) < 0.7
    codes, others, similar = (np.asarray(each, float) for each in batch)
    costs = []
    for i, j in np.argwhere(where):
        theta = codes[i] @ others[j] / 2
        costs.append(
            similar[i, j] * np.log(1 + np.exp(3 - theta))
            + (1 - similar[i, j]) * np.log(1 + np.exp(3 + theta))
        )
    loss = jit_mean(*batch, margin=3.0, where=jnp.asarray(where))
    assert loss == pytest.approx(np.mean(costs), rel=1e-5)


# What cutting the codes does to a pair


def test_locality_by_hand():
    """theta = 1/2 of the codes, and of their signs (1 + 1) / 2 = 1; 0 counts as +1."""
    loss = jit_locality(jnp.array([[0.0, 1.0]]), jnp.array([[3.0, 1.0]]))
    assert loss == pytest.approx((1 / (1 + np.exp(-0.5)) - 1 / (1 + np.exp(-1))) ** 2, rel=1e-5)


def test_locality_is_the_formula():
    codes, others, _ = pairs(5, 7)
    where, costs = np.random.default_rng(2).random((5, 7)) < 0.7, []
    for i, j in np.argwhere(where):
        u, v = np.asarray(codes[i], float), np.asarray(others[j], float)
        real, cut = (1 / (1 + np.exp(-0.3 * theta)) for theta in (u @ v, np.sign(u) @ np.sign(v)))
        costs.append((real - cut) ** 2)
    loss = jit_locality(codes, others, scale=0.3, where=jnp.asarray(where))
    assert loss == pytest.approx(np.mean(costs), rel=1e-5)


def test_locality_of_signs_is_zero():
    signs = jnp.sign(normal(6, 4))
    assert jit_locality(signs, signs) == 0


# IDHN


def graded(n, m):
    """Codes, others and similarities of which some are 0, some 1, and some between."""
    similar = np.random.default_rng(4).choice([0.0, 0.0, 0.25, 0.5, 1.0], (n, m))
    return normal(n, 4), normal(m, 4, seed=1), jnp.asarray(similar, jnp.float32)


def test_idhn_by_hand():
    """Two bits: no label shared, all of them, and half with one bit of agreement: 0."""
    batch = jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    loss = jit_idhn(*batch, jnp.array([[0.0, 1.0, 0.5]]), scale=1.0)
    apart, alike = np.log(1 + np.exp(2)), np.log(1 + np.exp(-2))
    assert loss == pytest.approx((apart + alike + 0) / 3, rel=1e-6)


def test_idhn_is_the_formula_of_the_released_code():
    codes, others, similar = graded(5, 7)
    where, costs = np.random.default_rng(2).random((5, 7)) < 0.7, []
    for i, j in np.argwhere(where):
        inner, s = float(codes[i] @ others[j]), float(similar[i, j])
        theta = 5 * inner / 4
        hard = np.log(1 + np.exp(theta)) - s * theta
        soft = 0.1 * 4 * ((inner + 4) / 2 / 4 - s) ** 2
        costs.append(hard if s in (0, 1) else soft)
    loss = jit_idhn(codes, others, similar, where=jnp.asarray(where))
    assert loss == pytest.approx(np.mean(costs), rel=1e-5)


def test_idhn_of_hard_similarities_is_the_mean_likelihood():
    codes, others, similar = pairs(5, 7)
    loss = jit_idhn(codes, others, similar.astype(jnp.float32), scale=0.5)
    assert loss == pytest.approx(float(jit_mean(codes, others, similar)), rel=1e-6)
