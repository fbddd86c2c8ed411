"""VGG networks."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from jaxhash.models._base import Backbone, Block, max_pool
from jaxhash.models._fully_connected import FullyConnected, pytorch_flattened_dense
from jaxhash.models._preprocessing import IMAGENET, Preprocessing
from jaxhash.models._weight_names import (
    WeightNames,
    merge,
    pytorch_batch_norm,
    pytorch_convolution,
    pytorch_dense,
)

_GRID = 7


class Convolution(Block):
    """A 3x3 convolution with a ReLU, optionally with normalization and a 2x2 max pooling."""

    width: int
    norm: bool
    pool: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 width"]:
        x = self.conv(self.width, 3, padding=1, bias=True, name="conv")(x)
        if self.norm:
            x = self.batch_norm(name="norm")(x, train=train, mask=mask)
        x = nn.relu(x)
        return max_pool(x, 2, 2) if self.pool else x


class VGG(Backbone, kw_only=True):
    """A VGG network: a stage of 3x3 convolutions for each resolution, then fc6 and fc7, one each.

    Features are the 4,096 of fc7 after its ReLU. Before fc6, average pooling brings the last
    convolution to 7x7, its size for images of 224x224.

    Attributes:
        widths: channels of the convolutions of each stage, which ends with a pooling.
        norm: whether each convolution, which keeps its bias, is batch-normalized.
        dropout: rate of dropout after fc6 and after fc7; it is a part of the features, so a layer
            in place of the classifier is trained as the classifier was.

    Reference:
        Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition",
        ICLR 2015; weights and the position of batch normalization are torchvision's.
    """

    widths: tuple[tuple[int, ...], ...]
    norm: bool = False
    dropout: float = 0.5
    preprocessing: Preprocessing = IMAGENET

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields the convolutions, then fc6 and fc7."""
        for widths in self.widths:
            last = len(widths) - 1
            yield [
                partial(Convolution, width=width, norm=self.norm, pool=j == last)
                for j, width in enumerate(widths)
            ]
        yield [partial(FullyConnected, grid=_GRID, dropout_after=self.dropout)]
        yield [partial(FullyConnected, dropout_after=self.dropout)]

    def readout(self, x: Float[Array, "n width"]) -> Float[Array, "n features"]:
        """Returns fc7, or logits of it."""
        return x if self.classes is None else self.classify(x)

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the names of torchvision, whose numbers count ReLUs and poolings too."""
        names = []
        position = 0
        for i, widths in enumerate(self.widths):
            for j in range(len(widths)):
                target = f"stage{i}_{j}"
                names.append(
                    pytorch_convolution(f"{target}/conv", f"features.{position}", bias=True)
                )
                if self.norm:
                    names.append(pytorch_batch_norm(f"{target}/norm", f"features.{position + 1}"))
                position += 3 if self.norm else 2
            position += 1
        first = len(self.widths)
        names += [
            pytorch_flattened_dense(f"stage{first}_0/dense", "classifier.0", grid=_GRID),
            pytorch_dense(f"stage{first + 1}_0/dense", "classifier.3"),
            pytorch_dense("classifier", "classifier.6"),
        ]
        return {"pytorch": merge(*names)}


_VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg11(**options: Any) -> VGG:
    """VGG-11 (A): 132,863,336 parameters with 1,000 classes; 4,096 features."""
    return VGG(widths=_VGG11, **options)


def vgg11_bn(**options: Any) -> VGG:
    """VGG-11 normalized: 132,868,840 parameters with 1,000 classes; 4,096 features."""
    return VGG(widths=_VGG11, norm=True, **options)


def vgg16(**options: Any) -> VGG:
    """VGG-16 (D): 138,357,544 parameters with 1,000 classes; 4,096 features."""
    return VGG(widths=_VGG16, **options)


def vgg16_bn(**options: Any) -> VGG:
    """VGG-16 normalized: 138,365,992 parameters with 1,000 classes; 4,096 features."""
    return VGG(widths=_VGG16, norm=True, **options)
