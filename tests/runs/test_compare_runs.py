"""Runs are compared query by query: what pairs up, what each query is worth, and which differ most."""

import io
import shutil

import numpy as np
import pytest
from rich.console import Console
from run_samples import change_arrays, change_json, write_run

from jaxhash.runs.compare_runs import (
    check_comparable,
    class_means,
    compare_precisions,
    most_different_queries,
    query_precisions,
)
from jaxhash.runs.finished_run import read_run
from jaxhash.utils.errors import UserError

QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "one", bits=12, seed=1)
    write_run(folder / "other", bits=24, seed=2)
    return folder


@pytest.fixture
def runs(written, tmp_path):
    return shutil.copytree(written, tmp_path / "runs")


def read_both(folder):
    return [read_run(folder / name) for name in ("one", "other")]


def naive_precision(query, label, codes, labels):
    """Average precision of a query: the mean over all orders of items at equal distance, by a loop."""
    distances, relevant = (codes != query).sum(axis=1), labels == label
    total = ahead = relevant_ahead = 0
    for distance in np.unique(distances):
        group = distances == distance
        n, r = group.sum(), relevant[group].sum()
        for place in range(1, n + 1):
            others = (place - 1) * (r - 1) / max(n - 1, 1)  # relevant ones before it in the group
            total += r / n * (relevant_ahead + 1 + others) / (ahead + place)
        ahead, relevant_ahead = ahead + n, relevant_ahead + r
    return total / relevant.sum()


def test_precisions_are_those_of_a_loop_in_the_order_of_the_queries(written):
    with np.load(written / "one" / "codes.npz") as held:
        queries, labels = held["query_codes"], held["query_labels"]
        database = held["database_codes"], held["database_labels"]
    values = query_precisions(read_run(written / "one"), QUIET)
    for row in (0, 50, 199):
        expected = naive_precision(queries[row], labels[row], *database)
        assert values[row] == pytest.approx(expected, abs=1e-12)


def test_another_map_than_that_of_the_codes_is_refused(runs):
    path = runs / "one" / "results.json"
    change_json(path, map=read_run(runs / "one").results["map"] + 1e-6)
    with pytest.raises(UserError, match="one"):
        query_precisions(read_run(runs / "one"), QUIET)


@pytest.mark.parametrize("name", ["map", "relevance"])
def test_another_convention_is_refused(runs, name):
    folder = runs / "one"
    stored = read_run(folder).results["conventions"]
    change_json(folder / "results.json", conventions=stored | {name: "the first 1,000"})
    with pytest.raises(UserError, match="the first 1,000"):
        query_precisions(read_run(folder), QUIET)


def test_runs_of_one_split_compare(written):
    check_comparable(read_both(written))


def test_what_makes_the_split_another_is_named(written, tmp_path):
    write_run(tmp_path / "drawn", split_seed=7)
    with pytest.raises(UserError, match="`split_seed` is 7, not 0"):
        check_comparable([read_run(written / "one"), read_run(tmp_path / "drawn")])


def test_another_digest_alone_is_another_split(runs):
    change_json(runs / "other" / "results.json", split_sha256="0123456789abcdef")
    with pytest.raises(UserError, match="0123456789ab"):
        check_comparable(read_both(runs))


@pytest.mark.parametrize("side", ["query", "database"])
def test_other_labels_or_names_do_not_pair_up(runs, side):
    path = runs / "other" / "codes.npz"
    labels = np.load(path)[f"{side}_labels"]
    change_arrays(path, **{f"{side}_labels": labels[::-1]})
    with pytest.raises(UserError, match=f"{side}.*labels"):
        check_comparable(read_both(runs))
    change_arrays(path, **{f"{side}_labels": labels})
    for name, last in (("one", "a"), ("other", "b")):
        names = [f"{row}.png" for row in range(len(labels) - 1)] + [last]
        change_arrays(runs / name / "codes.npz", **{f"{side}_names": np.array(names)})
    with pytest.raises(UserError, match=f"{side}.*names"):
        check_comparable(read_both(runs))


@pytest.mark.parametrize("change", [{"items": 3}, {"objective": None, "map": "much"}])
def test_damaged_results_are_refused(runs, change):
    with pytest.raises(UserError, match="results.json"):
        change_json(runs / "other" / "results.json", **change)
        check_comparable(read_both(runs))


def test_differences_by_hand():
    one, other = np.array([0.5, 1.0, 0.25, 0.75]), np.array([0.25, 1.0, 0.5, 0.25])
    found = compare_precisions(one, other)
    assert found.test.difference == pytest.approx(0.125)
    assert (found.better, found.equal, found.worse) == (2, 1, 1)
    same = compare_precisions(one, one)
    assert (same.test.p_value, same.equal) == (1.0, 4)


def test_queries_that_differ_most_are_of_both_directions():
    rng = np.random.default_rng(0)
    values = rng.random((2, 50))
    values[1] = np.where(
        rng.random(50) < 0.8, values[0] / 2, values[1]
    )  # the first is better mostly
    values[:, 3] = 0.5
    chosen = most_different_queries(values, 10)
    assert len(set(chosen.tolist())) == 10
    gaps = values[0] - values[1]
    assert np.all(np.diff(np.abs(gaps[chosen])) <= 0)
    for sign in (1, -1):  # the five of each direction, the farthest apart
        expected = sorted(np.flatnonzero(gaps * sign > 0), key=lambda row: -abs(gaps[row]))[:5]
        assert set(expected) <= set(chosen.tolist())


def test_where_one_is_always_better_its_queries_fill_the_list():
    values = np.array([[0.5, 0.6, 0.7, 0.8, 0.1], [0.4, 0.4, 0.4, 0.4, 0.1]])
    assert most_different_queries(values, 4).tolist() == [3, 2, 1, 0]
    assert most_different_queries(values, 9).tolist() == [3, 2, 1, 0]
    assert len(most_different_queries(values[:1].repeat(2, axis=0), 4)) == 0


def test_means_of_classes_by_hand():
    values = np.array([[0.0, 0.5, 1.0], [1.0, 1.0, 0.0]])
    several = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1]])
    found = class_means(several, values)
    assert {key: count for key, (count, _) in found.items()} == {0: 2, 2: 2}
    np.testing.assert_allclose(found[0][1], [0.25, 1.0])
    np.testing.assert_allclose(found[2][1], [0.5, 0.5])
    assert list(class_means(np.array([-1, 4, 4]), values)) == [4]
