"""The map of conditions: the data of each, one small comparison, and a second call that trains nothing."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import where_hswd_pays
        import where_hswd_pays_data
    finally:
        sys.path.remove(str(EXPERIMENTS))
    return where_hswd_pays, where_hswd_pays_data


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A folder with features of 10 classes of 120 items each, under the name of those of CIFAR-10."""
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 120)
    values = np.clip(rng.normal(size=(1200, 16)) * 20 + 50 * np.eye(10, 16)[labels], -127, 127)
    np.savez(
        folder / "cifar10_mobilenetv2.npz",
        features=values.astype(np.int8),
        scale=np.full(16, 0.02, np.float32),
        labels=labels.astype(np.int16),
    )
    return folder


#: 40 items by 9 to the power of -c/9, rounded.
FALLING = [40, 31, 25, 19, 15, 12, 9, 7, 6, 4]


@pytest.mark.parametrize(("imbalance", "trained"), [(1, [20] * 10), (9, FALLING)])
def test_parts_of_the_data(modules, features, tmp_path, monkeypatch, imbalance, trained):
    """Every item is in one part; with an imbalance, sizes fall by one factor from class to class."""
    _, data = modules
    monkeypatch.setattr(data, "TRAIN", 200)
    monkeypatch.setattr(data, "QUERIES", 50)
    condition = data.Condition("imbalance", imbalance, f"cifar10-i{imbalance}", imbalance=imbalance)
    data.write_data(condition, features, tmp_path)
    with np.load(tmp_path / f"cifar10-i{imbalance}.npz") as arrays:
        labels, split, rows = arrays["labels"], arrays["split"], arrays["features"]
        assert arrays["split_names"].tolist() == ["train", "query", "database"]
    assert len(labels) == 1200 and len(np.unique(rows, axis=0)) == 1200
    counts = [np.bincount(labels[split == part], minlength=10) for part in range(3)]
    assert counts[1].tolist() == [5] * 10 and sum(counts).tolist() == [120] * 10
    assert counts[0].tolist() == trained


def test_a_condition_is_compared_once(modules, features, tmp_path, monkeypatch):
    pays, data = modules
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "FOLDER": tmp_path / "runs", "OUTPUT": tmp_path / "found.json", "SEEDS": range(2),
        "VARIANTS": {name: pays.VARIANTS[name] for name in ("hswd", "l2 + balance")},
        "axes_of": lambda *_: {"learning_rate": (1e-3, 3e-3), "quantizer_weight": (0.1,)},
        "CONDITIONS": [data.Condition("bits", value, bits=value, epochs=1) for value in (4, 8)],
    }.items():  # fmt: skip
        monkeypatch.setattr(pays, name, value)
    monkeypatch.setattr(data, "TRAIN", 200)
    monkeypatch.setattr(data, "QUERIES", 50)
    options = pays.Options(features, methods=("dpsh",))
    pays.main(options)
    content = json.loads((tmp_path / "found.json").read_text())
    assert [cell["quantizer"] for cell in content["cells"]] == 2 * list(pays.VARIANTS)
    maps = {
        (c["value"], c["quantizer"]): np.mean([m["map"] for m in c["members"]])
        for c in content["cells"]
    }
    found = [(each["value"], each["against"]) for each in content["comparisons"]]
    assert found == [(4, "l2 + balance"), (8, "l2 + balance")]
    for each in content["comparisons"]:
        expected = maps[each["value"], "hswd"] - maps[each["value"], each["against"]]
        assert each["difference"] == pytest.approx(expected, abs=1e-9)
        assert each["axis"] == "bits" and 0 < each["p_adjusted"] <= 1
    assert (tmp_path / "found.png").is_file()
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    pays.main(options)
    assert trained == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    assert (
        json.loads((tmp_path / "found.json").read_text())["comparisons"] == content["comparisons"]
    )
