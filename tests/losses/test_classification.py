"""The losses of labels against loops and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import (
    bernoulli_kl_per_code,
    binary_cross_entropy,
    cosine_distillation,
    cross_entropy,
    hash_proxy,
    pair_scatter,
    variance_shortfall,
)

N, BITS, CLASSES = 9, 4, 3


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def multi_hot(n, seed=0):
    """Rows of one to three labels, and every fifth row without any."""
    labels = np.random.default_rng(seed).random((n, CLASSES)) < 0.4
    labels[np.arange(n), np.arange(n) % CLASSES] = True
    labels[4::5] = False
    return jnp.asarray(labels, jnp.float32)


PROXIES = normal(CLASSES, BITS, seed=7)


# Each loss of rows as a function of the array that is trained, and the formula in float64.


def soft_cross_entropy(logits, labels):
    costs = []
    for a, y in zip(np.asarray(logits, float), np.asarray(labels, float), strict=True):
        if y.any():
            log_softmax = a - np.log(sum(np.exp(a)))
            costs.append(-sum(log_softmax[c] / sum(y) for c in range(len(y)) if y[c]))
    return np.mean(costs)


def by_class(logits, labels):
    costs = []
    for a, y in zip(np.asarray(logits, float), np.asarray(labels, float), strict=True):
        if y.any():
            p = 1 / (1 + np.exp(-a))
            costs += [-np.log(p[c]) if y[c] else -np.log(1 - p[c]) for c in range(len(y))]
    return np.mean(costs)


def cosine(u, v):
    return sum(u * v) / np.sqrt(sum(u**2) * sum(v**2))


def proxies(codes, labels):
    codes, centers = np.asarray(codes, float), np.asarray(PROXIES, float)
    cosines = np.array([[cosine(u, p) for p in centers] for u in codes])
    return soft_cross_entropy(cosines / 0.2, labels)


def distilled(codes, teacher):
    rows = zip(np.asarray(codes, float), np.asarray(teacher, float), strict=True)
    return np.mean([1 - cosine(u, t) for u, t in rows])


def divergence(codes):
    total = 0.0
    for u in np.asarray(codes, float):
        for q in 1 / (1 + np.exp(-u)):
            total += q * np.log(q / 0.5) + (1 - q) * np.log((1 - q) / 0.5)
    return total / len(codes)


def shortfall(codes):
    return np.mean([1 - np.mean((h - np.mean(h)) ** 2) for h in np.asarray(codes, float).T])


def of_proxies(codes, labels, **options):
    return hash_proxy(codes, PROXIES, labels, **options)


ROW_LOSSES = {
    "cross_entropy": (cross_entropy, soft_cross_entropy, CLASSES, multi_hot),
    "binary_cross_entropy": (binary_cross_entropy, by_class, CLASSES, multi_hot),
    "hash_proxy": (of_proxies, proxies, BITS, multi_hot),
    "cosine_distillation": (
        cosine_distillation,
        distilled,
        BITS,
        lambda n: normal(n, BITS, seed=3),
    ),
    "bernoulli_kl_per_code": (bernoulli_kl_per_code, divergence, BITS, None),
    "variance_shortfall": (variance_shortfall, shortfall, BITS, None),
}
every_loss = pytest.mark.parametrize("name", ROW_LOSSES)


def batch(name, n=N):
    """Returns the arguments that have a row per item: codes or scores, labels, a teacher."""
    *_, columns, other = ROW_LOSSES[name]
    rows = normal(n, columns)
    return (rows,) if other is None else (rows, other(n))


@pytest.fixture(scope="module")
def compiled():
    return {name: jax.jit(jax.value_and_grad(loss)) for name, (loss, *_) in ROW_LOSSES.items()}


@every_loss
def test_is_the_formula(name, compiled):
    value, _ = compiled[name](*batch(name))
    np.testing.assert_allclose(value, ROW_LOSSES[name][1](*batch(name)), rtol=1e-5)


# What each of them is for


def test_cross_entropy_of_several_labels_by_hand():
    """Scores with softmax (1/4, 1/4, 1/2); its gradient is the softmax less the soft labels."""
    logits = jnp.log(jnp.array([[1.0, 1.0, 2.0]]))
    value, slope = jax.value_and_grad(cross_entropy)(logits, jnp.array([[1, 0, 1]]))
    assert value == pytest.approx((np.log(4) + np.log(2)) / 2)
    np.testing.assert_allclose(slope, [[0.25 - 0.5, 0.25, 0.5 - 0.5]], atol=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, binary_cross_entropy])
def test_scores_far_apart_lose_nothing(loss):
    """A score of 200 for a wrong class costs 200, and for the right one nothing."""
    right, wrong = jnp.array([[1, 0]]), jnp.array([[0, 1]])
    scores = jnp.array([[200.0, 0.0 if loss is cross_entropy else -200.0]])
    assert loss(scores, right) == 0
    np.testing.assert_allclose(loss(scores, wrong), 200.0, rtol=1e-6)


def test_binary_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[3.0, 1.0]]))  # probabilities 3/4 and 1/2
    value, slope = jax.value_and_grad(binary_cross_entropy)(logits, jnp.array([[1, 0]]))
    assert value == pytest.approx((np.log(4 / 3) + np.log(2)) / 2)
    np.testing.assert_allclose(slope, [[(0.75 - 1) / 2, 0.5 / 2]], rtol=1e-5)


def test_a_row_of_zeros_has_no_direction():
    codes, teacher = jnp.zeros((1, BITS)), normal(1, BITS)
    value, slope = jax.value_and_grad(cosine_distillation)(codes, teacher)
    assert value == 1 and not slope.any()
    value, slope = jax.value_and_grad(hash_proxy)(codes, PROXIES, jnp.ones((1, CLASSES)))
    assert value == pytest.approx(np.log(CLASSES)) and not slope.any()


def test_distillation_by_hand_and_without_a_gradient_to_the_teacher():
    """Cosines 1, 0 and -1."""
    codes = jnp.array([[1.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    teacher = jnp.array([[2.0, 2.0], [0.0, 1.0], [0.0, -1.0]])
    value, (of_codes, of_teacher) = jax.value_and_grad(cosine_distillation, (0, 1))(codes, teacher)
    assert value == pytest.approx(1.0)
    # Along the teacher's direction, as far as it is across the code's own.
    np.testing.assert_allclose(of_codes, [[0, 0], [0, -1 / 3], [0, 0]], atol=1e-6)
    np.testing.assert_array_equal(of_teacher, 0.0)


def test_divergence_of_each_bit_by_hand():
    codes = jnp.array([[0.0, jnp.log(3.0)], [200.0, -jnp.log(3.0)]])
    quarter = np.log(2) + 0.25 * np.log(0.25) + 0.75 * np.log(0.75)
    np.testing.assert_allclose(
        bernoulli_kl_per_code(codes, reduce_fn=None), [np.log(2) / 2, quarter], rtol=1e-5
    )
    np.testing.assert_allclose(
        bernoulli_kl_per_code(codes), np.log(2) / 2 + quarter, rtol=1e-5
    )  # a sum over bits


def test_divergence_draws_each_code_to_zero():
    """The derivative is u q (1 - q)."""
    codes = jnp.array([[-2.0, 0.0, 0.5, 50.0]])
    slope = jax.grad(bernoulli_kl_per_code)(codes)
    q = 1 / (1 + np.exp(-np.asarray(codes, float)))
    np.testing.assert_allclose(slope, codes * q * (1 - q), atol=1e-7)


def test_variance_by_hand():
    codes = jnp.array([[1.0, 0.5, 1.0], [-1.0, -0.5, 1.0]])
    np.testing.assert_allclose(variance_shortfall(codes, reduce_fn=None), [0.0, 0.75, 1.0])
    np.testing.assert_allclose(variance_shortfall(codes), 1.75 / 3, rtol=1e-6)


# Scatter of pairs


def pairs(n, m=7):
    rng = np.random.default_rng(0)
    similar, where = (jnp.asarray(rng.random((n, m)) < share) for share in (0.4, 0.7))
    return normal(n, BITS), normal(m, BITS, seed=1), similar, where


def scatter_formula(codes, others, similar, where):
    within, between = [], []
    for i, j in np.ndindex(similar.shape):
        if where[i, j]:
            square = sum((np.asarray(codes[i], float) - np.asarray(others[j], float)) ** 2)
            (within if similar[i, j] else between).append(square)
    total = (np.mean(within) if within else 0) - (np.mean(between) if between else 0)
    return total / 2 / codes.shape[1]


def test_scatter_by_hand():
    """Squared distances 1 and 4 within, 8 between, over twice two bits."""
    codes, others = jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 0.0], [1.0, -1.0], [-1.0, -1.0]])
    loss = pair_scatter(codes, others, jnp.array([[True, True, False]]))
    assert loss == pytest.approx((2.5 - 8) / 4)


@pytest.mark.parametrize("kind", ["both", "similar", "dissimilar"])
def test_scatter_is_the_formula(kind):
    codes, others, similar, where = pairs(5)
    similar = similar if kind == "both" else jnp.full_like(similar, kind == "similar")
    scatter = jax.jit(jax.value_and_grad(pair_scatter))
    value, slope = scatter(codes, others, similar, where=where)
    expected = scatter_formula(codes, others, similar, where)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.isfinite(slope).all() and slope.any()
    everything, _ = scatter(codes, others, similar)
    expected = scatter_formula(codes, others, similar, np.ones((5, 7), bool))
    np.testing.assert_allclose(everything, expected, rtol=1e-5)


def test_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="^temperature must"):
        hash_proxy(normal(4, BITS), PROXIES, jnp.ones((4, CLASSES)), temperature=0.0)
