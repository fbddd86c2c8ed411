"""Encode a set of items with a trained model."""

from collections.abc import Callable, Iterable

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, PyTree

from jaxhash.objectives import Batch


def make_encoder(model: nn.Module) -> Callable[[PyTree, Iterable[Batch]], np.ndarray]:
    """A function from the model's variables and batches to real-valued codes.

    It is compiled once for batches of one shape, whatever the variables, and places the variables on
    the devices once a call. Rows that are padding are left out, so the codes are those of the items,
    in their order. The batches are spread over the local devices where their size is a multiple of
    the number.
    """
    apply = jax.jit(lambda variables, inputs: model.apply(variables, inputs, train=False))

    def encode(variables: PyTree, batches: Iterable[Batch]) -> Float[np.ndarray, "n bits"]:
        codes, placed = [], {}
        for batch in batches:
            whole, rows = _shardings(len(batch.mask))
            if whole not in placed:
                placed[whole] = jax.device_put(variables, whole)
            batch_codes = apply(placed[whole], jax.device_put(batch.inputs, rows))
            codes.append(np.asarray(batch_codes)[batch.mask])
        return np.concatenate(codes)

    return encode


def _shardings(rows: int) -> tuple[jax.sharding.Sharding, jax.sharding.Sharding]:
    """Where variables and inputs go: over all local devices if they can share the rows, or one."""
    devices = jax.local_devices()
    mesh = jax.sharding.Mesh(devices if rows % len(devices) == 0 else devices[:1], ("devices",))
    return tuple(
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axis))
        for axis in ((), ("devices",))
    )
