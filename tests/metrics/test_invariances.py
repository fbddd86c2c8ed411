"""Properties of every metric of a ranking, for any counts."""

from functools import partial

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from oracles import DIVIDE_BY, TIES, counts, frozen, graded_counts, random_database

from jaxhash.metrics import (
    DistanceCounts,
    average_precision,
    hit_rate,
    is_bucket_empty,
    mean_average_precision,
    ndcg,
    precision_at_k,
    precision_at_radius,
    precision_recall,
    r_precision,
    recall_at_k,
    recall_at_radius,
)

property_test = hypothesis.settings(max_examples=20, deadline=None, derandomize=True, database=None)
AT_K = {
    **{f"AP, {d}": partial(average_precision, divide_by=d) for d in DIVIDE_BY},
    "precision_at_k": precision_at_k,
    "recall_at_k": recall_at_k,
    "hit_rate": hit_rate,
    "ndcg, exponential": ndcg,
    "ndcg, linear": partial(ndcg, gain="linear"),
}
MEANS = {
    f"mAP, {d}, {e}": partial(mean_average_precision, divide_by=d, empty=e)
    for d in DIVIDE_BY
    for e in ("zero", "skip")
}


def values_of(some, k, ties):
    """Every metric with ties, by name; one of them has its own rank."""
    found = {name: metric(some, k=k, ties=ties) for name, metric in {**AT_K, **MEANS}.items()}
    return {**found, "r_precision": r_precision(some, ties=ties)}


def radius_values_of(some, radius):
    found = [
        metric(some, radius) for metric in (precision_at_radius, recall_at_radius, is_bucket_empty)
    ]
    return dict(zip(("precision", "recall", "empty"), found, strict=True))


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


@st.composite
def problems(draw):
    """Counts of a few queries with two gains, and a rank that all of their databases have."""
    queries, distances = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    number = st.sampled_from([0, 1, 2, 3, 7, 40])
    kinds = draw(
        st.lists(
            st.tuples(number, number, number),
            min_size=queries * distances,
            max_size=queries * distances,
        )
    )
    kinds = np.array(kinds).reshape(queries, distances, 3)
    items = kinds.sum(axis=(1, 2))
    hypothesis.assume(items.all())
    k = draw(st.integers(1, int(items.min())))
    return graded_counts(kinds.sum(axis=2), kinds[..., 1:]), k


def part_of(some, rows):
    return DistanceCounts(*(frozen(part[rows]) for part in some))


@property_test
@hypothesis.given(problem=problems())
def test_ordered_and_in_the_unit_interval(problem):
    some, k = problem
    worst, expected, best = (values_of(some, k, ties) for ties in TIES)
    for name, value in expected.items():
        value = np.asarray(value)
        if not np.isnan(value).any():  # a mean over no queries
            assert np.all(np.asarray(worst[name]) >= 0), name
            assert np.all(np.asarray(worst[name]) <= value + 1e-12), name
            assert np.all(value <= np.asarray(best[name]) + 1e-12), name
            assert np.all(np.asarray(best[name]) <= 1 + 1e-12), name
    for value in radius_values_of(some, 2).values():
        assert np.all((value >= 0) & (value <= 1))


@property_test
@hypothesis.given(problem=problems(), ties=st.sampled_from(TIES))
def test_queries_do_not_depend_on_each_other(problem, ties):
    some, k = problem
    parts = [part_of(some, [row]) for row in range(len(some.total))]
    alone = [{**values_of(part, k, ties), **radius_values_of(part, 2)} for part in parts]
    together = {**values_of(some, k, ties), **radius_values_of(some, 2)}
    for name, values in together.items():
        if name not in MEANS:
            expected = np.concatenate([value[name] for value in alone])
            np.testing.assert_allclose(values, expected, rtol=1e-13, err_msg=name)


