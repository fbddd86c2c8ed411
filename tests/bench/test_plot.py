"""Plots of known points."""

import io

import numpy as np
import PIL.Image
import pytest

from jaxhash.bench.compiled_loss import CompiledLoss
from jaxhash.bench.measure import Measurement
from jaxhash.bench.plot import plot_points
from jaxhash.bench.report import MachineResults


def point(loss, batch, median, *, bits=64, which="forward"):
    quartiles = [median / 2, median * 2]
    return Measurement(
        loss, which, batch, bits, "float32", 1, 9, median, quartiles, 1.5, 2**21, 1, 0.25
    )


def growth(loss, power):
    over_batch = [point(loss, n, 1e-6 * n**power) for n in (128, 256, 512)]
    return over_batch + [point(loss, 256, 1e-7 * b, bits=b) for b in (16, 32)]


def test_growth_is_a_panel_an_axis_with_exponents():
    figure = plot_points(
        [MachineResults("mine", growth("select", 1.0) + growth("ot", 3.0))], "title"
    )
    batch, bits = figure.axes
    assert figure.get_suptitle() == "title"
    assert (batch.get_xscale(), batch.get_yscale()) == ("log", "log")
    assert [line.get_label() for line in batch.lines] == ["select: n^1.00", "ot: n^3.00"]
    assert list(batch.lines[1].get_xdata()) == [128, 256, 512]
    np.testing.assert_allclose(batch.lines[1].get_ydata(), [1e-6 * n**3 for n in (128, 256, 512)])
    assert (batch.get_xlabel(), bits.get_xlabel()) == ("batch n", "bits b")
    assert [list(line.get_xdata()) for line in bits.lines] == [[16, 32, 64]] * 2
    assert all(text.get_text() in ("select: n^1.00", "ot: n^3.00")
               for text in batch.get_legend().get_texts())  # fmt: skip


def test_a_line_style_a_machine_and_a_color_a_loss():
    ours = MachineResults("A", growth("select", 1.0) + growth("ot", 3.0))
    theirs = MachineResults("B", growth("ot", 2.0))
    [batch, _] = plot_points([ours, theirs], "").axes
    labels = {line.get_label(): line for line in batch.lines}
    assert set(labels) == {"select, A: n^1.00", "ot, A: n^3.00", "ot, B: n^2.00"}
    select, ot, other = labels.values()
    assert ot.get_color() == other.get_color() != select.get_color()
    assert ot.get_linestyle() == select.get_linestyle() != other.get_linestyle()


def test_compiled_programs_have_panels_of_their_own():
    """Bytes never stand where seconds do."""
    times = [point("select", n, 1e-3) for n in (128, 256)]
    programs = [
        CompiledLoss("select", "forward", n, 64, "float32", 1, 5, 8 * n, 0, 0, 1.0, 9, 9)
        for n in (128, 256)
    ]
    figure = plot_points([MachineResults("A", times), MachineResults("B", programs)], "")
    seconds, counted = figure.axes
    assert seconds.get_ylabel() == "seconds" and counted.get_ylabel().startswith("bytes")
    [time_line], [byte_line] = seconds.lines, counted.lines
    assert list(time_line.get_ydata()) == [1e-3, 1e-3]
    assert list(byte_line.get_ydata()) == [1024.0, 2048.0] and not counted.collections


def test_passes_are_rows():
    points = [
        point("select", n, 1e-3, which=which)
        for which in ("forward", "forward+backward")
        for n in (128, 256)
    ]
    figure = plot_points([MachineResults("mine", points)], "")
    assert [axes.get_title("left") for axes in figure.axes] == [
        "forward, 64 bits, float32",
        "forward+backward, 64 bits, float32",
    ]
    assert [line.get_label() for axes in figure.axes for line in axes.lines] == ["select"] * 2


def test_losses_at_one_setting_stand_below_each_other():
    """A marker for each machine, and bytes in a panel of their own."""
    ours = MachineResults("A", [point(loss, 128, 1e-3 * (i + 1)) for i, loss in enumerate("xyz")])
    theirs = MachineResults("B", [point("z", 128, 5e-3)])
    target = CompiledLoss("y", "forward", 128, 64, "float32", 1, 5, 640, 0, 0, 1.0, 9, 9)
    figure = plot_points([ours, theirs, MachineResults("C", [target])], "")
    seconds, counted = figure.axes
    assert [tick.get_text() for tick in seconds.get_yticklabels()] == ["x", "y", "z"]
    lines = {line.get_label(): line for line in seconds.lines}
    assert {name: list(line.get_ydata()) for name, line in lines.items()} == {
        "A": [0, 1, 2],
        "B": [2],
    }
    np.testing.assert_allclose(lines["A"].get_xdata(), [1e-3, 2e-3, 3e-3])
    assert list(counted.lines[0].get_xdata()) == [640] and list(counted.lines[0].get_ydata()) == [1]
    assert seconds.get_xlabel() == "seconds" and counted.get_xlabel().startswith("bytes")


@pytest.mark.parametrize("count", [1, 2])
def test_can_be_saved(count):
    """A single setting, too, of which nothing is a series."""
    points = [point("select", 128 * (i + 1), 1e-3) for i in range(count)]
    file = io.BytesIO()
    plot_points([MachineResults("mine", points)], "").savefig(file, format="png")
    with PIL.Image.open(file) as image:
        assert len(image.convert("L").getcolors()) > 1
