"""The hash function of a run: its codes are those that were evaluated, and what is refused."""

import json
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest
import trainings
from rich.console import Console

import jaxhash
from jaxhash.data.readers.digits import read_digits
from jaxhash.data.sources import Source
from jaxhash.runs import evaluate, train
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.runs.train_sweep import sweep
from jaxhash.utils.errors import UserError

QUIET = Console(quiet=True)
LABELS = np.arange(300, dtype=np.int32) % 4
VECTORS = (np.random.default_rng(0).normal(size=(300, 8)) + 3 * np.eye(4, 8)[LABELS]).astype("f4")
FEW = {"epochs": 2, "bits": 12, "baselines": "none"}


pytestmark = pytest.mark.usefixtures("plotless")


def digits(folder, **options):
    return digits_hashnet_hswd().replace(**(FEW | {"run_dir": folder} | options))


def of_vectors(folder, **options):
    fields = {"batch_size": 50, "queries_per_class": 10, "train_per_class": 40, "bits": 12}
    return Config().replace(**(FEW | fields | {"run_dir": folder, "model": "linear"} | options))


def check_codes(hasher, inputs, split, folder):
    """Raises unless codes of all items are those of codes.npz, but for bits near zero."""
    stored = np.load(folder / "codes.npz")
    values = hasher.encode_floats(inputs)
    near = np.abs(values) <= 1e-4 * np.sqrt(np.square(values).mean(axis=1, keepdims=True))
    bits = np.unpackbits(hasher.encode(inputs), axis=1, count=hasher.bits).astype(bool)
    for name in ("query", "database"):
        items = getattr(split, name)
        same = (stored[f"{name}_codes"] > 0) == bits[items]
        assert len(items) and (same | near[items]).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = digits(tmp_path_factory.mktemp("load") / "run")
    with trainings.without_plots():
        train(config, QUIET)
    return config


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run.run.run_dir, tmp_path / "run")


def test_a_run_has_the_codes_that_were_evaluated(run, tmp_path):
    folder, split = run.run.run_dir, Experiment.open(run).split
    hasher = jaxhash.load(str(folder))
    assert isinstance(hasher, jaxhash.Hasher) and hasher.bits == 12
    inputs = read_digits().inputs
    check_codes(hasher, inputs, split, folder)
    assert hasher.made_by["dataset"] == "digits"
    assert hasher.made_by["split_sha256"] == split.sha256
    hasher.save(tmp_path / "archive")
    again = jaxhash.load(tmp_path / "archive")
    assert again.config == hasher.config
    np.testing.assert_array_equal(again.encode(inputs), hasher.encode(inputs))


def test_nothing_is_written_and_a_folder_may_be_read_only(copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    copy.chmod(0o555)
    jaxhash.load(copy)
    copy.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


@pytest.mark.parametrize("options", [{"head_norm": True}, {"dtype": "bfloat16", "model": "mlp"}])
def test_a_run_on_vectors_needs_no_data(tmp_path, options):
    folder = tmp_path / "run"
    path = tmp_path / "vectors.npz"
    np.savez(path, features=7 * VECTORS, labels=LABELS)
    config = of_vectors(folder, dataset=f"features:{path}", **options)
    train(config, QUIET)
    split = Experiment.open(config).split
    path.unlink()
    hasher = jaxhash.load(folder)
    assert hasher.form.scale != 1.0 and hasher.config["encoder"]["dtype"] == "float32"
    if "dtype" not in options:
        check_codes(hasher, 7 * VECTORS, split, folder)
        return
    stored = np.load(folder / "codes.npz")["database_codes"] > 0
    bits = np.unpackbits(hasher.encode(7 * VECTORS[split.database]), axis=1, count=12)
    assert (stored == bits).mean() > 0.97


def test_the_model_that_the_rule_chose_is_loaded(tmp_path):
    config = trainings.config(tmp_path / "run", baselines="none", **trainings.RULES["validation"])
    results = train(config, QUIET)
    assert results["model_choice"]["step"] < 24  # the last one
    hasher = jaxhash.load(tmp_path / "run")
    assert hasher.made_by["step"] == results["model_choice"]["step"]
    check_codes(hasher, read_digits().inputs, Experiment.open(config).split, tmp_path / "run")


@pytest.mark.parametrize(
    "objective",
    [
        "asymmetric-dsh",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("csq", "cross-entropy", "hyp2", "dcw-autoencoder")
        ),
    ],
)
def test_parameters_of_the_objective_are_not_needed(tmp_path, objective):
    np.savez(tmp_path / "vectors.npz", features=VECTORS, labels=LABELS)
    config = of_vectors(
        tmp_path / "run", dataset=f"features:{tmp_path / 'vectors.npz'}", objective=objective,
        spread_banks="always", on_collapse="warn",
    )  # fmt: skip
    train(config, QUIET)
    assert len(jax.devices()) == 8  # tables are spread over them
    check_codes(jaxhash.load(tmp_path / "run"), VECTORS, Experiment.open(config).split,
                tmp_path / "run")  # fmt: skip


