"""Protocols in a run: leaks, validation items, the data's parts, items of several classes."""

import jax
import numpy as np
import pytest
from label_arrays import multi_hot, sizes

from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.utils.errors import UserError


@pytest.fixture
def config(tmp_path):
    """Vectors of several classes, split by a file in which item 39 is a query too."""
    labels = multi_hot(120, 4, unlabeled=5)
    features = np.random.default_rng(0).normal(size=(120, 8))
    np.savez(tmp_path / "some.npz", features=features, labels=labels)
    np.savez(tmp_path / "mine.npz", train=range(40), query=range(39, 60), database=range(60, 120))
    data = dict(dataset="features:some.npz", data_dir=tmp_path, protocol="mine.npz")
    return Config().replace(**data, allow_leak=True, model="mlp", bits=8, epochs=2, batch_size=16)


def test_run_refuses_a_leak_unless_it_is_allowed(config):
    experiment = Experiment.open(config)
    assert (
        experiment.split.leaks == ["query and train share 1 item"]
        and experiment.steps_per_epoch == 3
    )
    with pytest.raises(UserError, match="query and train share 1 item; `allow_leak` takes it"):
        Experiment.open(config.replace(allow_leak=False))
    with np.load(config.data.data_dir / "some.npz") as arrays:
        named = dict(arrays) | {"item_names": np.array([f"{number}.png" for number in range(120)])}
    np.savez(config.data.data_dir / "some.npz", **named)
    with pytest.raises(UserError, match=r"query and train share 1 item \(39.png\); `allow_leak`"):
        Experiment.open(config.replace(allow_leak=False))


def test_run_takes_validation_items_from_the_training_items(config):
    one = Experiment.open(config.replace(validation=0.25)).split
    assert sizes(one) == [30, 21, 60] and len(one.validation) == 10
    np.testing.assert_array_equal(np.union1d(one.train, one.validation), np.arange(40))
    other = Experiment.open(config.replace(validation=0.25, split_seed=1)).split
    assert one.sha256 != other.sha256
    with pytest.raises(UserError, match="query and (train|validation) share 1 item"):
        Experiment.open(config.replace(validation=0.25, allow_leak=False))


def test_run_uses_the_parts_of_its_data(config, tmp_path):
    labels, part = np.arange(200) % 10, np.repeat([0, 1], [150, 50])
    np.savez(tmp_path / "some.npz", features=np.eye(200), labels=labels, split=part)
    with pytest.raises(UserError, match="these data have 50 and 150"):
        Experiment.open(config.replace(protocol="cifar10-ii"))
    split = Experiment.open(config.replace(protocol="zero-shot", split_seed=2)).split
    assert split.name == "zero-shot@45-seed2" and sizes(split) == [105, 15, 45]


def test_step_on_items_of_several_classes(config):
    """The bank of HashNet holds rows of labels, those of the batch after the step."""
    config = config.replace(quantizer="none")
    experiment = Experiment.open(config)
    batch = next(experiment.batches())
    state, metrics = jax.jit(experiment.step_function())(experiment.initial_state(), batch)
    assert np.isfinite(metrics["loss"]) and metrics["loss"] > 0
    banks = [leaf for leaf in jax.tree.leaves(state.objective_state) if leaf.shape == (40, 4)]
    np.testing.assert_array_equal(banks[0][batch.index], batch.labels)
    np.testing.assert_array_equal(batch.labels, experiment.source.labels[batch.index])
