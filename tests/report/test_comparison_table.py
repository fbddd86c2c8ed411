"""The table of runs side by side, on a wide and on a narrow screen."""

import io

from rich.console import Console

from jaxhash.metrics import ConfidenceInterval, PairedTest
from jaxhash.report.comparison_table import Comparison, Difference, print_comparison


def results(name, **scores):
    return {
        "dataset": "digits",
        "items": {"query": 200, "database": 1_797},
        "objective": name,
        "bits": 16,
        "seed": 3,
    } | scores


COMPARISON = Comparison(
    {"a": results("hashnet", map=0.5), "[b]": results("dpsh", map=0.25, mahp_at_250=0.125)},
    "a",
    {"[b]": Difference(PairedTest(-0.25, ConfidenceInterval(-0.5, 0.125), 0.04), 50, 20, 130)},
    ("[b] is smaller",),
)


def printed(width):
    file = io.StringIO()
    print_comparison(COMPARISON, Console(file=file, width=width))
    return file.getvalue()


def test_printed_rows():
    lines = [line.split() for line in printed(160).splitlines()]
    assert ["a", "hashnet", "16", "3", "0.5000", "-"] in lines
    assert ["[b]", "dpsh", "16", "3", "0.2500", "0.1250"] in lines
    assert ["[b]", "-0.2500", "-0.5000", "to", "+0.1250", "0.04", "50", "20", "130"] in lines
    assert ["[b]", "is", "smaller"] in lines
    assert "digits, 200 queries, 1,797 items" in printed(160)


def test_a_narrow_screen_cuts_nothing():
    words = printed(30).split()
    for word in ("hashnet", "0.2500", "-0.2500", "130"):
        assert word in words
