"""The plots of several runs: what their lines go through, and which lines are told apart."""

import itertools

import numpy as np
import pytest
from plot_checks import assert_can_be_saved, texts

from jaxhash.report.plots import (
    Score,
    plot_bits,
    plot_differences,
    plot_precision_recall_of_runs,
    plot_settings,
    plot_steps,
    to_svg,
)
from jaxhash.report.plots.comparison import line_styles

SCORES = [
    Score("hashnet", 64, 0.8),
    Score("hashnet", 16, 0.5),
    Score("hashnet", 16, 0.7),
    Score("dpsh", 16, 0.4),
]


def points(line):
    return np.stack(line.get_data(), axis=1).tolist()


def test_lines_differ_also_without_color():
    styles = list(itertools.islice(line_styles(), 36))
    assert len({(style["color"], str(style["linestyle"])) for style in styles}) == 36
    for one, next_one in itertools.pairwise(styles):
        assert one["color"] != next_one["color"] and one["linestyle"] != next_one["linestyle"]


def test_bits_go_through_the_means_of_seeds():
    figure = plot_bits(SCORES)
    [axes] = figure.axes
    hashnet, dpsh = (line for line in axes.lines[:2])
    np.testing.assert_allclose(points(hashnet), [[16, 0.6], [64, 0.8]])
    assert points(dpsh) == [[16, 0.4]]
    [seeds] = axes.collections  # where there are several
    assert sorted(seeds.get_offsets().tolist()) == [[16, 0.5], [16, 0.7]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "64"]
    assert {"hashnet", "dpsh"} <= texts(figure)
    assert_can_be_saved(figure)


def test_one_line_has_no_legend():
    assert "hashnet" not in texts(plot_bits(SCORES[:3]))


def test_settings_stand_at_equal_distances_in_order():
    scores = [Score("", value, value / 10) for value in (1e-3, 1.0, 0.1)]
    figure = plot_settings({"first": scores, "second": scores}, "clip-norm")
    for axes in figure.axes:
        np.testing.assert_allclose(points(axes.lines[0]), [[0, 1e-4], [1, 0.01], [2, 0.1]])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0.001", "0.1", "1"]
    assert_can_be_saved(figure)


def test_differences_are_sorted_and_keep_their_ends():
    values = np.random.default_rng(0).normal(size=5000)
    figure = plot_differences("a", {"b": values, "c": values[:3]})
    [axes] = figure.axes
    many, few = (np.array(points(line)) for line in axes.lines[:2])
    assert np.all(np.diff(many[:, 1]) <= 0) and len(many) <= 200
    assert many[[0, -1], 1].tolist() == [values.max(), values.min()]
    np.testing.assert_allclose(few[:, 0], [100 / 6, 50, 500 / 6])
    assert_can_be_saved(figure)


def test_steps_are_means_and_what_is_not_finite_is_a_gap():
    records = [{"step": n + 1, "loss": float(n), "bit_balance": 0.5} for n in range(400)]
    broken = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}]
    figure = plot_steps({"whole": records, "broken": broken, "none": []})
    loss, balance = figure.axes
    whole, gap, _ = loss.lines
    np.testing.assert_allclose(points(whole)[:2], [[1.5, 0.5], [3.5, 2.5]])
    assert len(points(whole)) == 200
    np.testing.assert_array_equal(points(gap), [[1, 2.0], [2, np.nan]])
    assert [len(line.get_xdata()) for line in balance.lines][0] == 200
    assert_can_be_saved(figure)


def test_precision_that_is_not_known_is_a_gap():
    curve = {"precision": [None, 0.5], "recall": [0.0, 1.0]}
    figure = plot_precision_recall_of_runs({"run": {"precision_recall": curve}})
    np.testing.assert_array_equal(points(figure.axes[0].lines[0]), [[0, np.nan], [1, 0.5]])


@pytest.mark.parametrize("name", ["$x_1$ <b>", "runs/" + "long" * 40 + "/end"])
def test_any_name_is_text_in_the_legend_and_long_ones_are_cut(name):
    differences = {name: np.array([0.5, -0.5]), "other": np.array([0.0, 0.0])}
    svg = to_svg(plot_differences("first", differences))
    assert "<b>" not in svg and "long" * 40 not in svg
    assert "$x_1$" in svg or "/end" in svg
    assert svg == to_svg(plot_differences("first", differences))
