"""Gains that are averaged: against every order of the ties, hand-worked values and one another."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from oracles import (
    TIES,
    assert_is_monte_carlo_mean,
    brute_force,
    counts,
    frozen,
    graded_counts,
    one_by_one,
    queries,
    random_counts,
    random_database,
    shuffles,
)
from oracles import average_cumulative_gain as acg_of
from oracles import weighted_average_precision as wap_of

from jaxhash.metrics import (
    DistanceCounts,
    SimilarityCounts,
    average_cumulative_gain,
    average_precision,
    distance_counts,
    hierarchical_precision,
    leave_one_out,
    mean_average_precision,
    precision_at_k,
    weighted_average_precision,
)

DIVIDE_BY = ("retrieved", "all", "min")
SMALL = [
    ([1], [[0, 0, 1]]),
    ([1], [[0, 0, 0]]),
    ([5], [[1, 1, 1]]),  # one group
    ([4], [[0, 4, 0]]),  # everything relevant, to the same degree
    ([0, 3, 0, 2], np.zeros((4, 3), int)),  # nothing relevant
    ([1, 1, 1, 1], [[0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]),  # no ties
    ([3, 3], [[0, 0, 0], [0, 1, 0]]),  # the only relevant item among the last
    ([2, 3, 1], [[1, 0, 1], [0, 1, 0], [1, 0, 0]]),
    ([2, 5], [[0, 0, 0], [2, 0, 2]]),  # first more gain than the mean before, then less
    ([1, 6], [[1, 0, 0], [3, 1, 1]]),
    ([2, 5], [[0, 0, 1], [4, 1, 0]]),
]


@pytest.mark.parametrize(("total", "gains"), SMALL)
def test_gain_of_particular_ties_cut_at_every_rank(total, gains):
    some = graded_counts(total, gains)
    for ties, k in product(TIES, range(1, sum(total) + 1)):
        expected = brute_force(acg_of, some, ties, k=k)
        np.testing.assert_allclose(average_cumulative_gain(some, k, ties=ties), expected)


@pytest.mark.parametrize("divide_by", DIVIDE_BY)
@pytest.mark.parametrize(("total", "gains"), SMALL)
def test_precision_of_particular_ties_cut_at_every_rank(total, gains, divide_by):
    some = graded_counts(total, gains)
    for ties, k in product(TIES, [None, *range(1, sum(total) + 1)]):
        options = {"k": k, "divide_by": divide_by}
        expected = brute_force(wap_of, some, ties, **options)
        found = weighted_average_precision(some, ties=ties, **options)
        np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=f"{ties} {options}")


@pytest.mark.parametrize("divide_by", DIVIDE_BY)
@pytest.mark.parametrize("seed", range(4))
def test_random_ties_cut_at_every_rank(seed, divide_by):
    """Several queries side by side, some without grades."""
    some = random_database(6, 3, 8, seed=seed, levels=[None, 1, 3, 4][seed])
    for ties, k in product(TIES, [None, *range(1, 9)]):
        options = {"k": k, "divide_by": divide_by}
        expected = brute_force(wap_of, some, ties, **options)
        found = weighted_average_precision(some, ties=ties, **options)
        np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=f"{ties} {options}")
        if k is not None:
            expected = brute_force(acg_of, some, ties, k=k)
            np.testing.assert_allclose(average_cumulative_gain(some, k, ties=ties), expected)


def test_databases_of_different_sizes():
    """Each query is cut at the end of its own."""
    some = random_counts(6, 4, 3, seed=6)
    assert len(set(some.total.sum(axis=1).tolist())) > 1
    for ties in TIES:
        found = weighted_average_precision(some, ties=ties)
        np.testing.assert_allclose(found, brute_force(wap_of, some, ties))


# By hand


def test_by_hand():
    """Gains 2, 0, 1: ACG 2 at the first, 1 at the third."""
    some = one_by_one([[2, 0, 1]])
    assert average_cumulative_gain(some, 2).item() == pytest.approx(1)
    assert weighted_average_precision(some).item() == pytest.approx((2 + 1) / 2)
    of = partial(weighted_average_precision, some, k=2)
    assert of(divide_by="retrieved").item() == pytest.approx(2)
    assert of(divide_by="all").item() == of(divide_by="min").item() == pytest.approx(1)


def test_a_pair_of_ties_by_hand():
    """Gains 3 and 1: 3 + (3 + 1)/2 in one order, 1 + (1 + 3)/2 in the other; over 2."""
    some = graded_counts([2], [[1, 0, 1]])
    values = [weighted_average_precision(some, ties=t).item() for t in TIES]
    assert values == pytest.approx([1.5, 2.0, 2.5])


# Many items


@pytest.mark.parametrize("divide_by", DIVIDE_BY)
@pytest.mark.parametrize("k", [None, 37])
def test_expectation_is_a_monte_carlo_mean(divide_by, k):
    some = random_database(1, 5, 150, seed=1, levels=3)
    draws = [wap_of(r.tolist(), k, divide_by) for r in shuffles(*queries(some)[0], draws=300)]
    value = {
        t: weighted_average_precision(some, k=k, divide_by=divide_by, ties=t).item() for t in TIES
    }
    assert_is_monte_carlo_mean(value["expected"], draws)
    assert value["worst"] <= min(draws) + 1e-12 and max(draws) - 1e-12 <= value["best"]


def every_number_found(total, gains, k, ties):
    """The least or greatest WAP over what is retrieved, for each number found in the cut group."""
    size = np.cumsum(total)
    cut = int(np.searchsorted(size, k))
    level = np.arange(gains.shape[1] + 1)
    groups = [np.repeat(level, [n - of.sum(), *of]) for n, of in zip(total, gains, strict=True)]
    order = slice(None) if ties == "worst" else slice(None, None, -1)
    ahead = np.concatenate([np.zeros(0, int), *(group[order] for group in groups[:cut])])
    group, taken = groups[cut], k - len(ahead)
    relevant = np.sort(group[group > 0])[order]
    values = []
    for m in range(max(taken - int((group == 0).sum()), 0), min(taken, len(relevant)) + 1):
        inside = np.zeros(taken, int)
        inside[slice(taken - m, None) if ties == "worst" else slice(m)] = relevant[:m]
        ranking = np.concatenate([ahead, inside])
        acg = np.cumsum(ranking) / np.arange(1, k + 1)
        values.append(acg[ranking > 0].sum() / max(np.count_nonzero(ranking), 1))
    return values


@pytest.mark.parametrize("ties", ["worst", "best"])
def test_the_number_retrieved_is_searched_and_not_tried(ties):
    """Large boundary groups, whose value has its extremes inside and at either end."""
    pick, inside = {"worst": min, "best": max}[ties], 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        near = rng.integers(0, 12, 3) * [1, seed % 2, seed % 3]
        far = rng.integers(0, 60, 3) * [1, 1, 1 + seed % 4]
        gains = np.stack([near, np.zeros(3, int), far])
        total = gains.sum(axis=1) + rng.integers(1, 40, 3)
        for k in rng.integers(total[:2].sum() + 1, total.sum() + 1, 5).tolist():
            values = every_number_found(total, gains, k, ties)
            inside += pick(values) not in (values[0], values[-1])
            found = weighted_average_precision(
                graded_counts(total, gains), k=k, divide_by="retrieved", ties=ties
            )
            assert found.item() == pytest.approx(pick(values), rel=1e-12)
    assert inside, "an end would do"


def test_large_database():
    """The mean over orders from the pairs of ranks of each tie group, 59,000 items."""
    rng = np.random.default_rng(2)
    gain = rng.choice([0, 1, 2, 3], p=[0.85, 0.1, 0.04, 0.01], size=59_000)
    distance = rng.binomial(64, 0.5 - 0.08 * gain)
    gains = np.stack([np.bincount(distance[gain == g], minlength=65) for g in (1, 2, 3)], axis=-1)
    some = graded_counts(np.bincount(distance, minlength=65).astype(np.int32), gains)
    n, r = (part[0][some.total[0] > 0] for part in (some.total, some.relevant))
    labels = (some.gains[0] @ [1, 2, 3])[some.total[0] > 0]
    ranks, in_group = np.arange(1, 59_001), np.repeat(np.arange(len(n)), n)
    before = ranks - 1 - (np.cumsum(n) - n)[in_group]  # of the same group
    ahead = (np.cumsum(labels) - labels)[in_group]
    n, r, labels = (part[in_group] for part in (n, r, labels))
    pairs = labels * (r - 1) / (n * np.maximum(n - 1, 1))
    terms = (r / n * ahead + labels / n + before * pairs) / ranks
    for k in (1000, 5000, None):
        found = weighted_average_precision(some, k=k).item()
        assert found == pytest.approx(terms[:k].sum() / np.count_nonzero(gain), rel=1e-10)


# What they are where relevance is not graded


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("k", [None, 11, 30])
def test_with_gain_one_they_are_the_binary_metrics(ties, k):
    some = random_database(20, 4, 30, seed=4)
    for divide_by in DIVIDE_BY:
        options = {"k": k, "divide_by": divide_by, "ties": ties}
        expected = average_precision(some, **options)
        for counted in (some, some._replace(gains=some.relevant[..., None])):
            found = weighted_average_precision(counted, **options)
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    if k is not None:
        expected = precision_at_k(some, k, ties=ties)
        np.testing.assert_allclose(average_cumulative_gain(some, k, ties=ties), expected)


@pytest.mark.parametrize("ties", TIES)
def test_twice_the_gain_is_twice_the_value(ties):
    some = random_database(6, 4, 30, seed=5, levels=2)
    twice = some._replace(gains=np.insert(some.gains, [0, 1], 0, axis=2))  # gains 2 and 4
    for k, divide_by in product([None, 11], DIVIDE_BY):
        once, again = (
            weighted_average_precision(s, k=k, divide_by=divide_by, ties=ties)
            for s in (some, twice)
        )
        np.testing.assert_allclose(again, 2 * once, rtol=1e-12)
    once, again = (average_cumulative_gain(s, 11, ties=ties) for s in (some, twice))
    np.testing.assert_allclose(again, 2 * once)


def test_weighted_map_of_queries_without_anything_found_is_their_mean_with_zero():
    some = graded_counts([[1, 2], [1, 2]], [[[0, 1], [0, 0]], [[0, 0], [1, 0]]])
    found = weighted_average_precision(some, k=1, divide_by="retrieved")
    assert found.tolist() == [2, 0]
    assert mean_average_precision(some, k=1, divide_by="retrieved") == 0.5


# From codes


def test_from_codes_and_labels_each_left_out_of_its_database():
    """Compares items that search one another, from codes to values, with a loop."""
    rng = np.random.default_rng(0)
    labels = rng.random((30, 5)) < 0.4
    codes = np.where(rng.random((30, 24)) < 0.2 + 0.6 * labels[:, rng.integers(5, size=24)], 1, -1)
    some = leave_one_out(distance_counts(codes, labels, codes, labels, relevance="graded"))
    shared = labels.astype(int) @ labels.T.astype(int)
    for i in range(30):
        others = np.delete(np.arange(30), i)
        distance = (codes[i] != codes[others]).sum(axis=1)
        at = [np.sort(shared[i, others[distance == d]])[::-1] for d in range(25)]
        best = np.concatenate(at).tolist()
        alone = DistanceCounts(*(part[[i]] for part in some))
        found = weighted_average_precision(alone, k=10, ties="best").item()
        assert found == pytest.approx(wap_of(best, 10))
        assert average_cumulative_gain(alone, 10, ties="best").item() == pytest.approx(
            acg_of(best, 10)
        )


def test_hierarchical_precision_is_the_gain_over_the_ideal_gain():
    some = random_database(6, 4, 30, seed=7, levels=3)
    similar = SimilarityCounts(some.total, some.gains[..., ::-1], np.tile([3.0, 2.0, 1.0], (6, 1)))
    gain = some.gains.sum(axis=1)
    ideal = [sum(sorted(np.repeat([1, 2, 3], n).tolist())[::-1][:11]) / 11 for n in gain]
    for ties in TIES:
        found = average_cumulative_gain(some, 11, ties=ties) / ideal
        np.testing.assert_allclose(hierarchical_precision(similar, 11, ties=ties), found)


# Inputs and mistakes


@pytest.mark.parametrize("ties", TIES)
def test_inputs_are_not_modified_and_their_width_does_not_matter(ties):
    wide = random_database(6, 5, 40, seed=0, levels=2)
    narrow = DistanceCounts(*(frozen(part.astype(np.int32)) for part in wide))
    for divide_by in DIVIDE_BY:
        options = {"k": 11, "divide_by": divide_by, "ties": ties}
        found, expected = (weighted_average_precision(s, **options) for s in (narrow, wide))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float64 and found.shape == (6,)
    found, expected = (average_cumulative_gain(s, 11, ties=ties) for s in (narrow, wide))
    np.testing.assert_array_equal(found, expected)


def test_mistakes(unchecked):
    some = counts([3, 14], [1, 2])
    for metric in (weighted_average_precision, average_cumulative_gain):
        with pytest.raises(ValueError, match="k=18 .*17"):
            metric(some, k=18)
        with pytest.raises(ValueError, match="k .*0"):
            metric(some, k=0)
        with pytest.raises(ValueError, match="ties .*'random'"):
            metric(some, k=1, ties="random")
        with pytest.raises(TypeError, match="k .*integer"):
            metric(some, k=2.5)
    with pytest.raises(ValueError, match="divide_by .*'retrieved'.*'min'.*'trapezoid'"):
        weighted_average_precision(some, divide_by="trapezoid")
