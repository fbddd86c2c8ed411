"""Training from published weights: initialization, frozen stages, and refusals."""

import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxhash import models
from jaxhash.models._weight_files import TensorFile
from jaxhash.runs import train_run as run
from jaxhash.runs.describe import describe, environment
from jaxhash.runs.evaluate_run import evaluate
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.utils.errors import UserError

FROZEN = dict(freeze_stages=2, freeze_norm=True)


pytestmark = pytest.mark.usefixtures("plotless")


@pytest.fixture(scope="module")
def weights(shared_data):
    return shared_data / "weights" / "resnet20-12fca82f.th"


def read(path):
    """Returns names and values of the published file."""
    file = TensorFile(path)
    return [(p.name, file.read(p)) for p in file.tensors if p.group == "state_dict"]


def config(folder, **options):
    return digits_hashnet_hswd().replace(
        model="cifar-resnet20", epochs=2, run_dir=folder, **options
    )


def trained(config):
    experiment = Experiment.open(config.replace(weights=None))
    with Checkpoints(config.run.run_dir / "checkpoints") as checkpoints:
        return checkpoints.restore(experiment.initial_state())


@pytest.mark.slow
def test_training_begins_at_the_weights(weights, tmp_path):
    made = config(tmp_path / "run", weights=weights)
    state = Experiment.open(made).initial_state()
    loaded = models.load_weights(weights, models.cifar_resnet20(), leave_out="classifier")
    for collection, leaves in loaded.items():
        jax.tree.map(np.testing.assert_array_equal, state.variables[collection]["backbone"], leaves)
    random = Experiment.open(made.replace(weights=None)).initial_state()
    jax.tree.map(
        np.testing.assert_array_equal,
        state.params["model"]["head"],
        random.params["model"]["head"],
    )


def test_a_part_of_a_file_is_told_and_kept(weights, tmp_path):
    """The key is in the configuration, and the prefix in the log and in the results."""
    tensors = {f"{name}.{key}": array for name in ("a", "b") for key, array in read(weights)}
    np.savez(tmp_path / "both.npz", **tensors)
    made = config(tmp_path / "run", weights=tmp_path / "both.npz:b")
    experiment = Experiment.open(made)
    assert f"with the weights of {tmp_path / 'both.npz'} (its b.module.*)" in " ".join(
        describe(experiment, "")
    )
    assert environment(experiment)["weights_prefix"] == "b.module."
    assert type(made).from_json(made.to_json() | {"run_dir": made.run.run_dir}) == made
    with pytest.raises(
        UserError, match="`weights=FILE:KEY`.*both.npz:a.module, .*both.npz:b.module"
    ):
        Experiment.open(made.replace(weights=tmp_path / "both.npz"))


@pytest.mark.slow
def test_what_is_frozen_stays_and_the_run_does_without_the_file(weights, tmp_path):
    moved = tmp_path / "weights.pth"
    moved.write_bytes(weights.read_bytes())
    made = config(tmp_path / "run", weights=moved, dtype="bfloat16", remat=True, **FROZEN)
    console = Console(file=io.StringIO())
    results = run.train(made, console)
    assert f"cifar-resnet20 with the weights of {moved}" in console.file.getvalue().replace(
        "\n", ""
    )
    assert len(results["weights_sha256"]) == 64

    state = trained(made)
    begun = models.load_weights(weights, models.cifar_resnet20(), leave_out="classifier")
    same = jax.tree.map(
        np.array_equal, dict(state.variables["batch_stats"]["backbone"]), begun["batch_stats"]
    )
    assert all(jax.tree.leaves(same))
    blocks = state.params["model"]["backbone"]
    for name, block in blocks.items():
        same = jax.tree.map(np.array_equal, dict(block), begun["params"][name])
        frozen = models.stage_index(name) < FROZEN["freeze_stages"]
        assert set(jax.tree.leaves(same)) == {frozen}, name
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype("float32")}

    moved.unlink()
    again = evaluate(made.run.run_dir, Console(quiet=True))
    assert again["map"] == json.loads((made.run.run_dir / "results.json").read_text())["map"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(weights=Path("nowhere.pth")), "nowhere.pth"),
        (dict(model="cifar-resnet56"), "does not fit CifarResNet: missing layer1.3.conv1.weight"),
        (dict(model="mlp"), "no published weights are known for MLP"),
        (dict(freeze_stages=5), "`freeze_stages` must be at most 4, the stages of cifar-resnet20"),
    ],
)
def test_transfer_that_is_not_possible(weights, tmp_path, options, said):
    made = config(tmp_path / "run", weights=weights).replace(**options)
    with pytest.raises(UserError, match=said):
        run.train(made, Console(quiet=True))
    assert not made.run.run_dir.exists()


def test_a_dry_run_prints_the_table_and_writes_nothing(tmp_path, output, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = output(
        "train", "--dry-run", "--model", "cifar-resnet20", "--freeze-stages", "2", "--bits", "16"
    )
    lines = {line.split()[0] + line.split()[1]: line.split() for line in text.splitlines()[3:]}
    assert lines["stage1"][-3:-1] == ["14,016", "0"]  # 3 x 2 x (9 x 16^2 + 2 x 16)
    assert lines["head16"][-3:] == ["1,040", "1,040", "1,024"]
    assert not list(tmp_path.iterdir())
