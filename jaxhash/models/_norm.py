"""Batch normalisation over the valid rows of the whole batch on all devices."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float


class BatchNorm(nn.Module):
    """Batch normalisation whose statistics are those of the global batch without its padding.

    The sums, the sums of squares and the counts of valid positions are added over devices, so the
    result does not depend on how many devices hold the batch, nor on which of them holds padding.
    (``flax.linen.BatchNorm`` averages the devices' masked means, which is right only when every
    device has the same number of valid rows.)

    Attributes:
        axis_name: mapped axis that the batch is spread over, or None.
        momentum: decay of the running statistics.
        epsilon: added to the variance.
    """

    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n *space features"],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
    ) -> Float[Array, "n *space features"]:
        """Normalise by the batch's statistics when training, by the running ones otherwise."""
        features = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        running_var = self.variable("batch_stats", "var", jnp.ones, features)
        scale = self.param("scale", nn.initializers.ones_init(), (features,))
        bias = self.param("bias", nn.initializers.zeros_init(), (features,))
        if train:
            mean, var = self._batch_statistics(x, mask)
            if not self.is_initializing():
                running_mean.value += (1 - self.momentum) * (mean - running_mean.value)
                running_var.value += (1 - self.momentum) * (var - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * lax.rsqrt(var + self.epsilon)
        return (x - _last(mean, x)) * _last(factor, x) + _last(bias, x)

    def _batch_statistics(self, x, mask):
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        positions = x[..., 0].size // len(x)
        valid = jnp.ones(len(x), bool) if mask is None else mask
        kept = jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)
        axes = tuple(range(x.ndim - 1))
        sums = (kept.sum(axes), (kept**2).sum(axes), positions * valid.sum(dtype=x.dtype))
        if self.axis_name is not None and not self.is_initializing():
            sums = lax.psum(sums, self.axis_name)
        total, squares, count = sums
        count = jnp.maximum(count, 1)
        mean = total / count
        return mean, jnp.maximum(squares / count - mean**2, 0.0)


def _last(vector, x):
    """The vector shaped to meet the last axis of x."""
    return vector.reshape(*[1] * (x.ndim - 1), -1).astype(x.dtype)
