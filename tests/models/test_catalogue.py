"""Backbones and preprocessings by name."""

import dataclasses
from typing import get_args

import pytest

from jaxhash import models


def test_every_name_makes_a_backbone():
    assert get_args(models.BackboneName) == tuple(models.BACKBONES)
    for name, make in models.BACKBONES.items():
        assert isinstance(make(), models.Backbone) and make().stages()
        assert make.__name__.replace("_", "-").lower() == name


def test_every_preprocessing_has_a_name():
    assert get_args(models.PreprocessingName) == ("published", *models.PREPROCESSINGS)


@pytest.mark.parametrize("name", models.PREPROCESSINGS)
def test_preprocessing_and_options_reach_the_backbone(name):
    model = models.backbone_factory(
        "resnet18", preprocessing=name, image_size=96, freeze_stages=2
    )()
    expected = dataclasses.replace(models.PREPROCESSINGS[name], size=96, channels=3)
    assert model.preprocessing == expected
    assert model.freeze_stages == 2


def test_unknown_preprocessing(unchecked):
    with pytest.raises(ValueError, match="preprocessing must be one of .*, got 'imagnet'"):
        models.backbone_factory("resnet18", preprocessing="imagnet")


def test_published_preprocessing_is_that_of_the_backbone():
    assert models.backbone_factory("resnet18")().preprocessing == models.IMAGENET
    centred = dataclasses.replace(models.CENTRED, channels=3)
    for name in ("mobilenet-v2-tf", "vit-s16-flax", "vit-b16-flax"):
        assert models.backbone_factory(name)().preprocessing == centred
    assert models.vit_s16_flax() == models.vit_s16(gelu="tanh", preprocessing=centred)
    assert models.vit_b16_flax() == models.vit_b16(gelu="tanh", preprocessing=centred)
    assert models.backbone_factory("cnn", preprocessing="imagenet")().preprocessing.channels is None


def test_how_files_are_cropped_stays_as_published():
    for name, crop in {"efficientnet-lite0": 224 / 256, "efficientnet-lite2": 260 / 292}.items():
        published = dataclasses.replace(models.EFFICIENTNET_LITE, crop=crop)
        assert models.backbone_factory(name)().preprocessing == published
        other = models.backbone_factory(name, preprocessing="imagenet", image_size=32)()
        assert other.preprocessing == dataclasses.replace(
            models.IMAGENET, size=32, crop=crop, interpolation="bicubic"
        )
