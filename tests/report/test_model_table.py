import io

from rich.console import Console

from jaxhash.models import Summary, SummaryRow
from jaxhash.report import print_model_summary


def test_each_row_the_sums_and_the_training():
    rows = (
        SummaryRow("preprocessing", None, 0, 0, 10),
        SummaryRow("stage 0", (14, 14, 32), 1_000, 0, 200_000),
        SummaryRow("head", (16,), 2_000, 2_000, 30_000),
    )
    file = io.StringIO()
    print_model_summary(Summary(rows, remat=False), Console(file=file, width=80))
    assert [line.split() for line in file.getvalue().splitlines()] == [
        ["part", "output", "parameters", "trained", "multiply-adds"],
        ["preprocessing", "-", "0", "0", "10"],
        ["stage", "0", "14", "x", "14", "x", "32", "1,000", "0", "200,000"],
        ["head", "16", "2,000", "2,000", "30,000"],
        ["all", "3,000", "2,000", "230,010"],
        ["training:", "about", "290,010", "multiply-adds", "an", "input"],
    ]
