"""The config.json of a run and of a sweep, as the version before the parts of `Config` wrote them."""

import json

import pytest

from jaxhash.runs.config import config_diff
from jaxhash.runs.folder import read_config
from jaxhash.runs.presets import digits_hashnet_hswd

RUN = """
{
  "dataset": "digits",
  "data_dir": null,
  "protocol": "per-class",
  "queries_per_class": 20,
  "train_per_class": 80,
  "split_seed": 0,
  "validation": 0.0,
  "allow_leak": false,
  "model": "mlp",
  "weights": null,
  "preprocessing": "published",
  "image_size": null,
  "dtype": "float32",
  "freeze_stages": 0,
  "freeze_norm": false,
  "remat": false,
  "bits": 32,
  "head_norm": false,
  "objective": "hashnet",
  "objective_options": [],
  "similarity": "classes",
  "quantizer": "hswd",
  "quantizer_options": [],
  "quantizer_weight": null,
  "keep_own": false,
  "seed": 0,
  "epochs": 200,
  "batch_size": 100,
  "learning_rate": 0.002,
  "backbone_rate": 1.0,
  "weight_decay": 0.0001,
  "clip_norm": 5.0,
  "warmup_epochs": 1,
  "crop": 0,
  "flip": false,
  "drop": 0.0,
  "augment_on": "host",
  "workers": 0,
  "parallel": "pmap",
  "chunk_size": null,
  "spread_banks": "auto",
  "checkpoint_every": 200,
  "keep_newest": 2,
  "keep_best": 1,
  "compilation_cache": true,
  "on_nan": "stop",
  "on_collapse": "stop",
  "choose": "last",
  "evaluate_every": 5,
  "baselines": "all",
  "memory_bytes": 1073741824
}
"""

#: Fields that came later, each with the value that an older run has.
LATER = {
    "labeled_per_class": None,
    "batch_classes": None,
    "shard_params": False,
    "model_parallel": 1,
    "log_every": None,
    "log_to": (),
    "plots": True,
}

#: What the file of a sweep of two seeds and three epochs has in other places.
SWEEP = {"epochs": 3, "sweep": {"seeds": 2, "axes": {}}}


@pytest.mark.parametrize("changes", [{}, SWEEP], ids=["run", "sweep"])
def test_a_configuration_is_read_and_written_as_it_was(tmp_path, changes):
    stored = json.loads(RUN) | changes
    (tmp_path / "config.json").write_text(json.dumps(stored))
    config, sweep = read_config(tmp_path)
    fields = {name: value for name, value in stored.items() if name != "sweep"}
    written = config.to_json()
    assert {name: written.pop(name) for name in LATER} == LATER
    assert json.dumps(written, indent=2) == json.dumps(fields, indent=2)
    assert sweep == stored.get("sweep")
    asked = digits_hashnet_hswd().replace(epochs=stored["epochs"])
    assert config_diff(config, asked) == []


def test_parts_of_the_users_own_are_noted_beside_the_fields(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(json.loads(RUN) | {"own": ["model"]}))
    config, _ = read_config(tmp_path)
    assert config_diff(config, digits_hashnet_hswd()) == []
