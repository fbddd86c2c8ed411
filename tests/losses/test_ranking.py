"""The ranking losses against loops and against the metrics."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import dtsh, mihash, tie_aware_ap
from jaxhash.losses._ranking import _histograms
from jaxhash.metrics import DistanceCounts, average_precision

LOSSES = {"dtsh": dtsh, "mihash": mihash, "tie_aware_ap": tie_aware_ap}
each_loss = pytest.mark.parametrize("name", LOSSES)


@cache
def jitted(name):
    return jax.jit(LOSSES[name], static_argnames="axis_name")


@cache
def value_and_slope(name):
    return jax.jit(jax.value_and_grad(LOSSES[name], argnums=(0, 1)))


def relaxed(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape), jnp.float32)


def pairs(n, m, bits=4, seed=0, similar=0.4):
    """Codes, others, and which of their pairs are similar: some are, some are not."""
    marks = np.random.default_rng(seed).random((n, m)) < similar
    return relaxed(n, bits, seed=seed), relaxed(m, bits, seed=seed + 1), jnp.asarray(marks)


# The formulas by loops, in float64


def dtsh_loop(codes, others, similar, where, margin=None):
    margin = codes.shape[1] / 2 if margin is None else margin
    losses = []
    for a, p, n in np.ndindex(len(codes), len(others), len(others)):
        if where[a, p] and similar[a, p] and where[a, n] and not similar[a, n]:
            gap = (codes[a] @ others[p] - codes[a] @ others[n]) / 2 - margin
            losses.append(-(gap - np.log(1 + np.exp(gap))))
    return np.mean(losses)


def histogram(codes, others, a, columns):
    """Counts of each distance; one between two whole numbers is shared by them."""
    bits = codes.shape[1]
    counts = np.zeros(bits + 1)
    for j in columns:
        distance = (bits - codes[a] @ others[j]) / 2
        below = min(int(distance), bits - 1)
        counts[below] += below + 1 - distance
        counts[below + 1] += distance - below
    return counts


def entropy(counts):
    shares = counts[counts > 0] / counts.sum()
    return -np.sum(shares * np.log2(shares))


def by_anchor(codes, others, similar, where):
    """For each anchor the histograms of its similar and its dissimilar columns."""
    for a in range(len(codes)):
        kinds = [np.flatnonzero(where[a] & (similar[a] == kind)) for kind in (True, False)]
        yield [histogram(codes, others, a, columns) for columns in kinds]


def mihash_loop(*batch):
    information = []
    for alike, unlike in by_anchor(*batch):
        if alike.sum() > 0 and unlike.sum() > 0:
            prior = alike.sum() / (alike + unlike).sum()
            within = prior * entropy(alike) + (1 - prior) * entropy(unlike)
            information.append(entropy(alike + unlike) - within)
    return -np.mean(information)


def tie_aware_ap_loop(*batch):
    values = []
    for alike, unlike in by_anchor(*batch):
        if alike.sum() > 0:
            value = hits = items = 0.0
            for similar, dissimilar in zip(alike, unlike, strict=True):
                number = similar + dissimilar
                value += similar * (2 * hits + similar + 1) / (2 * items + number + 1)
                hits, items = hits + similar, items + number
            values.append(value / hits)
    return -np.mean(values)


LOOPS = {"dtsh": dtsh_loop, "mihash": mihash_loop, "tie_aware_ap": tie_aware_ap_loop}


@each_loss
@pytest.mark.parametrize("masked", [False, True])
def test_is_the_formula(name, masked):
    """With the mask anchor 0 has no column, anchor 1 no similar one, anchor 2 only similar ones."""
    batch = pairs(7, 9)
    where = np.ones((7, 9), bool)
    if masked:
        where = np.random.default_rng(5).random((7, 9)) < 0.8
        where[0] = False
        where[1] &= ~np.asarray(batch[2])[1]
        where[2] &= np.asarray(batch[2])[2]
    codes, others, similar = (np.asarray(part) for part in batch)
    expected = LOOPS[name](codes.astype(float), others.astype(float), similar, where)
    loss = jitted(name)(*batch, where=jnp.asarray(where) if masked else None)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


# Each by hand


def test_dtsh_by_hand():
    """One anchor has two triplets, with gaps 3 - 1 and 3 - (-1) before the margin; another has none."""
    codes, others = jnp.array([[2.0], [5.0]]), jnp.array([[3.0], [1.0], [-1.0]])
    similar = jnp.array([[True, False, False], [True, True, True]])
    expected = (np.log1p(np.exp(-(2 - 1))) + np.log1p(np.exp(-(4 - 1)))) / 2
    assert dtsh(codes, others, similar, margin=1.0) == pytest.approx(expected, rel=1e-6)
    assert dtsh(codes, others, similar) == dtsh(codes, others, similar, margin=0.5)


def test_mihash_by_hand():
    """Distances 0 and 2 of similar columns, 2 and 2 of others: I = H(1/4, 3/4) - H(1/2, 1/2) / 2."""
    codes = jnp.array([[1.0, 1.0]])
    others = jnp.array([[1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0]])
    similar = jnp.array([[True, True, False, False]])
    expected = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)) - 0.5
    assert mihash(codes, others, similar) == pytest.approx(-expected, rel=1e-6)


def test_mihash_falls_as_the_kinds_are_told_apart():
    """The sign: information is maximised, so the loss goes down from 0 to -1."""
    codes, similar = jnp.array([[1.0] * 4]), jnp.array([[True, True, False, False]])
    side = jnp.array([1.0, 1.0, -1.0, -1.0])[:, None]
    losses = [mihash(codes, apart * side * jnp.ones((4, 4)), similar) for apart in (0, 0.2, 1)]
    np.testing.assert_allclose(losses[0], 0, atol=1e-6)
    np.testing.assert_allclose(losses[2], -1, rtol=1e-6)
    assert losses[0] > losses[1] > losses[2]
    slope = jax.grad(mihash, argnums=1)(codes, 0.2 * side * jnp.ones((4, 4)), similar)
    assert np.all(slope[:2] < 0) and np.all(slope[2:] > 0)  # a step down draws them further apart


def test_tie_aware_ap_by_hand():
    """A similar one first, then a tie of one and one: 1 and (1 + 2 + 1) / (1 + 3 + 1)."""
    codes, others = jnp.array([[1.0]]), jnp.array([[1.0], [-1.0], [-1.0]])
    similar = jnp.array([[True, True, False]])
    assert tie_aware_ap(codes, others, similar) == pytest.approx(-(1 + 4 / 5) / 2, rel=1e-6)


def test_tie_aware_ap_is_the_metric_where_nothing_is_tied():
    bits, rng = 9, np.random.default_rng(0)
    others = np.where(np.arange(bits) < np.arange(bits + 1)[:, None], -1.0, 1.0)
    similar = rng.random((6, bits + 1)) < 0.5
    codes = jnp.ones((6, bits))  # at distance j from column j
    exact = average_precision(DistanceCounts(np.ones((6, bits + 1), int), similar.astype(int)))
    loss = tie_aware_ap(codes, jnp.asarray(others, jnp.float32), jnp.asarray(similar))
    np.testing.assert_allclose(-loss, exact[similar.any(axis=1)].mean(), rtol=1e-5)


def test_tie_aware_ap_is_near_the_metric_where_columns_are_tied():
    """Ties of codes of 4 bits change the loss: the ratio of means is not the mean of ratios."""
    rng = np.random.default_rng(1)
    codes, others = np.sign(rng.normal(size=(20, 4))), np.sign(rng.normal(size=(40, 4)))
    similar = (codes @ others.T + rng.normal(size=(20, 40))) > 1
    distance = ((4 - codes @ others.T) / 2).astype(int)
    total, relevant = (
        np.stack([(marks & (distance == d)).sum(axis=1) for d in range(5)], axis=1)
        for marks in (np.ones_like(similar), similar)
    )
    exact = average_precision(DistanceCounts(total, relevant)).mean()
    loss = tie_aware_ap(
        *(jnp.asarray(x, jnp.float32) for x in (codes, others)), jnp.asarray(similar)
    )
    assert abs(-loss - exact) < 0.02 and -loss != pytest.approx(exact, abs=1e-4)


# All of them


def all_distances(bits):
    """An anchor of ones and a column at each whole distance from it."""
    columns = np.where(np.arange(bits) < np.arange(bits + 1)[:, None], -1.0, 1.0)
    return jnp.ones((1, bits)), jnp.asarray(columns, jnp.float32)


def counts(codes, others):
    everything = jnp.ones((len(codes), len(others)), bool)
    return _histograms(codes @ others.T, everything, ~everything, codes.shape[1])[0]


@pytest.mark.parametrize("bits", [1, 3, 4])
def test_at_whole_distances_no_slope_adds_to_the_columns(bits):
    """Each column counts once, for its own distance, and whichever way codes turn it still does."""
    codes, others = all_distances(bits)
    np.testing.assert_array_equal(counts(codes, others), np.ones((1, bits + 1)))
    slopes = jax.grad(lambda *batch: jnp.sum(counts(*batch)), argnums=(0, 1))(codes, others)
    for slope in slopes:
        np.testing.assert_array_equal(slope, 0.0)


def test_slope_at_a_whole_distance_is_the_mean_of_both_sides():
    """Columns at distances 0 ... 4 from the anchor; the first and the last have one side."""
    codes, others = all_distances(4)
    slopes = jax.jacrev(counts, argnums=1)(codes, others)[0]  # [bin, column, bit]
    for column in (1, 2, 3):
        nudge = jnp.zeros_like(others).at[column, 0].set(1e-2)
        sides = (counts(codes, others + nudge) - counts(codes, others - nudge)) / 2e-2
        np.testing.assert_allclose(slopes[:, column, 0], sides[0], atol=1e-4)
        assert np.abs(sides).max() > 0.2
    np.testing.assert_array_equal(slopes[:, np.array([0, 4])], 0.0)


@pytest.mark.parametrize("name", ["mihash", "tie_aware_ap"])
def test_gradient_of_binary_codes_lies_between_those_around_them(name):
    """The only column at a whole distance that is no end: half of the sum of both sides' slopes."""
    codes, others = jnp.ones((1, 4)), jnp.array([[0.9] * 4, [0.1] * 4, [-0.1] * 4, [-0.8] * 4])
    others = others.at[1].set(jnp.array([1.0, 1.0, 1.0, -1.0]))
    similar = jnp.array([[True, False, True, False]])
    nudge = jnp.zeros_like(others).at[1, 3].set(1e-3)
    low, at, high = (
        value_and_slope(name)(codes, others + way * nudge, similar)[1][1][1] for way in (-1, 0, 1)
    )
    np.testing.assert_allclose(at, (low + high) / 2, atol=2e-3)
    assert np.abs(high - low).max() > 0.02


@each_loss
@pytest.mark.parametrize("case", ["nothing valid", "all dissimilar"])
def test_without_anything_to_rank_it_is_zero(name, case):
    codes, others, similar = pairs(5, 7)
    where = jnp.full((5, 7), case != "nothing valid")
    similar = similar & (case == "nothing valid")
    value, slopes = value_and_slope(name)(codes, others, similar, where=where)
    assert value == 0
    for slope in slopes:
        np.testing.assert_array_equal(slope, 0.0)


@each_loss
def test_of_similar_columns_alone_there_is_nothing_to_learn(name):
    codes, others, similar = pairs(5, 7)
    value, slopes = value_and_slope(name)(codes, others, jnp.ones_like(similar))
    np.testing.assert_allclose(value, -1.0 if name == "tie_aware_ap" else 0.0, atol=1e-6)
    for slope in slopes:
        np.testing.assert_allclose(slope, 0.0, atol=1e-6)


# Levels