@property_test
@hypothesis.given(problem=problems(), ties=st.sampled_from(TIES))
def test_queries_that_occur_twice_change_no_mean(problem, ties):
    """Unless the number of queries that count is random, since its mean reciprocal changes."""
    some, k = problem
    twice = part_of(some, np.arange(2 * len(some.total)) // 2)
    once, again = values_of(some, k, ties), values_of(twice, k, ties)
    names = MEANS.keys() - ({"mAP, retrieved, skip"} if ties == "expected" else set())
    assert_close({name: again[name] for name in names}, {name: once[name] for name in names})


@property_test
@hypothesis.given(problem=problems(), ties=st.sampled_from(TIES), at=st.integers(0, 6))
def test_distances_without_items_change_nothing(problem, ties, at):
    some, k = problem
    at = min(at, some.total.shape[1])
    wider = DistanceCounts(*(np.insert(part, [at, at], 0, axis=1) for part in some))
    assert_close(values_of(wider, k, ties), values_of(some, k, ties))
    behind = DistanceCounts(*(np.insert(part, [part.shape[1]] * 3, 0, axis=1) for part in some))
    assert_close(radius_values_of(behind, 2), radius_values_of(some, 2))


@property_test
@hypothesis.given(problem=problems(), ties=st.sampled_from(TIES))
def test_binary_metrics_do_not_see_gains(problem, ties):
    some, k = problem
    graded, binary = (values_of(s, k, ties) for s in (some, some._replace(gains=None)))
    for name in graded:
        if not name.startswith("ndcg"):
            np.testing.assert_array_equal(graded[name], binary[name], err_msg=name)


@property_test
@hypothesis.given(problem=problems())
def test_orders_of_a_ranking_without_ties_are_one(problem):
    """Splits each group into its items in one order, so that no ties are left."""
    some, k = problem
    first = part_of(some, slice(0, 1))
    gains = np.repeat(
        np.tile(np.array([[0, 1], [1, 0], [0, 0]]), (first.total.shape[1], 1)),
        np.stack([*first.gains[0].T[::-1], (first.total - first.relevant)[0]], axis=1).ravel(),
        axis=0,
    )
    ranked = graded_counts(np.ones(len(gains), int), gains)
    worst, expected, best = (values_of(ranked, k, ties) for ties in TIES)
    assert_close(worst, expected)
    assert_close(best, expected)
    sorted_best = values_of(first, k, "best")
    for name in sorted_best:  # the order above puts large gains first
        if not name.startswith(("AP, retrieved", "mAP, retrieved")):
            np.testing.assert_allclose(best[name], sorted_best[name], rtol=1e-9, err_msg=name)


@property_test
@hypothesis.given(problem=problems(), ties=st.sampled_from(TIES))
def test_precision_and_recall_count_the_same_items(problem, ties):
    some, k = problem
    found = precision_at_k(some, k, ties=ties) * k
    relevant = some.relevant.sum(axis=1)
    np.testing.assert_allclose(recall_at_k(some, k, ties=ties) * relevant, found, atol=1e-9)
    hit = hit_rate(some, k, ties=ties)
    assert np.all(hit <= found + 1e-9), "a hit is at least one item"


# Inputs and outputs


@pytest.mark.parametrize("ties", TIES)
def test_inputs_are_not_modified_and_their_width_does_not_matter(ties):
    wide = random_database(6, 5, 40, seed=0, levels=2)
    narrow = DistanceCounts(*(frozen(part.astype(np.int32)) for part in wide))
    before = [part.copy() for part in wide]
    found, expected = values_of(narrow, 11, ties), values_of(wide, 11, ties)
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
        if name in MEANS:
            assert isinstance(value, float)
        else:
            assert value.dtype == np.float64 and value.shape == (6,), name
    for name, value in radius_values_of(narrow, 2).items():
        assert value.dtype == np.float64 and value.shape == (6,), name
    np.testing.assert_equal(precision_recall(narrow), precision_recall(wide))
    np.testing.assert_equal(list(wide), before)


# Mistakes


@pytest.mark.parametrize("metric", [*AT_K.values(), *MEANS.values()], ids=[*AT_K, *MEANS])
def test_rank_outside_the_database_is_an_error(unchecked, metric):
    some = counts([[3, 14], [8, 9]], [[1, 2], [0, 0]])
    metric(some, k=17)
    with pytest.raises(ValueError, match=r"23.*17"):
        metric(some, k=23)
    with pytest.raises(ValueError, match=r"23.*17"):  # as the smallest database is
        metric(counts([[3, 14], [8, 19]], [[1, 2], [0, 0]]), k=23)
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"k .*{k}"):
            metric(some, k=k)


@pytest.mark.parametrize(
    "metric",
    [*(partial(m, k=1) for m in (*AT_K.values(), *MEANS.values())), r_precision],
    ids=[*AT_K, *MEANS, "r_precision"],
)
def test_unknown_order_of_ties_is_an_error(unchecked, metric):
    with pytest.raises(ValueError, match="ties .*'expected'.*'worst'.*'best'.*'random'"):
        metric(counts([1], [1]), ties="random")


@pytest.mark.parametrize("k", [5.5, True, "3", np.float64(2)])
def test_ranks_and_radii_are_integers(unchecked, k):
    some = DistanceCounts(np.array([[3, 5]]), np.array([[1, 2]]))
    for metric in (average_precision, ndcg, mean_average_precision):
        with pytest.raises(TypeError, match="k .*integer"):
            metric(some, k=k)
    for metric in (precision_at_k, recall_at_k, hit_rate):
        with pytest.raises(TypeError, match="k .*integer"):
            metric(some, k)
    for metric in (precision_at_radius, recall_at_radius, is_bucket_empty):
        with pytest.raises(TypeError, match="radius .*integer"):
            metric(some, k)
    assert precision_at_k(some, np.int32(3)) == precision_at_k(some, 3)
