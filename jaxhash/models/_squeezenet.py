"""SqueezeNet."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxhash.models._base import Backbone, Block, max_pool
from jaxhash.models._preprocessing import IMAGENET, Preprocessing
from jaxhash.models._weight_names import (
    SourceTensor,
    WeightNames,
    identity,
    merge,
    pytorch_convolution,
)

# Width of the squeezing layer of fire2 to fire9, by stage; each expansion is four times as wide.
_SQUEEZE = ((16, 16), (32, 32), (48, 48, 64, 64))

# Positions of fire2 to fire9 in torchvision's list of layers, which includes ReLUs and poolings.
_POSITIONS = (3, 4, 6, 7, 9, 10, 11, 12)


class Stem(Block):
    """A 3x3 convolution of stride 2 without padding, with a ReLU."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 64"]:
        return nn.relu(self.conv(64, 3, stride=2, bias=True, name="conv")(x))


class Fire(Block):
    """A 1x1 convolution to few channels, then a 1x1 and a 3x3 one in parallel, all with ReLUs.

    Attributes:
        squeeze: channels of the first convolution; the parallel ones have four times as many each.
        pool: whether a 3x3 max pooling of stride 2 comes first, whose last window may overhang.
    """

    squeeze: int
    pool: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 squeeze8"]:
        if self.pool:
            over = [(0, (size - 3) % 2) for size in x.shape[1:3]]
            x = max_pool(x, 3, 2, over)
        conv = partial(self.conv, bias=True)
        x = nn.relu(conv(self.squeeze, 1, name="squeeze")(x))
        small = conv(4 * self.squeeze, 1, name="expand1x1")(x)
        large = conv(4 * self.squeeze, 3, padding=1, name="expand3x3")(x)
        return nn.relu(jnp.concatenate([small, large], axis=-1))


class SqueezeNet(Backbone):
    """SqueezeNet 1.1: a stem, then fire modules, with one stage per resolution.

    Features are the 512 means over positions of fire9. The classifier is a 1x1 convolution with a
    ReLU, then a mean. The dropout of 0.5 before it is omitted: it belongs to the classifier.

    Reference:
        Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet: AlexNet-level accuracy with
        50x fewer parameters", arXiv 1602.07360; version 1.1 is from the authors'
        repository. In Caffe and torchvision the last window of a pooling may overhang, in Keras it
        may not: at 224x224 and 227x227 no window overhangs.
    """

    preprocessing: Preprocessing = IMAGENET

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields the stem, then fire2-3, fire4-5 and fire6-9."""
        yield [partial(Stem)]
        for widths in _SQUEEZE:
            yield [partial(Fire, squeeze=width, pool=j == 0) for j, width in enumerate(widths)]

    def readout(self, x: Float[Array, "n h w c"]) -> Float[Array, "n features"]:
        """Returns the means over positions of fire9, or of the classifier's maps."""
        if self.classes is not None:
            x = nn.relu(self.conv(self.classes, 1, bias=True, name="classifier")(x))
        return x.mean(axis=(1, 2))

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the names of torchvision, and of the Keras files of rcmalli/keras-squeezenet."""
        fires = [f"stage{i}_{j}" for i, row in enumerate(_SQUEEZE, 1) for j in range(len(row))]
        layers = [("stage0_0/conv", "features.0", "conv1")]
        for number, (fire, position) in enumerate(zip(fires, _POSITIONS, strict=True), 2):
            layers += [
                (f"{fire}/squeeze", f"features.{position}.squeeze", f"fire{number}/squeeze1x1"),
                (f"{fire}/expand1x1", f"features.{position}.expand1x1", f"fire{number}/expand1x1"),
                (f"{fire}/expand3x3", f"features.{position}.expand3x3", f"fire{number}/expand3x3"),
            ]
        layers.append(("classifier", "classifier.1", "conv10"))
        return {
            "pytorch": merge(
                *(pytorch_convolution(target, source, bias=True) for target, source, _ in layers)
            ),
            "keras": merge(
                *(
                    _keras(target, source, count)
                    for count, (target, _, source) in enumerate(layers, 1)
                )
            ),
        }


def _keras(target: str, source: str, count: int) -> WeightNames:
    """Maps a convolution; the file numbers its kernels uniform1, uniform2, ... in order."""
    return {
        f"params/{target}/kernel": SourceTensor(f"{source}/uniform{count}", identity),
        f"params/{target}/bias": SourceTensor(f"{source}/{source}_b", identity),
    }


def squeezenet1_1(**options: Any) -> SqueezeNet:
    """SqueezeNet 1.1: 1,235,496 parameters with 1,000 classes; 512 features.

    Weights from Keras require ``preprocessing=jaxhash.models.CAFFE``.
    """
    return SqueezeNet(**options)