def test_members_of_a_sweep_are_runs_and_the_sweep_names_them(tmp_path):
    config = digits(tmp_path / "sweep", epochs=1)
    sweep(config, {}, QUIET, seeds=2)
    with pytest.raises(UserError, match="is a sweep.*seed0, seed1$"):
        jaxhash.load(tmp_path / "sweep")
    one, other = (jaxhash.load(tmp_path / "sweep" / name) for name in ("seed0", "seed1"))
    assert one.digest != other.digest
    split = Experiment.open(config).split
    check_codes(one, read_digits().inputs, split, tmp_path / "sweep" / "seed0")


class Net(nn.Module):
    """A module that takes inputs alone."""

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(12)(nn.tanh(nn.Dense(5)(inputs)))


def test_an_own_model_is_given_to_load(tmp_path):
    folder = tmp_path / "run"
    source = Source("mine", VECTORS, LABELS, tuple("abcd"))
    config = of_vectors(folder)
    train(config, QUIET, source=source, model=Net())
    with pytest.raises(UserError, match="user's own.*model=..."):
        jaxhash.load(folder)
    hasher = jaxhash.load(folder, model=Net())
    split = Experiment.open(config, source=source, model=Net()).split
    check_codes(hasher, VECTORS, split, folder)
    hasher.save(tmp_path / "archive")
    with pytest.raises(UserError, match="own, Net.*model=..."):
        jaxhash.load(tmp_path / "archive")
    again = jaxhash.load(tmp_path / "archive", model=Net())
    np.testing.assert_array_equal(again.encode(VECTORS), hasher.encode(VECTORS))
    with pytest.raises(UserError, match="bits"):
        jaxhash.load(folder, model=nn.Dense(3))
    assert evaluate(folder, QUIET, source=source, model=Net())


def test_a_named_model_is_not_given(run, unchecked):
    with pytest.raises(UserError, match="without a model"):
        jaxhash.load(run.run.run_dir, model=Net())


def remove(*names):
    def change(folder):
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def edit(name, *keys, value):
    def change(folder):
        content = json.loads((folder / name).read_text())
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        (folder / name).write_text(json.dumps(content))

    return change


def damage(folder):
    (path,) = (folder / "checkpoints").glob("*/state/d/*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (remove("results.json"), "results.json"),
        (remove("config.json"), "no finished run"),
        (remove("inputs.json"), "inputs.json"),
        (remove("checkpoints"), "no checkpoint"),
        (edit("results.json", "model_choice", value=None), "results.json"),
        (edit("results.json", "model_choice", "step", value=3), "checkpoints/3"),
        (edit("config.json", "bits", value=16), "another model"),
        (edit("config.json", "model", value="cnn"), "another model"),
        (edit("config.json", "preprocessing", value="imagenet"), "prepare"),
        (edit("inputs.json", "shape", value=[8, 9, 1]), "another model"),
        (edit("inputs.json", "kind", value="words"), "inputs.json"),
        (damage, "damaged"),
    ],
)
def test_what_is_no_finished_run_is_refused(copy, change, named):
    change(copy)
    with pytest.raises(UserError, match=named) as error:
        jaxhash.load(copy)
    assert str(copy) in str(error.value) and "\n" not in str(error.value)


def test_paths_without_a_hash_function_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        jaxhash.load(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        jaxhash.load(tmp_path / "file")
    with pytest.raises(UserError, match="holds no hash function"):
        jaxhash.load(tmp_path)
