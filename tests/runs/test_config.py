"""The configuration: what it refuses, how it is stored, and what sets two runs apart."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxhash.runs.config import RESUME_MUTABLE_FIELDS, Config, config_diff
from jaxhash.runs.presets import PRESETS
from jaxhash.utils.errors import UserError

NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize("make", PRESETS.values(), ids=PRESETS)
def test_presets_are_allowed(make):
    make().check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("queries_per_class", "train_per_class", "bits", "epochs")),
        *((name, 0) for name in ("batch_size", "checkpoint_every", "evaluate_every")),
        *((name, -1) for name in ("seed", "split_seed", "warmup_epochs", "crop", "bits")),
        *((name, -1.0) for name in ("quantizer_weight", "backbone_rate", "weight_decay")),
        *((name, value) for name in ("learning_rate", "clip_norm") for value in (0.0, -1.0)),
        *((name, NAN) for name in ("learning_rate", "clip_norm", "quantizer_weight")),
        *((name, INF) for name in ("learning_rate", "clip_norm", "quantizer_weight")),
        *((name, 2**32) for name in ("seed", "split_seed")),
        *((name, 10**6 + 1) for name in ("epochs", "batch_size", "bits", "crop")),
        ("freeze_stages", -1),
        *(("image_size", value) for value in (0, -1, 4097)),
        ("warmup_epochs", 30),
        ("warmup_epochs", 31),
        *(("validation", value) for value in (-0.1, 1.0, NAN, INF)),
        *(("protocol", value) for value in ("cifar10", "", "mine.npy")),
    ],
)
def test_value_that_is_not_allowed(name, value):
    with pytest.raises(UserError) as caught:
        Config().replace(**{name: value}).check()
    line = str(caught.value)
    assert name in line.replace("-", "_") and str(value) in line and "\n" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("seed", "split_seed", "warmup_epochs", "crop")),
        *((name, 2**32 - 1) for name in ("seed", "split_seed")),
        *((name, 0.0) for name in ("quantizer_weight", "backbone_rate", "weight_decay")),
        *((name, 1) for name in ("queries_per_class", "train_per_class", "bits", "batch_size")),
        ("freeze_stages", 0),
        *(("image_size", value) for value in (None, 1, 4096)),
        ("warmup_epochs", 29),
        ("validation", 0.99),
        *(("protocol", value) for value in ("per-class", "coco", "mine.npz")),
    ],
)
def test_smallest_and_largest_value_that_is_allowed(name, value):
    Config().replace(**{name: value}).check()


@pytest.mark.parametrize("rule", ["validation", "best-on-test"])
def test_a_choice_of_one_model_is_none(rule):
    config = Config().replace(choose=rule, epochs=7, evaluate_every=6)
    config.check()
    with pytest.raises(UserError, match="`evaluate_every=7` must be below `epochs=7`, or `choose"):
        config.replace(evaluate_every=7).check()
    Config().replace(epochs=7, evaluate_every=7).check()  # the last model is no choice


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config().replace(data_dir=Path("/data"), bits=7, flip=True),
        Config().replace(
            weights=Path("/weights.pth"), model="resnet50", image_size=224, freeze_norm=True
        ),
        *(make() for make in PRESETS.values()),
    ],
)
def test_json_and_back(config):
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


NEW = ("protocol", "validation", "allow_leak", "choose", "evaluate_every")
NEW += (
    "similarity",
    "weights",
    "preprocessing",
    "image_size",
    "dtype",
    "freeze_stages",
    "freeze_norm",
    "remat",
    "on_nan",
)


#: Presets that an older version may have had: those that know what is similar are younger.
#: So are those of data that are not drawn anew for each class.
OLD = {
    name: make
    for name, make in PRESETS.items()
    if (make().data.similarity, make().data.protocol) == ("classes", "per-class")
}


@pytest.mark.parametrize("make", OLD.values(), ids=OLD)
def test_json_of_an_older_version_means_what_it_meant(make):
    """The fields that it does not know: no validation items, no leak, the last model."""
    old = {name: value for name, value in make().to_json().items() if name not in NEW}
    config = Config.from_json(old)
    assert config == make() and config_diff(config, make()) == []
    assert (config.data.protocol, config.data.validation, config.data.allow_leak) == (
        "per-class",
        0.0,
        False,
    )
    assert config.run.choose == "last"


@pytest.mark.parametrize(
    ("protocol", "meant"),
    [
        ("per-class", (100, 500)),
        ("cifar10-i", (100, 500)),
        ("cifar100", (None, None)),
        ("imagenet100", (None, None)),
        ("mine.npz", (None, None)),
    ],
)
def test_counts_that_stood_beside_a_protocol_with_its_own(protocol, meant):
    """Where they were not looked at they are dropped; those of `cifar10-i` are its own."""
    counts = dict(queries_per_class=100, train_per_class=500)
    old = Config().to_json() | {"protocol": protocol} | counts
    config = Config.from_json(old)
    config.check()
    assert (config.data.queries_per_class, config.data.train_per_class) == meant


@pytest.mark.parametrize(("epochs", "given", "left"), [(1, 1, 0), (1, 0, 0), (2, 1, 1), (9, 8, 8)])
def test_a_cosine_is_left_after_the_warm_up(epochs, given, left):
    config = Config().replace(epochs=epochs, warmup_epochs=given, evaluate_every=1)
    config.check()
    assert config.optimizer.warmup == left


def test_json_of_a_version_with_other_models_is_refused():
    with pytest.raises(ValueError, match="models had other parameters"):
        Config.from_json(Config().to_json() | {"head_multiplier": 1.0})


def test_json_holds_paths_that_do_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = Config().replace(data_dir=Path("one"), run_dir=Path("two")).to_json()
    assert Config.from_json(stored) == Config().replace(
        data_dir=tmp_path / "one"
    )  # a run may be moved


NUMBERS = [
    name
    for name, value in Config().to_json().items()
    if isinstance(value, (int, float)) and name not in RESUME_MUTABLE_FIELDS
]


def test_what_may_change_when_a_run_goes_on():
    """Where it is, how it is computed and what is kept: nothing that the model depends on."""
    other = dict(
        parallel="shard_map", chunk_size=4, workers=2, augment_on="device", checkpoint_every=7,
        keep_newest=3, keep_best=2, on_nan="skip", on_collapse="warn", compilation_cache=False,
        run_dir=Path("a"), data_dir=Path("b"), baselines="none", memory_bytes=2**26, shard_params=True,
        model_parallel=2, log_every=3, log_to=("wandb",), plots=False,
    )  # fmt: skip
    assert set(other) == set(RESUME_MUTABLE_FIELDS)
    assert config_diff(Config(), Config().replace(**other)) == []


@pytest.mark.parametrize("name", NUMBERS)
def test_each_number_sets_runs_apart(name):
    old = Config()
    there = old.get(name)
    here = type(there)(there + 1)
    new = old.replace(**{name: here})
    assert config_diff(old, new) == [f"`{name}` is {there} there and {here} here"]


def test_the_difference_leaves_out_the_places():
    old = Config().replace(run_dir=Path("a"), model="cnn", dataset="digits")
    new = Config().replace(run_dir=Path("b"), data_dir=Path("c"), model="mlp", dataset="tfds:mnist")
    assert config_diff(old, new) == [
        "`dataset` is digits there and tfds:mnist here",
        "`model` is cnn there and mlp here",
    ]


def test_numpy_numbers_and_strings_of_paths_are_those_of_python():
    config = Config().replace(bits=np.int64(8), learning_rate=np.float32(0.5), run_dir="runs/a")
    assert config == Config().replace(bits=8, learning_rate=0.5, run_dir=Path("runs/a"))
    assert type(config.model.bits) is int and type(config.optimizer.learning_rate) is float
    config.check()


def test_a_path_is_where_it_leads_to(tmp_path, monkeypatch):
    """The same command is to go on, and config.json holds whole paths."""
    monkeypatch.chdir(tmp_path)
    stored = Config.from_json(Config().replace(weights=Path("net.pth")).to_json())
    assert config_diff(stored, Config().replace(weights=Path("net.pth"))) == []
    assert config_diff(stored, Config().replace(weights=Path("other.pth"))) == [
        f"`weights` is {tmp_path / 'net.pth'} there and {tmp_path / 'other.pth'} here"
    ]


def test_objective_in_words():
    assert Config().objective.describe() == "hashnet + 0.1 hswd"
    assert Config().replace(quantizer="none").objective.describe() == "hashnet"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {}),
        ({"unseen": "dissimilar"}, {"objective_options": ("unseen=dissimilar",)}),
        ({"quantizer_target": "balanced"}, {"quantizer_options": ("target=balanced",)}),
        ({"quantizer_weight": 0.3}, {"quantizer_weight": 0.3}),
        ({"quantizer": "none"}, {"quantizer": "none"}),
        ({"quantizer": "none", "quantizer_target": "balanced"}, {"quantizer": "none"}),
    ],
)
def test_flags_that_became_options(old, new):
    """The file of a version that always stored the weight, and had a flag for each option."""
    fields = Config().to_json()
    for name in ("objective_options", "quantizer_options", "keep_own", "head_norm", "drop"):
        del fields[name]
    flags = {"unseen": "ignored", "quantizer_target": "sampled", "quantizer_weight": 0.1}
    config = Config.from_json(json.loads(json.dumps(fields | flags | old)))
    assert config == Config().replace(**new) and config_diff(config, Config().replace(**new)) == []
    config.check()
