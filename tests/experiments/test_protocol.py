"""The comparison of quantizers: nine settings each, what it measures, and a second call that trains nothing."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxhash.metrics import holm
from jaxhash.runs.finished_run import read_run
from jaxhash.runs.presets import digits_hashnet_hswd

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def protocol():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import protocol
    finally:
        sys.path.remove(str(EXPERIMENTS))
    return protocol


def small():
    return digits_hashnet_hswd().replace(epochs=1)


@pytest.fixture(scope="module")
def trained(protocol, tmp_path_factory):
    """The folder of a comparison of one method on digits, its results, and how to call it again."""
    folder = tmp_path_factory.mktemp("protocol")
    options = protocol.Options("cifar10-features", folder, methods=("dpsh",), bits=(8,))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(protocol, "RESULTS", folder)
        patch.setattr(protocol, "SETS", {"cifar10-features": protocol.Set(small)})
        patch.setattr(protocol, "VARIANTS", ("none", "hswd"))
        patch.setattr(protocol, "SEEDS", range(2))
        patch.setattr(protocol, "RATES", (1e-3, 3e-3))
        patch.setattr(protocol, "RATE_FACTORS", (1.0,))
        patch.setattr(protocol, "WEIGHTS", (0.1, 1.0))
        patch.setattr(protocol, "SEARCH_BITS", 8)
        protocol.main(options)
        yield folder, json.loads(options.output.read_text()), lambda: protocol.main(options)


@pytest.mark.parametrize("method, variant", [("dpsh", "none"), ("csq", "own"), ("csq", "hswd")])
def test_each_quantizer_has_nine_settings(protocol, method, variant):
    axes = protocol.axes_of(method, variant, None if variant == "none" else 1.8e-4)
    assert np.prod([len(values) for values in axes.values()]) == 9
    if variant != "none":
        assert axes["learning_rate"] == (6e-5, 1.8e-4, 6e-4)
    assert not set(protocol.SEARCH_SEEDS) & set(protocol.SEEDS)


def test_it_searches_trains_and_compares(trained):
    folder, content, _ = trained
    assert [found["quantizer"] for found in content["search"]] == ["none", "hswd"]
    for found in content["search"]:
        best = max(found["trials"], key=lambda trial: trial["validation_map"])
        assert best.items() >= found["chosen"].items()
    assert [each["against"] for each in content["comparisons"]] == ["none"]
    p_values = [each["p_value"] for each in content["comparisons"]]
    adjusted = [each["p_adjusted"] for each in content["comparisons"]]
    np.testing.assert_array_equal(adjusted, holm(p_values))
    means = {c["quantizer"]: np.mean([m["map"] for m in c["members"]]) for c in content["cells"]}
    for each in content["comparisons"]:
        expected = means["hswd"] - means[each["against"]]
        assert each["difference"] == pytest.approx(expected, abs=1e-12)


def test_what_is_fitted_without_training_stands_beside(trained):
    """With the same measures and seeds; on digits, labels help."""
    _, content, _ = trained
    rows = {row["method"]: row["members"] for row in content["fitted"]}
    assert set(rows) == {"random", "pca-rotation", "itq", "cca-itq", "lda-itq"}
    assert all(len(members) == 2 for members in rows.values())
    maps = {name: np.mean([each["map"] for each in members]) for name, members in rows.items()}
    assert maps["random"] < maps["itq"] < min(maps["cca-itq"], maps["lda-itq"])
    measures = set(content["cells"][0]["members"][0]) - {"quantization_loss"}
    assert set(rows["itq"][0]) == measures


def test_scores_are_those_of_the_run_and_of_its_codes(protocol, trained):
    folder, content, _ = trained
    cell = next(cell for cell in content["cells"] if cell["quantizer"] == "hswd")
    for seed, scores in enumerate(cell["members"]):
        run = read_run(
            folder / "runs" / "protocol" / "cifar10-features" / "dpsh" / "hswd-8" / f"seed{seed}"
        )
        assert run.config.optimizer.learning_rate == cell["learning_rate"]
        for name in (
            "map",
            "precision_at_radius_2",
            "bit_balance",
            "distinct_codes",
            "bit_correlation",
        ):
            assert scores[name] == pytest.approx(run.results[name], abs=1e-9)
        query, database = (np.unpackbits(run.sides[side].codes, axis=1) for side in protocol.SIDES)
        near = (query[:, None] != database).sum(axis=2) <= 2
        assert scores["visited_at_radius_2"] == pytest.approx(near.sum(axis=1).mean())
        assert scores["empty_at_radius_2"] == pytest.approx((~near.any(axis=1)).mean())


def test_a_second_call_trains_nothing_and_finds_the_same(trained, capsys):
    folder, content, again = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("checkpoints/*")}
    again()
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("checkpoints/*")}
    assert json.loads((folder / "protocol_cifar10_features.json").read_text()) == content


def test_a_cell_that_is_measured_again_takes_the_place_of_the_old(protocol):
    content = {}
    for bits, score, cost in ((16, 0.5, 9), (32, 0.6, 9), (16, 0.7, 1)):
        cell = {"method": "dpsh", "quantizer": "l2", "bits": bits, "score": score}
        protocol.put(content, "cells", cell | {"cpu_seconds": cost})
    assert [(c["bits"], c["score"], c["cpu_seconds"]) for c in content["cells"]] == [
        (16, 0.7, 9), (32, 0.6, 9),
    ]  # fmt: skip
