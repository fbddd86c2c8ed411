"""The table of a run: who is ranked, in which order, and how numbers are written."""

import io

import pytest
from rich.console import Console

from jaxhash.report import print_run, ranking_rows


def codes_scores(start):
    """Six metrics that can be told apart: start, start + 0.01, ..."""
    names = "map map_worst_ties map_best_ties precision_at_radius_2 bit_balance quantization_error"
    return {name: start + i / 100 for i, name in enumerate(names.split())}


RESULTS = {
    **codes_scores(0.6),
    "bits": 24,
    "dataset": "digits",
    "objective": "hashnet + 0.1 hswd(sampled)",
    "items": {"train": 800, "query": 200, "database": 54_000},
    "baselines": {"random hyperplanes": codes_scores(0.2), "PCA": codes_scores(0.4)},
    "float_rankings": {"learned floats": {"map": 0.7}, "input features": {"map": 0.51234}},
}


def printed(results):
    file = io.StringIO()
    print_run(results, Console(file=file, width=120))
    return [line.strip() for line in file.getvalue().splitlines()]


def test_rows_are_codes_then_floats():
    names, scores = zip(*ranking_rows(RESULTS), strict=True)
    assert [one["map"] for one in scores] == [0.6, 0.2, 0.4, 0.7, 0.51234]
    assert names[:3] == (
        "hashnet + 0.1 hswd(sampled), 24 bits",
        "random hyperplanes, 24 bits",
        "PCA, 24 bits",
    )
    assert all("floats" in name and "cosine" in name for name in names[3:])


def test_printed_table():
    title, head, *rows = printed(RESULTS)
    assert title == "digits, 54,000 items"
    for column in ("ranking by", "mAP", "P@H<=2", "bit balance", "quant. error"):
        assert column in head
    numbers = [
        ["0.6000", "0.6100", "0.6200", "0.6300", "0.6400", "0.6500"],
        ["0.2000", "0.2100", "0.2200", "0.2300", "0.2400", "0.2500"],
        ["0.4000", "0.4100", "0.4200", "0.4300", "0.4400", "0.4500"],
        ["0.7000", *"-----"],
        ["0.5123", *"-----"],
    ]
    names = [name for name, _ in ranking_rows(RESULTS)]
    assert [row.rsplit(maxsplit=6) for row in rows] == [
        [name, *cells] for name, cells in zip(names, numbers, strict=True)
    ]


CHOICE = {"rule": "validation", "epoch": 4, "step": 1_200, "candidates": [], "says": "chosen so"}


@pytest.mark.parametrize(
    ("facts", "remarks"),
    [
        ({}, []),  # results of an older version
        ({"model_choice": CHOICE}, ["model of epoch 4, step 1,200: chosen so"]),
        ({"leaks": [], "collapsed_at_step": None}, []),
        ({"leaks": ["a and [b] share 1 item", "c" * 150]}, None),
        ({"collapsed_at_step": 20}, ["warning: the codes collapsed during training, at step 20"]),
    ],
)
def test_remarks_below_the_table(facts, remarks):
    """Which model it is, and what is wrong with it; long ones are not broken."""
    if remarks is None:
        remarks = [f"leak: {sentence}" for sentence in facts["leaks"]]
    assert printed(RESULTS | facts)[len(printed(RESULTS)) :] == remarks
