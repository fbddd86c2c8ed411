"""Each plot of a run is drawn, holds its data, and can be saved."""

import matplotlib.colors
import numpy as np
import pytest
from plot_checks import assert_can_be_saved, texts, title_of

from jaxhash.report.plots import (
    NeighborExamples,
    count_code_values,
    plot_code_values,
    plot_neighbors,
    plot_precision_recall,
)
from jaxhash.report.plots.neighbors import IRRELEVANT, RELEVANT
from jaxhash.report.plots.style import INK

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("spread", [0.0, 1.0, 50.0])
def test_code_values_are_counted(spread):
    before, after = (spread * RNG.normal(size=(50, 8)).astype(np.float32) for _ in range(2))
    counts = count_code_values(before, after)
    edges = np.array(counts["edges"])
    assert (counts["items"], counts["bits"]) == (50, 8)
    for name, values in (("before", before), ("after", after)):
        found = counts[name]["counts"]
        assert sum(found) == values.size  # none out of reach
        inner = [
            ((low <= values) & (values < high)).sum()
            for low, high in zip(edges[1:-2], edges[2:-1], strict=True)
        ]
        assert found[1:-1] == inner
        near = [value for value in values.ravel().tolist() if 0.9 <= abs(value) <= 1.1]
        assert counts[name]["near_one"] == pytest.approx(len(near) / values.size)


def test_code_values_have_one_axis_before_and_after():
    before, after = (scale * RNG.normal(size=(50, 8)).astype(np.float32) for scale in (0.1, 3))
    after[0] = 1.0
    counts = count_code_values(before, after)
    figure = plot_code_values(counts, title="a run")
    assert_can_be_saved(figure)
    one, other = figure.axes
    assert one.get_xlim() == other.get_xlim() == (counts["edges"][0], counts["edges"][-1])
    assert f"{counts['after']['near_one']:.1%}" in title_of(other)
    for axes in figure.axes:
        [steps] = [patch for patch in axes.patches if hasattr(patch, "get_data")]
        assert steps.get_data().values.sum() == pytest.approx(1.0)
        assert [line.get_xdata()[0] for line in axes.lines] == [-1, 1]


CURVES = [
    {
        "map": 0.5,
        "precision_recall": {"precision": [None, 0.8, 0.7, 0.4], "recall": [0, 0.2, 0.5, 1]},
    },
    {"map": 0.1, "precision_recall": {"precision": [None, None, 0.2, 0.1], "recall": [0, 0, 0, 1]}},
]
RUN = {"objective": "hashnet + 0.1 hswd", "bits": 3, "dataset": "folder:a$b$c"}


def test_precision_recall_leaves_gaps_where_precision_is_none():
    figure = plot_precision_recall(CURVES[0] | RUN | {"baselines": {"itq": CURVES[1]}})
    assert_can_be_saved(figure)
    [axes] = figure.axes
    learned, learned_ring, itq, itq_ring = axes.lines
    np.testing.assert_array_equal(learned.get_ydata(), [np.nan, 0.8, 0.7, 0.4])
    np.testing.assert_array_equal(itq.get_ydata(), [np.nan, np.nan, 0.2, 0.1])
    np.testing.assert_array_equal(itq.get_xdata(), [0, 0, 0, 1])
    assert (learned_ring.get_ydata(), itq_ring.get_ydata()) == ([0.7], [0.2])  # of radius 2
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["hashnet + 0.1 hswd: mAP 0.500", "itq: mAP 0.100"]
    assert {"hashnet + 0.1 hswd, 3 bits, folder:a$b$c"} <= texts(figure)
    styles = {
        (line.get_color(), line.get_linestyle(), line.get_marker()) for line in (learned, itq)
    }
    assert all(len(set(parts)) == 2 for parts in zip(*styles, strict=True))


def test_the_legend_of_precision_and_recall_covers_no_curve():
    figure = plot_precision_recall(
        CURVES[0] | RUN | {"baselines": {f"baseline {n}": CURVES[1] for n in range(5)}}
    )
    assert_can_be_saved(figure)
    [axes] = figure.axes
    legend = axes.get_legend().get_window_extent()
    assert not legend.overlaps(axes.get_window_extent())
    assert figure.bbox.x1 >= legend.x1 and figure.bbox.y0 <= legend.y0


IMAGES = {
    "gray": RNG.integers(0, 256, (2, 4, 8, 8, 1)).astype(np.uint8),
    "color": RNG.integers(0, 256, (2, 4, 8, 6, 3)).astype(np.uint8),
    "one row": RNG.integers(0, 256, (2, 4, 1, 8, 3)).astype(np.uint8),
    "tall": RNG.integers(0, 256, (1, 2, 40, 4, 3)).astype(np.uint8),
    "one neighbor": RNG.integers(0, 256, (2, 2, 8, 8, 3)).astype(np.uint8),
}


