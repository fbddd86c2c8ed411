"""Small backbones: features of 28x28 and 32x32 images, and of feature vectors."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from jaxhash.models._norm import BatchNorm


def to_float(inputs: Shaped[Array | np.ndarray, "n ..."]) -> Float[Array, "n ..."]:
    """Bytes 0..255 mapped to -1..1; floating inputs as they are."""
    inputs = jnp.asarray(inputs)
    if jnp.issubdtype(inputs.dtype, jnp.floating):
        return inputs
    return inputs.astype(jnp.float32) / 127.5 - 1.0


class CNN(nn.Module):
    """A small convolutional network: strided convolutions, flattened at the end.

    Attributes:
        widths: channels of the convolutions; each halves the resolution.
        axis_name: mapped axis for batch normalisation, or None.
    """

    widths: Sequence[int] = (32, 64, 128)
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        inputs: Shaped[Array | np.ndarray, "n height width channels"],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
    ) -> Float[Array, "n features"]:
        """Features of a batch of images."""
        x = to_float(inputs)
        for width in self.widths:
            x = nn.Conv(width, (3, 3), strides=(2, 2), use_bias=False)(x)
            x = nn.relu(BatchNorm(self.axis_name)(x, train=train, mask=mask))
        return x.reshape(len(x), -1)


class MLP(nn.Module):
    """Dense layers on flattened inputs, each with batch normalisation and a ReLU.

    Attributes:
        widths: width of each layer.
        axis_name: mapped axis for batch normalisation, or None.
    """

    widths: Sequence[int] = (256,)
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        inputs: Shaped[Array | np.ndarray, "n ..."],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
    ) -> Float[Array, "n features"]:
        """Features of a batch of vectors or images."""
        x = to_float(inputs).reshape(len(inputs), -1)
        for width in self.widths:
            x = nn.Dense(width, use_bias=False)(x)
            x = nn.relu(BatchNorm(self.axis_name)(x, train=train, mask=mask))
        return x
