"""CSQ, DPN, OrthoHash and HyP^2 as objectives: what they keep, and what labels mean to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses
from jaxhash.objectives import Batch, Context, Setup, csq, dpn, hyp2, orthohash
from jaxhash.ops.codebooks import codebook

BITS, CLASSES, N = 8, 5, 6
IDS = np.array([0, 3, -1, 4, 4, 1], np.int32)
ROWS = np.array(
    [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0] * 5, [0, 0, 0, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1]],
    np.uint8,
)
U = jnp.asarray(1.5 * np.random.default_rng(0).normal(size=(N, BITS)).astype(np.float32))
METHODS = {
    "csq": lambda: csq(penalty=0.0),
    "dpn": dpn,
    "dpn random": lambda: dpn(targets="random"),
    "dpn adaptive": lambda: dpn(targets="adaptive"),
    "orthohash": orthohash,
    "hyp2": hyp2,
}
each = pytest.mark.parametrize("name", METHODS)


def context(new_epoch=False, axis_name=None):
    key = jax.random.key(0)
    return Context(key, jnp.float32(0), jnp.bool_(new_epoch), None, None, axis_name)


def setup(multi_label=False, classes=CLASSES, bits=BITS):
    return Setup(bits, N, classes, multi_label, None, None)


def batch(labels, mask=None, rows=slice(None)):
    mask = np.ones(len(labels), bool) if mask is None else mask
    index = np.arange(len(labels), dtype=np.int32)
    return Batch(None, *(jnp.asarray(a[rows]) for a in (labels, index, mask)))


def start(objective, **options):
    return jax.jit(lambda key: objective.init(key, setup(**options)))(jax.random.key(0))


def run(objective, variables, labels, codes=U, mask=None, new_epoch=False, rows=slice(None)):
    return objective.loss(variables, codes[rows], batch(labels, mask, rows), context(new_epoch))


# State


@pytest.mark.parametrize("make", [lambda s: csq(penalty=0.0, codebook_seed=s), None])
def test_centers_are_the_codebook_of_the_seed(make):
    for seed in (0, 3):
        expected = codebook(CLASSES, BITS, seed=seed).codes
        if make is not None:
            state = start(make(seed)).state
            assert state.codes.rows.dtype == state.ties.dtype == jnp.int8
            assert set(np.unique(state.ties)) == {-1, 1}
            np.testing.assert_array_equal(state.codes.rows, expected)
        else:
            for method in (dpn, orthohash):
                state = start(method(codebook_seed=seed)).state
                assert state.rows.dtype == jnp.int8
                np.testing.assert_array_equal(state.rows, expected)


def test_too_many_classes_are_refused_by_name():
    for method in (csq, dpn, orthohash):
        with pytest.raises(ValueError, match="classes=5.*bits=2"):
            start(method(), bits=2)


# Labels


@each
@pytest.mark.parametrize("labels", [IDS, ROWS], ids=["ids", "rows"])
def test_rows_without_a_label_and_padding_are_left_out(name, labels):
    objective = METHODS[name]()
    variables = start(objective, multi_label=labels.ndim == 2)
    mask = np.array([True, True, True, True, True, False])
    kept = np.array([0, 1, 3, 4])
    broken = U.at[5].set(jnp.array([jnp.nan, 9.0] * (BITS // 2)))
    result = run(objective, variables, labels, broken, mask)
    expected = run(objective, variables, labels, rows=kept)
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-6)
    for mine, theirs in zip(*map(jax.tree.leaves, (result.state, expected.state)), strict=True):
        np.testing.assert_allclose(mine, theirs)
    slope = jax.jit(jax.grad(lambda u: run(objective, variables, labels, u, mask).value))(broken)
    np.testing.assert_array_equal(slope[jnp.array([2, 5])], 0.0)
    assert np.all(np.isfinite(slope)) and np.any(slope != 0)


def test_csq_centers_of_several_labels():
    """The majority of three classes, and of two the fixed tie where they differ."""
    objective = csq(penalty=0.0)
    variables = start(objective, multi_label=True)
    codes, ties = (np.asarray(a, int) for a in jax.tree.leaves(variables.state))
    of_two = np.where(codes[3] == codes[4], codes[3], ties)
    expected = np.stack([np.sign(codes[0] + codes[1] + codes[2]), of_two])
    value = run(objective, variables, ROWS, rows=np.array([4, 5])).value
    np.testing.assert_allclose(value, losses.csq(U[4:], jnp.asarray(expected)), rtol=1e-6)


def test_dpn_of_several_labels_is_the_mean_over_them():
    objective = dpn(margin=1.5)
    variables = start(objective, multi_label=True)
    targets = np.asarray(variables.state.rows, float)
    hinge = [np.maximum(0, 1.5 - np.asarray(U[4]) * targets[c]).mean() for c in (0, 1, 2)]
    value = run(objective, variables, ROWS, rows=np.array([4])).value
    np.testing.assert_allclose(value, np.mean(hinge), rtol=1e-6)


# CSQ's own penalty


def test_csq_penalty_is_log_cosh_of_the_relaxed_codes():
    variables = start(csq(penalty=0.25))
    result = run(csq(penalty=0.25), variables, IDS)
    penalty = np.mean(np.log(np.cosh(np.abs(np.tanh(np.asarray(U))) - 1)))
    np.testing.assert_allclose(result.terms["csq_penalty"], penalty, rtol=1e-5)
    np.testing.assert_allclose(result.value, result.terms["csq"] + 0.25 * penalty, rtol=1e-6)
    without = run(csq(penalty=0.0), start(csq(penalty=0.0)), IDS)
    assert list(without.terms) == ["csq"]
    np.testing.assert_array_equal(without.value, result.terms["csq"])


def test_csq_penalty_leaves_padding_out():
    objective, mask = csq(penalty=0.5), np.arange(N) != 5
    variables, broken = start(objective), U.at[5].set(jnp.nan)
    value, slope = jax.value_and_grad(lambda u: run(objective, variables, IDS, u, mask).value)(
        broken
    )
    np.testing.assert_allclose(
        value, run(objective, variables, IDS, rows=np.arange(5)).value, rtol=1e-6
    )
    np.testing.assert_array_equal(slope[5], 0.0)
    assert np.all(np.isfinite(slope)) and np.all(slope[2] != 0)  # of no label, yet quantized


# DPN's targets


def test_random_targets_are_fair_signs_of_the_seed():
    first, again, other = (
        start(dpn(targets="random", codebook_seed=s), classes=400, bits=32).state.rows
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert set(np.unique(first)) == {-1, 1} and abs(np.mean(first)) < 0.05
    assert abs(np.mean(np.asarray(first, int) * other)) < 0.05


@pytest.mark.parametrize("labels", [IDS, ROWS], ids=["ids", "rows"])
def test_adaptive_targets_follow_the_votes_of_the_last_epoch(labels):
    objective = dpn(targets="adaptive", margin=0.8)
    variables = start(objective, multi_label=labels.ndim == 2)
    old = np.asarray(variables.state.codes.rows, int)
    state, votes = variables.state, np.zeros((CLASSES, BITS))
    for rows in (np.array([0, 1, 2]), np.array([3, 4, 5])):  # an epoch of two steps
        result = run(objective, variables._replace(state=state), labels, rows=rows)
        np.testing.assert_array_equal(result.state.codes.rows, old)
        for i in rows:
            of = [labels[i]] if labels.ndim == 1 else np.flatnonzero(labels[i])
            for c in of:
                if c >= 0:
                    votes[c] += np.sign(U[i]) * (np.abs(U[i]) > 0.8)
        state = result.state
        np.testing.assert_array_equal(state.votes.rows, votes)
    result = run(
        objective, variables._replace(state=state), labels, new_epoch=True, rows=np.array([0])
    )
    elected = np.where(votes == 0, old, np.sign(votes))
    assert np.any(votes == 0) and np.any(elected != old)
    np.testing.assert_array_equal(result.state.codes.rows, elected)
    expected = np.maximum(0, 0.8 - np.asarray(U[0]) * elected[0]).mean()
    np.testing.assert_allclose(result.value, expected, rtol=1e-5)
    first = np.zeros((CLASSES, BITS))
    first[0] = np.sign(U[0]) * (np.abs(U[0]) > 0.8)
    np.testing.assert_array_equal(result.state.votes.rows, first)


# HyP^2


def test_hyp2_threshold_is_the_largest_cosine_of_a_codebook():
    """Five classes want eight words; of 6 bits they are 3 apart: 1 - 2 * 3 / 6 = 0."""
    np.testing.assert_allclose(start(hyp2(), bits=6).state, 0.0)
    np.testing.assert_allclose(start(hyp2(), bits=3).state, 1 - 2 / 3, rtol=1e-6)
    assert start(hyp2(threshold=0.3)).state == jnp.float32(0.3)


def test_hyp2_pairs_are_those_of_images_of_several_labels():
    """Row 0 has one label and row 2 none; of the others, 1 meets 3 and 5, and 4 meets them too."""
    objective = hyp2(beta=0.7, threshold=-0.5)
    variables = start(objective, multi_label=True)
    result = run(objective, variables, ROWS)
    unit = np.asarray(U) / np.linalg.norm(U, axis=1, keepdims=True)
    pairs = [max(0, unit[i] @ unit[j] + 0.5) for i in (1, 4) for j in (3, 5)]
    np.testing.assert_allclose(result.terms["hyp2_pairs"], np.mean(pairs), rtol=1e-5)
    proxies = losses.hyp2_proxies(U, variables.params, jnp.asarray(ROWS), threshold=-0.5)
    np.testing.assert_allclose(result.terms["hyp2_proxies"], proxies, rtol=1e-6)
    np.testing.assert_allclose(result.value, proxies + 0.7 * np.mean(pairs), rtol=1e-6)


def test_hyp2_without_pairs():
    objective = hyp2(beta=0.0)
    assert list(run(objective, start(objective, multi_label=True), ROWS).terms) == ["hyp2_proxies"]
    assert list(run(hyp2(), start(hyp2()), IDS).terms) == ["hyp2_proxies"]


def test_hyp2_trains_its_proxies():
    objective = hyp2()
    variables = start(objective)
    slope = jax.grad(lambda p: run(objective, variables._replace(params=p), IDS).value)
    seen = np.any(np.asarray(slope(variables.params)) != 0, axis=1)
    assert seen.all()
    assert variables.params.std() == pytest.approx(np.sqrt(2 / CLASSES), rel=0.4)
