"""MobileNetV2."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from jaxhash.models._base import Backbone, Block
from jaxhash.models._preprocessing import CENTRED_RGB, IMAGENET, Preprocessing
from jaxhash.models._weight_names import (
    WeightNames,
    merge,
    pytorch_batch_norm,
    pytorch_convolution,
    pytorch_dense,
)

Padding = Literal[1, "SAME"]

# Expansion, channels, blocks and stride of each stage of bottlenecks: table 2 of the paper.
_BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class Stem(Block):
    """A normalized 3x3 convolution of stride 2 with a ReLU6."""

    padding: Padding
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 32"]:
        x = self.conv(32, 3, stride=2, padding=self.padding, name="conv")(x)
        norm = self.batch_norm(epsilon=self.epsilon, name="norm")
        return nn.relu6(norm(x, train=train, mask=mask))


class InvertedResidual(Block):
    """A 1x1 expansion, a depthwise convolution, and a 1x1 projection without a ReLU.

    The input is added if the shape does not change. With expansion 1 the first convolution is
    omitted.
    """

    width: int
    expansion: int
    stride: int
    padding: Padding
    kernel: int = 3
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 width"]:
        def norm(y, name):
            return self.batch_norm(epsilon=self.epsilon, name=name)(y, train=train, mask=mask)

        features = x.shape[-1]
        hidden = self.expansion * features
        y = x
        if self.expansion > 1:
            y = self.conv(hidden, 1, name="expand")(y)
            y = nn.relu6(norm(y, "expand_norm"))
        y = self.conv(
            hidden,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            groups=hidden,
            name="depthwise",
        )(y)
        y = nn.relu6(norm(y, "depthwise_norm"))
        y = self.conv(self.width, 1, name="project")(y)
        y = norm(y, "project_norm")
        return x + y if self.stride == 1 and self.width == features else y


class Top(Block):
    """A normalized 1x1 convolution to 1,280 channels with a ReLU6."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h w 1280"]:
        x = self.conv(1280, 1, name="conv")(x)
        norm = self.batch_norm(epsilon=self.epsilon, name="norm")
        return nn.relu6(norm(x, train=train, mask=mask))


class MobileNetV2(Backbone):
    """MobileNetV2: a stem, seven stages of bottlenecks (table 2 of the paper), a last convolution.

    Features are the 1,280 means over positions. The dropout of 0.2 before the published classifier
    is omitted: it belongs to the classifier.

    Attributes:
        padding: padding of the 3x3 convolutions: a pixel on each side as in PyTorch, or
            TensorFlow's ``"SAME"``, which at stride 2 and an even size pads only the bottom and the
            right.

    Reference:
        Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: inverted residuals and linear
        bottlenecks", CVPR 2018. The epsilon of batch normalization is torchvision's, 1e-5;
        TensorFlow's is 1e-3.
    """

    padding: Padding = 1
    preprocessing: Preprocessing = IMAGENET

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields the stem, the stages of bottlenecks, and the last convolution."""
        yield [partial(Stem, padding=self.padding)]
        for expansion, width, blocks, stride in _BOTTLENECKS:
            make = partial(InvertedResidual, width=width, expansion=expansion, padding=self.padding)
            yield [partial(make, stride=1 if j else stride) for j in range(blocks)]
        yield [partial(Top)]

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the names of torchvision."""
        names = _normalized("stage0_0/conv", "features.0.0", "stage0_0/norm", "features.0.1")
        position = 1
        for i, (expansion, _, blocks, _) in enumerate(_BOTTLENECKS, start=1):
            for j in range(blocks):
                target, source = f"stage{i}_{j}", f"features.{position}.conv"
                layers = ["expand", "depthwise"] if expansion > 1 else ["depthwise"]
                for k, layer in enumerate(layers):
                    names += _normalized(
                        f"{target}/{layer}",
                        f"{source}.{k}.0",
                        f"{target}/{layer}_norm",
                        f"{source}.{k}.1",
                    )
                k = len(layers)
                names += _normalized(
                    f"{target}/project",
                    f"{source}.{k}",
                    f"{target}/project_norm",
                    f"{source}.{k + 1}",
                )
                position += 1
        top = f"stage{len(_BOTTLENECKS) + 1}_0"
        names += _normalized(
            f"{top}/conv", f"features.{position}.0", f"{top}/norm", f"features.{position}.1"
        )
        names.append(pytorch_dense("classifier", "classifier.1"))
        return {"pytorch": merge(*names)}


def _normalized(conv, source_conv, norm, source_norm):
    return [pytorch_convolution(conv, source_conv), pytorch_batch_norm(norm, source_norm)]


def mobilenet_v2(**options: Any) -> MobileNetV2:
    """MobileNetV2 of torchvision: 3,504,872 parameters with 1,000 classes; 1,280 features."""
    return MobileNetV2(**options)


def mobilenet_v2_tf(*, preprocessing: Preprocessing = CENTRED_RGB, **options: Any) -> MobileNetV2:
    """MobileNetV2 for weights from TensorFlow: with its padding and its preprocessing.

    Names and the epsilon of batch normalization are still torchvision's. The epsilon does not
    matter for weights whose normalization is folded into scale and bias.
    """
    return MobileNetV2(padding="SAME", preprocessing=preprocessing, **options)
