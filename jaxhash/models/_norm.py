"""Batch normalization over the valid rows of the whole batch on all devices."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, DTypeLike, Float


class BatchNorm(nn.Module):
    """Batch normalization whose statistics are those of the global batch without its padding.

    The sums and the counts of valid positions are added over devices, then the squares of what
    deviates from the mean (which lose no digits where the mean is large), so the
    result does not depend on how many devices hold the batch, nor on which of them holds padding.
    (``flax.linen.BatchNorm`` averages the devices' masked means, which is right only when every
    device has the same number of valid rows.) All of it is computed in float32.

    Attributes:
        axis_name: mapped axis that the batch is spread over, or None.
        frozen: normalize by the running statistics, and leave them, in training too.
        affine: whether there are a scale and a bias, which are trained.
        momentum: decay of the running statistics.
        epsilon: added to the variance.
        dtype: dtype of the result; None is that of the input.
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
        """Normalize by the batch's statistics when training, by the running ones otherwise."""
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
        return ((x - _last(mean, x)) * _last(factor, x) + _last(bias, x)).astype(dtype)

    def _batch_statistics(self, x, mask):
        positions = x[..., 0].size // len(x)
        valid = jnp.ones(len(x), bool) if mask is None else mask
        valid = valid.reshape(-1, *[1] * (x.ndim - 1))
        axes = tuple(range(x.ndim - 1))
        shares = jnp.where(valid, x, 0.0).sum(axes), positions * jnp.sum(valid, dtype=x.dtype)
        total, count = self._over_devices(shares)
        count = jnp.maximum(count, 1)
        mean = total / count
        deviations = jnp.where(valid, x - _last(mean, x), 0.0)
        return mean, self._over_devices((deviations**2).sum(axes)) / count

    def _over_devices(self, shares):
        spread = self.axis_name is not None and not self.is_initializing()
        return lax.psum(shares, self.axis_name) if spread else shares


def _last(vector, x):
    """The vector shaped to meet the last axis of x."""
    return vector.reshape(*[1] * (x.ndim - 1), -1).astype(x.dtype)
