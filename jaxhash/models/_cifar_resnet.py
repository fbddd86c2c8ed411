"""Residual networks for images of 32x32."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxhash.models._base import Backbone, Block
from jaxhash.models._preprocessing import IMAGENET, Preprocessing
from jaxhash.models._resnet import BasicBlock, residual_names
from jaxhash.models._weight_names import (
    WeightNames,
    merge,
    pytorch_batch_norm,
    pytorch_convolution,
    pytorch_dense,
)

_WIDTHS = (16, 32, 64)


class Stem(Block):
    """A 3x3 convolution, normalized, with a ReLU."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h w 16"]:
        x = self.conv(_WIDTHS[0], 3, padding=1, name="conv")(x)
        return nn.relu(self.batch_norm(name="norm")(x, train=train, mask=mask))


class PaddedBlock(BasicBlock):
    """Two 3x3 convolutions around which the input is added, by a shortcut without parameters.

    If the block changes the shape, the shortcut takes every other pixel and pads the channels with
    equally many zeros on both sides (option A of the paper).
    """

    def shortcut(self, norm: Callable, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 width"]:
        """Returns every ``stride``-th pixel, between channels of zeros."""
        zeros = (self.width - x.shape[-1]) // 2
        x = x[:, :: self.stride, :: self.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (zeros, zeros)))


class CifarResNet(Backbone, kw_only=True):
    """A residual network for images of 32x32: a stem, then three stages of equally many blocks.

    Features are the 64 means over positions of the last stage.

    Attributes:
        blocks: number of blocks of each stage; the network is 6 blocks + 2 layers deep.

    Reference:
        He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, 4.2; weight
        names and preprocessing are those of akamaster/pytorch_resnet_cifar10.
    """

    blocks: int
    preprocessing: Preprocessing = IMAGENET

    image_size: ClassVar[int] = 32

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields the stem, then the three stages."""
        yield [partial(Stem)]
        for i, width in enumerate(_WIDTHS):
            strides = [2 if i else 1] + [1] * (self.blocks - 1)
            yield [partial(PaddedBlock, width=width, stride=stride) for stride in strides]

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the names of akamaster/pytorch_resnet_cifar10."""
        names = [
            pytorch_convolution("stage0_0/conv", "conv1"),
            pytorch_batch_norm("stage0_0/norm", "bn1"),
            pytorch_dense("classifier", "linear"),
        ]
        for i in range(1, len(_WIDTHS) + 1):
            for j in range(self.blocks):
                names += residual_names(f"stage{i}_{j}", f"layer{i}.{j}", 2)
        return {"pytorch": merge(*names)}


def cifar_resnet20(**options: Any) -> CifarResNet:
    """ResNet-20 for CIFAR: 269,722 parameters with 10 classes; 64 features."""
    return CifarResNet(blocks=3, **options)


def cifar_resnet32(**options: Any) -> CifarResNet:
    """ResNet-32 for CIFAR: 464,154 parameters with 10 classes; 64 features."""
    return CifarResNet(blocks=5, **options)


def cifar_resnet44(**options: Any) -> CifarResNet:
    """ResNet-44 for CIFAR: 658,586 parameters with 10 classes; 64 features."""
    return CifarResNet(blocks=7, **options)


def cifar_resnet56(**options: Any) -> CifarResNet:
    """ResNet-56 for CIFAR: 853,018 parameters with 10 classes; 64 features."""
    return CifarResNet(blocks=9, **options)
