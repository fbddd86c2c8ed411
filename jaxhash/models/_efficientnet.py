"""EfficientNet-Lite."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from jaxhash.models._base import Backbone, Block
from jaxhash.models._mobilenet import InvertedResidual, Stem, Top
from jaxhash.models._preprocessing import EFFICIENTNET_LITE, Preprocessing
from jaxhash.models._weight_names import (
    WeightNames,
    merge,
    pytorch_batch_norm,
    pytorch_convolution,
    pytorch_dense,
)

# Expansion, channels, blocks, stride and kernel of each stage of bottlenecks of Lite0.
_BOTTLENECKS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)

_EPSILON = 1e-3


class EfficientNetLite(Backbone, kw_only=True):
    """An EfficientNet-Lite: a stem, seven stages of bottlenecks, a last convolution.

    EfficientNet for devices that compute with integers: its blocks are MobileNetV2's, with ReLU6
    for Swish and without squeeze and excitation. In a larger network the stem, the last
    convolution, and the number of blocks of the first and of the last stage stay the same.

    Features are the 1,280 means over positions. Stochastic depth, which only acts in training, is
    omitted, and the dropout of 0.2 or 0.3 before the published classifier belongs to that.

    Attributes:
        width: factor on the channels of the stages, which are rounded to multiples of 8.
        depth: factor on the number of blocks of a stage, which is rounded up.

    Reference:
        Tan, Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML
        2019, table 1; the Lite variants, their padding ("SAME") and the epsilon of their batch
        normalization (1e-3) are those of TensorFlow's TPU repository, 2020.
    """

    width: float
    depth: float
    preprocessing: Preprocessing = EFFICIENTNET_LITE

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields the stem, the stages of bottlenecks, and the last convolution."""
        options = {"epsilon": _EPSILON}
        yield [partial(Stem, padding="SAME", **options)]
        for (expansion, channels, _, stride, kernel), blocks in zip(
            _BOTTLENECKS, self._blocks(), strict=True
        ):
            make = partial(
                InvertedResidual,
                width=round_channels(channels * self.width),
                expansion=expansion,
                kernel=kernel,
                padding="SAME",
                **options,
            )
            yield [partial(make, stride=1 if j else stride) for j in range(blocks)]
        yield [partial(Top, **options)]

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the names of the PyTorch ports (EfficientNet-PyTorch's)."""
        names = [
            pytorch_convolution("stage0_0/conv", "_conv_stem"),
            pytorch_batch_norm("stage0_0/norm", "_bn0"),
        ]
        position = 0
        for i, blocks in enumerate(self._blocks(), start=1):
            expands = _BOTTLENECKS[i - 1][0] > 1
            for j in range(blocks):
                target, source = f"stage{i}_{j}", f"_blocks.{position}"
                layers = ("expand", "depthwise", "project")
                for k, layer in enumerate(layers):
                    if layer == "expand" and not expands:
                        continue
                    names += [
                        pytorch_convolution(f"{target}/{layer}", f"{source}._{layer}_conv"),
                        pytorch_batch_norm(f"{target}/{layer}_norm", f"{source}._bn{k}"),
                    ]
                position += 1
        top = f"stage{len(_BOTTLENECKS) + 1}_0"
        names += [
            pytorch_convolution(f"{top}/conv", "_conv_head"),
            pytorch_batch_norm(f"{top}/norm", "_bn1"),
            pytorch_dense("classifier", "_fc"),
        ]
        return {"pytorch": merge(*names)}

    def _blocks(self) -> list[int]:
        """Returns the number of blocks of each stage of bottlenecks."""
        first, *inner, last = (blocks for _, _, blocks, _, _ in _BOTTLENECKS)
        return [first, *(-int(-blocks * self.depth // 1) for blocks in inner), last]


class EfficientNetLite2(EfficientNetLite, kw_only=True):
    """An EfficientNet-Lite for images of 260 x 260."""

    preprocessing: Preprocessing = dataclasses.replace(EFFICIENTNET_LITE, crop=260 / 292)

    image_size: ClassVar[int] = 260


def round_channels(channels: float) -> int:
    """Rounds to the next multiple of 8, but not down by more than a tenth.

    Example:
        >>> [round_channels(channels) for channels in (26.4, 44.0, 211.2, 11.0)]
        [24, 48, 208, 16]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def efficientnet_lite0(**options: Any) -> EfficientNetLite:
    """EfficientNet-Lite0: 4,652,008 parameters with 1,000 classes; 1,280 features."""
    return EfficientNetLite(width=1.0, depth=1.0, **options)


def efficientnet_lite2(**options: Any) -> EfficientNetLite2:
    """EfficientNet-Lite2: 6,092,072 parameters with 1,000 classes; 1,280 features."""
    return EfficientNetLite2(width=1.1, depth=1.2, **options)
