"""Settings of a sweep, the best of them, and the table."""

import io

import pytest
from rich.console import Console

from jaxhash import report
from jaxhash.runs.settings import best, summarize


def member(seed, values, diverged=None, **scores):
    return {
        "seed": seed,
        "values": values,
        "scores": None if diverged else scores,
        "diverged_at_step": diverged,
        "collapsed_at_step": None,
    }


MEMBERS = [
    member(0, {"clip_norm": 1.0}, map=0.5, validation_map=0.7),
    member(1, {"clip_norm": 1.0}, map=0.75, validation_map=0.6),
    member(2, {"clip_norm": 1.0}, map=1.0, validation_map=0.5),
    member(0, {"clip_norm": 2.0}, map=0.1, validation_map=0.625),
    member(1, {"clip_norm": 2.0}, map=0.2, validation_map=0.625),
    member(2, {"clip_norm": 2.0}, map=0.3, validation_map=0.625),
    member(0, {"clip_norm": 9.0}, map=1.0, validation_map=1.0),
    member(1, {"clip_norm": 9.0}, diverged=1200),
    member(2, {"clip_norm": 9.0}, map=1.0, validation_map=1.0),
]


def test_settings_by_hand():
    first, second, third = summarize(MEMBERS)
    assert first["scores"]["map"] == {"mean": 0.75, "deviation": 0.25, "count": 3}
    assert second["scores"]["map"]["mean"] == pytest.approx(0.2)
    assert second["scores"]["map"]["deviation"] == pytest.approx(0.1)
    assert second["scores"]["validation_map"] == {"mean": 0.625, "deviation": 0.0, "count": 3}
    assert third == {"values": {"clip_norm": 9.0}, "scores": None, "diverged": [1]}
    assert [len(one["diverged"]) for one in (first, second)] == [0, 0]


def test_best_is_by_the_validation_items():
    """Not by the queries, nor by what is left of a setting that diverged."""
    settings = summarize(MEMBERS)
    assert best(settings) == 1
    assert best(settings[:1]) is None
    assert best(settings[2:] * 2) is None
    assert best([settings[0], settings[1], settings[1]]) == 1


def test_best_of_a_hierarchy_is_by_hierarchical_precision():
    members = [
        member(0, {"clip_norm": 1.0}, validation_map=0.7, validation_mahp_at_250=0.2),
        member(0, {"clip_norm": 2.0}, validation_map=0.6, validation_mahp_at_250=0.3),
    ]
    assert best(summarize(members)) == 1


def printed(members, **facts):
    file = io.StringIO()
    settings = summarize(members)
    results = {
        "dataset": "digits",
        "bits": 24,
        "objective": "hashnet + hswd(sampled)",
        "items": {"validation": 80, "database": 54_000},
        "leaks": [],
        "axes": {"clip_norm": [1.0, 2.0, 9.0]},
        "seeds": [0, 1, 2],
        "settings": settings,
        "best": best(settings),
        "members": members,
    }
    report.print_sweep(results | facts, Console(file=file, width=120))
    return [" ".join(line.split()) for line in file.getvalue().splitlines()]


def full(members):
    rest = {"precision_at_radius_2": 0.4, "bit_balance": 0.9, "quantization_error": 0.3}
    return [m | {"scores": m["scores"] and m["scores"] | rest} for m in members]


def test_table():
    rest = "0.4000 ± 0.0000 0.9000 ± 0.0000 0.3000 ± 0.0000"
    assert printed(full(MEMBERS)) == [
        "digits, 54,000 items, 24 bits, 3 seeds",
        "clip-norm validation mAP mAP P@H<=2 bit balance quant. error",
        f"1 0.6000 ± 0.1000 0.7500 ± 0.2500 {rest}",
        f"2 * 0.6250 ± 0.0000 0.2000 ± 0.1000 {rest}",
        "9 - - - - -",
        "seed 1, clip-norm 9: diverged at step 1,200",
        "best by validation: clip-norm 2, mAP 0.2000 ± 0.1000 on the queries, touched once",
    ]


def test_table_of_one_setting_and_one_of_a_seed_each():
    only = [
        m | {"values": {}, "collapsed_at_step": 40 * m["seed"] or None} for m in full(MEMBERS)[:2]
    ]
    lines = printed(only, axes={}, items={"validation": 0, "database": 9}, leaks=["a and b share"])
    assert lines[1:] == [
        "objective mAP P@H<=2 bit balance quant. error",
        "hashnet + hswd(sampled) 0.6250 ± 0.1768 0.4000 ± 0.0000 0.9000 ± 0.0000 0.3000 ± 0.0000",
        "leak: a and b share",
        "seed 1: the codes collapsed at step 40",
        "mAP 0.6250 ± 0.1768 over 3 seeds",
    ]
    lines = printed(full(MEMBERS)[::3][:2], seeds=[0])
    assert lines[0].endswith(", 1 seed")
    assert lines[2].startswith("1 * 0.7000 ± n/a 0.5000 ± n/a 0.4000 ± n/a")


def test_table_of_settings_of_which_each_has_a_seed_that_diverged():
    """None has a mean; the others of their seeds are in their folders."""
    lines = printed(full(MEMBERS)[-3:])
    assert lines[-3:] == ["clip-norm", "9", "seed 1, clip-norm 9: diverged at step 1,200"]
