"""The methods that classify by codes, against NumPy, and what each of them is particular about."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.objectives import (
    Batch,
    Context,
    Setup,
    cross_entropy,
    greedyhash,
    jmlh,
    supervised_deep_hashing,
)

BITS, CLASSES, ROWS = 4, 3, 8
IDS = np.array([0, 1, 2, 0, 1, 2, -1, 0], np.int32)  # one image has no label
HOT = np.array(
    [[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 0]],
    np.uint8,
)


def codes(seed=0):
    return jnp.asarray(1.5 * np.random.default_rng(seed).normal(size=(ROWS, BITS)), jnp.float32)


def batch(labels=IDS, mask=None, index=None):
    mask = np.ones(ROWS, bool) if mask is None else mask
    index = np.arange(ROWS) if index is None else index
    return Batch(None, *map(jnp.asarray, (labels, np.asarray(index, np.int32), mask)))


def context(step=0, axis_name=None):
    return Context(jax.random.key(step), jnp.float32(0), jnp.bool_(False), None, None, axis_name)


def begin(objective):
    setup = Setup(BITS, 20, CLASSES, False, None, None)
    return objective.init(jax.random.key(0), setup)


def run(objective, u, labels=IDS):
    loss = jax.jit(lambda start, u, rows: objective.loss(start, u, rows, context()))
    return loss(begin(objective), u, batch(labels))


def slopes(objective, u, rows):
    """The value, and the gradients of the parameters and of the codes."""
    start = begin(objective)

    def value(params, u):
        return objective.loss(start._replace(params=params), u, rows, context()).value

    return jax.jit(jax.value_and_grad(value, (0, 1)))(start.params, u)


def of_labels(seen, params, labels, *, by_class=False):
    """The loss of the classifier by loops over images and classes, in float64."""
    seen, kernel = np.asarray(seen, float), np.asarray(params["kernel"], float)
    costs = []
    for x, label in zip(seen, labels, strict=True):
        y = np.asarray(label if labels.ndim == 2 else [label == c for c in range(CLASSES)], float)
        a = np.array([sum(x * w) for w in kernel.T]) + np.asarray(params.get("bias", 0.0), float)
        if not y.any():
            continue
        if by_class:
            costs.append(np.mean(np.log(1 + np.exp(a)) - y * a))
        else:
            costs.append(np.log(sum(np.exp(a))) - sum(y * a) / sum(y))
    return np.mean(costs)


# Values


@pytest.mark.parametrize("labels", [IDS, HOT], ids=["ids", "hot"])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_baseline(loss, labels):
    u, objective = codes(), cross_entropy(loss=loss)
    result = run(objective, u, labels)
    params = begin(objective).params
    expected = of_labels(np.tanh(u), params, labels, by_class=loss == "sigmoid")
    np.testing.assert_allclose(result.value, expected, rtol=1e-5)
    assert result.terms == {"cross_entropy": result.value}


@pytest.mark.parametrize("labels", [IDS, HOT], ids=["ids", "hot"])
def test_greedyhash(labels):
    u = codes().at[0, 0].set(0.0)  # whose sign is +1
    result = run(greedyhash(), u, labels)
    params = begin(greedyhash()).params[0]
    assert set(params) == {"kernel"}  # and no bias
    signs = np.where(np.asarray(u) >= 0, 1.0, -1.0)
    classified, cubed = of_labels(signs, params, labels), np.mean(np.abs(np.abs(u) - 1) ** 3)
    np.testing.assert_allclose(result.terms["greedyhash"], classified, rtol=1e-5)
    np.testing.assert_allclose(result.terms["greedyhash_penalty"], cubed, rtol=1e-5)
    np.testing.assert_allclose(result.value, classified + 0.1 * cubed, rtol=1e-5)


@pytest.mark.parametrize("labels", [IDS, HOT], ids=["ids", "hot"])
def test_jmlh_as_released(labels):
    u, objective = codes().at[0, 0].set(0.0).at[0, 1].set(-1e-9), jmlh(stochastic=False)
    result = run(objective, u, labels)
    heads, q = np.asarray(u) >= 0, 1 / (1 + np.exp(-np.asarray(u, float)))
    classified = of_labels(heads, begin(objective).params[0], labels)
    divergence = q * np.log(2 * q) + (1 - q) * np.log(2 * (1 - q))
    np.testing.assert_allclose(result.terms["jmlh"], classified, rtol=1e-5)
    expected = classified + 0.1 * divergence.sum(axis=1).mean()
    np.testing.assert_allclose(result.value, expected, rtol=1e-5)


@pytest.mark.parametrize("labels", [IDS, HOT], ids=["ids", "hot"])
def test_supervised_deep_hashing(labels):
    weights = dict(spread=0.3, alpha=0.7, decorrelation=0.2, classification_weight=0.9, penalty=0.4)
    objective = supervised_deep_hashing(**weights)
    result = run(objective, codes(), labels)
    h = np.tanh(np.asarray(codes(), float))
    within, between = [], []
    for i, j in np.ndindex(ROWS, ROWS):
        if i != j:
            a, b = labels[i], labels[j]
            alike = np.any(a * b) if labels.ndim == 2 else a == b and a >= 0
            (within if alike else between).append(np.mean((h[i] - h[j]) ** 2))
    moments = h.T @ h / ROWS
    params = begin(objective).params[0][0]
    terms = {
        "classification": of_labels(h, params, labels),
        "variance": np.mean(1 - h.var(axis=0)),
        "scatter": (np.mean(within) - np.mean(between)) / 2,
        "decorrelation": np.mean([moments[j, k] ** 2 for j, k in np.ndindex(4, 4) if j != k]),
        "penalty": np.mean((h - np.sign(h)) ** 2),
    }
    assert set(result.terms) == {f"supervised_deep_hashing_{name}" for name in terms}
    for name, term in terms.items():
        found = result.terms[f"supervised_deep_hashing_{name}"]
        np.testing.assert_allclose(found, term, rtol=1e-5, err_msg=name)
    expected = (
        0.9 * terms["classification"]
        + 0.3 * (0.5 * terms["variance"] + 0.7 * terms["scatter"])
        + 0.2 * terms["decorrelation"]
        + 0.4 * terms["penalty"]
    )
    np.testing.assert_allclose(result.value, expected, rtol=1e-5)


# The gradient and the classifier


def test_greedyhash_passes_the_gradient_of_the_signs_unchanged():
    objective = greedyhash(penalty=0.0)
    _, (_, slope) = slopes(objective, codes(), batch())
    kernel = np.asarray(begin(objective).params["kernel"], float)
    signs = np.sign(np.asarray(codes(), float))
    expected = np.zeros((ROWS, BITS))
    for i in range(ROWS):
        if IDS[i] >= 0:
            p = np.exp(signs[i] @ kernel)
            expected[i] = kernel @ (p / p.sum() - np.eye(CLASSES)[IDS[i]]) / 7  # labelled images
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_jmlh_passes_the_gradient_of_the_coins_to_their_chances():
    objective = jmlh(stochastic=False, penalty=0.0)
    _, (_, slope) = slopes(objective, codes(), batch())
    kernel = np.asarray(begin(objective).params["kernel"], float)
    q = 1 / (1 + np.exp(-np.asarray(codes(), float)))
    expected = np.zeros((ROWS, BITS))
    for i in range(ROWS):
        if IDS[i] >= 0:
            p = np.exp((q[i] >= 0.5) @ kernel)
            of_coins = kernel @ (p / p.sum() - np.eye(CLASSES)[IDS[i]]) / 7
            expected[i] = of_coins * q[i] * (1 - q[i])
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_the_classifier_begins_at_the_scale_of_its_codes():
    setup = Setup(64, 20, 1000, False, None, None)
    params = jax.jit(lambda key: cross_entropy().init(key, setup))(jax.random.key(0)).params
    np.testing.assert_allclose(jnp.std(params["kernel"]), 1 / 8, rtol=0.02)
    assert not params["bias"].any()


# Coins


def test_coins_are_of_the_item_and_the_step():
    u, index = codes() / 10, np.arange(ROWS) + 40
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    labels = IDS.clip(0)
    objective = jmlh(penalty=0.0)
    start = begin(objective)

    @jax.jit
    def loss(u, rows, step):
        return objective.loss(start, u, rows, context(step)).value

    def value(order, step=0, shift=0):
        rows = Batch(None, *map(jnp.asarray, (labels[order], index[order] + shift, order >= 0)))
        return float(loss(u[order], rows, step))

    first = value(np.arange(ROWS))
    assert value(order) == pytest.approx(first, rel=1e-6)  # wherever in the batch it stands
    assert value(np.arange(ROWS), step=1) != pytest.approx(first, rel=1e-6)
    assert value(np.arange(ROWS), shift=1) != pytest.approx(first, rel=1e-6)


def test_coins_have_their_chances():
    """With a classifier of the first bit alone, log(1 + e^-b) on average tells the share of heads."""
    n, chance = 4000, 0.8
    u = jnp.full((n, BITS), jnp.log(chance / (1 - chance)))
    objective = jmlh(penalty=0.0)
    kernel = jnp.zeros((BITS, CLASSES)).at[0, 0].set(1.0).at[:, 2].set(-99.0)
    start = begin(objective)._replace(
        params={"kernel": kernel, "bias": jnp.array([0.0, 0.0, -99.0])}
    )
    rows = Batch(None, jnp.zeros(n, jnp.int32), jnp.arange(n), jnp.ones(n, bool))
    value = objective.loss(start, u, rows, context()).value
    tails, heads = np.log(2), np.log(1 + np.exp(-1))
    share = (tails - value) / (tails - heads)
    assert share == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / n))


# Supervised deep hashing without some of its parts


def test_without_a_classifier_it_is_the_method_of_2015():
    objective = supervised_deep_hashing(classification_weight=0.0)
    assert not jax.tree.leaves(begin(objective).params)
    assert "supervised_deep_hashing_classification" not in run(objective, codes()).terms


def test_it_is_bounded_whatever_the_codes():
    far = codes() * 1e4
    value = run(supervised_deep_hashing(classification_weight=0.0), far).value
    assert abs(value) < 0.1 * (0.5 + 2) + 0.1 + 0.1


@pytest.mark.parametrize("alpha, parts", [(0.0, 4), (1.0, 5)])
def test_alpha_of_0_leaves_the_scatter_out(alpha, parts):
    assert len(run(supervised_deep_hashing(alpha=alpha), codes()).terms) == parts
