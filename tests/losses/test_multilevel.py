"""Losses of graded similarity: naive loops, hand-worked values, and how the forms relate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash.losses import multilevel_means, multilevel_triplet, rank_consistency

RANDOM = np.random.default_rng(0)
ROWS, COLUMNS, BITS, RADIUS = 5, 7, 6, 2.5
CODES = np.tanh(RANDOM.normal(size=(ROWS, BITS)))
OTHERS = np.tanh(RANDOM.normal(size=(COLUMNS, BITS)))
SHARES = RANDOM.choice([0.0, 0.25, 0.5, 1.0], (ROWS, COLUMNS))
WHERE = RANDOM.random((ROWS, COLUMNS)) < 0.8
WHERE[2] = False

ARRAYS = tuple(jnp.asarray(each, jnp.float32) for each in (CODES, OTHERS, SHARES))


def naive_triplets(where=WHERE):
    found = []
    for i in range(ROWS):
        for j in range(COLUMNS):
            for k in range(COLUMNS):
                if where[i, j] and where[i, k] and SHARES[i, j] > SHARES[i, k]:
                    near, far = ((BITS - CODES[i] @ OTHERS[c]) / 2 for c in (j, k))
                    found.append(max(0, near - far + RADIUS * (SHARES[i, j] - SHARES[i, k])))
    return np.mean(found)


def naive_means(where=WHERE):
    found = []
    for i in range(ROWS):
        distances = (BITS - OTHERS @ CODES[i]) / 2
        levels = sorted(set(SHARES[i][where[i]]))
        means = {v: distances[where[i] & (SHARES[i] == v)].mean() for v in levels}
        found += [
            max(0, means[v] - means[w] + RADIUS * (v - w)) for v in levels for w in levels if v > w
        ]
    return np.mean(found)


@pytest.mark.parametrize(
    ("loss", "naive"), [(multilevel_triplet, naive_triplets), (multilevel_means, naive_means)]
)
def test_a_naive_loop(loss, naive):
    found = loss(*ARRAYS, radius=RADIUS, where=WHERE)
    np.testing.assert_allclose(found, naive(), rtol=1e-5)
    everything = np.ones_like(WHERE)
    np.testing.assert_allclose(loss(*ARRAYS, radius=RADIUS), naive(everything), rtol=1e-5)


def test_hand_worked_values():
    h = jnp.ones((1, 4))
    v = jnp.array([[1, 1, 1, -1], [1, 1, -1, -1], [1, 1, 1, 1]], jnp.float32)  # distances 1, 2, 0
    s = jnp.array([[1.0, 0.5, 0.5]])
    # 1 - 2 + 1.5 and 1 - 0 + 1.5; of means 1 - 1 + 1.5
    assert float(multilevel_triplet(h, v, s, radius=3.0)) == pytest.approx(1.5)
    assert float(multilevel_means(h, v, s, radius=3.0)) == pytest.approx(1.5)
    # With radius 1.5: 1 - 2 + .75 < 0 counts 0, and 1 - 0 + .75; of means .75
    assert float(multilevel_triplet(h, v, s, radius=1.5)) == pytest.approx(1.75 / 2)
    assert float(multilevel_means(h, v, s, radius=1.5)) == pytest.approx(0.75)


def test_codes_far_enough_apart_cost_nothing():
    h = jnp.ones((1, 4))
    v = jnp.array([[1, 1, 1, 1], [1, 1, -1, -1], [-1, -1, -1, -1]], jnp.float32)
    s = jnp.array([[1.0, 0.5, 0.0]])
    for loss in (multilevel_triplet, multilevel_means):
        assert float(loss(h, v, s, radius=4.0)) == 0
        assert float(loss(h, v, s, radius=4.5)) > 0


@pytest.mark.parametrize("loss", [multilevel_triplet, multilevel_means])
def test_gradient(loss):
    def value(codes, others):
        arrays = jnp.asarray(codes), jnp.asarray(others)  # check_grads passes NumPy
        return loss(*arrays, ARRAYS[2], radius=RADIUS, where=WHERE)

    check_grads(value, ARRAYS[:2], order=1, modes=("rev",), rtol=2e-2, atol=2e-2)
    gradient = jax.grad(value)(*ARRAYS[:2])
    assert not gradient[2].any() and np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [multilevel_triplet, multilevel_means])
def test_equal_similarities_make_no_triplet(loss):
    value, gradient = jax.value_and_grad(loss)(
        *ARRAYS[:2], jnp.full((ROWS, COLUMNS), 0.5), radius=RADIUS
    )
    assert value == 0 and not gradient.any()
    with pytest.raises(ValueError, match="radius"):
        loss(*ARRAYS, radius=-1.0)


def test_levels_are_the_nearest_similarities():
    h, v = jnp.ones((1, 2)), jnp.array([[1.0, 1.0], [-1.0, -1.0]])
    s = jnp.array([[0.6, 0.4]])
    assert multilevel_means(h, v, s, radius=1.0, levels=3) == 0  # both are of level 1/2
    assert float(multilevel_means(h, v, s, radius=20.0, levels=2)) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="levels"):
        multilevel_means(h, v, s, radius=1.0, levels=1)


def rank_consistency_loop(codes, others, similar, where, levels, margin):
    values = []
    for i in range(len(codes)):
        distance = (1 - others @ codes[i] / codes.shape[1]) / 2
        level = np.minimum(similar[i], levels - 1)
        for high, low in np.ndindex(levels, levels):
            near, far = where[i] & (level == high), where[i] & (level == low)
            if high > low and near.any() and far.any():
                gap = distance[near].mean() - distance[far].mean() + margin
                values.append((high - low) * max(0, gap))
    return np.mean(values)


@pytest.mark.parametrize("levels, margin", [(2, 0.0), (3, 0.0), (4, 0.2), (9, 0.05)])
def test_rank_consistency_is_the_loop(levels, margin):
    shared, where = np.random.default_rng(2).integers(0, 5, WHERE.shape), WHERE.copy()
    where[0] = np.arange(COLUMNS) < 1
    found = rank_consistency(*ARRAYS[:2], shared, levels=levels, margin=margin, where=where)
    expected = rank_consistency_loop(CODES, OTHERS, shared, where, levels, margin)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_consistent_ranking_costs_nothing():
    """As many shared labels as equal signs."""
    codes = jnp.ones((1, 4))
    others = jnp.asarray(2.0 * np.tri(5, 4, -1) - 1.0, jnp.float32)
    shared = np.arange(5)[None, :]
    assert rank_consistency(codes, others, shared, levels=5) == 0
    assert rank_consistency(codes, others, shared[:, ::-1], levels=5) > 0


def test_too_few_levels_or_a_margin_below_zero_are_refused(unchecked):
    for options, name in (({"levels": 1}, "levels"), ({"margin": -0.1}, "margin")):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            rank_consistency(*ARRAYS[:2], SHARES >= 0.5, **options)
