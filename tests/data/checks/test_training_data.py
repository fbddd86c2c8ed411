"""Checks of the training data: parts, leaks by equal inputs, warnings, and places of files."""

import json

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from jaxhash.data.form_files import write_input_form
from jaxhash.runs.config import Config
from jaxhash.runs.evaluate_run import evaluate
from jaxhash.runs.experiment import Experiment
from jaxhash.utils.errors import UserError

CLASSES = np.arange(200) % 4
VECTORS = (np.random.default_rng(0).normal(size=(200, 8)) + 3 * np.eye(4, 8)[CLASSES]).astype("f4")
PARTS = np.repeat([0, 1], [150, 50])

SMALL = dict(model="linear", bits=8, epochs=2, batch_size=50)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration of vectors in two parts, in a file of the working folder."""
    monkeypatch.chdir(tmp_path)
    write()
    return Config().replace(dataset="features:f.npz", **SMALL)


def write(name="f.npz", **changes):
    arrays = {"features": VECTORS, "labels": CLASSES, "split": PARTS} | changes
    np.savez(name, **{key: array for key, array in arrays.items() if array is not None})


def test_own_parts_are_the_default(config):
    experiment = Experiment.open(config)
    np.testing.assert_array_equal(experiment.split.query, np.arange(150, 200))
    assert (
        experiment.split.name == "parts@150" and "queries from test" in experiment.findings.notes[0]
    )
    counts = dict(queries_per_class=5, train_per_class=9)
    pooled = Experiment.open(config.replace(protocol="per-class", **counts))
    assert (
        pooled.split.name == "per-class-5-9-rest-seed0"
        and "pools the parts" in pooled.findings.notes[0]
    )
    drawn = Experiment.open(config.replace(**counts))
    assert drawn.split.name == "parts-5-9@150-seed0"
    write(split=None)
    assert Experiment.open(config.replace(**counts)).split.name == "per-class-5-9-rest-seed0"


def test_validation_items_of_ones_own_are_taken_instead_of_others(config):
    """As a sweep asks for them where there are none; a file of a split is refused with both."""
    own = dict(
        split=np.repeat([0, 1, 2], [120, 30, 50]),
        split_names=np.array(["train", "validation", "test"]),
    )
    write(**own)
    asked = config.replace(validation=0.1)
    experiment = Experiment.open(asked)
    np.testing.assert_array_equal(experiment.split.validation, np.arange(120, 150))
    assert (
        "--validation 0.1 is not used: the data have a part validation" in experiment.findings.notes
    )
    assert (
        len(
            Experiment.open(
                asked.replace(protocol="per-class", queries_per_class=5, train_per_class=20)
            ).split.validation
        )
        == 8
    )
    np.savez(
        "mine.npz", train=range(20), query=range(30, 40), database=range(50, 90), validation=[99]
    )
    with pytest.raises(UserError, match="validation items already"):
        Experiment.open(asked.replace(protocol="mine.npz"))


def test_parts_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = iter(np.random.default_rng(0).integers(0, 256, (54, 8, 8, 3)).astype(np.uint8))
    for part, count in (("train", 10), ("val", 2), ("test", 3), ("database", 3)):
        for name in "abc":
            folder = tmp_path / "d" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                PIL.Image.fromarray(next(images)).save(folder / f"{number}.png")
    experiment = Experiment.open(Config().replace(dataset="folder:d", bits=8, batch_size=10))
    assert {name: len(items) for name, items in experiment.split.parts.items()} == {
        "train": 30,
        "validation": 6,
        "query": 9,
        "database": 9,
    }


@pytest.mark.parametrize(
    ("preset", "flags", "meant"),
    [
        ("digits-hashnet-hswd", "", ("per-class", 20, 80)),
        ("digits-hashnet-hswd", "--dataset features:f.npz", ("auto", None, None)),
        ("digits-hashnet-hswd", "--dataset=features:f.npz --train-per-class=7", ("auto", None, 7)),
        ("digits-hashnet-hswd", "--protocol zero-shot", ("zero-shot", None, None)),
        ("digits-hashnet-hswd", "--protocol per-class", ("per-class", 20, 80)),
        (
            "digits-hashnet-hswd",
            "--protocol cifar10-i --queries_per_class 3",
            ("cifar10-i", 3, None),
        ),
        ("cifar10-features-hashnet-hswd", "", ("per-class", 100, 500)),
        ("fashion-mnist-hashnet-hswd", "", ("per-class", 100, 500)),
        ("fashion-mnist-hashnet-hswd", "--dataset folder:d", ("auto", None, None)),
        (
            "fashion-mnist-hashnet-hswd",
            "--dataset folder:d --protocol per-class",
            ("per-class", None, None),
        ),
        ("cifar100-features-shrewd", "", ("cifar100", None, None)),
    ],
)
def test_split_of_a_preset_is_that_of_its_own_data(preset, flags, meant):
    from jaxhash.cli.train import parse_arguments

    config = parse_arguments([preset, *flags.split()]).config
    assert (
        config.data.protocol,
        config.data.queries_per_class,
        config.data.train_per_class,
    ) == meant


# Equal inputs


@pytest.mark.parametrize("equal", [0, 1, 4])
def test_equal_inputs_are_told_and_refused(config, equal):
    """One of 200 queries is a warning, 2 % are a leak."""
    rng = np.random.default_rng(1)
    labels = np.arange(600) % 4
    features = (rng.normal(size=(600, 8)) + 3 * np.eye(4, 8)[labels]).astype("f4")
    features[400 : 400 + equal] = features[:equal]
    write(features=features, labels=labels, split=np.repeat([0, 1], [400, 200]))
    allowed = config.replace(allow_leak=True)
    experiment = Experiment.open(allowed)
    sentence = f"{equal} of 200 query items ({equal / 2:g} %) have an equal input in train"
    assert (sentence in experiment.findings.leaks) == (equal == 4)
    assert (sentence in experiment.findings.warnings) == (equal == 1)
    assert experiment.findings.equal_inputs["query"] == {"train": equal, "database": equal}
    if equal < 4:
        assert Experiment.open(config).findings.leaks == []
    else:
        with pytest.raises(UserError, match="4 of 200 query items .* `allow_leak`"):
            Experiment.open(config)


def test_a_training_does_not_go_on_with_other_data(config, tmp_path):
    """Another value, label or part is another digest, in a file of the same name and sizes."""
    experiment = Experiment.open(config)
    write_input_form(tmp_path, experiment.input_form, experiment.findings.data_sha256)
    for other in (
        dict(features=VECTORS + 0.1 * (np.arange(200) == 199)[:, None]),
        dict(labels=CLASSES * (np.arange(200) != 7)),
        dict(split=np.repeat([0, 1], [149, 51])),
    ):
        write(**other)
        changed = Experiment.open(config, input_form=experiment.input_form)
        with pytest.raises(UserError, match="began with other data"):
            write_input_form(tmp_path, experiment.input_form, changed.findings.data_sha256)
    write(features=VECTORS.astype("f8"))
    write_input_form(
        tmp_path,
        experiment.input_form,
        Experiment.open(config, input_form=experiment.input_form).findings.data_sha256,
    )


# The form of the inputs


def test_a_vector_has_the_same_code_whatever_its_file(config, tmp_path):
    """The training file holds large vectors besides; the model keeps the scale of its training items."""
    features = VECTORS.copy()
    features[150:] *= 3
    write(features=features)
    experiment = Experiment.open(config)
    assert experiment.input_form.scale == pytest.approx(
        1 / np.sqrt(np.mean(VECTORS[:150] ** 2)), rel=1e-6
    )
    write("new.npz", features=features[:60], labels=CLASSES[:60], split=None)
    new = config.replace(dataset="features:new.npz", queries_per_class=1, train_per_class=5)
    others = Experiment.open(new, input_form=experiment.input_form)
    np.testing.assert_array_equal(
        others.source.inputs[np.arange(60)], experiment.source.inputs[np.arange(60)]
    )
    assert Experiment.open(new).input_form.scale != experiment.input_form.scale
    with pytest.raises(UserError, match="features:new.npz`: the model takes vectors of 8"):
        write("new.npz", features=features[:, :5])
        Experiment.open(new, input_form=experiment.input_form)


def test_items_of_another_range_are_told(config):
    features = VECTORS.copy()
    features[150:] *= 255
    write(features=features)
    [said] = Experiment.open(config).findings.warnings
    assert said.startswith("the query items are 2")


def test_training_items_without_any_difference_are_told(config):
    write(features=np.where(PARTS[:, None] == 0, 0, VECTORS))
    [said] = Experiment.open(config).findings.warnings
    assert said.startswith("all values of the training items are 0")
    write(features=np.where(PARTS[:, None] == 1, 0, VECTORS), labels=CLASSES * (PARTS == 0))
    allowed = config.replace(allow_leak=True)
    assert (
        Experiment.open(allowed)
        .findings.warnings[0]
        .startswith("the query items are 0 times as large")
    )


def test_labels_that_teach_nothing_are_refused_but_to_methods_that_see_none(config):
    write(labels=CLASSES * 0)
    with pytest.raises(UserError, match="all training items are of class 0"):
        Experiment.open(config)
    unsupervised = config.replace(objective="bihalf", quantizer="none")
    assert Experiment.open(unsupervised).findings.warnings == [
        "all queries and all of the database are of one class: any codes have mAP 1"
    ]


@pytest.mark.usefixtures("plotless")
def test_a_run_is_found_again_from_anywhere(config, tmp_path, monkeypatch, output):
    """A relative file: the folder is kept, with the scale, and the numbers are the same."""
    flags = "--dataset features:f.npz --epochs 1 --bits 8 --batch-size 50 --model linear"
    said = output("train", *flags.split(), "--run-dir", "run")
    assert "a training of 1 epoch has no warm-up" in said and "queries from test" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["split"] == "parts@150" and results["equal_inputs"]["query"]["train"] == 0
    assert "queries from test" in results["notes"][0]
    rows = results["baselines"] | results["float_rankings"]
    lost = [name for name, scores in rows.items() if scores["map"] > results["map"]]
    lost = set(lost) - {"learned floats", "input features"}
    assert len([words for words in results["warnings"] if "no labels" in words]) == len(lost) > 0
    assert all(f"warning: {words}" in said for words in results["warnings"])
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert "every number equals" in output("evaluate", str(tmp_path / "run"))
    np.savez(tmp_path / "f.npz", features=VECTORS, labels=(CLASSES + 1) % 4, split=PARTS)
    console = Console(width=200)
    with console.capture() as printed, pytest.raises(UserError, match="not what"):
        evaluate(tmp_path / "run", console)
    assert "warning: the data are not those of the training" in printed.get()
    np.savez(tmp_path / "f.npz", features=VECTORS, labels=CLASSES, split=PARTS)
    form = json.loads((tmp_path / "run" / "inputs.json").read_text())
    form["scale"] *= 2  # as of other training items
    (tmp_path / "run" / "inputs.json").write_text(json.dumps(form))
    with pytest.raises(UserError, match="not what .*results.json says"):
        evaluate(tmp_path / "run", Console(quiet=True))
    (tmp_path / "run" / "inputs.json").unlink()
    with pytest.raises(UserError, match="has no inputs.json"):
        evaluate(tmp_path / "run", Console(quiet=True))


def test_files_beside_data_that_have_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = (
        Config().replace(dataset="tfds:some", similarity="tree.txt", protocol="mine.npz").located()
    )
    assert (found.data.similarity, found.data.protocol) == (
        str(tmp_path / "tree.txt"),
        str(tmp_path / "mine.npz"),
    )
    assert found.data.data_dir is None and found.located() == found
    given = Config().replace(dataset="folder:d", data_dir=tmp_path / "a", similarity="tree.txt")
    assert given.located() == given
    assert (
        Config().replace(dataset="folder:d", similarity="tree.txt").located().data.data_dir
        == tmp_path
    )
    assert Config().replace(dataset="digits").located() == Config().replace(dataset="digits")
