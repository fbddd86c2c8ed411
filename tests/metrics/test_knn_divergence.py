"""Entropy and divergence from nearest neighbors: by loops, against closed forms, and the loss."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxhash.losses import nearest_neighbor_kl
from jaxhash.metrics import _divergence, knn_divergence, knn_entropy

NORMS = (1, 2, math.inf)

each_norm = pytest.mark.parametrize("norm", NORMS)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def kth(point, others, k, norm):
    return sorted(np.linalg.norm(point - other, norm) for other in others)[k - 1]


@each_norm
@pytest.mark.parametrize(("n", "m", "d", "k"), [(2, 1, 1, 1), (12, 30, 3, 2), (20, 9, 8, 4)])
def test_are_the_formulas(norm, n, m, d, k):
    x, y = normal(n, d), normal(m, d, seed=1)
    rho = [kth(x[i], np.delete(x, i, axis=0), k, norm) for i in range(n)]
    nu = [kth(each, y, k, norm) for each in x]
    divergence = d / n * np.sum(np.log(np.divide(nu, rho))) + np.log(m / (n - 1))
    assert knn_divergence(x, y, k=k, norm=norm) == pytest.approx(divergence, rel=1e-12)
    volume = {
        1: 2**d / math.factorial(d),
        2: math.pi ** (d / 2) / math.gamma(d / 2 + 1),
        math.inf: 2**d,
    }[norm]
    entropy = d / n * np.sum(np.log(rho)) + np.log(volume) + np.log(n - 1) - scipy.special.psi(k)
    assert knn_entropy(x, k=k, norm=norm) == pytest.approx(entropy, rel=1e-12)


def test_by_hand():
    """Each x is 1 from its nearest, and 1/2, 1 and 1/2 from y."""
    x, y = np.array([[0, 0], [1, 0], [0, 1]]), np.array([[0.0, 0.5], [1.0, 1.0]])
    assert knn_divergence(x, y, norm=1) == pytest.approx(-0.92420, abs=5e-6)
    assert knn_entropy(x, norm=1) == pytest.approx(np.log(2) + np.log(2) + 0.5772156649)


@pytest.mark.parametrize("block", [1, 100])
def test_blocks_do_not_matter(monkeypatch, block):
    x, y = normal(30, 3), normal(20, 3, seed=1)
    expected = knn_divergence(x, y, k=2), knn_entropy(x, k=2)
    monkeypatch.setattr(_divergence, "_BLOCK", block)
    assert (knn_divergence(x, y, k=2), knn_entropy(x, k=2)) == expected


# Closed forms of normal laws


def mean_and_error(estimate, repeats=30):
    """Returns the mean of an estimate over seeds and its standard error."""
    values = [estimate(np.random.default_rng(seed)) for seed in range(repeats)]
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(repeats)


@each_norm
@pytest.mark.parametrize(("d", "k", "bias"), [(1, 1, 0.0), (2, 1, 0.02), (2, 3, 0.04)])
def test_entropy_of_a_normal_law(norm, d, k, bias):
    """log(2 pi e) / 2 a dimension: 2.8379 in two.

    Within four standard errors, and the bias at 400 points, known to be a few hundredths in two
    dimensions, where the density is not constant up to the neighbor.
    """
    mean, error = mean_and_error(lambda rng: knn_entropy(rng.normal(size=(400, d)), k=k, norm=norm))
    assert mean == pytest.approx(d / 2 * np.log(2 * np.pi * np.e), abs=4 * error + bias)


def test_entropy_moves_with_the_scale():
    x = normal(200, 3)
    assert knn_entropy(5 * x + 1) == pytest.approx(knn_entropy(x) + 3 * np.log(5), rel=1e-12)


@each_norm
@pytest.mark.parametrize(
    ("shift", "scale", "m"), [(0.0, 1.0, 400), (1.0, 1.0, 400), (1.0, 2.0, 700)]
)
def test_divergence_of_normal_laws(norm, shift, scale, m):
    """Tests one dimension, where the bias at this size is below the standard error."""
    mean, error = mean_and_error(
        lambda rng: knn_divergence(
            rng.normal(size=(400, 1)), rng.normal(shift, scale, size=(m, 1)), norm=norm
        )
    )
    expected = np.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5
    assert mean == pytest.approx(expected, abs=4 * error)


def test_divergence_does_not_change_with_a_common_scale():
    x, y = normal(50, 3), normal(40, 3, seed=1)
    expected = knn_divergence(x, y, norm=1)
    assert knn_divergence(3 * x + 1, 3 * y + 1, norm=1) == pytest.approx(expected, rel=1e-10)


# The loss


@each_norm
@pytest.mark.parametrize("k", [1, 3])
def test_the_loss_is_the_divergence_a_bit_without_its_constant(norm, k):
    """Up to float32 and the loss's floor of 1e-6 under distances of about 1/2."""
    rng = np.random.default_rng(0)
    codes, sample = rng.random((40, 8)).astype(np.float32), rng.random((30, 8)).astype(np.float32)
    value = nearest_neighbor_kl(jnp.asarray(codes), target=jnp.asarray(sample), k=k, norm=norm)
    whole = knn_divergence(codes, sample, k=k, norm=norm)
    assert float(value) == pytest.approx((whole - np.log(30 / 39)) / 8, abs=1e-5)


# Duplicates


@each_norm
def test_duplicates(norm):
    x, y = normal(10, 2), normal(10, 2, seed=1)
    twice = np.concatenate([x, x[:1]])
    assert knn_entropy(twice, norm=norm) == -math.inf
    assert knn_divergence(twice, y, norm=norm) == math.inf
    assert knn_divergence(x, np.concatenate([y, x[:1]]), norm=norm) == -math.inf
    assert knn_divergence(twice, twice, norm=norm) == math.inf
    for estimate in (knn_entropy(twice, k=2, norm=norm), knn_divergence(twice, y, k=2, norm=norm)):
        assert math.isfinite(estimate)


# Mistakes


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.ones(3), np.ones((3, 1)), {}, "x must have shape"),
        (np.ones((3, 0)), np.ones((3, 0)), {}, "x must have shape"),
        (np.ones((1, 2)), np.ones((3, 2)), {}, "x must have at least 2 rows"),
        (np.ones((3, 2)), np.ones((2, 2)), {"k": 3}, "x must have at least 4 rows"),
        (np.array([[0.0], [np.nan]]), np.ones((3, 1)), {}, "x must be finite"),
        (np.ones((3, 2)), np.ones((3, 2)), {"k": 0}, "k must be at least 1"),
        (np.ones((3, 2)), np.ones((3, 2)), {"norm": 3}, "norm .*3"),
    ],
)
def test_mistakes(unchecked, x, y, options, message):
    for call in (lambda: knn_divergence(x, y, **options), lambda: knn_entropy(x, **options)):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones((3, 1)), "x has 2 columns, y 1"),
        (np.ones((1, 2)), "y must have at least 2 rows"),
        (np.full((3, 2), np.inf), "y must be finite"),
    ],
)
def test_mistakes_of_the_second_sample(unchecked, y, message):
    with pytest.raises(ValueError, match=message):
        knn_divergence(normal(5, 2), y, k=2)