def examples_of(inputs, name="item {}"):
    rows, columns = inputs.shape[:2]
    numbers = np.arange(rows * columns).reshape(rows, columns)
    return NeighborExamples(
        images=list(inputs),
        titles=[[f"class {number}" for number in row] for row in numbers.tolist()],
        relevant=(numbers[:, 1:] % 2 == 0).tolist(),
        names=[[name.format(number) for number in row] for row in numbers.tolist()],
        distances=(numbers[:, 1:] + 100).tolist(),
    )


@pytest.mark.parametrize("inputs", IMAGES.values(), ids=IMAGES)
def test_neighbors_that_are_images_are_framed_by_color_and_dash(inputs):
    examples = examples_of(inputs)
    figure = plot_neighbors(examples, title="a run")
    assert_can_be_saved(figure)
    [axes] = figure.axes
    frames = np.array(axes.patches).reshape(inputs.shape[:2])
    assert {matplotlib.colors.to_hex(frame.get_edgecolor()) for frame in frames[:, 0]} == {INK}
    for frame, is_relevant in zip(frames[:, 1:].flat, sum(examples.relevant, []), strict=True):
        mark = RELEVANT if is_relevant else IRRELEVANT
        assert matplotlib.colors.to_hex(frame.get_edgecolor()) == mark.color
        assert frame.get_linestyle() == mark.dash
    for image, pixels in zip(axes.images, inputs.reshape(-1, *inputs.shape[2:]), strict=True):
        np.testing.assert_array_equal(
            image.get_array(), np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        )
        left, right, bottom, top = image.get_extent()
        height, width = pixels.shape[:2]
        np.testing.assert_allclose((right - left) * height, (bottom - top) * width)
        assert 0 < left < right < axes.get_xlim()[1] and 0 < top < bottom < axes.get_ylim()[0]
    shown = texts(figure)
    for row in range(len(inputs)):
        for column, distance in enumerate(examples.distances[row]):
            mark = RELEVANT if examples.relevant[row][column] else IRRELEVANT
            assert f"{mark.sign} {distance}\n{examples.titles[row][column + 1]}" in shown
        assert f"query\n{examples.titles[row][0]}" in shown


def test_large_images_are_drawn_small():
    pixels = RNG.integers(0, 256, (1, 2, 300, 400, 3)).astype(np.uint8)
    [axes] = plot_neighbors(examples_of(pixels)).axes
    assert {max(image.get_array().shape) for image in axes.images} == {72}


@pytest.mark.parametrize("name", ["item {}", "train/a folder with a name/{}.txt", "{}" + "w" * 300])
@pytest.mark.parametrize("queries", [1, 3, 8])
def test_neighbors_that_are_no_images_are_named(name, queries):
    examples = examples_of(RNG.normal(size=(queries, 4, 30)).astype(np.float32), name)
    figure = plot_neighbors(examples, title="a run")
    assert_can_be_saved(figure)
    [axes] = figure.axes
    assert not axes.images and not axes.patches
    lines = axes.texts[2:]  # below title and caption
    assert len(lines) == 4 * queries
    for line in lines:
        assert line.get_window_extent().x1 < figure.bbox.x1
    places = {line.get_position() for line in lines}
    assert len(places) == len(lines)
    for line, is_relevant in zip(
        [line for number, line in enumerate(lines) if number % 4],
        sum(examples.relevant, []),
        strict=True,
    ):
        mark = RELEVANT if is_relevant else IRRELEVANT
        assert line.get_color() == mark.color and line.get_text().startswith(mark.sign)


def test_names_of_any_kind_are_drawn():
    examples = examples_of(np.zeros((1, 2, 3), np.float32), "$a$ \x01 {} 写真 \udce9")
    figure = plot_neighbors(examples, title="$\\frac$ 写真")
    assert_can_be_saved(figure)
    assert any(r"$a$ \x01 1 写真 \udce9" in text for text in texts(figure))


def test_neighbors_as_json():
    [query] = examples_of(np.zeros((1, 3, 3), np.float32)).to_json()
    assert query == {
        "query": "item 0",
        "class": "class 0",
        "nearest": [
            {"item": "item 1", "class": "class 1", "relevant": False, "distance": 101},
            {"item": "item 2", "class": "class 2", "relevant": True, "distance": 102},
        ],
    }
