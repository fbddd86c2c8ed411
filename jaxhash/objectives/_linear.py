"""A linear layer that an objective trains beside the network: a decoder, or a classifier of codes."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

#: Kernel and bias.
Layer = dict[str, Float[Array, "..."]]


def init_linear(key: Key[Array, ""], inputs: int, outputs: int) -> Layer:
    """Initializes a linear layer: a kernel of variance 1 / inputs, and a zero bias."""
    kernel = jax.random.normal(key, (inputs, outputs)) / math.sqrt(inputs)
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def apply_linear(layer: Layer, rows: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
    """Applies a linear layer to rows, in float32 on every accelerator."""
    product = jnp.matmul(rows, layer["kernel"], precision=lax.Precision.HIGHEST)
    return product + layer["bias"][None, :]
