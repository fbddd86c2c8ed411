"""The pairwise losses against loops, at extremes, under masks, on one device and on eight."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash.losses import (
    hashnet,
    idhn,
    lcdsh_locality,
    mean_likelihood,
    pairwise_likelihood,
)
from jaxhash.similarity import shares_label

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


def test_hashnet_without_a_valid_pair_is_zero():
    loss = partial(jit_hashnet, scale=0.3, where=jnp.zeros((5, 7), bool))
    value, slope = jax.value_and_grad(loss)(*pairs(5, 7))
    assert value == 0
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("length", [0.0, 50.0])
def test_hashnet_gradient_is_finite_at_extremes(length):
    """Inner products of 0, or of +-50 for similar and dissimilar pairs alike."""
    codes = jnp.array([[1.0], [1.0], [-1.0], [-1.0]]) * jnp.sqrt(length)
    similar = jnp.array([[i == j or i + j == 3 for j in range(4)] for i in range(4)])
    slope = jax.grad(partial(hashnet, scale=1.0), argnums=(0, 1))(codes, codes, similar)
    assert jnp.isfinite(jnp.stack(slope)).all()


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
    """Of two bits: no label shared, all of them, and half with one bit of agreement: 0."""
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


def test_idhn_masks_similarities_that_are_nan():
    codes, others, similar = graded(5, 7)
    where = jnp.asarray(np.random.default_rng(2).random((5, 7)) < 0.7)
    loss = jax.value_and_grad(partial(jit_idhn, where=where))
    broken, whole = (
        loss(codes, others, jnp.where(where, similar, jnp.nan)),
        loss(codes, others, similar),
    )
    np.testing.assert_array_equal(broken[0], whole[0])
    np.testing.assert_array_equal(broken[1], whole[1])


# All of them


def scaled_likelihood(*batch, where=None):
    """As a scalar; the mean over the valid pairs, so that a mask can equal a subset."""
    total = likelihood(*batch, where=where, reduce_fn=jnp.sum)
    return total / (batch[2].size if where is None else where.sum())


def locality(codes, others, similar, **keywords):
    return jit_locality(codes, others, **keywords)


def soft_idhn(codes, others, similar, **keywords):
    """Three quarters similar counts for similar, so that both cases of IDHN occur."""
    return jit_idhn(codes, others, 0.75 * similar.astype(jnp.float32), **keywords)


losses = {
    "likelihood": scaled_likelihood,
    "hashnet": partial(jit_hashnet, scale=0.5),
    "margin": partial(jit_mean, margin=2.0),
    "locality": locality,
    "idhn": soft_idhn,
}
each_loss = pytest.mark.parametrize("loss", losses.values(), ids=losses)
each_mean = pytest.mark.parametrize("name", ["margin", "locality", "idhn"])


@each_mean
def test_without_a_valid_pair_value_and_gradient_are_zero(name):
    loss = partial(losses[name], where=jnp.zeros((5, 7), bool))
    value, slope = jax.value_and_grad(loss)(*pairs(5, 7))
    assert value == 0
    np.testing.assert_array_equal(slope, 0.0)


@each_mean
@pytest.mark.parametrize("length", [0.0, 50.0])
def test_gradient_is_finite_at_extremes(name, length):
    codes = jnp.array([[1.0], [1.0], [-1.0], [-1.0]]) * length
    similar = jnp.array([[i == j or i + j == 3 for j in range(4)] for i in range(4)])
    slope = jax.grad(losses[name], argnums=(0, 1))(codes, codes, similar)
    assert jnp.isfinite(jnp.stack(slope)).all()


@each_mean
def test_eager_is_jitted(name):
    batch = pairs(4, 5)
    with jax.disable_jit():
        eager = losses[name](*batch)
    np.testing.assert_allclose(eager, losses[name](*batch), rtol=1e-6)


@each_loss
def test_gradient_is_that_of_finite_differences(loss):
    codes, others, similar = pairs(4, 5)
    cost = jax.jit(lambda codes, others: loss(codes, others, similar))
    check_grads(cost, (codes, others), order=1, modes=("fwd", "rev"), eps=0.01, rtol=0.01)


@each_loss
def test_order_of_the_batch_does_not_matter(loss):
    codes, labels, order = normal(6, 4), jnp.array([0, 1, 0, 2, 1, 1]), np.array([3, 1, 5, 0, 2, 4])
    values = [
        loss(codes[rows], codes[rows], shares_label(labels[rows], labels[rows]))
        for rows in (np.arange(6), order)
    ]
    np.testing.assert_allclose(*values, rtol=1e-6)


@each_loss
@pytest.mark.parametrize("filling", [0.0, 1e3, np.nan, np.inf, -np.inf])
def test_masked_batch_is_its_valid_rows(loss, filling):
    valid, labels = normal(4, 4), np.array([0, 1, 0, 2])
    where = np.array([True, False, True, True, False, True])
    padded = jnp.full((6, 4), filling).at[where].set(valid)
    padded_labels = jnp.zeros(6, int).at[where].set(labels)

    def cost(codes, labels, where=None):
        return loss(codes, codes, shares_label(labels, labels), where=where)

    value, slope = jax.value_and_grad(cost)(
        padded, padded_labels, jnp.asarray(where[:, None] & where[None, :])
    )
    expected_value, expected_slope = jax.value_and_grad(cost)(valid, jnp.asarray(labels))
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(slope[where], expected_slope, atol=1e-7)
    np.testing.assert_array_equal(slope[~where], 0.0)


@each_loss
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_accumulated_in_float32(loss, dtype):
    codes, others, similar = pairs(5, 7)
    codes, others = codes.astype(dtype), others.astype(dtype)
    value, slope = jax.value_and_grad(loss)(codes, others, similar)
    exact = loss(codes.astype(jnp.float32), others.astype(jnp.float32), similar)
    assert value.dtype == jnp.float32 and slope.dtype == dtype
    np.testing.assert_allclose(value, exact, rtol=1e-6)


# Several devices


def every_loss(codes, others, similar, **keywords):
    """Their sum, so that one compilation covers them all."""
    soft = 0.75 * similar.astype(jnp.float32)
    return (
        hashnet(codes, others, similar, scale=0.5, **keywords)
        + mean_likelihood(codes, others, similar, margin=2.0, **keywords)
        + lcdsh_locality(codes, others, **keywords)
        + idhn(codes, others, soft, **keywords)
    )


def cost_and_gradients(weights, images, labels, where, bank, axis_name=None):
    """Of a batch with itself, gathered over the devices, or with a bank of codes."""

    def gather(array):
        return array if axis_name is None else jax.lax.all_gather(array, axis_name, tiled=True)

    def cost(weights, images):
        codes = jnp.tanh(images @ weights)
        if bank is None:
            others, their_labels, their_where = map(gather, (codes, labels, where))
        else:
            others, their_labels, their_where = bank
        similar = shares_label(labels, their_labels)
        pairs = where[:, None] & their_where[None, :]
        return every_loss(codes, others, similar, where=pairs, axis_name=axis_name)

    value, (of_weights, of_images) = jax.value_and_grad(cost, argnums=(0, 1))(weights, images)
    if axis_name is not None:
        of_weights = jax.lax.psum(of_weights, axis_name)
    return value, of_weights, of_images


on_eight = jax.pmap(
    partial(cost_and_gradients, axis_name="device"),
    axis_name="device",
    in_axes=(None, 0, 0, 0, None),
)
on_one = jax.jit(cost_and_gradients)


@pytest.mark.parametrize("valid", [16, 11, 1])
@pytest.mark.parametrize("against", ["batch", "bank"])
def test_eight_devices_are_one(against, valid):
    """Two rows a device; where 11 rows or 1 are valid, some devices hold nothing but padding."""
    rng = np.random.default_rng(3)
    images, weights, where = normal(16, 3), normal(3, 4, seed=1), jnp.arange(16) < valid
    labels = jnp.asarray(rng.integers(3, size=16))
    bank = normal(9, 4, seed=2), jnp.asarray(rng.integers(3, size=9)), jnp.arange(9) < 7
    bank = bank if against == "bank" else None
    value, of_weights, of_images = on_eight(
        weights, images.reshape(8, 2, 3), labels.reshape(8, 2), where.reshape(8, 2), bank
    )
    whole = on_one(weights, images, labels, where, bank)
    assert len(set(np.asarray(value).tolist())) == 1
    np.testing.assert_allclose(value[0], whole[0], rtol=1e-6)
    for each in of_weights:
        np.testing.assert_allclose(each, whole[1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(of_images.reshape(16, 3), whole[2], rtol=1e-5, atol=1e-7)


# Errors


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of the test run, which would speak before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("loss", [pairwise_likelihood, hashnet, mean_likelihood, idhn])
@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "codes", {"codes": jnp.ones((4, 2), int)}),
        (ValueError, "codes", {"codes": jnp.ones(4)}),
        (TypeError, "others", {"others": jnp.ones((3, 2), int)}),
        (ValueError, "others", {"others": jnp.ones(3)}),
        (ValueError, "others", {"others": jnp.ones((3, 5))}),
        (ValueError, "similar", {"similar": jnp.ones((3, 4), bool)}),
        (ValueError, "where", {"where": jnp.ones((4, 1), bool)}),
    ],
)
def test_errors_name_the_argument(unchecked, loss, error, name, arguments):
    batch = {
        "codes": jnp.ones((4, 2)), "others": jnp.ones((3, 2)), "similar": jnp.ones((4, 3), bool)
    }  # fmt: skip
    with pytest.raises(error, match=f"^{name} must"):
        loss(**batch | arguments, scale=1.0)
