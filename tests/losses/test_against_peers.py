"""Peers' losses, each by its formula in NumPy and float64, and what ours has to be told to equal it.

DeepHash-pytorch and FIRe; what stands here is what the docstrings say of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses
from jaxhash.objectives import Batch, Context, Setup, qsmih
from jaxhash.ops.codebooks import majority_vote, sum_over_labels

ROWS, BITS = 6, 5
LABELS = np.array([0, 1, 2, 0, 1, 2])


def codes(scale=1.0, seed=0):
    return scale * np.random.default_rng(seed).normal(size=(ROWS, BITS))


def similar(labels=LABELS):
    return labels[:, None] == labels[None, :]


def arrays(*of):
    return [jnp.asarray(a, bool if a.dtype == bool else jnp.float32) for a in of]


def test_dtsh_of_ports_is_ours_of_codes_times_the_root_of_2_with_their_margin():
    """Whole inner products, the item itself a positive; a mean of means, here of equal numbers."""
    u, s, margin = codes(), similar(), 5.0
    inner = u @ u.T
    anchors = []
    for a in range(ROWS):
        gaps = inner[a][s[a]][:, None] - inner[a][~s[a]][None, :] - margin
        anchors.append(-(gaps - np.log(1 + np.exp(gaps))).mean())
    v, s = arrays(np.sqrt(2) * u, s)
    np.testing.assert_allclose(losses.dtsh(v, v, s, margin=margin), np.mean(anchors), rtol=1e-5)
    # The hinge of each triplet lies where it does here with half the margin.
    theta = 0.5 * inner
    np.testing.assert_array_equal(
        inner[0, 3] - inner[0, 1] > margin, theta[0, 3] - theta[0, 1] > margin / 2
    )


def test_dtsh_of_ports_weighs_anchors_of_few_triplets_as_the_others():
    """Anchors with 3 x 3, 2 x 4 and 1 x 5 triplets: a mean of means is another number."""
    labels = np.array([0, 0, 0, 1, 1, 2])
    u, s = codes(), similar(labels)
    means, triplets = [], []
    for a in range(ROWS):
        gaps = 0.5 * (u @ u.T)[a]
        gaps = gaps[s[a]][:, None] - gaps[~s[a]][None, :] - 1.0
        means.append(np.log(1 + np.exp(-gaps)).mean())
        triplets.append(gaps.size)
    v, s = arrays(u, s)
    found = float(losses.dtsh(v, v, s, margin=1.0))
    assert found == pytest.approx(np.average(means, weights=triplets), rel=1e-5)
    assert abs(found - np.mean(means)) > 1e-3


def test_dpsh_of_fire_is_hashnet_of_the_raw_codes_with_half_the_inner_product():
    u, s = codes(), similar()
    theta = 0.5 * u @ u.T
    likelihood = np.log(1 + np.exp(theta)) - s * theta
    weights = np.where(s, s.size / s.sum(), s.size / (~s).sum())
    v, s = arrays(u, s)
    found = losses.hashnet(v, v, s, scale=0.5)
    np.testing.assert_allclose(found, (weights * likelihood).sum() / s.size, rtol=1e-5)


def lcdsh_of_a_port(u, s, weight):
    theta, of_signs = np.clip(0.5 * u @ u.T, -50, 50), 0.5 * np.sign(u) @ np.sign(u).T
    sign = np.where(s, 1, -1)
    sigmoid = [1 / (1 + np.exp(-each)) for each in (theta, of_signs)]
    return (
        np.log(1 + np.exp(-sign * theta)).mean() + weight * ((sigmoid[0] - sigmoid[1]) ** 2).mean()
    )


@pytest.mark.parametrize("scale, equal", [(1.0, True), (3.0, True), (20.0, False)])
def test_lcdsh_of_a_port_is_ours_where_it_cuts_nothing(scale, equal):
    u, s = codes(scale), similar()
    assert (np.abs(0.5 * u @ u.T).max() < 50) == equal
    expected = lcdsh_of_a_port(u, s, 3.0)
    v, s = arrays(u, s)
    found = losses.mean_likelihood(v, v, s) + 3.0 * losses.lcdsh_locality(v, v)
    assert (abs(found - expected) < 1e-5 * expected) == equal
    assert equal or found > expected


def test_qsmi_of_the_authors_is_ours_and_a_port_penalises_codes_of_length_1():
    """The penalty of the authors is of the raw codes, as in the objective."""
    u, s = codes(2.0), similar()
    unit = u / np.linalg.norm(u, axis=1, keepdims=True)
    closeness = 0.5 * (1 + unit @ unit.T)
    information = (s * closeness - 1) ** 2 + s.sum() / s.size * closeness**2
    v, s = arrays(u, s)
    np.testing.assert_allclose(losses.qsmi(v, v, s), information.mean(), rtol=1e-5)

    objective = qsmih(penalty=0.3)
    variables = objective.init(jax.random.key(0), Setup(BITS, ROWS, 3, False, None, None))
    batch = Batch(None, *map(jnp.asarray, (LABELS, np.arange(ROWS), np.ones(ROWS, bool))))
    terms = objective.loss(variables, v, batch, Context(jax.random.key(0), *[None] * 5)).terms
    of_raw, of_unit = (np.abs(np.abs(each) - 1).mean() for each in (u, unit))
    assert terms["qsmih_penalty"] == pytest.approx(of_raw, rel=1e-5)
    assert abs(of_raw - of_unit) > 0.1


def test_dpn_of_a_port_has_the_majority_of_several_labels():
    rng = np.random.default_rng(0)
    targets, u = np.sign(rng.normal(size=(4, BITS))), codes()
    labels = np.array([[1, 1, 1, 0]] * 3 + [[0, 1, 0, 0]] * 3)
    sums = labels @ targets
    expected = np.maximum(1 - u * np.sign(sums), 0).mean()
    votes = sum_over_labels(jnp.asarray(labels), jnp.asarray(targets, jnp.float32))
    signs = majority_vote(votes, jnp.ones(BITS, jnp.int8))
    np.testing.assert_array_equal(votes, sums)
    v = jnp.asarray(u, jnp.float32)
    np.testing.assert_allclose(losses.dpn(v, signs), expected, rtol=1e-5)
    means = jnp.asarray(sums / labels.sum(1, keepdims=True), jnp.float32)
    assert abs(losses.dpn(v, means) - expected) > 0.01  # ours
