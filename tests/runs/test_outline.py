"""Experiments without values: the step is that of the training, and described data cost nothing."""

import dataclasses
import tracemalloc

import jax
import numpy as np
import pytest

from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.outline import DataShape, open_data, outline_experiment
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.utils.errors import UserError

DIGITS = DataShape(items=800, classes=10, input_shape=(8, 8, 1))
VECTORS = dataclasses.replace(DIGITS, input_shape=(64,))


def lowered(experiment):
    return experiment.make_step().lower(experiment.abstract_state(), experiment.abstract_batch())


@pytest.fixture(scope="module")
def opened():
    # A codebook, drawn for the classes.
    config = digits_hashnet_hswd().replace(objective="csq", quantizer="none", model="linear")
    return Experiment.open(config)


@pytest.mark.parametrize("shape", [None, DIGITS], ids=["opened", "described"])
def test_the_step_is_that_of_the_training(opened, shape):
    outline = outline_experiment(opened.config, *open_data(opened.config, shape))
    assert lowered(outline).as_text() == lowered(opened).as_text()


def test_a_hundred_million_images_take_no_memory():
    tracemalloc.start()
    source, split = DataShape(10**8, 1000, (224, 224, 3)).make_source()
    config = Config().replace(model="cnn", quantizer="none", batch_size=1024, bits=64)
    experiment = outline_experiment(config, source, split)
    batch, state = experiment.abstract_batch(), experiment.abstract_state()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**28
    assert batch.inputs.shape == (1024, 224, 224, 3) and batch.inputs.dtype == np.uint8
    assert experiment.steps_per_epoch == -(-(10**8) // 1024)
    assert max(leaf.size for leaf in jax.tree.leaves(state.objective_state)) >= 64 * 10**8


def test_labels_may_be_several():
    shape = dataclasses.replace(DIGITS, is_multi_label=True)
    config = digits_hashnet_hswd().replace(objective="hashnet")
    batch = outline_experiment(config, *shape.make_source()).abstract_batch()
    assert batch.labels.shape == (100, 10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"items": 0}, "`items` must be from 1"),
        ({"items": 2**31}, "`items` must be from 1"),
        ({"classes": 0}, "`classes` must be from 1"),
        ({"input_shape": (3, 3)}, "`input_shape=3x3`"),
        ({"input_shape": (0,)}, "`input_shape=0`"),
    ],
)
def test_a_shape_that_no_data_have_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(DIGITS, **change).make_source()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "resnet50"}, "feature vectors"),
        ({"batch_size": 10**6}, "batch_size"),
        ({"similarity": "coarse"}, "coarse"),
        ({"bits": 0}, "bits"),
    ],
)
def test_what_does_not_go_with_the_data_is_refused(fields, words):
    config = digits_hashnet_hswd().replace(**fields)
    with pytest.raises(UserError, match=words):
        outline_experiment(config, *VECTORS.make_source())


def test_data_that_are_not_here_can_be_described(tmp_path):
    config = Config().replace(dataset="features:nowhere.npz", data_dir=tmp_path, model="mlp")
    with pytest.raises(UserError, match="nowhere.npz.*`items`, `classes` and `input_shape`"):
        open_data(config)
    source, split = open_data(config, VECTORS)
    assert len(split.train) == 800 and source.inputs[:1].shape == (1, 64)


def test_weights_are_not_read(tmp_path):
    """They change no shape, and may lie on the machine that trains only."""
    config = digits_hashnet_hswd().replace(weights=tmp_path / "none.pth", model="mlp")
    assert outline_experiment(config, *VECTORS.make_source()).pretrained is None
