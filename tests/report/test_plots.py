"""Each plot is drawn, holds its data, and can be saved."""

import io

import matplotlib.colors
import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from jaxhash.report import (
    NeighborExamples,
    plot_code_values,
    plot_losses,
    plot_neighbors,
    plot_precision_recall,
)
from jaxhash.report.plots.neighbors import IRRELEVANT_COLOR, RELEVANT_COLOR

RNG = np.random.default_rng(0)


def assert_can_be_saved(figure):
    assert isinstance(figure, Figure)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    with PIL.Image.open(file) as image:
        assert len(image.convert("L").getcolors()) > 1  # not blank


@pytest.mark.parametrize("steps", [1, 10, 49, 50, 1000])
def test_losses(steps):
    records = [
        {"step": i + 1, "seconds": 0.1 * i, "loss": 3.0 - i, "hswd": 2.0} for i in range(steps)
    ]
    figure = plot_losses(records)
    assert_can_be_saved(figure)
    loss, hswd = figure.axes
    assert [axes.get_title("left") for axes in figure.axes] == ["loss", "hswd"]
    raw, smooth = loss.lines
    np.testing.assert_array_equal(raw.get_xdata(), np.arange(1, steps + 1))
    np.testing.assert_array_equal(raw.get_ydata(), 3.0 - np.arange(steps))
    window = max(1, steps // 50)  # of a straight line, the running mean lags by half of it
    np.testing.assert_allclose(
        smooth.get_ydata(), 4.0 - smooth.get_xdata() + (window - 1) / 2, atol=1e-9
    )
    np.testing.assert_allclose(hswd.lines[1].get_ydata(), 2.0)


@pytest.mark.parametrize("spread", [0.0, 1.0, 50.0])
def test_code_values(spread):
    start, end = (spread * RNG.normal(size=(50, 8)).astype(np.float32) for _ in range(2))
    figure = plot_code_values(start, end)
    assert_can_be_saved(figure)
    assert [axes.get_title("left") for axes in figure.axes] == ["before training", "after training"]
    for axes in figure.axes:
        assert sum(bar.get_height() for bar in axes.patches) == start.size  # none out of reach
        assert [line.get_xdata()[0] for line in axes.lines] == [-1, 1]


def test_precision_recall_leaves_gaps_where_precision_is_none():
    curves = [
        {"precision_recall": {"precision": [None, 0.8, 0.4], "recall": [0.0, 0.5, 1.0]}},
        {"precision_recall": {"precision": [None, None, 0.1], "recall": [0.0, 0.0, 1.0]}},
    ]
    figure = plot_precision_recall({**curves[0], "baselines": {"random": curves[1]}})
    assert_can_be_saved(figure)
    [axes] = figure.axes
    learned, random = axes.lines
    assert [line.get_label() for line in axes.lines] == ["learned", "random"]
    np.testing.assert_array_equal(learned.get_ydata(), [np.nan, 0.8, 0.4])
    np.testing.assert_array_equal(random.get_ydata(), [np.nan, np.nan, 0.1])
    np.testing.assert_array_equal(random.get_xdata(), [0.0, 0.0, 1.0])


INPUTS = {
    "grey images": RNG.integers(0, 256, (2, 4, 8, 8, 1)).astype(np.uint8),
    "color images": RNG.integers(0, 256, (2, 4, 8, 6, 3)).astype(np.uint8),
    "images of one row": RNG.integers(0, 256, (2, 4, 1, 8, 3)).astype(np.uint8),
    "vectors": RNG.normal(size=(2, 4, 30)).astype(np.float32),
    "one query": RNG.normal(size=(1, 4, 30)).astype(np.float32),
    "one neighbor": RNG.normal(size=(2, 2, 30)).astype(np.float32),
}


@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
def test_neighbors(inputs):
    rows, columns = inputs.shape[:2]
    titles = [[f"{row} {column}" for column in range(columns)] for row in range(rows)]
    relevant = np.arange(rows * (columns - 1)).reshape(rows, -1) % 2 == 0
    figure = plot_neighbors(NeighborExamples(list(inputs), titles, relevant))
    assert_can_be_saved(figure)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [*sum(titles, []), "query"]
    frames = np.array([matplotlib.colors.to_hex(patch.get_edgecolor()) for patch in axes.patches])
    np.testing.assert_array_equal(
        frames.reshape(rows, columns)[:, 1:], np.where(relevant, RELEVANT_COLOR, IRRELEVANT_COLOR)
    )
    for image, values in zip(axes.images, inputs.reshape(-1, *inputs.shape[2:]), strict=True):
        shown = image.get_array()
        np.testing.assert_array_equal(shown.ravel()[: values.size], values.ravel())
        left, right, bottom, top = image.get_extent()
        np.testing.assert_allclose((right - left) * shown.shape[0], (bottom - top) * shown.shape[1])
        assert 0 < left < right < columns and 0 < top < bottom < figure.get_figheight() / 0.8
