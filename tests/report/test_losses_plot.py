"""The plot of what was measured at each step."""

import numpy as np
import pytest
from plot_checks import assert_can_be_saved, saved, texts, title_of

from jaxhash.report.plots import plot_losses
from jaxhash.report.plots.losses import MAX_POINTS, envelope, mean_around, read_series

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("steps", [1, 2, 10, 199, 200, 201, 1000])
def test_a_straight_line_is_its_own_mean(steps):
    records = [
        {"step": i + 1, "seconds": 0.1 * i, "loss": 3.0 - i, "dead_bits": 0, "hswd": 1000.0 + i}
        for i in range(steps)
    ]
    figure = plot_losses(records)
    assert_can_be_saved(figure)
    loss, hswd = figure.axes[:2]
    assert [title_of(axes) for axes in (loss, hswd)] == ["loss", "hswd"]
    assert len(figure.axes) == (3 if steps == 1 else 2)  # one step is no line that stays at 0
    if steps > 1:
        assert any("0 at all steps: dead bits" in text for text in texts(figure))
    for axes, values in ((loss, 3.0 - np.arange(steps)), (hswd, 1000.0 + np.arange(steps))):
        mean = axes.lines[-1]
        x, y = mean.get_data()
        assert x[0] == 1 and x[-1] == steps and len(x) <= MAX_POINTS + 1
        lag = np.minimum(steps // 50 // 2, steps - x) - steps // 50 // 2  # at the end one-sided
        slope = np.sign(values[-1] - values[0])
        np.testing.assert_allclose(y, values[x - 1] + slope * lag / 2, atol=1e-9)
        if steps <= MAX_POINTS:
            np.testing.assert_array_equal(axes.lines[0].get_ydata(), values)


def test_the_band_holds_every_value_of_many_steps():
    values = RNG.normal(size=10_000)
    values[1234] = 50.0
    values[4000:4200] = np.nan
    last, least, greatest = envelope(values, 100)
    starts = np.append(0, last[:-1] + 1)
    for start, end, low, high in zip(starts, last, least, greatest, strict=True):
        part = values[start : end + 1]
        assert len(part) == 100
        if np.isfinite(part).any():
            assert low == np.nanmin(part) and high == np.nanmax(part)
        else:
            assert np.isnan(low) and np.isnan(high)
    assert last[-1] == 9999 and greatest.max(where=~np.isnan(greatest), initial=0) == 50.0


def test_means_are_of_the_finite_values_around():
    values = RNG.normal(size=50)
    values[[3, 20, 21, 22, 23, 24]] = np.nan
    found = mean_around(values, np.arange(50), 5)
    for place in range(50):
        reach = min(2, place)
        window = [v for v in values[place - reach : place + reach + 1] if np.isfinite(v)]
        np.testing.assert_allclose(found[place], np.mean(window) if window else np.nan)


def test_a_spike_does_not_spoil_the_means_after_it():
    values = np.full(100, 0.1)
    values[10] = 1e300
    assert mean_around(values, np.array([99]), 4) == pytest.approx(0.1)


def test_metrics_that_show_nothing_have_no_panel_but_are_named():
    records = [
        {"step": i + 1, "loss": 1.0 / (i + 1), "dead_bits": 0, "scale": 0.5, "gone": None}
        for i in range(20)
    ]
    figure = plot_losses(records)
    assert [title_of(axes) for axes in figure.axes] == ["loss"]
    [note] = [text for text in texts(figure) if "at all steps" in text]
    note = note.replace("\n", " ")
    for words in (
        "0 at all steps: dead bits of the batch",
        "0.5 at all steps: scale",
        "never finite: gone",
    ):
        assert words in note


def test_without_records_the_plot_says_so():
    figure = plot_losses([])
    assert_can_be_saved(figure)
    assert not figure.axes and "no step has a record" in texts(figure)


def test_values_that_are_not_finite_are_gaps_and_counted():
    values = [3.0, None, 2.0, 1.0, None, 0.5]
    figure = plot_losses([{"step": i + 1, "loss": value} for i, value in enumerate(values)])
    assert_can_be_saved(figure)
    [axes] = figure.axes
    assert title_of(axes) == "loss (2 not finite)"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), np.array(values, float))


def test_a_metric_of_some_steps_is_drawn_over_these():
    records = [
        {"step": i + 1, "loss": float(i)} | ({"map": i / 10} if i % 5 == 0 else {})
        for i in range(20)
    ]
    [_, found] = read_series(records)
    assert found.name == "map" and found.steps.tolist() == [1, 6, 11, 16]
    np.testing.assert_allclose(found.values, [0, 0.5, 1.0, 1.5])


def test_skipped_updates_are_added_up():
    records = [{"step": i + 1, "loss": 1.0 - i, "skipped": int(i in (2, 5))} for i in range(8)]
    axes = plot_losses(records).axes[1]
    assert axes.lines[-1].get_ydata().tolist() == [0, 0, 1, 1, 1, 2, 2, 2]


def test_terms_come_after_the_loss_and_before_the_rest():
    names = ("bit_balance", "grad_norm", "a_penalty", "loss", "hashnet")
    records = [{"step": i + 1, **{name: i + 1.5 for name in names}} for i in range(9)]
    found = [title_of(axes) for axes in plot_losses(records).axes]
    assert found == [
        "loss",
        "a penalty",
        "hashnet",
        "norm of the gradient",
        "bit balance of the batch",
    ]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.geomspace(10, 0.01, 50), "log"),
        (np.geomspace(10, 1, 50), "linear"),
        (np.geomspace(10, 0.01, 50) - 5, "linear"),  # some are negative
        (np.where(np.arange(1, 500) % 97, 1.0, 0.001), "linear"),  # a few low ones
    ],
)
def test_the_axis_is_logarithmic_where_magnitudes_differ(values, scale):
    records = [{"step": i + 1, "loss": float(value)} for i, value in enumerate(values)]
    figure = plot_losses(records)
    assert_can_be_saved(figure)
    [axes] = figure.axes
    assert axes.get_yscale() == scale and ("(log)" in title_of(axes)) == (scale == "log")
    figure.draw_without_rendering()
    assert not any("$" in label.get_text() for label in axes.get_yticklabels())


def test_the_grid_is_a_page_wide_and_its_svg_small(tmp_path):
    noise = RNG.normal(size=(20_000, 11))
    records = [
        {
            "step": i + 1,
            **{f"a_term_of_a_rather_long_name_{n}": value for n, value in enumerate(row)},
        }
        for i, row in enumerate(noise.tolist())
    ]
    figure = plot_losses(records, title="hashnet, 64 bits, " + "a long name of data, " * 9)
    assert figure.get_figwidth() == 9 and len({axes.get_position().x0 for axes in figure.axes}) == 3
    png, svg = saved(figure, tmp_path)
    assert len(svg) < 25_000 * 11
    panels = [axes.get_window_extent() for axes in figure.axes]
    words = [axes._left_title.get_window_extent() for axes in figure.axes]
    for number, one in enumerate(words):
        assert one.x1 <= figure.bbox.x1
        assert not any(one.overlaps(other) for other in panels + words[number + 1 :])
