"""Batch normalization over the valid rows of the global batch."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, DTypeLike, Float


class BatchNorm(nn.Module):
    """Batch normalization with statistics of the global batch without padding.

    The sums and counts of valid positions are added over devices, then the squared deviations from
    the mean (which stay accurate if the mean is large). The result does not depend on the number of
    devices that hold the batch, or on which of them hold padding. (``flax.linen.BatchNorm``
    averages the masked means of the devices, which is correct only if all devices have equally many
    valid rows.) Statistics are computed in float32.

    Attributes:
        axis_name: mapped axis over which the batch is sharded, or None.
        frozen: whether to use the running statistics in training too, and not to update them.
        affine: whether there are a trained scale and bias.
        momentum: decay of the running statistics.
        epsilon: added to the variance.
        dtype: dtype of the result; None for that of the input.
        param_dtype: dtype of scale and bias. The statistics are float32.
    """

    axis_name: str | None = None
    frozen: bool = False
    affine: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n *space features"],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
    ) -> Float[Array, "n *space features"]:
        """Normalizes by the statistics of the batch in training, else by the running statistics."""
        features = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        running_var = self.variable("batch_stats", "var", jnp.ones, features)
        scale, bias = jnp.ones(features), jnp.zeros(features)
        if self.affine:
            scale = self.param("scale", nn.initializers.ones_init(), (features,), self.param_dtype)
            bias = self.param("bias", nn.initializers.zeros_init(), (features,), self.param_dtype)
        dtype = self.dtype or x.dtype
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if train and not self.frozen:
            mean, var = self._batch_statistics(x, mask)
            if not self.is_initializing():
                running_mean.value += (1 - self.momentum) * (mean - running_mean.value)
                running_var.value += (1 - self.momentum) * (var - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * lax.rsqrt(var + self.epsilon)
        return ((x - _broadcast(mean, x)) * _broadcast(factor, x) + _broadcast(bias, x)).astype(
            dtype
        )

    def _batch_statistics(self, x, mask):
        positions = math.prod(x.shape[1:-1])
        valid = jnp.ones(x.shape[0], bool) if mask is None else mask
        valid = valid.reshape(-1, *[1] * (x.ndim - 1))
        axes = tuple(range(x.ndim - 1))
        local = jnp.where(valid, x, 0.0).sum(axes), positions * jnp.sum(valid, dtype=x.dtype)
        total, count = self._sum_over_devices(local)
        count = jnp.maximum(count, 1)
        mean = total / count
        deviations = jnp.where(valid, x - _broadcast(mean, x), 0.0)
        return mean, self._sum_over_devices((deviations**2).sum(axes)) / count

    def _sum_over_devices(self, values):
        mapped = self.axis_name is not None and not self.is_initializing()
        return lax.psum(values, self.axis_name) if mapped else values


def _broadcast(vector, x):
    """Reshapes a vector so that it broadcasts along the last axis of x."""
    return vector.reshape(*[1] * (x.ndim - 1), -1).astype(x.dtype)
