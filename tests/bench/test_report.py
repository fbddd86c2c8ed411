"""Table of known points."""

import io
import re

from rich.console import Console

from jaxhash.bench.measure import Measurement
from jaxhash.bench.report import MachineResults, print_points


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
