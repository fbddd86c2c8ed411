"""The losses that can be timed, as functions of codes, key and the name of a mapped axis."""

import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from jaxhash.losses import (
    hashnet,
    hswd,
    l2_quantization,
    optimal_transport,
    sliced_wasserstein,
)

Loss = Callable[[Float[Array, "n bits"], Key[Array, ""], str | None], Float[Array, ""]]

#: Name of the paper's released HSWD in PyTorch; see `jaxhash.bench.torch_hswd`.
TORCH = "torch"


def _hashnet_on_random_labels(
    codes: Float[Array, "n bits"], key: Key[Array, ""], axis_name: str | None
) -> Float[Array, ""]:
    """Computes HashNet's loss over all pairs of the batch, with random labels of ten classes."""
    if axis_name is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    labels = jax.random.randint(key, codes.shape[:1], 0, 10)
    all_codes, all_labels = codes, labels
    if axis_name is not None:
        all_codes, all_labels = lax.all_gather((codes, labels), axis_name, tiled=True)
    similar = labels[:, None] == all_labels[None, :]
    scale = 10 / codes.shape[1]
    return hashnet(jnp.tanh(codes), jnp.tanh(all_codes), similar, scale=scale, axis_name=axis_name)


#: All losses by name, except `TORCH`.
LOSSES: dict[str, Loss] = {
    "select": lambda codes, key, axis: hswd(codes, key=key, method="select", axis_name=axis),
    "sort": lambda codes, key, axis: hswd(codes, key=key, method="sort", axis_name=axis),
    "l2": lambda codes, key, axis: l2_quantization(codes, axis_name=axis),
    "swd": lambda codes, key, axis: sliced_wasserstein(codes, key=key, axis_name=axis),
    "ot": lambda codes, key, axis: optimal_transport(codes, key=key, axis_name=axis),
    "hashnet": _hashnet_on_random_labels,
}


def has_torch() -> bool:
    """Returns whether PyTorch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None
