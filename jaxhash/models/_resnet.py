"""Residual networks."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from jaxhash.models._base import Backbone, Block, max_pool
from jaxhash.models._preprocessing import IMAGENET, Preprocessing
from jaxhash.models._weight_names import (
    WeightNames,
    merge,
    pytorch_batch_norm,
    pytorch_convolution,
    pytorch_dense,
)


class Stem(Block):
    """A 7x7 convolution and a 3x3 pooling, each of stride 2."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h4 w4 64"]:
        x = self.conv(64, 7, stride=2, padding=3, name="conv")(x)
        x = nn.relu(self.batch_norm(name="norm")(x, train=train, mask=mask))
        return max_pool(x, 3, 2, ((1, 1), (1, 1)))


class BasicBlock(Block):
    """Two 3x3 convolutions around which the input is added."""

    width: int
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 width"]:
        norm = partial(_normalized, self, train, mask)
        y = nn.relu(norm(self.conv(self.width, 3, stride=self.stride, padding=1, name="conv1"), x))
        y = norm(self.conv(self.width, 3, padding=1, name="conv2"), y)
        return nn.relu(y + self.shortcut(norm, x))

    def shortcut(self, norm: Callable, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 width"]:
        """Returns the input in the shape of the result, by ``norm(conv, x)`` if that differs."""
        return _shortcut(self, norm, x, self.width)


class Bottleneck(Block):
    """A 1x1, a 3x3 and a 1x1 convolution to four times the width; the input is added.

    The 3x3 convolution has the stride, as in torchvision ("v1.5") and its weights, not the first
    convolution, as in the paper.
    """

    width: int
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 width4"]:
        norm = partial(_normalized, self, train, mask)
        y = nn.relu(norm(self.conv(self.width, 1, name="conv1"), x))
        y = nn.relu(norm(self.conv(self.width, 3, stride=self.stride, padding=1, name="conv2"), y))
        y = norm(self.conv(4 * self.width, 1, name="conv3"), y)
        return nn.relu(y + _shortcut(self, norm, x, 4 * self.width))


def residual_names(target: str, source: str, convolutions: int) -> list[WeightNames]:
    """Maps the normalized convolutions of a block, which both sides count from 1."""
    return [
        merge(
            pytorch_convolution(f"{target}/conv{k}", f"{source}.conv{k}"),
            pytorch_batch_norm(f"{target}/norm{k}", f"{source}.bn{k}"),
        )
        for k in range(1, convolutions + 1)
    ]


def _normalized(block, train, mask, conv, x):
    name = conv.name.replace("conv", "norm") if "conv" in conv.name else f"{conv.name}_norm"
    return block.batch_norm(name=name)(conv(x), train=train, mask=mask)


def _shortcut(block, norm, x, features):
    if block.stride == 1 and x.shape[-1] == features:
        return x
    return norm(block.conv(features, 1, stride=block.stride, name="shortcut"), x)


class ResNet(Backbone, kw_only=True):
    """A residual network of four stages after the stem.

    Features are the means over positions of the last stage: 512 with basic blocks, else 2,048.

    Attributes:
        block: `BasicBlock` or `Bottleneck`.
        sizes: number of blocks of each stage.

    Reference:
        He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016; weights and
        the position of the strides are torchvision's.
    """

    block: type[Block]
    sizes: tuple[int, ...]
    preprocessing: Preprocessing = IMAGENET

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields the stem, then the four stages."""
        yield [partial(Stem)]
        for i, size in enumerate(self.sizes):
            strides = [2 if i else 1] + [1] * (size - 1)
            yield [partial(self.block, width=64 * 2**i, stride=stride) for stride in strides]

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the names of torchvision and timm."""
        names = [
            pytorch_convolution("stage0_0/conv", "conv1"),
            pytorch_batch_norm("stage0_0/norm", "bn1"),
            pytorch_dense("classifier", "fc"),
        ]
        convolutions = 3 if self.block is Bottleneck else 2
        for i, size in enumerate(self.sizes):
            for j in range(size):
                target, source = f"stage{i + 1}_{j}", f"layer{i + 1}.{j}"
                names += residual_names(target, source, convolutions)
                if j == 0 and (i or self.block is Bottleneck):
                    names += [
                        pytorch_convolution(f"{target}/shortcut", f"{source}.downsample.0"),
                        pytorch_batch_norm(f"{target}/shortcut_norm", f"{source}.downsample.1"),
                    ]
        return {"pytorch": merge(*names)}


def resnet18(**options: Any) -> ResNet:
    """ResNet-18: 11,689,512 parameters with 1,000 classes; 512 features."""
    return ResNet(block=BasicBlock, sizes=(2, 2, 2, 2), **options)


def resnet34(**options: Any) -> ResNet:
    """ResNet-34: 21,797,672 parameters with 1,000 classes; 512 features."""
    return ResNet(block=BasicBlock, sizes=(3, 4, 6, 3), **options)


def resnet50(**options: Any) -> ResNet:
    """ResNet-50: 25,557,032 parameters with 1,000 classes; 2,048 features."""
    return ResNet(block=Bottleneck, sizes=(3, 4, 6, 3), **options)


def resnet101(**options: Any) -> ResNet:
    """ResNet-101: 44,549,160 parameters with 1,000 classes; 2,048 features."""
    return ResNet(block=Bottleneck, sizes=(3, 4, 23, 3), **options)
