"""The pictures of docs/images show what they are drawn from."""

import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def pictures():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import pictures

        return pictures
    finally:
        sys.path.remove(str(EXPERIMENTS))


def test_map_is_the_mean_over_seeds_with_its_deviation(pictures):
    def row(quantizer, bits, values):
        members = [{"scores": {"map": value}} for value in values]
        return {"method": "dtsh", "quantizer": quantizer, "bits": bits, "members": members}

    rows = [row("none", 16, [0.3, 0.5]), row("hswd", 16, [0.6, 0.6]), row("hswd", 32, [0.7, 0.9])]
    figure = pictures.plot_map({"rows": rows})
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left") == "dtsh")
    found = {drawn.get_label(): drawn.lines for drawn in axes.containers}
    assert found.keys() == {"no quantizer", "the published penalty", "HSWD"}
    line, caps, _ = found["HSWD"]
    np.testing.assert_allclose(line.get_xydata(), [[16, 0.6], [32, 0.8]])
    lower, upper = (np.asarray(cap.get_ydata(), float) for cap in caps)
    np.testing.assert_allclose(upper - lower, [0, 2 * np.sqrt(0.02)], atol=1e-12)
    np.testing.assert_allclose(found["no quantizer"][0].get_xydata(), [[16, 0.4]])


def test_code_space_has_each_class_and_all_bits(pictures):
    codes = np.array([[1.0, -1.0, 0.5], [2.0, 1.0, 0.5], [-2.0, 1.0, 0.5], [0.1, 0.2, 0.3]])
    figure = pictures.plot_codes({"trained": codes}, np.array([0, 1, 1, 9]))
    above, below = figure.axes
    np.testing.assert_array_equal(above.lines[0].get_xydata(), codes[:1, :2])
    np.testing.assert_array_equal(above.lines[1].get_xydata(), codes[1:3, :2])
    assert sum(bar.get_height() for bar in below.patches) == codes.size
