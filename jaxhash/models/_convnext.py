"""ConvNeXt: convolutional networks with the parts of transformers."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxhash.models._base import Backbone, Block
from jaxhash.models._preprocessing import IMAGENET, Preprocessing
from jaxhash.models._weight_names import (
    SourceTensor,
    WeightNames,
    merge,
    pytorch_convolution,
    pytorch_dense,
    pytorch_norm,
)


class Stem(Block):
    """A 4x4 convolution of stride 4 and a normalization."""

    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h4 w4 width"]:
        x = self.conv(self.width, 4, stride=4, bias=True, name="conv")(x)
        return self.layer_norm(name="norm")(x)


class Downsample(Block):
    """A normalization and a 2x2 convolution of stride 2."""

    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 width"]:
        x = self.layer_norm(name="norm")(x)
        return self.conv(self.width, 2, stride=2, bias=True, name="conv")(x)


class ConvNeXtBlock(Block):
    """A depthwise 7x7 convolution and an MLP on the channels, with a residual connection."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w width"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h w width"]:
        width = x.shape[-1]
        y = self.conv(width, 7, padding=3, groups=width, bias=True, name="conv")(x)
        y = self.layer_norm(name="norm")(y)
        y = nn.gelu(self.dense(4 * width, name="mlp1")(y), approximate=False)
        y = self.dense(width, name="mlp2")(y)
        small = nn.initializers.constant(1e-6)
        scale = self.param("layer_scale", small, (width,), self.param_dtype)
        return x + y * scale.astype(y.dtype).reshape(1, 1, 1, -1)


class ConvNeXt(Backbone, kw_only=True):
    """A ConvNeXt of four stages after the stem.

    Features are the means over positions, normalized. That normalization belongs to no stage; in
    torchvision it belongs to the classifier (``classifier.0``). Stochastic depth, which only acts
    in training, is omitted. Kernels have Linen's initialization, not the original normal of 0.02.

    Attributes:
        sizes: number of blocks of each stage.
        widths: number of channels of each stage.

    Reference:
        Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s", CVPR 2022.
    """

    sizes: tuple[int, ...]
    widths: tuple[int, ...]
    preprocessing: Preprocessing = IMAGENET

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields the stem, then the stages; all but the first start by halving the resolution."""
        yield [partial(Stem, width=self.widths[0])]
        for i, (size, width) in enumerate(zip(self.sizes, self.widths, strict=True)):
            downsample = [partial(Downsample, width=width)] if i else []
            yield downsample + [partial(ConvNeXtBlock)] * size

    def readout(self, x: Float[Array, "n h w c"]) -> Float[Array, "n features"]:
        """Returns the normalized means over positions, or logits of them."""
        features = self.layer_norm(name="norm")(x.mean(axis=(1, 2)))
        return features if self.classes is None else self.classify(features)

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the names of torchvision and timm."""
        return {
            "torchvision": self._names(
                stem="features.0.{}",
                downsample="features.{down}.{part}",
                block="features.{stage}.{block}.",
                parts=("block.0", "block.2", "block.3", "block.5", "layer_scale"),
                norm="classifier.0",
                head="classifier.2",
            ),
            "timm": self._names(
                stem="stem.{}",
                downsample="stages.{i}.downsample.{part}",
                block="stages.{i}.blocks.{block}.",
                parts=("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
                norm="head.norm",
                head="head.fc",
            ),
        }

    def _names(self, *, stem, downsample, block, parts, norm, head) -> WeightNames:
        names = [
            pytorch_convolution("stage0_0/conv", stem.format(0), bias=True),
            pytorch_norm("stage0_0/norm", stem.format(1)),
            pytorch_norm("norm", norm),
            pytorch_dense("classifier", head),
        ]
        for i, size in enumerate(self.sizes):
            if i:
                source = partial(downsample.format, i=i, down=2 * i)
                names += [
                    pytorch_norm(f"stage{i + 1}_0/norm", source(part=0)),
                    pytorch_convolution(f"stage{i + 1}_0/conv", source(part=1), bias=True),
                ]
            for j in range(size):
                target = f"stage{i + 1}_{j + (i > 0)}"
                prefix = block.format(i=i, stage=2 * i + 1, block=j)
                conv, layer_norm, mlp1, mlp2, scale = (prefix + part for part in parts)
                names += [
                    pytorch_convolution(f"{target}/conv", conv, bias=True),
                    pytorch_norm(f"{target}/norm", layer_norm),
                    pytorch_dense(f"{target}/mlp1", mlp1),
                    pytorch_dense(f"{target}/mlp2", mlp2),
                    {f"params/{target}/layer_scale": SourceTensor(scale, np.ravel)},
                ]
        return merge(*names)


def convnext_tiny(**options: Any) -> ConvNeXt:
    """ConvNeXt-T: 28,589,128 parameters with 1,000 classes; 768 features."""
    return ConvNeXt(sizes=(3, 3, 9, 3), widths=(96, 192, 384, 768), **options)
