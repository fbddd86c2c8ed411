"""Backbones and preprocessings by name."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from jaxhash.models._alexnet import alexnet
from jaxhash.models._base import Backbone
from jaxhash.models._cifar_resnet import (
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
)
from jaxhash.models._convnext import convnext_tiny
from jaxhash.models._efficientnet import efficientnet_lite0, efficientnet_lite2
from jaxhash.models._mobilenet import mobilenet_v2, mobilenet_v2_tf
from jaxhash.models._preprocessing import CAFFE, CENTRED, IMAGENET, Preprocessing
from jaxhash.models._resnet import resnet18, resnet34, resnet50, resnet101
from jaxhash.models._small import CNN, MLP, linear, text_mlp
from jaxhash.models._squeezenet import squeezenet1_1
from jaxhash.models._vgg import vgg11, vgg11_bn, vgg16, vgg16_bn
from jaxhash.models._vit import vit_b16, vit_b16_flax, vit_s16, vit_s16_flax

#: Factory of each backbone; it takes the attributes of `Backbone` as keywords.
BACKBONES: dict[str, Callable[..., Backbone]] = {
    make.__name__.replace("_", "-").lower(): make
    for make in (
        CNN,
        MLP,
        linear,
        text_mlp,
        alexnet,
        vgg11,
        vgg11_bn,
        vgg16,
        vgg16_bn,
        resnet18,
        resnet34,
        resnet50,
        resnet101,
        cifar_resnet20,
        cifar_resnet32,
        cifar_resnet44,
        cifar_resnet56,
        mobilenet_v2,
        mobilenet_v2_tf,
        efficientnet_lite0,
        efficientnet_lite2,
        squeezenet1_1,
        convnext_tiny,
        vit_s16,
        vit_b16,
        vit_s16_flax,
        vit_b16_flax,
    )
}

#: Backbones that take feature vectors rather than images.
VECTOR_BACKBONES = ("mlp", "linear", "text-mlp")

#: Preprocessings by name.
PREPROCESSINGS: dict[str, Preprocessing] = {
    "centred": CENTRED,
    "imagenet": IMAGENET,
    "caffe": CAFFE,
}

if TYPE_CHECKING:  # type checkers do not know what a table holds
    BackboneName = PreprocessingName = str
else:
    BackboneName = Literal[tuple(BACKBONES)]
    #: ``"published"`` means that of the backbone.
    PreprocessingName = Literal[("published", *PREPROCESSINGS)]


def backbone_factory(
    name: BackboneName,
    *,
    preprocessing: PreprocessingName = "published",
    image_size: int | None = None,
    **options: Any,
) -> partial[Backbone]:
    """Returns the factory of a backbone, for `Encoder`.

    Args:
        name: one of `BACKBONES`.
        preprocessing: normalization of images of bytes; which channels there are and how files are
            cropped stay as published.
        image_size: height and width to which images are resized; None keeps their size.
        options: attributes of `Backbone`.

    Raises:
        ValueError: if the preprocessing is unknown.

    Example:
        >>> backbone_factory("cnn", image_size=64)().preprocessing.size
        64
    """
    make = BACKBONES[name]
    published = make().preprocessing
    prepare = PREPROCESSINGS | {"published": published}
    if preprocessing not in prepare:
        raise ValueError(f"preprocessing must be one of {[*prepare]}, got {preprocessing!r}")
    prepared = dataclasses.replace(
        prepare[preprocessing],
        channels=published.channels,
        size=image_size,
        crop=published.crop,
        interpolation=published.interpolation,
    )
    return partial(make, preprocessing=prepared, **options)
