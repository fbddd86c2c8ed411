"""Discounted gains against every order of the ties, hand-worked values and scikit-learn."""

from itertools import product

import numpy as np
import pytest
from oracles import (
    TIES,
    assert_is_monte_carlo_mean,
    brute_force,
    counts,
    graded_counts,
    one_by_one,
    queries,
    random_counts,
    random_database,
    shuffles,
    tie_groups,
)
from oracles import ndcg as ndcg_of
from sklearn.metrics import ndcg_score

from jaxhash.metrics import ndcg

GAINS = ("exponential", "linear")
SMALL = [
    ([1], [[0, 0, 1]]),
    ([1], [[0, 0, 0]]),
    ([5], [[1, 1, 1]]),  # one group
    ([4], [[0, 4, 0]]),  # everything relevant, to the same degree
    ([0, 3, 0, 2], np.zeros((4, 3), int)),  # nothing relevant
    ([1, 1, 1, 1], [[0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]),  # no ties
    ([3, 3], [[0, 0, 0], [0, 1, 0]]),  # the only relevant item among the last
    ([2, 3, 1], [[1, 0, 1], [0, 1, 0], [1, 0, 0]]),
]


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize(("total", "gains"), SMALL)
def test_particular_ties_cut_at_every_rank(total, gains, gain):
    some = graded_counts(total, gains)
    for ties, k in product(TIES, [None, *range(1, sum(total) + 1)]):
        expected = brute_force(ndcg_of, some, ties, k=k, gain=gain)
        np.testing.assert_allclose(ndcg(some, k, gain=gain, ties=ties), expected, atol=1e-12)


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("levels", [None, 1, 3])
def test_random_ties_cut_at_every_rank(levels, gain):
    """With and without grades, several queries side by side."""
    some = random_database(4, 3, 7, seed=0, levels=levels)
    for ties, k in product(TIES, [None, *range(1, 8)]):
        expected = brute_force(ndcg_of, some, ties, k=k, gain=gain)
        np.testing.assert_allclose(ndcg(some, k, gain=gain, ties=ties), expected, atol=1e-12)


def test_databases_of_different_sizes():
    """Each query is cut at the end of its own."""
    some = random_counts(6, 4, 3, seed=6)
    assert len(set(some.total.sum(axis=1).tolist())) > 1
    for ties in TIES:
        np.testing.assert_allclose(ndcg(some, ties=ties), brute_force(ndcg_of, some, ties))


# By hand


def test_binary_by_hand():
    """Relevant at the ranks 1 and 3, ideally at 1 and 2."""
    some = one_by_one([[1, 0, 1]])
    dcg, ideal = 1 + 1 / np.log2(4), 1 + 1 / np.log2(3)
    assert ndcg(some).item() == pytest.approx(dcg / ideal)
    assert ndcg(some, 2).item() == pytest.approx(1 / ideal)


@pytest.mark.parametrize(("gain", "one", "three"), [("exponential", 1, 7), ("linear", 1, 3)])
def test_graded_by_hand(gain, one, three):
    """An item of gain 1, then a tie of gains 3 and 0; the ideal order begins with 3."""
    some = graded_counts([1, 2], [[1, 0, 0], [0, 0, 1]])
    second, third = 1 / np.log2(3), 1 / np.log2(4)
    ideal = three + one * second
    last, first = (one + three * third) / ideal, (one + three * second) / ideal
    values = [ndcg(some, gain=gain, ties=t).item() for t in TIES]
    assert values == pytest.approx([last, (last + first) / 2, first])
    assert ndcg(some, 1, gain=gain).item() == pytest.approx(one / three)


def test_gain_is_exponential_by_default():
    some = graded_counts([1, 2], [[1, 0, 0], [0, 0, 1]])
    assert ndcg(some).item() == ndcg(some, gain="exponential").item()
    assert ndcg(some).item() != ndcg(some, gain="linear").item()


@pytest.mark.parametrize("gain", GAINS)
def test_cut_falls_into_the_ideal_order_too(gain):
    """A perfect ranking has the value 1 at every rank."""
    some = graded_counts([1, 2, 2, 1], [[0, 0, 1], [0, 2, 0], [2, 0, 0], [0, 0, 0]])
    for k in range(1, 7):
        assert ndcg(some, k, gain=gain).item() == pytest.approx(1)


# Many items


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("k", [None, 37])
def test_expectation_is_a_monte_carlo_mean(gain, k):
    some = random_database(1, 5, 150, seed=1, levels=3)
    draws = [ndcg_of(r.tolist(), k, gain) for r in shuffles(*queries(some)[0], draws=400)]
    value = {t: ndcg(some, k, gain=gain, ties=t).item() for t in TIES}
    assert_is_monte_carlo_mean(value["expected"], draws)
    assert value["worst"] <= min(draws) + 1e-12 and max(draws) - 1e-12 <= value["best"]


def large_database(dtype):
    """59,000 items at the distances of 64 random bits, near ones with more labels in common."""
    rng = np.random.default_rng(2)
    gain = rng.choice([0, 1, 2, 3], p=[0.85, 0.1, 0.04, 0.01], size=59_000)
    distance = rng.binomial(64, 0.5 - 0.08 * gain)
    of_gain = [np.bincount(distance[gain == g], minlength=65) for g in range(4)]
    gains = np.stack(of_gain[1:], axis=-1)
    return graded_counts(np.asarray(sum(of_gain), dtype), np.asarray(gains, dtype))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("k", [1000, 5000, None])
def test_large_database(k, dtype):
    """The expected gain of a rank is the mean of its tie group; best and worst are sorted groups."""
    some = large_database(dtype)
    groups = [np.array(group) for group in tie_groups(*queries(some)[0]) if group]
    discount = 1 / np.log2(2 + np.arange(59_000))
    ideal = np.sort(np.concatenate(groups))[::-1]
    for gain, of in {"exponential": lambda g: 2.0**g - 1, "linear": lambda g: g}.items():
        rankings = {
            "worst": [of(np.sort(group)) for group in groups],
            "expected": [np.full(len(group), of(group).mean()) for group in groups],
            "best": [of(np.sort(group)[::-1]) for group in groups],
        }
        for ties, ranking in rankings.items():
            expected = np.sum((discount * np.concatenate(ranking))[:k])
            expected /= np.sum((discount * of(ideal))[:k])
            found = ndcg(some, k, gain=gain, ties=ties).item()
            assert found == pytest.approx(expected, rel=1e-9)


def test_many_labels_in_common():
    """A gain of 2^70 does not fit an int64."""
    gains = np.zeros((2, 70), int)
    gains[1, [68, 69]] = 1
    some = graded_counts([1, 2], gains)
    for ties in TIES:
        expected = brute_force(ndcg_of, some, ties)
        np.testing.assert_allclose(ndcg(some, ties=ties), expected, rtol=1e-12)


# Scikit-learn


@pytest.mark.parametrize("k", [None, 1, 5, 12, 30])
def test_is_that_of_scikit_learn(k):
    """scikit-learn has linear gain, and the mean over ties or the given order."""
    rng = np.random.default_rng(3)
    truth, distance = rng.integers(4, size=(6, 30)), rng.integers(5, size=(6, 30))
    truth[0, :] = 1
    level, at = np.arange(1, 4), np.arange(5)
    has = (truth[..., None] == level)[:, :, None, :] & (distance[..., None] == at)[..., None]
    total = (distance[..., None] == at).sum(axis=1)
    tied, ranked = graded_counts(total, has.sum(axis=1)), one_by_one(truth)
    for gain, gains in {"exponential": 2.0**truth - 1, "linear": truth}.items():
        expected = [
            ndcg_score(g[None], -d[None], k=k) for g, d in zip(gains, distance, strict=True)
        ]
        np.testing.assert_allclose(ndcg(tied, k, gain=gain), expected, rtol=1e-12)
        order = -np.arange(30.0)[None]
        expected = [ndcg_score(g[None], order, k=k, ignore_ties=True) for g in gains]
        for ties in TIES:
            np.testing.assert_allclose(ndcg(ranked, k, gain=gain, ties=ties), expected, rtol=1e-12)


# What it does not depend on


@pytest.mark.parametrize("ties", TIES)
def test_binary_counts_have_gain_one(ties):
    some = random_database(6, 4, 30, seed=4)
    graded = some._replace(gains=some.relevant[..., None])
    for gain in GAINS:
        np.testing.assert_allclose(
            ndcg(some, 11, gain=gain, ties=ties), ndcg(graded, 11, ties=ties), rtol=1e-12
        )


@pytest.mark.parametrize("gain", GAINS)
def test_gains_that_no_item_has_change_nothing(gain):
    some = random_database(6, 4, 30, seed=5, levels=3)
    wider = some._replace(gains=np.pad(some.gains, ((0, 0), (0, 0), (0, 4))))
    for ties, k in product(TIES, [None, 11]):
        options = {"k": k, "gain": gain, "ties": ties}
        np.testing.assert_allclose(ndcg(wider, **options), ndcg(some, **options), rtol=1e-12)


def test_unknown_gain_is_an_error(unchecked):
    with pytest.raises(ValueError, match="gain .*'exponential'.*'linear'.*'square'"):
        ndcg(counts([1], [1]), gain="square")
