"""Encode a set of items with a trained model."""

from collections.abc import Callable, Iterable

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, PyTree

from jaxhash.objectives import Batch


def make_encoder(model: nn.Module) -> Callable[[PyTree, Iterable[Batch]], np.ndarray]:
    """A function from the model's variables and batches to real-valued codes, compiled once.

    Rows that are padding are left out, so the codes are those of the items, in their order. The
    batches are spread over the local devices where their size is a multiple of the number.
    """
    apply = jax.jit(lambda variables, inputs: model.apply(variables, inputs, train=False))

    def encode(variables: PyTree, batches: Iterable[Batch]) -> Float[np.ndarray, "n bits"]:
        codes = [
            np.asarray(apply(variables, _spread(batch.inputs)))[batch.mask] for batch in batches
        ]
        return np.concatenate(codes)

    return encode


def _spread(inputs: np.ndarray) -> jax.Array:
    devices = jax.local_devices()
    devices = devices if len(inputs) % len(devices) == 0 else devices[:1]
    mesh = jax.sharding.Mesh(np.array(devices), ("devices",))
    rows = jax.sharding.PartitionSpec("devices")
    return jax.device_put(inputs, jax.sharding.NamedSharding(mesh, rows))
