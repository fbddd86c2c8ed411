"""AlexNet."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from jaxhash.models._base import Backbone, Block, max_pool
from jaxhash.models._fully_connected import FullyConnected, pytorch_flattened_dense
from jaxhash.models._preprocessing import IMAGENET, Preprocessing
from jaxhash.models._weight_names import WeightNames, merge, pytorch_convolution, pytorch_dense

_GRID = 6


class Convolution(Block):
    """A convolution with a ReLU, optionally followed by a 3x3 max pooling of stride 2."""

    width: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pool: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 width"]:
        conv = self.conv(
            self.width,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            bias=True,
            name="conv",
        )
        x = nn.relu(conv(x))
        return max_pool(x, 3, 2) if self.pool else x


class AlexNet(Backbone):
    """AlexNet: five convolutions, then the fully connected layers fc6 and fc7, each a stage.

    Features are the 4,096 of fc7 after its ReLU. Before fc6, average pooling brings the last
    convolution to 6x6, its size for images of 224x224.

    Attributes:
        dropout: rate of dropout before fc6 and before fc7.

    Reference:
        Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural
        networks", NIPS 2012. This is torchvision's form: one tower, without local response
        normalization, of Krizhevsky, "One weird trick for parallelizing convolutional neural
        networks", 2014. Caffe's weights have the older form.
    """

    dropout: float = 0.5
    preprocessing: Preprocessing = IMAGENET

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields conv1 to conv5, fc6 and fc7."""
        yield [partial(Convolution, width=64, kernel=11, stride=4, padding=2, pool=True)]
        yield [partial(Convolution, width=192, kernel=5, padding=2, pool=True)]
        yield [partial(Convolution, width=384)]
        yield [partial(Convolution, width=256)]
        yield [partial(Convolution, width=256, pool=True)]
        yield [partial(FullyConnected, grid=_GRID, dropout_before=self.dropout)]
        yield [partial(FullyConnected, dropout_before=self.dropout)]

    def readout(self, x: Float[Array, "n width"]) -> Float[Array, "n features"]:
        """Returns fc7, or logits of it."""
        return x if self.classes is None else self.classify(x)

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the names of torchvision."""
        convolutions = [
            pytorch_convolution(f"stage{i}_0/conv", f"features.{j}", bias=True)
            for i, j in enumerate((0, 3, 6, 8, 10))
        ]
        return {
            "pytorch": merge(
                *convolutions,
                pytorch_flattened_dense("stage5_0/dense", "classifier.1", grid=_GRID),
                pytorch_dense("stage6_0/dense", "classifier.4"),
                pytorch_dense("classifier", "classifier.6"),
            )
        }


def alexnet(**options: Any) -> AlexNet:
    """AlexNet: 61,100,840 parameters with 1,000 classes; 4,096 features."""
    return AlexNet(**options)
