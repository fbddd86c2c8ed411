"""Table and plot of known points."""

import io
import re

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from jaxhash.bench.compiled_loss import CompiledLoss
from jaxhash.bench.measure import Measurement
from jaxhash.bench.report import MachineResults, plot_points, print_points


def point(loss, batch, median, *, bits=64, which="forward", share=0.25, compiled=1.5, peak=2**21):
    quartiles = [median / 2, median * 2]
    return Measurement(
        loss, which, batch, bits, "float32", 1, 9, median, quartiles, compiled, peak, 1, share
    )


def table(*measured):
    file = io.StringIO()
    print_points(measured, Console(file=file, width=140))
    return [re.sub(r"\s{2,}", "  ", line.strip()) for line in file.getvalue().splitlines()]


def test_rows_with_ratios_to_select_of_the_same_setting():
    bare = point("torch", 128, 6e-3, compiled=None, peak=None, share=None)
    title, head, *rows = table(
        MachineResults("mine", [point("l2", 1024, 5e-4), point("select", 1024, 1e-3),
                          point("select", 128, 2e-3), bare])
    )  # fmt: skip
    assert title == "mine, 64 bits, float32, 1 device, forward"
    assert head == "batch  loss  median  quartiles  x select  of copy  memory  compile"
    assert rows == [
        "128  select  2 ms  1 ms to 4 ms  1.00  25.0%  2 MiB  1.5 s",
        "128  torch  6 ms  3 ms to 12 ms  3.00  -  -  -",
        "1,024  l2  500 µs  250 µs to 1 ms  0.50  25.0%  2 MiB  1.5 s",
        "1,024  select  1 ms  500 µs to 2 ms  1.00  25.0%  2 MiB  1.5 s",
    ]


def test_machines_stand_beside_each_other():
    """Each with ratios of its own; without select there are none."""
    a = MachineResults("A", [point("select", 128, 1e-3), point("l2", 128, 3e-3)])
    b = MachineResults("B", [point("l2", 128, 5e-3)])
    _, head, *rows = table(a, b)
    assert head.startswith("machine  loss")
    assert [row.split("  ")[:3] for row in rows] == [
        ["A", "select", "1 ms"],
        ["A", "l2", "3 ms"],
        ["B", "l2", "5 ms"],
    ]
    assert [row.split("  ")[4] for row in rows] == ["1.00", "3.00", "-"]


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


@pytest.mark.parametrize("count", [1, 2])
def test_can_be_saved(count):
    """A single setting, too, of which nothing is a series."""
    points = [point("select", 128 * (i + 1), 1e-3) for i in range(count)]
    file = io.BytesIO()
    plot_points([MachineResults("mine", points)], "").savefig(file, format="png")
    with PIL.Image.open(file) as image:
        assert len(image.convert("L").getcolors()) > 1
