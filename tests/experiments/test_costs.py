"""The compiled programs of experiments/costs.md: their figures hang together, and its search is short."""

import json
import sys
from pathlib import Path

import pytest

from jaxhash.bench.compile.targets import parse_target

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CONTENT = json.loads((EXPERIMENTS / "results" / "costs.json").read_text())


@pytest.fixture(scope="module")
def costs():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import costs
    finally:
        sys.path.remove(str(EXPERIMENTS))
    return costs


def test_every_program_is_one_that_the_script_compiles(costs):
    settings = [costs._plain(training) for training in costs.TRAININGS]
    settings += [{"batch_size": batch, "method": method} for batch, method in costs.LOSSES]
    found = [(row["target"], json.dumps(row["settings"])) for row in CONTENT["programs"]]
    assert found and len(set(found)) == len(found)
    assert all(row["settings"] in settings for row in CONTENT["programs"])
    assert {target for target, _ in found} == {"v5e:16x16", "h200:8"}


def test_the_tables_are_those_of_the_programs(costs):
    assert CONTENT["tables"] == costs.costs_tables.make_tables(CONTENT)


@pytest.mark.parametrize("row", CONTENT["programs"])
def test_bounds_are_work_over_what_the_chip_can_do(row):
    chip = parse_target(row["target"]).chip
    assert row["available"] == chip.memory_bytes
    assert row["fits"] == (row["needed"] <= row["available"])
    if "work" not in row:
        return
    work, bounds = row["work"], row["roofline"]
    assert bounds["compute_seconds"] == pytest.approx(work["flops"] / chip.peak_flops)
    assert bounds["memory_seconds"] == pytest.approx(work["bytes"] / chip.bandwidth)
    assert bounds["link_seconds"] == pytest.approx(work["sent_bytes"] / chip.link_bandwidth)
    sent = sum(kind["sent_bytes"] for kind in row["collectives"].values())
    assert sent <= work["sent_bytes"]  # which has loops of unknown rounds several times


def test_rounds_of_the_search(costs):
    """Few on continuous codes; the rounds do not grow with the devices."""
    eight, one = (
        costs.search_rounds(512, 8, devices, tight=True, dtype="float32", seed=0)
        for devices in (8, 1)
    )
    assert 2 <= eight <= 12 and abs(eight - one) <= 3
