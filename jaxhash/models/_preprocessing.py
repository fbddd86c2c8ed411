"""Preprocessing of image bytes before the first layer."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resizes images of bytes, and normalizes each channel: ``(x - mean) / std``.

    Floating inputs count as preprocessed and are not changed.

    Attributes:
        mean: mean of the bytes, one number or one per channel.
        std: standard deviation of the bytes, one number or one per channel.
        channels: number of channels of the network, to which gray images are broadcast; None for
            any.
        bgr: whether the channels are blue, green, red; ``mean`` then has this order.
        size: height and width to which images are resized bilinearly; None keeps their size.
        crop: share of the shorter side of an image file that its middle square has, which whoever
            reads the file resizes to ``size``.
        interpolation: how that square is resized.

    Example:
        >>> prepare = Preprocessing(mean=(127.5,), std=(127.5,), size=4)
        >>> x = prepare(np.full((1, 2, 2, 1), 255, np.uint8))
        >>> x.shape, float(x.max())
        ((1, 4, 4, 1), 1.0)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int | None = None
    bgr: bool = False
    size: int | None = None
    crop: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __call__(self, inputs: Shaped[Array | np.ndarray, "n ..."]) -> Float[Array, "n ..."]:
        """Preprocesses inputs.

        Raises:
            ValueError: if images have neither one channel nor ``channels``.
        """
        x = jnp.asarray(inputs)
        if jnp.issubdtype(x.dtype, jnp.floating):
            return x
        x = x.astype(jnp.float32)
        if x.ndim == 4:
            if self.channels is not None:
                if x.shape[-1] not in (1, self.channels):
                    found = x.shape[-1]
                    raise ValueError(f"images must have 1 or {self.channels} channels, got {found}")
                x = jnp.broadcast_to(x, (*x.shape[:-1], self.channels))
            if self.size is not None and x.shape[1:3] != (self.size, self.size):
                x = jax.image.resize(x, (x.shape[0], self.size, self.size, x.shape[-1]), "bilinear")
            if self.bgr:
                x = x[..., ::-1]
        mean, std = (
            np.asarray(values, np.float32).reshape(*[1] * (x.ndim - 1), -1)
            for values in (self.mean, self.std)
        )
        return (x - mean) / std


#: From bytes to -1..1, for any number of channels: networks trained from scratch.
CENTRED = Preprocessing((127.5,), (127.5,))

#: The same for three channels: networks published for TensorFlow and Flax.
CENTRED_RGB = dataclasses.replace(CENTRED, channels=3)

#: Mean and standard deviation of ImageNet's channels: torchvision's networks.
IMAGENET = Preprocessing(
    tuple(255 * mean for mean in (0.485, 0.456, 0.406)),
    tuple(255 * std for std in (0.229, 0.224, 0.225)),
    channels=3,
)

#: Minus the mean color of ImageNet, with channels blue, green, red: Caffe's networks.
CAFFE = Preprocessing((103.939, 116.779, 123.68), (1.0,), channels=3, bgr=True)

#: From bytes to about -1..1 in steps of 1/128: EfficientNet-Lite, whose values are made for integers.
EFFICIENTNET_LITE = Preprocessing(
    (127.0,), (128.0,), channels=3, crop=224 / 256, interpolation="bicubic"
)
