"""The fully connected layers that AlexNet and VGG end in."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Shaped

from jaxhash.models._base import Block
from jaxhash.models._weight_names import SourceTensor, WeightNames, pytorch_dense


class FullyConnected(Block):
    """A linear layer on flattened inputs with a ReLU.

    Attributes:
        grid: height and width to which `adaptive_average_pool` brings the inputs first, if any.
        dropout_before: rate of dropout on the inputs.
        dropout_after: rate of dropout on the result.
        width: number of outputs.
    """

    grid: int | None = None
    dropout_before: float = 0.0
    dropout_after: float = 0.0
    width: int = 4096

    @nn.compact
    def __call__(
        self, x: Float[Array, "n ..."], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n width"]:
        if self.grid is not None:
            x = adaptive_average_pool(x, self.grid)
        x = self.dropout(x.reshape(x.shape[0], -1), self.dropout_before, train)
        x = nn.relu(self.dense(self.width, name="dense")(x))
        return self.dropout(x, self.dropout_after, train)


def adaptive_average_pool(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n size size c"]:
    """Averages over a grid of cells, like PyTorch's AdaptiveAvgPool2d.

    Cell i covers the rows from floor(i n / size) up to ceil((i + 1) n / size) of n: cells overlap
    if ``size`` does not divide n, and repeat rows if ``size`` is larger.

    Example:
        >>> x = jnp.arange(3.0).reshape(1, 3, 1, 1)
        >>> adaptive_average_pool(x, 2)[0, :, :, 0]
        Array([[0.5, 0.5],
               [1.5, 1.5]], dtype=float32)
    """
    for axis in (1, 2):
        n = x.shape[axis]
        cells = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        means = [lax.slice_in_dim(x, *cell, axis=axis).mean(axis) for cell in cells]
        x = jnp.stack(means, axis)
    return x


def pytorch_flattened_dense(target: str, source: str, *, grid: int) -> WeightNames:
    """Maps a linear layer on an image, which PyTorch flattens by channels, rows, columns."""

    def channels_last(array: Shaped[np.ndarray, "o i"]) -> Shaped[np.ndarray, "i o"]:
        image = array.reshape(len(array), -1, grid, grid)
        return image.transpose(2, 3, 1, 0).reshape(-1, len(array))

    kernel = {f"params/{target}/kernel": SourceTensor(f"{source}.weight", channels_last)}
    return pytorch_dense(target, source) | kernel
